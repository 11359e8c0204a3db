//! A host as a client: the token that was made, what activation did and what was taken back, how
//! the client stands, and the program that was replaced. It never holds a token or a secret.

use super::Report;
use super::error::document as error_document;
use super::plan::SeenPlan;
use super::status::HostStatus;
use crate::client::{ClientNote, ClientToken, ProgramSwap, TokenVault};
use crate::error::Error;
use crate::model::ObjectId;
use crate::model::exit::BELOW;
use crate::model::printable::one_line;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a key in a token opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKey {
    /// The vault is not encrypted.
    None,
    /// It takes snapshots, and reads no block.
    Writer,
    /// It opens all that is in the vault.
    Reader,
}

/// A token that was made.
pub struct TokenMade<'a> {
    /// Where it was written to; `None`: standard output.
    pub file: Option<PathBuf>,
    /// What its key opens.
    pub key: TokenKey,
    /// Whether the vault is in a bucket.
    pub is_s3: bool,
    /// The token, of which no secret is told.
    pub token: &'a ClientToken,
}

/// What reports that a token was made.
pub fn token_made(made: &TokenMade<'_>) -> Report {
    let TokenMade { token, key, .. } = made;
    let file = made.file.as_ref().map(|file| file.display().to_string());
    let (word, rights) = match key {
        TokenKey::None => (
            "none",
            "the vault is not encrypted: who reaches it can read it",
        ),
        TokenKey::Writer => ("writer", "its key takes snapshots, and reads no block"),
        TokenKey::Reader => ("reader", "ITS KEY OPENS ALL that is in the vault"),
    };
    let plan = token
        .plan
        .as_ref()
        .map(|plan| json!({"plan": plan.name, "words": plan.words}));
    let json = json!({
        "token_file": file,
        "vault": token.vault.name,
        "vault_id": token.vault.id.to_string(),
        "url": token.vault.settings.url,
        "issued": format!("{:.0}", token.issued),
        "expires": format!("{:.0}", token.expires),
        "host": token.host,
        "key": word,
        "credentials": token.credentials.is_some(),
        "plan": plan,
    });
    let credentials = match (made.is_s3, &token.credentials) {
        (false, _) => "hosts need the directory mounted at the same path".to_owned(),
        (true, Some(_)) => "it holds credentials for the bucket".into(),
        (true, None) => {
            "it holds no credentials: hosts find their own (`stillpoint help s3`)".into()
        }
    };
    let planned = match &token.plan {
        Some(plan) => format!("plan {}: {}", plan.name, plan.words.join(" ")),
        None => "it makes no plan".into(),
    };
    let text = format!(
        "{rights}\n{credentials}\n{}\nit is a secret: who has it can write to the vault, also \
         after its end; delete it when the hosts are activated\n{} activates {} for {} until {:.0}",
        one_line(&planned),
        file.as_deref().map_or("the token".into(), one_line),
        token.host.as_deref().map_or("hosts".into(), one_line),
        one_line(&token.vault.settings.url),
        token.expires,
    );
    Report::done(json, text)
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepWord {
    /// It was done.
    Done,
    /// There was nothing to do.
    Kept,
    /// It was left, as somebody has changed it.
    Left,
    /// It failed, and all else stands.
    Failed,
}

/// A step of an activation, or of taking one back.
#[derive(Clone, Debug)]
pub struct ClientStep {
    /// What it is about.
    pub step: &'static str,
    /// What became of it.
    pub word: StepWord,
    /// The same in words.
    pub said: String,
}

impl ClientStep {
    fn document(&self) -> Value {
        let outcome = match self.word {
            StepWord::Done => "done",
            StepWord::Kept => "kept",
            StepWord::Left => "left",
            StepWord::Failed => "failed",
        };
        json!({"step": self.step, "outcome": outcome, "said": self.said})
    }

    fn line(&self) -> String {
        let mark = match self.word {
            StepWord::Done => "ok",
            StepWord::Kept => "==",
            StepWord::Left => "! ",
            StepWord::Failed => "!!",
        };
        format!("{mark}  {}: {}\n", self.step, one_line(&self.said))
    }
}

fn steps_document(steps: &[ClientStep]) -> Vec<Value> {
    steps.iter().map(ClientStep::document).collect()
}

/// A host that was activated.
pub struct ActivationTold<'a> {
    /// Its name.
    pub host: String,
    /// The vault.
    pub vault: &'a TokenVault,
    /// The plan of the token.
    pub plan: Option<String>,
    /// Whether all of it stood already.
    pub already: bool,
    /// Whether the plan is known to run by itself.
    pub runs: bool,
    /// The snapshot that was asked for.
    pub snapshot: Option<String>,
    /// What was done.
    pub steps: Vec<ClientStep>,
    /// What is less than was asked for.
    pub warnings: Vec<String>,
    /// What the user should know besides.
    pub notes: Vec<String>,
}

