//! Sources: what becomes the root of a mount. The whole grammar is here.
//!
//! ```text
//! cognito://REGION[/POOL[/IDENTITY[/DATASET]]]
//! POOL[/IDENTITY[/DATASET]]                      a pool id names its region
//! local:[FILE]                                   the local service, its data in FILE
//! ```
//!
//! Invariant: a source's pool lies in its region, and a local file's path is absolute.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::state::{self, StateError};
use crate::wire::names::{NameError, PoolId, Region, Scope};

const GRAMMAR: &str = "write cognito://REGION[/POOL[/IDENTITY[/DATASET]]], \
     POOL[/IDENTITY[/DATASET]] or local:[FILE]";

/// What becomes the root of a mount. Displayed in its one canonical spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub place: Place,
    pub scope: Scope,
}

/// Where the data are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Cloud {
        region: Region,
    },
    /// The local service, over a file that need not exist yet.
    Local {
        store: PathBuf,
    },
}

/// Why a text is no source, or why it cannot be narrowed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("the source is empty: {GRAMMAR}")]
    Empty,
    #[error("{0:?} is not a source: {GRAMMAR}")]
    Unknown(String),
    #[error("{0:?}: the scheme is not cognito: {GRAMMAR}")]
    Scheme(String),
    #[error("{text:?}: {why}")]
    Name { text: String, why: NameError },
    #[error("the pool {pool} lies in {}, not in {region}: write cognito://{}/{pool}", pool.region(), pool.region())]
    OtherRegion { pool: PoolId, region: Region },
    #[error("root={root} does not lie in {within}: write root=POOL[/IDENTITY[/DATASET]] below it")]
    Outside { root: Scope, within: Scope },
    #[error("{0:?}: the path cannot be made absolute: {1}")]
    Path(PathBuf, std::io::Error),
    #[error(transparent)]
    State(#[from] StateError),
}

impl Source {
    /// Reads a source. Relative paths of local files are taken from the current directory, and
    /// `local:` alone is the user's default store.
    pub fn parse(text: &OsStr) -> Result<Self, SourceError> {
        let bytes = text.as_bytes();
        if let Some(file) = bytes.strip_prefix(b"local:") {
            return Self::local(OsString::from_vec(file.to_vec()));
        }
        // Ids and names are ASCII, so what is not UTF-8 fails as a name.
        let text = text.to_string_lossy();
        if text.is_empty() {
            return Err(SourceError::Empty);
        }
        match text.split_once("://") {
            Some(("cognito", path)) => Self::url(&text, path),
            Some(_) => Err(SourceError::Scheme(text.into_owned())),
            None if text.starts_with("cognito:") => Err(SourceError::Scheme(text.into_owned())),
            None => Self::shorthand(&text),
        }
    }

    /// Says whether a word of the command line can only be meant as a source: no command's name has
    /// a colon.
    pub fn is_meant(word: &OsStr) -> bool {
        word.as_bytes().contains(&b':')
    }

    /// Moves the root down to `root`.
    pub fn narrowed(self, root: &Scope) -> Result<Self, SourceError> {
        if !contains(&self.scope, root) {
            return Err(SourceError::Outside {
                root: root.clone(),
                within: self.scope,
            });
        }
        Self {
            scope: root.clone(),
            ..self
        }
        .checked()
    }

    fn local(file: OsString) -> Result<Self, SourceError> {
        let store = match file.is_empty() {
            true => state::default_store()?,
            false => {
                std::path::absolute(&file).map_err(|error| SourceError::Path(file.into(), error))?
            }
        };
        Ok(Self {
            place: Place::Local { store },
            scope: Scope::Region,
        })
    }

    fn url(text: &str, path: &str) -> Result<Self, SourceError> {
        let (region, scope) = path.split_once('/').unwrap_or((path, ""));
        let region = named(text, region.parse())?;
        let scope = named(text, scope.parse())?;
        Self {
            place: Place::Cloud { region },
            scope,
        }
        .checked()
    }

    fn shorthand(text: &str) -> Result<Self, SourceError> {
        // What has no colon was not meant as an id: a path, or a bare name.
        let first = text.split('/').next().unwrap_or_default();
        if !first.contains(':') {
            return Err(SourceError::Unknown(text.to_owned()));
        }
        let scope: Scope = named(text, text.parse())?;
        match pool(&scope) {
            Some(pool) => Ok(Self {
                place: Place::Cloud {
                    region: pool.region(),
                },
                scope,
            }),
            None => Err(SourceError::Unknown(text.to_owned())),
        }
    }

    fn checked(self) -> Result<Self, SourceError> {
        match (&self.place, pool(&self.scope)) {
            (Place::Cloud { region }, Some(pool)) if pool.region() != *region => {
                Err(SourceError::OtherRegion {
                    pool: pool.clone(),
                    region: region.clone(),
                })
            }
            _ => Ok(self),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Cloud { region } => write!(f, "cognito://{region}")?,
            Place::Local { store } => write!(f, "local:{}", store.display())?,
        }
        match (&self.scope, &self.place) {
            (Scope::Region, _) => Ok(()),
            (scope, Place::Cloud { .. }) => write!(f, "/{scope}"),
            (scope, Place::Local { .. }) => write!(f, ",root={scope}"),
        }
    }
}

