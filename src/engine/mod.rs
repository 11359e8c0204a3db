//! The sequences: what happens, in which order, for each command. The engine never prints, exits,
//! changes directory or reads the environment; it reports through a [`Monitor`].

mod block_use;
mod bring_back;
mod browse;
mod check;
mod collect;
mod dedup_words;
mod diff;
mod disk_lock;
mod drill;
mod info;
mod keep;
mod labels;
mod lock;
mod mirror;
mod monitor;
mod mount;
mod newest_drills;
mod newest_good;
mod parents;
mod places;
mod prune;
mod quiesce;
mod random;
mod reach;
mod recover;
mod repair;
mod restorable;
mod restore;
mod rewrite;
mod run_phase;
mod serve;
mod session_record;
mod snapshot;
mod snapshot_options;
mod tracking;
mod verify;
mod witness;

pub use bring_back::{BringBackOptions, BringBackReport, BroughtBack, Unrecovered, bring_back};
pub use browse::{
    BrowseOptions, BrowseScope, Browsed, CopiedTop, CopyRequest, CopyResult, CopyTarget,
    ListOutcome, ListRequest, ListedEntry, LostFile, LostFiles, Unlisted, browse,
    copy_from_snapshot, find_lost_files, find_target, list_tree, stream_from_snapshot,
};
pub use check::check;
pub use collect::{
    Amount, CollectOptions, CollectPace, CollectReport, EarlierPlan, LEAST_GRACE, NewPlan,
    PlanOutcome, Rewriting, Tally, collect, collect_at, plan_collection,
};
pub use dedup_words::DedupWords;
pub use diff::{diff, partitions_of};
pub use drill::{
    BootDiskBus, BootFirmware, BootOptions, DrillOptions, DrillReport, REST, can_boot, drill,
};
pub use info::{
    DiskHolding, Growth, Holding, HostHolding, MissingObjects, RunSeen, SnapshotHolding,
    UnreadPart, VaultHoldings, look_at_holdings,
};
pub use keep::{kept_now, kept_with, refuse_kept};
pub use labels::{LabelledSnapshot, MOST_LABELLED, newest_labels};
pub use lock::{LockFailure, LockOptions, LockReport, UnknownNeeds, lock};
pub use mirror::{MirrorReport, SourceDamage, WrongObject, mirror, mirror_sealed, plan_mirror};
pub use monitor::{Event, Monitor, Silent, refused_to_overwrite};
pub use mount::{
    HostTree, LookIntoOptions, MOUNT_WATCHER_COMMAND, MountFolder, MountNote, MountPlace,
    MountPlan, MountRequest, MountState, MountUser, MountedDisk, MountsFound, NotShown,
    PlannedDisk, PlannedFilesystem, PlannedVolume, ShownMount, SnapshotLook, TREE, TakeDown,
    TakenDown, TreeName, hold_mount, list_mounts, look_into, mount_watcher_main,
    refuse_mount_directory, take_down_all_dead, unmount_snapshot,
};
pub use newest_drills::{DiskDrills, DrilledDisks, newest_drills};
pub use newest_good::{GoodCopy, NewestCopies, WantedDisks, newest_good};
pub use parents::{Newest, find_parents};
pub use places::Places;
pub use prune::{
    ByTime, Candidate, DiskCopy, DiskGroup, Goodness, Judged, PrunePlan, RetentionOptions,
    RetentionRule, RetentionRules, RuleHit, StayReason, carry_out_prune, kept_by_rules, last_good,
    plan_prune,
};
pub use quiesce::{
    FreezeFinding, FreezeTest, FrozenFor, NoQuiesce, Quiesce, check_freezing, freeze_test,
};
pub use reach::{CopiesName, Reachable};
pub use recover::recover;
pub use repair::{
    Remedy, RepairDeed, RepairOptions, RepairReport, RepairedObject, Unrepaired, plan_repair,
    repair,
};
pub use restorable::{
    BootRisk, BootRiskLevel, LookedAt, NotLookedAt, Restorability, RestorableOptions,
    look_at_restorability,
};
pub use restore::{
    Destination, ImageFormat, Overwritten, RestoreOptions, Restored, TargetKind, choose_disk,
    could_restore, is_stdout, restore,
};
pub use rewrite::{
    DeadSpace, RenamedSnapshot, RewriteCost, RewritePlan, RewriteReport, RewriteRules,
    RewriteScope, plan_rewrite, rewrite,
};
pub use run_phase::RunPhase;
pub use serve::{DiskServerOptions, serve};
pub use snapshot::{
    AskBlocks, AskFree, CaptureMode, CaptureOptions, CaptureResult, CapturedDisk, Cut,
    DiskRunOptions, FreeScan, Gentle, LeftOut, PackedBefore, Parent, RecordOptions, Resume,
    Resumed, Selection, Sent, VaultPlace, capture, record, select, select_all, snapshot,
    snapshot_of_what_can_be, snapshot_through,
};
pub use snapshot_options::{Consistency, HookSettings, OnBusy, OnHookFailure, SnapshotOptions};
pub use tracking::{start_tracking, stop_tracking};
pub use verify::{
    Broken, Coverage, DiskComparison, FreeTrace, LostMount, LostPart, MayLack, Noted, Parts,
    Remembered, VerifyDepth, VerifyOptions, VerifyReport, compare_with_disks, may_lack,
    may_lack_of_all, verify,
};
