//! Where a vault's objects are kept, and the vault itself: what is in it, and which runs write to
//! it. It must never know what a disk is.

mod as_of;
mod ask;
mod bring_keys;
mod cache;
mod catalog;
mod change_keys;
mod check;
mod collectable;
mod confirm;
mod damage;
mod door;
mod draft;
mod drilled;
mod drills;
mod elsewhere;
mod false_segments;
mod footer_copies;
mod footers;
mod heeded;
mod heeded_plans;
mod history;
mod keeps;
mod key_source;
mod keyring;
mod layer;
mod list_or_ask;
mod local;
mod location;
mod lock_rules;
mod locks;
mod lost_segments;
mod manifests;
#[cfg(feature = "testing")]
mod memory;
mod mirror_writer;
mod object_name;
mod object_store;
mod others;
mod past;
mod plans;
mod presence;
mod private_dir;
mod rebuild;
mod remains;
mod room;
mod s3;
mod sample_records;
mod second_place;
mod segment_reader;
mod sent;
mod session;
mod sessions_seen;
mod side_objects;
mod sizes;
mod slots;
mod stored;
mod successor;
mod unfinished;
mod vault;
mod version_seen;
mod without_key;

pub use as_of::{PutBefore, Stood};
pub use bring_keys::KeysFound;
pub use cache::CacheStore;
pub use catalog::{HashedManifest, SnapshotRef, StoredSnapshot};
pub use change_keys::KeyRemoved;
pub use check::{CheckOptions, CheckRow, RowState, StoreCheck, check, check_store};
pub use collectable::Collectable;
pub use damage::{KnownDamage, Losses};
pub use draft::Draft;
pub use drilled::{DrillKinds, DrillNames, Drilled, DrillsFound, DrillsWanted, NewestDrill};
pub use elsewhere::{ChunksElsewhere, LEAST_LOOKING, LookOptions, LookedFor, UsedElsewhere};
pub use history::{Dated, Doubtful, History, Than};
pub use keeps::{KeepTerm, Keeps, KeptBy, SplitKeeps};
pub use key_source::{AskForKey, KeySource};
pub use keyring::{KeyFound, NewKey};
pub use layer::{
    Around, Count, CountStore, Layered, LimitStore, OperationCounts, RetryPolicy, RetryStore,
    StopCheck, StoreCall, StoreLimits,
};
#[cfg(feature = "testing")]
pub use layer::{FaultStore, Operation};
pub use local::LocalStore;
pub use location::{Location, create, look_at_keys, open};
pub use lock_rules::{LockSeen, LockStanding, LockTarget};
pub use locks::LockEach;
pub use manifests::Manifests;
#[cfg(feature = "testing")]
pub use memory::MemoryStore;
pub use mirror_writer::{ManifestPut, MirrorWriter};
pub use object_name::ObjectName;
pub use object_store::{
    Blob, BucketLock, Capabilities, Directory, KeepsVersions, ObjectInfo, ObjectLock, ObjectStore,
    ObjectVersion, VersionedStore, VersionsOf,
};
pub use past::{NeededSort, PastVault, open_as_it_stood};
pub use plans::Plan;
pub use private_dir::make_private;
pub use room::VaultRoom;
pub use s3::{
    CredentialSource, Patience, PutChecksum, S3Place, S3Settings, S3Store, web_connector,
};
pub use sample_records::KnownSamples;
pub use second_place::{InfoStanding, make_second, open_second, put_info_back};
pub use sent::{HeldNote, NoteHead, Owner, Search, SentBefore, SentNotes, SentRun};
pub use session::{Session, SessionPace, SleeplessClock};
pub use sessions_seen::{LiveRun, SessionsSeen};
pub use side_objects::SideObjects;
pub use sizes::Sizes;
pub use slots::{SlotRange, StoredChunk};
pub use stored::{NeededSegments, StoredObject};
pub use vault::{Vault, VaultOptions};
pub use version_seen::VersionSeen;
pub use without_key::SealedFolder;