/// What `client activate` reports.
pub fn activated(told: &ActivationTold<'_>) -> Report {
    let json = json!({
        "host": told.host,
        "version": VERSION,
        "state": ClientState::Activated.name(),
        "already": told.already,
        "vault": vault_document(&told.vault.name, &told.vault.settings.url, told.vault.id),
        "plan": told.plan,
        "snapshot": told.snapshot,
        "steps": steps_document(&told.steps),
    });
    let mut text: String = told.steps.iter().map(ClientStep::line).collect();
    let url = one_line(&told.vault.settings.url);
    let host = one_line(&told.host);
    let _ = match (&told.plan, told.already) {
        (Some(plan), _) if !told.runs => write!(
            text,
            "{host} is activated for {url}, and PLAN {plan} IS NOT KNOWN TO RUN: see the warnings"
        ),
        (_, true) => write!(text, "{host} was already activated for {url}"),
        (Some(plan), _) => write!(
            text,
            "{host} is activated for {url}: plan {plan} runs by itself; delete the token"
        ),
        (None, _) => write!(
            text,
            "{host} is activated for {url}, without a plan; delete the token"
        ),
    };
    let mut report = Report::done(json, text);
    told.notes.iter().for_each(|one| report.mention(one));
    told.warnings
        .iter()
        .for_each(|warning| report.warn(warning));
    report
}

fn vault_document(name: &str, url: &str, id: ObjectId) -> Value {
    json!({"name": name, "url": url, "id": id.to_string()})
}

/// A host of which activation was taken back.
pub struct DeactivationTold {
    /// Its name.
    pub host: String,
    /// What it was activated for; `None`: it was not.
    pub vault: Option<ClientNote>,
    /// What was done.
    pub steps: Vec<ClientStep>,
    /// Whether keys or credentials stay, which only the note knows.
    pub is_half: bool,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// What `client deactivate` reports.
pub fn deactivated(told: &DeactivationTold) -> Report {
    let vault = told.vault.as_ref();
    let json = json!({
        "host": told.host,
        "version": VERSION,
        "state": match told.is_half {
            true => ClientState::Failed.name(),
            false => ClientState::Installed.name(),
        },
        "already": vault.is_none(),
        "vault": vault.map(|note| vault_document(&note.vault, &note.url, note.vault_id)),
        "steps": steps_document(&told.steps),
    });
    let mut text: String = told.steps.iter().map(ClientStep::line).collect();
    let host = one_line(&told.host);
    let _ = match vault {
        None => write!(
            text,
            "{host} is not activated by a token: nothing was changed"
        ),
        Some(note) => write!(
            text,
            "{host} is {}deactivated; {} keeps all that it has",
            if told.is_half { "HALF " } else { "" },
            one_line(&note.url)
        ),
    };
    let left = told.steps.iter().any(|step| step.word == StepWord::Left);
    let mut report = Report::done(json, text).below(left || told.is_half);
    told.warnings
        .iter()
        .for_each(|warning| report.warn(warning));
    report
}

/// How far a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientState {
    /// The program is there, and nothing snapshots this host by itself.
    Installed,
    /// It snapshots itself.
    Activated,
    /// It should, and cannot.
    Failed,
}

impl ClientState {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Activated => "activated",
            Self::Failed => "failed",
        }
    }
}

/// A vault that was asked.
pub struct StandingVault {
    /// Its name in the configuration, or as it was given.
    pub name: Option<String>,
    /// Where it is.
    pub url: String,
    /// Who it says it is.
    pub id: ObjectId,
}

