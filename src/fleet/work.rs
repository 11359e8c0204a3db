//! The way of one instance: reach, look, install, activate, ask again. Each step has a time limit;
//! what is done already is only looked at. It must never do the next step on a guess.

use super::address::HostAddress;
use super::answer::{HostAnswer, Reply, kept};
use super::client_state::{ToldState, error_of};
use super::host::FleetHost;
use super::package::FleetPackage;
use super::process::{CallInput, CallLimits, call};
use super::remote::EnterOptions;
use super::runner::FleetRunner;
use super::steps::{FleetStep, HostFailure, HostResult, HostState};
use super::token::{FleetToken, TokenSource};
use crate::error::Result;
use crate::model::Cancel;
use crate::model::exit::{BELOW, DONE};
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// What to try by hand where an instance is not reached.
const BY_HAND: &str = "try by hand what the runner does; the same command goes on with this one";

/// How long an instance may take to say how it stands.
const LOOK_WITHIN: Duration = Duration::from_secs(60);
/// Where to look when what an instance says is not enough.
const ASK_THERE: &str = "ask there: `stillpoint client status`";

/// What is to be done with each instance.
pub struct FleetWork<'a> {
    /// What brings commands there.
    pub runner: FleetRunner,
    /// How instances are entered.
    pub enter: EnterOptions,
    /// What is installed where nothing is; `None`: nothing.
    pub package: Option<FleetPackage>,
    /// What activates those that are not.
    pub token: Option<TokenSource>,
    /// How long each step may take.
    pub within: Duration,
    /// Whether the batch goes on.
    pub go_on: &'a dyn Cancel,
}

/// Asks an instance how it stands, and changes nothing. `None`: the batch was stopped.
///
/// # Errors
/// A command cannot be put into words for a shell.
pub fn ask(work: &FleetWork<'_>, host: &FleetHost) -> Result<Option<HostResult>> {
    HostVisit::of(work, host).look()
}

/// Does what is missing for an instance to be activated. `None`: the batch was stopped.
///
/// # Errors
/// A command cannot be put into words for a shell.
pub fn apply_to(work: &FleetWork<'_>, host: &FleetHost) -> Result<Option<HostResult>> {
    HostVisit::of(work, host).apply()
}

/// An instance that is being visited.
struct HostVisit<'a> {
    work: &'a FleetWork<'a>,
    host: &'a FleetHost,
    token: Option<Result<Arc<FleetToken>>>,
    result: HostResult,
}

/// Whether the visit goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Onward {
    Yes,
    /// What is known is in the result.
    No,
    /// The batch was stopped.
    Stopped,
}

impl<'a> HostVisit<'a> {
    fn of(work: &'a FleetWork<'a>, host: &'a FleetHost) -> Self {
        // It is struck out of all that the instance says, from the first word on.
        let token = work.token.as_ref().map(|source| source.token(host));
        Self {
            work,
            host,
            token,
            result: HostResult::of(host, HostState::Unreachable),
        }
    }

    fn look(mut self) -> Result<Option<HostResult>> {
        let onward = self.status(FleetStep::Look)?;
        Ok(self.ended(onward))
    }

    fn apply(mut self) -> Result<Option<HostResult>> {
        let onward = self.way()?;
        Ok(self.ended(onward))
    }

    fn ended(mut self, onward: Onward) -> Option<HostResult> {
        self.result.time = Timestamp::now();
        (onward != Onward::Stopped).then_some(self.result)
    }

    fn way(&mut self) -> Result<Onward> {
        let mut onward = self.status(FleetStep::Look)?;
        if onward == Onward::Yes && self.result.state == HostState::NotInstalled {
            onward = self.install()?;
            if onward == Onward::Yes {
                onward = self.status(FleetStep::Status)?;
            }
        }
        if onward == Onward::Yes && self.result.state == HostState::NotInstalled {
            let what = "installation ended well, and yet no stillpoint is found there";
            self.fail(FleetStep::Status, what, BY_HAND);
            return Ok(Onward::No);
        }
        let wants_token = [HostState::Installed, HostState::Failed].contains(&self.result.state);
        if onward == Onward::Stopped || !wants_token || self.work.token_missing() {
            return Ok(onward);
        }
        let onward = self.activate()?;
        if onward != Onward::Yes {
            return Ok(onward);
        }
        let onward = self.status(FleetStep::Status)?;
        if onward == Onward::Yes && self.result.state != HostState::Activated {
            let state = self.result.state.name();
            self.fail(
                FleetStep::Status,
                &format!("activation ended well, and yet its state is {state}"),
                ASK_THERE,
            );
            return Ok(Onward::No);
        }
        Ok(onward)
    }

    /// Asks for its state, by each address in turn until one is reached.
    fn status(&mut self, step: FleetStep) -> Result<Onward> {
        self.result.failure = None;
        let command = self.work.enter.status()?;
        let host = self.host;
        let tried = match (&self.result.address, self.work.runner.uses_address()) {
            (Some(_), _) | (None, false) => 1,
            (None, true) => host.addresses.len(),
        };
        for (number, address) in (1..).zip(host.addresses.iter().take(tried)) {
            let known = self.result.address.clone();
            let reply = match known {
                Some(_) => self.call(&command, CallInput::Nothing),
                None => self.call_at(address, &command, CallInput::Nothing),
            };
            match reply {
                Reply::Stopped => return Ok(Onward::Stopped),
                Reply::Broken(broken) => {
                    self.result.state = HostState::Unreachable;
                    let what = match tried {
                        1 => broken.what,
                        _ => format!("{address} ({number} of {tried}): {}", broken.what),
                    };
                    self.fail(step, &what, BY_HAND);
                    if broken.reached {
                        return Ok(Onward::No);
                    }
                }
                Reply::Answered(answer) => {
                    if self.work.runner.uses_address() {
                        let address = || address.to_string();
                        self.result.address.get_or_insert_with(address);
                    }
                    return Ok(self.told(step, &answer));
                }
            }
        }
        Ok(Onward::No)
    }

