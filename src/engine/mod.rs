//! The sequences: what happens, in which order, for each command. The engine never prints, exits,
//! changes directory or reads the environment; it reports through a [`Monitor`].

mod cut;
mod diff;
mod freeze_test;
mod lock;
mod monitor;
mod plan;
mod prepare;
mod quiesce;
mod record;
mod restore;
mod run;
mod sample;
mod snapshot;
mod still;
mod subject;
mod trust;
mod verify;

pub use cut::Cut;
pub use diff::diff;
pub use freeze_test::{FreezeTest, FrozenFor, freeze_test};
pub use monitor::{Event, Monitor, Silent};
pub use plan::{Parent, Plan, plan};
pub use prepare::{Scene, protectable};
pub use quiesce::{Quiesce, Unfrozen};
pub use record::{RecordOptions, record};
pub use restore::{RestoreOptions, choose_disk, restore};
pub use run::{OnBusy, RunOptions, RunResult, run};
pub use snapshot::{Places, SnapshotOptions, snapshot, snapshot_through};
pub use subject::{AskFree, Subject, SubjectOptions};
pub use verify::{Broken, VerifyOptions, VerifyReport, verify};