/// How a client stands.
pub struct ClientTold {
    /// The host's name.
    pub host: String,
    /// How far it is.
    pub state: ClientState,
    /// Why it failed.
    pub trouble: Option<Error>,
    /// The vault, if it was asked and is the right one.
    pub vault: Option<StandingVault>,
    /// How its snapshots stand; `None`: there is nothing that could be asked.
    pub status: Option<HostStatus>,
    /// What keeps it from being snapshotted by itself.
    pub unrun: Vec<String>,
}

/// What `client status` reports.
pub fn status(told: &ClientTold) -> Report {
    let mut problems = told
        .status
        .as_ref()
        .map(super::status::problems)
        .unwrap_or_default();
    let unrun = told.unrun.iter().map(|one| one_line(one).into_owned());
    problems.extend(unrun);
    let seen = told.status.as_ref().map_or(&[][..], |status| &status.plans);
    let copies = told.status.iter().flat_map(|status| &status.disks);
    let copies = copies.filter_map(|disk| Some((disk, disk.copy.as_ref()?)));
    let last = copies.max_by_key(|(_, found)| found.copy.time);
    let last_snapshot = last.as_ref().map(|(disk, found)| {
        json!({
            "snapshot": found.copy.snapshot.to_string(),
            "time": format!("{:.0}", found.copy.time),
            "disk": disk.name,
        })
    });
    let vault = told
        .vault
        .as_ref()
        .map(|vault| json!({"name": vault.name, "url": vault.url, "id": vault.id.to_string()}));
    let json = json!({
        "host": told.host,
        "version": VERSION,
        "state": told.state.name(),
        "failure": told.trouble.as_ref().map(error_document),
        "vault": vault,
        "plans": seen.iter().map(plan_document).collect::<Vec<_>>(),
        "last_snapshot": last_snapshot,
        "problems": problems,
    });
    let mut text = String::new();
    if let Some(vault) = &told.vault {
        let _ = writeln!(text, "vault: {} ({})", one_line(&vault.url), vault.id);
    }
    for plan in seen {
        let _ = writeln!(text, "{}", one_line(&plan.verdict()));
    }
    if let Some((disk, found)) = last {
        let copy = &found.copy;
        let _ = writeln!(
            text,
            "last good snapshot: {} of {}, {:.0}",
            copy.snapshot,
            one_line(&disk.name),
            copy.time
        );
    }
    for problem in &problems {
        let _ = writeln!(text, "!! {problem}");
    }
    text.push_str(&verdict(told, problems.len()));
    let good = told.state == ClientState::Activated && problems.is_empty();
    let mut report = Report::done(json, text);
    if !good {
        report.code = BELOW;
    }
    report
}

fn verdict(told: &ClientTold, problems: usize) -> String {
    let host = one_line(&told.host);
    let head = format!("{host}: stillpoint {VERSION}, {}", told.state.name());
    match (&told.trouble, told.state) {
        (Some(error), _) => {
            let hint = super::error::advice(error);
            format!(
                "hint: {}\n{head}: {}",
                one_line(&hint),
                one_line(&error.to_string())
            )
        }
        (None, ClientState::Installed) => {
            format!("{head}: nothing snapshots it by itself; `stillpoint client activate --help`")
        }
        (None, _) if problems == 0 => format!("{head}: nothing is overdue and nothing has failed"),
        (None, _) => format!(
            "{head}: LOOK AT THIS: {}",
            super::text::counted(problems, "problem")
        ),
    }
}

fn plan_document(seen: &SeenPlan) -> Value {
    json!({
        "plan": seen.plan.name.as_str(),
        "state": seen.health().name(),
        "next": seen.next().first().map(|time| format!("{time:.0}")),
    })
}

/// What `client update` reports.
pub fn updated(program: &Path, swapped: &ProgramSwap) -> Report {
    let (shown, before) = (program.display().to_string(), swapped.before.as_ref());
    let json = json!({
        "program": shown,
        "version_before": VERSION,
        "version": swapped.version,
        "sha256": swapped.sha256,
        "before": before.map(|path| path.display().to_string()),
        "already": before.is_none(),
    });
    let shown = one_line(&shown);
    let text = match before {
        None => format!("{shown} is this very program already: nothing was changed"),
        Some(before) => format!(
            "the one before is {0}: `mv {0} {shown}` goes back\n{shown} is stillpoint {1} now, and \
             was {VERSION}",
            one_line(&before.display().to_string()),
            swapped.version
        ),
    };
    Report::done(json, text)
}