    /// Takes in what an instance tells of itself.
    fn told(&mut self, step: FleetStep, answer: &HostAnswer) -> Onward {
        let told = ToldState::of(answer);
        let differs = told.differs(self.host);
        self.result.state = told.state;
        self.result.version = told.version;
        self.result.last_snapshot = told.last_snapshot;
        self.result.problems = told.problems;
        self.result.failure = None;
        if let Some(what) = differs {
            let hint = "mend the list, or take activation back there: `stillpoint client \
                        deactivate`";
            self.fail(step, &what, hint);
            return Onward::No;
        }
        match told.state {
            HostState::NotInstalled | HostState::Installed | HostState::Activated => Onward::Yes,
            HostState::Failed
            | HostState::Unreachable
            | HostState::Unclear
            | HostState::CutOff
            | HostState::NotBegun => {
                let why = told.reason.unwrap_or_else(|| "it does not say why".into());
                self.fail(step, &why, told.remedy.as_deref().unwrap_or(ASK_THERE));
                Onward::No
            }
        }
    }

    fn install(&mut self) -> Result<Onward> {
        let Some(package) = &self.work.package else {
            self.fail(
                FleetStep::Install,
                "nothing is installed there, and no package was named",
                "name one with --package, or install it by other means",
            );
            return Ok(Onward::No);
        };
        let command = self.work.enter.install(package)?;
        let reply = self.call(&command, CallInput::Package(&package.path));
        Ok(self.judged(FleetStep::Install, reply, "nothing was activated there"))
    }

    fn activate(&mut self) -> Result<Onward> {
        let command = self.work.enter.activate()?;
        let reply = match &self.token {
            None => self.call(&command, CallInput::LiesThere),
            Some(Ok(token)) => self.call(&command, CallInput::Token(token)),
            Some(Err(error)) => {
                let (what, hint) = (
                    error.to_string(),
                    error.hint().unwrap_or(BY_HAND).to_owned(),
                );
                self.fail(FleetStep::Activate, &what, &hint);
                return Ok(Onward::No);
            }
        };
        Ok(self.judged(
            FleetStep::Activate,
            reply,
            "it is installed, and not activated",
        ))
    }

    /// Whether a step was done; `else_so` says what is so if it was not.
    fn judged(&mut self, step: FleetStep, reply: Reply, else_so: &str) -> Onward {
        let (what, hint) = match reply {
            Reply::Stopped => return Onward::Stopped,
            // With warnings it is done; what it comes to is asked for next.
            Reply::Answered(answer)
                if answer.code == i32::from(DONE)
                    || step == FleetStep::Activate && answer.code == i32::from(BELOW) =>
            {
                self.result.done.push(step);
                return Onward::Yes;
            }
            Reply::Answered(answer) => {
                let code = answer.code;
                match (error_of(&answer), answer.said()) {
                    (Some((what, hint)), _) => (what, hint),
                    (None, Some(said)) => (format!("exit code {code}: {said}"), None),
                    (None, None) => (format!("exit code {code}, without a word"), None),
                }
            }
            // Whether it was done there nobody knows; the next run looks.
            Reply::Broken(broken) => (broken.what, None),
        };
        let hint = hint.unwrap_or_else(|| format!("{else_so}, as far as is known; {BY_HAND}"));
        self.fail(step, &what, &hint);
        Onward::No
    }

    fn fail(&mut self, step: FleetStep, message: &str, hint: &str) {
        self.result.failure = Some(HostFailure {
            step,
            message: kept(message),
            hint: kept(hint),
        });
    }

    /// Calls by the address by which it was reached, or the first.
    fn call(&self, command: &str, input: CallInput<'_>) -> Reply {
        let known = self.result.address.as_deref();
        let mut addresses = self.host.addresses.iter();
        let at = addresses.find(|one| known.is_none_or(|known| one.as_str() == known));
        match at {
            Some(address) => self.call_at(address, command, input),
            // An instance has one at least.
            None => Reply::Stopped,
        }
    }

    fn call_at(&self, address: &HostAddress, command: &str, input: CallInput<'_>) -> Reply {
        let work = self.work;
        let line = work.runner.line(self.host, address, command);
        let within = match input {
            CallInput::Nothing => work.within.min(LOOK_WITHIN),
            CallInput::LiesThere | CallInput::Token(_) | CallInput::Package(_) => work.within,
        };
        let limits = CallLimits {
            within,
            go_on: work.go_on,
        };
        let run = call(&line, input, limits);
        let token = self.token.as_ref().and_then(|token| token.as_ref().ok());
        let token = token.map(|token| token.bytes());
        Reply::of(run, &work.runner, token, within)
    }
}

impl FleetWork<'_> {
    /// Whether nothing is there to activate instances with.
    fn token_missing(&self) -> bool {
        self.token.is_none() && self.enter.remote_token_file.is_none()
    }
}
