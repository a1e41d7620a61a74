//! Taking up what an earlier process left in the journal, before anything is shown.

use std::sync::Arc;

use super::inode::{Ino, Inodes, ROOT};
use super::lookup::FileSystem;
use super::name::{encode, encode_text};
use super::node::{DatasetNode, NodeKind, RecordNode};
use super::parked::path_below;
use super::push::add;
use super::queue::{Loose, record_id};
use super::unsent::{InJournal, Unsent, UnsentKind, next_generation};
use crate::store::{self, Dataset, Queued, QueuedKind};
use crate::sync::{Base, Kind, Mark, Shown};

impl FileSystem {
    /// Takes up what an earlier process left in the journal, before anything is shown.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn take_up(&self) -> Result<usize, store::Error> {
        let all = self.store.left_behind().await?;
        let (left, others) = self.split_left(all);
        if others > 0 {
            tracing::warn!(others, "changes of another identity stay in the journal");
        }
        let count = left.len();
        let mut inodes = self.inodes();
        for queued in left {
            self.take_up_one(&mut inodes, queued);
        }
        drop(inodes);
        if count > 0 {
            tracing::info!(count, "changes of an earlier mount are sent now");
            self.wake_queue();
        }
        Ok(count)
    }

    /// Returns the changes of what is mounted, and how many others there are: who the user of a pool is
    /// may have changed since.
    fn split_left(&self, all: Vec<Queued>) -> (Vec<Queued>, usize) {
        let count = all.len();
        let Ok(root) = self.place(ROOT) else {
            return (Vec::new(), count);
        };
        let mut own = all;
        own.retain(|queued| {
            let (pool, identity) = (queued.pool.clone(), queued.identity.clone());
            path_below(&root, &(pool, identity, queued.dataset.clone())).is_some()
        });
        let others = count - own.len();
        (own, others)
    }

    fn take_up_one(&self, inodes: &mut Inodes, queued: Queued) {
        let Queued {
            pool,
            identity,
            dataset,
            slot,
            change,
        } = queued;
        let identity = self.store.identity(&pool, &identity);
        let dataset = match change.left.existed {
            true => identity.dataset(&dataset),
            false => identity.remake(&dataset),
        };
        let base = Base {
            life: dataset.absent_base().life,
            shown: change.base.map_or(Shown::Absent, Shown::Version),
        };
        let id = record_id(&dataset, &change.key);
        let mut sent = change.sent;
        // The earlier process may have sent it, and not lived to see the answer.
        let value = (change.kind != QueuedKind::Remove).then_some(&*change.text);
        if change.kind != QueuedKind::Times {
            add(&mut sent, Mark::new(value, change.modified));
        }
        let kind = match change.kind {
            QueuedKind::Whole => UnsentKind::Whole,
            QueuedKind::Append { from } => UnsentKind::Append { from },
            QueuedKind::Edit => UnsentKind::Edit,
            QueuedKind::Times | QueuedKind::Remove => {
                let kind = match change.kind {
                    QueuedKind::Remove => Kind::Remove,
                    _ => Kind::Times,
                };
                let directory = self.directory_of(inodes, &dataset);
                let loose = Loose {
                    dataset,
                    key: change.key,
                    kind,
                    base,
                    modified: change.modified,
                    sent,
                    left: Some(change.left),
                    slot,
                    attempt: None,
                    refused: None,
                    directory,
                };
                inodes.loose.insert(id, loose);
                return;
            }
        };
        let Some(parent) = self.directory_of(inodes, &dataset) else {
            return;
        };
        let name = encode(&change.key);
        let mut record = RecordNode::created(dataset, change.key, base, change.modified);
        let mut unsent = Unsent::new(kind, base, change.modified);
        unsent.text = change.text.to_vec();
        unsent.flushable = true;
        unsent.dated = true;
        unsent.generation = next_generation();
        unsent.left = Some(change.left);
        unsent.sent = sent;
        unsent.queued = Some(InJournal::new(slot, unsent.generation));
        record.unsent = Some(unsent);
        let ino = inodes.insert(parent, &name, NodeKind::Record(Box::new(record)));
        inodes.note_unsent(ino);
        inodes.queue.insert(id, ino);
    }

    /// Returns the directory of a dataset, made with those above it if the kernel has not asked for
    /// them yet.
    fn directory_of(&self, inodes: &mut Inodes, dataset: &Arc<Dataset>) -> Option<Ino> {
        let identity = dataset.identity().clone();
        let pool = identity.pool().clone();
        let chain = [
            (pool.to_string(), NodeKind::Pool(pool)),
            (
                identity.id().to_string(),
                NodeKind::Identity(identity.clone()),
            ),
            (
                encode_text(dataset.name().as_str()),
                NodeKind::Dataset(DatasetNode {
                    dataset: dataset.clone(),
                    modified: None,
                }),
            ),
        ];
        let skip = match &inodes.get(ROOT)?.kind {
            NodeKind::Region => 0,
            NodeKind::Pool(_) => 1,
            NodeKind::Identity(_) => 2,
            NodeKind::Dataset(_) => 3,
            _ => return None,
        };
        let mut at = ROOT;
        for (name, kind) in chain.into_iter().skip(skip) {
            at = self.directory_node(inodes, at, &name, kind);
        }
        Some(at)
    }
}
