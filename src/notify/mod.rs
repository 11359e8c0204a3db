//! Hosts tell when it did not go well: once for each change, to a script, a webhook, by mail, and
//! by an address that is asked for after each good run. What could not be sent waits for the next
//! occasion. It must never hold up a run beyond a bound, send anything while anything is frozen,
//! nor show an address or a secret. It knows neither the command line nor what a plan is made of.

mod courier;
mod event;
mod judge;
mod letter;
mod metrics;
mod note;
mod part;
mod secret;
mod system_journal;
mod textfile;
mod web;
mod webhook;

pub use courier::{Courier, EACH, METRICS, ROUND};
pub use event::{EventKind, NotifyEvent};
pub use judge::{PartJudgement, judge};
pub use metrics::{PlanFigures, StepFigures, exposition};
pub use note::{
    ChannelTrouble, KnownPart, MOST_WAITING, NotifyNote, NotifyPlaces, PingKind, WaitingMessage,
};
pub use part::{PartState, WatchedPart};
pub use secret::WebhookSecret;
pub use system_journal::{DEFAULT_SOCKET, tell_journal};
pub use textfile::{METRICS_FILE, put_metrics};
pub use webhook::signature;

/// What it calls itself.
const AGENT: &str = concat!("stillpoint/", env!("CARGO_PKG_VERSION"));
