//! Where a vault's objects are kept, and the vault itself: what is in it, who writes to it.
//! It must never know what a disk is.

mod catalog;
mod damage;
mod door;
mod draft;
mod footers;
mod history;
mod layer;
mod local;
mod location;
mod manifests;
mod memory;
mod name;
mod object_store;
mod segments;
mod session;
mod unfinished;
mod vault;

pub use catalog::SnapshotRef;
pub use damage::KnownDamage;
pub use draft::Draft;
pub use history::{Dated, Doubtful, History, Than};
pub use layer::{Count, CountStore, Counts, FaultStore, Operation, RetryPolicy, RetryStore};
pub use local::LocalStore;
pub use location::{Location, create, open};
pub use manifests::Manifests;
pub use memory::MemoryStore;
pub use name::ObjectName;
pub use object_store::{Blob, Capabilities, Directory, ObjectInfo, ObjectLock, ObjectStore};
pub use segments::{SlotRange, StoredChunk};
pub use session::Session;
pub use vault::{Vault, VaultOptions};
