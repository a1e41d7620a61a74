//! Which guest of a pool this user is. The service makes a new one whenever it is asked without
//! logins, so the first one's id is kept.
//!
//! Invariant: one guest for each pool and endpoint, whatever processes ask at the same time; who
//! reads the id can act as the guest, so its file is its owner's alone.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::source::{Place, Source};
use super::{Failure, state};
use crate::wire::names::{IdentityId, PoolId, Scope};

/// Returns the guest of a source's pool at `endpoint`; if there is none, `ask` gets one.
pub(super) async fn identity(
    source: &Source,
    pool: &PoolId,
    (state, endpoint): (Option<&Path>, &str),
    ask: impl AsyncFnOnce() -> Result<IdentityId, Failure>,
) -> Result<IdentityId, Failure> {
    let whole = Source {
        place: match &source.place {
            Place::Cloud { .. } => Place::Cloud {
                region: pool.region(),
            },
            local @ Place::Local { .. } => local.clone(),
        },
        scope: Scope::Pool(pool.clone()),
    };
    let directory = state::mount_directory(state, endpoint, &whole);
    let directory = directory.map_err(Failure::system)?;
    let file = state::guest_file(&directory);
    match kept(&file)? {
        Some(guest) => Ok(guest),
        None => {
            let new = ask().await?;
            match keep(&directory, &file, &new) {
                Ok(()) => Ok(new),
                // Another process was first.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    kept(&file).map(|guest| guest.unwrap_or(new))
                }
                Err(error) => Err(unusable(&file, &error)),
            }
        }
    }
}

fn kept(file: &Path) -> Result<Option<IdentityId>, Failure> {
    match fs::read_to_string(file) {
        Ok(text) => match text.trim().parse() {
            Ok(guest) => Ok(Some(guest)),
            Err(error) => Err(unusable(file, &error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(file, &error)),
    }
}

fn keep(directory: &Path, file: &Path, guest: &IdentityId) -> io::Result<()> {
    let mut new = tempfile::NamedTempFile::new_in(directory)?;
    writeln!(new, "{guest}")?;
    new.as_file().sync_all()?;
    new.persist_noclobber(file)?;
    // What the guest writes is lost with the id.
    File::open(directory)?.sync_all()
}

fn unusable(file: &Path, error: &dyn std::error::Error) -> Failure {
    Failure::system(format!("the guest's id in {}: {error}", file.display()))
}
