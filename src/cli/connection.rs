//! From a source and its options to a client that is allowed in: the service, started if it is the
//! local one, and who is acting.

use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::local::{LocalService, default_region};
use super::options::MountOptions;
use super::source::{Place, Source};
use super::{Failure, chain, guest};
use crate::api::{Client, ClientOptions, CredentialsSource, Endpoints, System};
use crate::wire::names::{IdentityId, PoolId, Region, Scope};
use crate::wire::operation::Service;

/// Reads a source and what followed each `-o`, and checks that they go together.
pub(super) fn read(
    source: &OsStr,
    lists: &[OsString],
    sloppy: bool,
) -> Result<(Source, MountOptions), Failure> {
    let options = MountOptions::parse(lists, sloppy).map_err(Failure::usage)?;
    let mut source = Source::parse(source).map_err(Failure::usage)?;
    if let Some(root) = &options.root {
        source = source.narrowed(root).map_err(Failure::usage)?;
    }
    if let (Place::Cloud { region }, Some(other)) = (&source.place, &options.region)
        && region != other
    {
        return Err(Failure::usage(format!(
            "region={other}: the source lies in {region}: leave region= out"
        )));
    }
    if options.guest && !options.logins.0.is_empty() {
        return Err(Failure::usage(
            "a guest has no logins: leave out identity=guest or login=",
        ));
    }
    if options.is_user() && options.profile.is_some() {
        return Err(Failure::usage(
            "profile= names the credentials of somebody else than identity= or login=: leave one \
             of them out",
        ));
    }
    if options.is_user() && source.scope == Scope::Region {
        return Err(Failure::usage(format!(
            "{source}: a user is one of a pool: name POOL or POOL/IDENTITY, by root= if need be"
        )));
    }
    Ok((source, options))
}

/// Who is acting.
#[derive(Clone, Debug)]
pub(super) enum Acting {
    /// A developer of the local store.
    Developer,
    /// Whom AWS's credential chain names, by a profile if one is given.
    Chain {
        profile: Option<String>,
    },
    Guest(IdentityId),
    User(IdentityId),
}

/// A client of a source's service, and the service itself if it is the local one.
pub(super) struct Connection {
    pub(super) client: Client,
    /// What the source names; for a user of a pool, the user's identity or what is in it.
    pub(super) scope: Scope,
    pub(super) local: Option<LocalService>,
    /// What tells this service from others of the same region; empty for a local one.
    pub(super) endpoint: String,
    pub(super) endpoints: Endpoints,
    pub(super) acting: Acting,
}

impl Connection {
    /// Connects to the service of a source. Only a user's identity is asked for.
    pub(super) async fn open(source: &Source, options: &MountOptions) -> Result<Self, Failure> {
        let local = match &source.place {
            Place::Cloud { .. } => None,
            Place::Local { store } => {
                let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                Some(LocalService::start(store, any_port).await?)
            }
        };
        Self::over(source, options, local).await
    }

    /// Connects to the service of a source, whose store is not made if it is a local one.
    pub(super) async fn open_existing(
        source: &Source,
        options: &MountOptions,
    ) -> Result<Self, Failure> {
        match &source.place {
            Place::Local { store } if !store.exists() => Err(Failure::refused(format!(
                "{}: there is no such store",
                store.display()
            ))),
            _ => Self::open(source, options).await,
        }
    }

