//! Where resources are kept: one [`Store`] trait; memory, watched files and redb.
//!
//! The contract is the weakest that its implementations share: revisions are opaque (equality per
//! object; order only within one watch of one kind), a transaction concerns one object, values go up
//! to [`MAX_OBJECT_BYTES`], and a watcher that falls behind is told [`StoreError::Compacted`] and
//! lists again.

mod decode;
mod error;
mod file;
mod lease;
mod ledger;
mod memory;
mod redb;
mod stage;
mod store;

pub use error::StoreError;
pub use file::{FileOptions, FileStore, SOURCE_ANNOTATION};
pub use lease::{LeaseId, LeaseInfo, LeaseTable, Leases};
pub use memory::MemoryStore;
pub use redb::RedbStore;
pub use store::{Event, MAX_OBJECT_BYTES, Precondition, Revision, Store, Watch};
