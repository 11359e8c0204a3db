//! The sequences: what happens, in which order, for each command. The engine never prints, exits,
//! changes directory or reads the environment; it reports through a [`Monitor`].

mod against;
mod busy;
mod choose;
mod cut;
mod diff;
mod freeze_look;
mod freeze_test;
mod hold;
mod lock;
mod may_lack;
mod monitor;
mod parents;
mod plan;
mod prepare;
mod quiesce;
mod record;
mod recover;
mod restore;
mod rot;
mod run;
mod sample;
mod slow;
mod snapshot;
mod standstill;
mod still;
mod subject;
mod tracking;
mod trust;
mod verify;
mod window;

pub use against::{Against, Parts, against_disks};
pub use busy::{Asked, OnBusy};
pub use choose::{Choice, LeftOut, VaultPlace, choose, protectable};
pub use cut::Cut;
pub use diff::{diff, partitions_of};
pub use freeze_look::{Looked, look_at_freezing};
pub use freeze_test::{FreezeTest, FrozenFor, freeze_test};
pub use hold::{HookWishes, OnHookFailure};
pub use may_lack::{FreeTrace, MayLack, may_lack, may_lack_of_all};
pub use monitor::{Event, Monitor, Silent, refused_to_overwrite};
pub use parents::{Newest, find_parents};
pub use plan::{Parent, Plan, plan};
pub use quiesce::{Quiesce, Unfrozen};
pub use record::{RecordOptions, record};
pub use recover::recover;
pub use restore::{
    Goal, ImageFormat, Overwritten, RestoreOptions, Restored, TargetKind, choose_disk,
    could_restore, is_stdout, restore,
};
pub use rot::Noted;
pub use run::{RunOptions, RunResult, run};
pub use snapshot::{Places, SnapshotOptions, snapshot, snapshot_of_what_can_be, snapshot_through};
pub use subject::{AskBlocks, AskFree, Look, Subject, SubjectOptions};
pub use tracking::{start_tracking, stop_tracking};
pub use verify::{Broken, VerifyOptions, VerifyReport, verify};