fn named<T>(text: &str, result: Result<T, NameError>) -> Result<T, SourceError> {
    result.map_err(|why| SourceError::Name {
        text: text.to_owned(),
        why,
    })
}

fn pool(scope: &Scope) -> Option<&PoolId> {
    match scope {
        Scope::Region => None,
        Scope::Pool(pool) | Scope::Identity(pool, _) | Scope::Dataset(pool, _, _) => Some(pool),
    }
}

/// Says whether `inner` is `outer` or lies in it.
fn contains(outer: &Scope, inner: &Scope) -> bool {
    let (outer, inner) = (outer.to_string(), inner.to_string());
    let rest = inner.strip_prefix(&outer);
    outer.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: &str = "us-east-1:1f0c5d8e-0000-4000-8000-0123456789ab";
    const IDENTITY: &str = "us-east-1:9a7e5d8e-0000-4000-8000-0123456789ab";

    fn parse(text: &str) -> Result<Source, SourceError> {
        Source::parse(OsStr::new(text))
    }

    #[test]
    fn every_form_has_one_canonical_spelling() {
        let whole = format!("{POOL}/{IDENTITY}/settings");
        for scope in [POOL.to_owned(), format!("{POOL}/{IDENTITY}"), whole] {
            let source = parse(&scope).unwrap();
            assert_eq!(source.scope.to_string(), scope);
            assert_eq!(source.to_string(), format!("cognito://us-east-1/{scope}"));
            assert_eq!(parse(&source.to_string()).unwrap(), source);
            assert_eq!(parse(&format!("{source}/")).unwrap(), source);
        }
        let region = parse("cognito://us-east-1/").unwrap();
        assert_eq!(region.to_string(), "cognito://us-east-1");
        assert_eq!(region.scope, Scope::Region);
    }

    #[test]
    fn a_local_file_is_absolute() {
        let here = std::env::current_dir().unwrap();
        let source = parse("local:data.db").unwrap();
        assert_eq!(
            source.place,
            Place::Local {
                store: here.join("data.db")
            }
        );
        assert_eq!(parse(&source.to_string()).unwrap(), source);
        let odd = OsString::from_vec(b"local:/data\xff,1".to_vec());
        let store = OsString::from_vec(b"/data\xff,1".to_vec()).into();
        assert_eq!(Source::parse(&odd).unwrap().place, Place::Local { store });
    }

    #[test]
    fn what_is_no_source_is_told_what_is_one() {
        for (text, told) in [
            ("", "empty"),
            ("mypool", "is not a source"),
            ("/some/path", "is not a source"),
            ("s3://bucket", "scheme"),
            ("cognito:us-east-1", "cognito://REGION"),
            ("cognito://", "us-east-1"),
            ("cognito://us-east-1/x", "REGION:UUID"),
            ("us-east-1:1F0C", "lower case"),
            (
                "cognito://eu-west-1/us-east-1:1f0c",
                "cognito://us-east-1/us-east-1:1f0c",
            ),
            ("us-east-1:0/us-east-1:1/set tings", "dataset name"),
            ("us-east-1:0/us-east-1:1/a/b", "POOL[/IDENTITY[/DATASET]]"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
        Source::parse(OsStr::from_bytes(b"us-east-1:\xff")).unwrap_err();
    }

    #[test]
    fn a_root_lies_within() {
        let region = parse("cognito://us-east-1").unwrap();
        let identity: Scope = format!("{POOL}/{IDENTITY}").parse().unwrap();
        let narrowed = region.clone().narrowed(&identity).unwrap();
        assert_eq!(narrowed.scope, identity);
        assert_eq!(narrowed.clone().narrowed(&identity).unwrap(), narrowed);

        let local = parse("local:/x").unwrap().narrowed(&identity).unwrap();
        assert_eq!(local.scope, identity);
        let elsewhere: Scope = "eu-west-1:0".parse().unwrap();
        assert!(
            region
                .narrowed(&elsewhere)
                .unwrap_err()
                .to_string()
                .contains("eu-west-1")
        );
        for outside in [elsewhere, POOL.parse().unwrap(), Scope::Region] {
            let error = narrowed.clone().narrowed(&outside).unwrap_err();
            assert!(matches!(error, SourceError::Outside { .. }), "{error}");
        }
    }

    #[test]
    fn a_longer_id_is_not_within_a_shorter_one() {
        let scopes: Vec<Scope> = ["a-1:0", "a-1:00"].map(|text| text.parse().unwrap()).into();
        assert!(!contains(&scopes[0], &scopes[1]));
    }
}