    /// Connects; a local service is running already.
    pub(super) async fn over(
        source: &Source,
        options: &MountOptions,
        local: Option<LocalService>,
    ) -> Result<Self, Failure> {
        let region = region(source, options);
        let explicit = match &local {
            Some(local) => Some(local.url()),
            None => options.endpoint.as_ref().map(ToString::to_string),
        };
        let variable = |name: &str| std::env::var(name).ok();
        let endpoints = Endpoints::find(region.as_str(), explicit.as_deref(), variable)
            .map_err(Failure::usage)?;
        // The port of a local service is another one each time.
        let place = match &local {
            Some(_) => String::new(),
            None => endpoints.url(Service::CognitoIdentity).to_owned(),
        };
        let endpoint = match &local {
            Some(_) => String::new(),
            None => endpoints.url(Service::CognitoSync).to_owned(),
        };
        let connect = |credentials| {
            let client = ClientOptions {
                region: region.clone(),
                endpoints: endpoints.clone(),
                credentials,
                concurrency: options.concurrency,
                timeout: options.timeout,
                surroundings: Arc::new(System),
                transport: None,
            };
            Client::new(client).map_err(|error| Failure::system(chain(&error)))
        };
        let mut scope = source.scope.clone();
        let mut calls = None;
        let mut acting = match local {
            Some(_) => Acting::Developer,
            None => Acting::Chain {
                profile: options.profile.clone(),
            },
        };
        let credentials = match (&local, pool(&scope)) {
            (_, Some(pool)) if options.is_user() => {
                let nobody = connect(CredentialsSource::Nobody)?;
                let identity = identity(source, pool, options, &nobody, &place).await?;
                acting = match options.guest {
                    true => Acting::Guest(identity.clone()),
                    false => Acting::User(identity.clone()),
                };
                calls = Some(nobody.calls().clone());
                if let Scope::Pool(pool) = scope {
                    scope = Scope::Identity(pool, identity.clone());
                }
                CredentialsSource::user(nobody, identity, options.logins.clone())
            }
            (Some(local), _) => CredentialsSource::Fixed(local.credentials()),
            (None, _) => CredentialsSource::chain(options.profile.as_deref(), &region)
                .await
                .map_err(|error| Failure::refused(chain(&error)))?,
        };
        let client = connect(credentials)?;
        Ok(Self {
            client: match calls {
                Some(calls) => client.counted_with(&calls),
                None => client,
            },
            scope,
            local,
            endpoint,
            endpoints,
            acting,
        })
    }

    /// Ends the service, if it is the local one.
    pub(super) async fn close(self) {
        if let Some(local) = self.local {
            local.stop().await;
        }
    }
}

/// Finds the identity that is acting. A guest may be named: who knows the id is that guest.
async fn identity(
    source: &Source,
    pool: &PoolId,
    options: &MountOptions,
    nobody: &Client,
    place: &str,
) -> Result<IdentityId, Failure> {
    let deadline = Instant::now() + options.timeout;
    let named = match &source.scope {
        Scope::Region | Scope::Pool(_) => None,
        Scope::Identity(_, identity) | Scope::Dataset(_, identity, _) => Some(identity),
    };
    let ask = async || {
        let asked = options.logins.identity(nobody, pool, deadline).await;
        asked.map_err(|error| refused(source, error))
    };
    if options.guest {
        return match named {
            Some(named) => Ok(named.clone()),
            None => guest::identity(source, pool, (options.state.as_deref(), place), ask).await,
        };
    }
    let own = ask().await?;
    match named {
        // To send them for another identity could give it these logins.
        Some(named) if *named != own => Err(Failure::refused(format!(
            "{source}: the logins are those of {own}"
        ))),
        _ => Ok(own),
    }
}

/// Tells that the service refused something, or could not be asked.
pub(super) fn refused(what: impl std::fmt::Display, error: crate::api::Error) -> Failure {
    let error = crate::store::Error::from(error);
    Failure::refused(format!("{what}: {}", chain(&error)))
}

fn pool(scope: &Scope) -> Option<&PoolId> {
    match scope {
        Scope::Region => None,
        Scope::Pool(pool) | Scope::Identity(pool, _) | Scope::Dataset(pool, _, _) => Some(pool),
    }
}

fn region(source: &Source, options: &MountOptions) -> Region {
    if let Place::Cloud { region } = &source.place {
        return region.clone();
    }
    match pool(&source.scope) {
        None => options.region.clone().unwrap_or_else(default_region),
        Some(pool) => pool.region(),
    }
}
