//! `client`: this host as a client of a vault. Whatever is done here anyone could do by hand with a
//! configuration, key files and `plan create`; it must never go round what these check.

mod activate;
mod activation;
mod busy;
mod configuration;
mod deactivate;
mod meant;
mod places;
mod plan_words;
mod read_token;
mod status;
mod token;
mod trial;
mod undo;
mod update;

use super::args::{ClientAction, ClientArgs, Common};
use super::plan::Dispatch;
use super::progress::ProgressDisplay;
use crate::error::Result;
use crate::report::Report;
use read_token::is_stream;

/// Runs it; `dispatch` runs the commands of a plan.
pub fn run(
    args: &ClientArgs,
    common: &Common,
    progress: &ProgressDisplay,
    dispatch: Dispatch,
) -> Result<Report> {
    match &args.action {
        ClientAction::Token(args) => token::run(args, common),
        ClientAction::Activate(args) => activate::run(args, common, progress, dispatch),
        ClientAction::Status => status::run(common, progress),
        ClientAction::Update(args) => update::run(args, common),
        ClientAction::Deactivate => deactivate::run(common, progress, dispatch),
    }
}

/// Whether a token goes to standard output.
pub fn to_stdout(args: &ClientArgs) -> bool {
    matches!(&args.action, ClientAction::Token(args) if is_stream(&args.token_file))
}
