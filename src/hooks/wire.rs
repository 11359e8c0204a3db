//! What the engine and the hook supervisor send each other.

use super::script::Call;
use crate::format::HookRecord;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What the engine asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum HookRequest {
    /// The first message: what will be asked for. With it come the lock, the postscript and the
    /// prescript as descriptors.
    Setup(Box<HookSetup>),
    /// Run the prescript.
    Pre,
    /// Run the postscript. `cut`: whether the cut was made.
    Post { cut: bool },
}

/// Which hooks, and how to run them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct HookSetup {
    /// None: only the postscript will be asked for.
    pub(super) prescript: Option<Call>,
    pub(super) postscript: Call,
    pub(super) environment: Vec<(String, String)>,
    /// For each.
    pub(super) timeout_ms: u64,
    /// After this time the postscript is run, asked for or not.
    pub(super) hold_ms: u64,
    /// Where to write the note of the pending postscript.
    #[serde(with = "crate::helper::path_bytes")]
    pub(super) note: PathBuf,
}

/// What the supervisor replies.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum HookReply {
    /// Everything is at hand.
    Ready,
    /// A hook runs, in this process group.
    Begun { group: u32 },
    /// A hook has ended: the postscript, or else the prescript.
    Ended { post: bool, record: HookRecord },
}
