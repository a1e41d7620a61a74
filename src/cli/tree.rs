//! From a source and its options to a tree that was checked and can be mounted.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Runtime;

use super::about::about;
use super::connection::Connection;
use super::local::LocalService;
use super::options::MountOptions;
use super::source::Source;
use super::{Failure, chain, state};
use crate::fs::{AttrOptions, FileSystem, ROOT};
use crate::fuse::Adapter;
use crate::mount::{self, MountPoint, Session, SessionOptions};
use crate::store::{ErrorKind, Journal, Store, StoreOptions, System};

/// What is served, and what keeps it going.
pub(super) struct Tree {
    fs: Arc<FileSystem>,
    /// Where this mount's state lies; one that can only be read may have none.
    pub(super) state: Option<PathBuf>,
    local: Option<LocalService>,
    runtime: &'static Runtime,
}

impl Tree {
    /// Opens a source: its service, its credentials, and one call to see whether it is there.
    ///
    /// # Errors
    /// One line with the cause. A listing that is denied is a warning only: paths that are named
    /// may still work.
    pub(super) fn open(source: &Source, options: &MountOptions) -> Result<Self, Failure> {
        let runtime = super::runtime()?;
        let connection = runtime.block_on(Connection::open(source, options));
        let connection = connection.map_err(Failure::of_mount)?;
        if let Some(local) = &connection.local {
            local.furnish()?;
        }
        Self::over(source, options, runtime, connection)
    }

    /// Opens a source over a local service that is running already.
    pub(super) fn open_with(
        source: &Source,
        options: &MountOptions,
        runtime: &'static Runtime,
        local: LocalService,
    ) -> Result<Self, Failure> {
        let connection = runtime.block_on(Connection::over(source, options, Some(local)));
        let connection = connection.map_err(Failure::of_mount)?;
        Self::over(source, options, runtime, connection)
    }

    fn over(
        source: &Source,
        options: &MountOptions,
        runtime: &'static Runtime,
        connection: Connection,
    ) -> Result<Self, Failure> {
        let state = state::mount_directory(options.state.as_deref(), &connection.endpoint, source);
        let (state, journal) = match (state, options.read_only) {
            // Nothing can have to be kept; and others may be mounted beside it.
            (state, true) => (state.ok(), Journal::in_memory()),
            (Ok(state), false) => {
                let journal = Journal::open(&state, Instant::now() + options.timeout, &System);
                (Some(state), journal)
            }
            (Err(error), false) => return Err(Failure::system(error)),
        };
        let about = about(source, options, &connection, state.as_deref());
        let Connection {
            client,
            scope,
            local,
            ..
        } = connection;
        let store = Store::new(
            client,
            journal.map_err(|error| Failure::system(chain(&error)))?,
            StoreOptions {
                ttl: options.ttl,
                timeout: options.timeout,
                unseen: options.unseen,
                undo: options.undo,
            },
        );
        let attrs = AttrOptions {
            uid: options.owner(),
            gid: options.group(),
            umask: options.umask,
        };
        let fs = Arc::new(FileSystem::new(store, &scope, attrs, options.commit, about));
        match runtime.block_on(fs.check()) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Denied => {
                tracing::warn!("{}; paths that are named may still work", chain(&error));
            }
            Err(error) => {
                return Err(Failure::mount(format!("{source}: {}", chain(&error))));
            }
        }
        let taken_up = runtime.block_on(fs.take_up());
        taken_up.map_err(|error| Failure::system(chain(&error)))?;
        runtime.spawn(fs.clone().send_queue());
        Ok(Self {
            fs,
            state,
            local,
            runtime,
        })
    }

    /// Mounts the tree.
    pub(super) fn mount(
        &self,
        point: &MountPoint,
        options: &SessionOptions,
    ) -> Result<Session, Failure> {
        let adapter = Adapter::new(self.fs.clone(), self.runtime.handle().clone());
        let session = mount::mount(adapter, point, options)?;
        if let Some(inodes) = self.fs.take_invalidations() {
            let inodes = inodes.into_iter();
            session.forget_attributes(inodes).map_err(Failure::system)?;
        }
        Ok(session)
    }

    /// Sends what was closed and not sent yet, by `deadline`, and ends the service. Returns how
    /// many files are left unsent.
    pub(super) fn close(self, deadline: Instant) -> usize {
        let untold = self.fs.untold();
        let owed = self.runtime.block_on(async {
            // What could not be sent is logged, and counted below.
            let _ = tokio::time::timeout_at(deadline.into(), self.fs.sync(ROOT)).await;
            self.fs.settle(deadline).await;
            self.fs.park_all().await;
            self.fs.owed().await
        });
        let unsent = self.fs.unsent() + self.fs.untold() - untold + owed;
        if let Some(local) = self.local {
            self.runtime.block_on(local.stop());
        }
        unsent
    }
}
