//! Many instances from one machine of an operator's: a list of them (CSV), a runner that brings a
//! command to each, and what becomes of each, kept beside the list. What instances say is hostile
//! text, and bounded. It must never put a secret on a command line, nor wait for one instance
//! without an end, nor touch what a person has not named in the list.

mod address;
mod answer;
mod batch;
mod client_state;
mod columns;
mod host;
mod host_file;
mod package;
mod process;
mod remote;
mod results;
mod runner;
mod steps;
mod token;
mod work;

pub use batch::{BatchEnd, BatchOptions, HostTurn, run_batch};
pub use columns::TEMPLATE;
pub use host::FleetHost;
pub use host_file::{HostFile, MOST_HOSTS, write_template};
pub use package::FleetPackage;
pub use remote::EnterOptions;
pub use results::{EarlierResults, ResultFile};
pub use runner::FleetRunner;
pub use steps::{FleetStep, HostFailure, HostResult, HostState};
pub use token::{FleetToken, TokenSource};
pub use work::{FleetWork, apply_to, ask};
