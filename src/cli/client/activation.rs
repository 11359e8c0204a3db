//! What activation writes, one thing after another: note, files, configuration, plan. Each is
//! noted before it is written, so that whoever is killed here leaves nothing that is nobody's.

use super::super::args::{Common, PlanAction, PlanArgs, PlanKeyArgs, PlanModifyArgs};
use super::super::plan::{self, Dispatch};
use super::configuration::{BLOCK, ConfigChange, plan_change};
use super::meant::{MeantVault, not_run};
use super::places::ClientPlaces;
use super::plan_words;
use super::undo::{DoneFile, DoneThing};
use crate::client::{
    ClientFile, ClientNote, ClientStage, ClientToken, FileToPut, PlacedFile, TakenFile, hash_of,
    place, plan_part, standing, take_away,
};
use crate::config::Config;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::helper::put_file;
use crate::plan::{PlanName, PlanNotes, UnitState};
use crate::report::client::{ClientStep, StepWord};
use crate::report::plan::{PlanRunner, SeenPlan};
use jiff::Timestamp;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use zeroize::Zeroizing;

/// The name of the step of a plan.
pub const PLAN: &str = "plan";
/// The name of what a token has said of its plan in a note.
const WORDS: &str = "words";
/// Stands for the hash of a plan that is about to be made.
pub const BEGUN: &str = "begun";

/// An activation at work.
pub struct Activation<'a> {
    pub token: &'a ClientToken,
    pub places: &'a ClientPlaces,
    pub common: &'a Common,
    pub dispatch: Dispatch,
    /// What was noted before it.
    pub before: Option<ClientNote>,
    /// Whether the plan is known to run by itself.
    pub runs: bool,
    /// What was done, to be taken back if it fails.
    pub done: Vec<DoneThing>,
    pub steps: Vec<ClientStep>,
    pub warnings: Vec<String>,
    /// What the user should know, and is no less than was asked for.
    pub notes: Vec<String>,
}

impl Activation<'_> {
    /// What a file of the token is to hold.
    fn wanted(&self, file: ClientFile) -> Option<Zeroizing<Vec<u8>>> {
        let token = self.token;
        let bytes = match file {
            ClientFile::Key => Some([token.key.as_ref()?.bytes(), b"\n"].concat()),
            ClientFile::Credentials => Some(token.credentials.as_ref()?.bytes().to_vec()),
            ClientFile::Certificates => Some(token.certificates.as_ref()?.as_bytes().to_vec()),
        };
        bytes.map(Into::into)
    }

    /// Whether all that the token would write stands already.
    pub fn stands(&self) -> Result<bool> {
        let done = self.before.as_ref();
        if done.is_none_or(|note| note.stage != ClientStage::Activated) {
            return Ok(false);
        }
        for file in ClientFile::ALL {
            let path = file.path(&self.places.folder, &self.token.vault.name);
            if let Some(wanted) = self.wanted(file)
                && standing(&path)?.is_none_or(|there| there != wanted)
            {
                return Ok(false);
            }
        }
        let change = plan_change(self.token, self.places, done)?;
        let words = self.hash_of_words();
        let is_planned = match (self.plan_name()?, done) {
            (Some(name), Some(note)) => {
                let is_there = self.places.plans.settings_path(&name).is_ok();
                is_there
                    && note.plan.as_deref() == Some(name.as_str())
                    && note.known(WORDS).contains(&words)
            }
            (None, Some(note)) => note.plan.is_none(),
            (_, None) => false,
        };
        Ok(change.before.as_ref() == Some(&change.after) && is_planned)
    }

    /// Writes all of it.
    pub fn write(&mut self) -> Result<()> {
        let change = plan_change(self.token, self.places, self.before.as_ref())?;
        let mut note = ClientNote::begun(self.token, Timestamp::now());
        if let Some(before) = &self.before {
            note.know_what(before);
        }
        for file in ClientFile::ALL {
            if let Some(bytes) = self.wanted(file) {
                note.know(file.name(), &hash_of(&bytes));
            }
        }
        note.know(BLOCK, &change.block);
        note.write(&self.places.note)?;
        self.make_folder()?;
        for file in ClientFile::ALL {
            self.put(file, &note)?;
        }
        self.configure(&change)?;
        self.make_plan(&mut note)?;
        for file in ClientFile::ALL {
            if let Some(bytes) = self.wanted(file) {
                note.know_only(file.name(), Some(&hash_of(&bytes)));
            }
        }
        note.know_only(BLOCK, Some(&change.block));
        note.stage = ClientStage::Activated;
        note.write(&self.places.note)?;
        // From here on it is done: what is left of an earlier token is no reason to undo it.
        for file in ClientFile::ALL {
            if self.wanted(file).is_none() && !note.known(file.name()).is_empty() {
                self.clear(file, &mut note);
                let noted = note.write(&self.places.note);
                self.warnings
                    .extend(noted.err().map(|error| error.to_string()));
            }
        }
        Ok(())
    }

    /// What tells the plan of a token from another one's.
    fn hash_of_words(&self) -> String {
        let words = self.token.plan.as_ref().map(|plan| plan.words.join("\n"));
        hash_of(words.unwrap_or_default().as_bytes())
    }

    fn told(&mut self, step: &'static str, word: StepWord, said: impl Into<String>) {
        self.steps.push(ClientStep {
            step,
            word,
            said: said.into(),
        });
    }

    fn make_folder(&mut self) -> Result<()> {
        let folder = &self.places.folder;
        if folder.is_dir() {
            return Ok(());
        }
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o755).create(folder);
        made.io_context("make", folder)?;
        self.done.push(DoneThing::Folder(folder.clone()));
        Ok(())
    }

    fn put(&mut self, file: ClientFile, note: &ClientNote) -> Result<()> {
        let Some(bytes) = self.wanted(file) else {
            return Ok(());
        };
        let path = file.path(&self.places.folder, &self.token.vault.name);
        let new = FileToPut {
            bytes: &bytes,
            mode: file.mode(),
        };
        let before = match place(&path, new, note.known(file.name()))? {
            PlacedFile::Kept => {
                self.told(file.name(), StepWord::Kept, path.display().to_string());
                return Ok(());
            }
            PlacedFile::Made => None,
            PlacedFile::Replaced(before) => Some(before),
        };
        self.told(file.name(), StepWord::Done, path.display().to_string());
        self.done.push(DoneThing::File(DoneFile {
            path,
            before,
            after: bytes,
            mode: file.mode(),
        }));
        Ok(())
    }

    /// Nothing names it any more.
    fn clear(&mut self, file: ClientFile, note: &mut ClientNote) {
        let path = file.path(&self.places.folder, &self.token.vault.name);
        match take_away(&path, note.known(file.name())) {
            Ok(TakenFile::Absent) => note.know_only(file.name(), None),
            Ok(TakenFile::Taken) => {
                note.know_only(file.name(), None);
                let said = format!("{} is gone: the token has none", path.display());
                self.told(file.name(), StepWord::Done, said);
            }
            Ok(TakenFile::Left) => {}
            Err(error) => self.warnings.push(error.to_string()),
        }
    }

    fn configure(&mut self, change: &ConfigChange) -> Result<()> {
        let path = &self.places.config;
        let name = &self.token.vault.name;
        let said = format!("{}: [vaults.{name}]", path.display());
        if change.before.as_ref() == Some(&change.after) {
            self.told(BLOCK, StepWord::Kept, said);
        } else {
            put_file(path, change.after.as_bytes(), change.mode)?;
            self.done.push(DoneThing::File(DoneFile {
                path: path.clone(),
                before: change.before.clone().map(|text| text.into_bytes().into()),
                after: change.after.clone().into_bytes().into(),
                mode: change.mode,
            }));
            self.told(BLOCK, StepWord::Done, said);
        }
        if let Some(other) = &change.other_usual {
            self.notes.push(format!(
                "where no vault is named, {other} is meant as before: name this one with --vault \
                 {name}"
            ));
        }
        Ok(())
    }

    fn plan_name(&self) -> Result<Option<PlanName>> {
        let plan = self.token.plan.as_ref();
        plan.map(|plan| plan.name.parse()).transpose()
    }

    /// Makes the plan; one of its name stays as it is.
    fn make_plan(&mut self, note: &mut ClientNote) -> Result<()> {
        let of_token = self.token.plan.as_ref().map(|plan| plan.name.clone());
        for earlier in note.plans() {
            if Some(&earlier) != of_token.as_ref() {
                self.warnings.push(format!(
                    "plan {earlier}, of an earlier token, stays and goes on: `stillpoint plan \
                     delete {earlier}` ends it"
                ));
            }
        }
        let (Some(name), Some(plan)) = (self.plan_name()?, &self.token.plan) else {
            return Ok(());
        };
        if self.places.plans.settings_path(&name).is_ok() {
            return self.keep_plan(&name, note);
        }
        let create = plan_words::arguments(plan)?;
        note.know_only(&plan_part(name.as_str()), Some(BEGUN));
        note.know_only(WORDS, Some(&self.hash_of_words()));
        note.write(&self.places.note)?;
        let folder = self.places.plans.path();
        if !folder.exists() {
            self.done.push(DoneThing::Folder(folder.to_owned()));
        }
        let made = self.run_plan(PlanAction::Create(create));
        // It may have been written all the same.
        if self.places.plans.settings_path(&name).is_ok() {
            self.done.push(DoneThing::Plan(name.clone()));
        }
        made?;
        let hash = self.hash_of_plan(&name)?;
        note.know_only(&plan_part(name.as_str()), hash.as_deref());
        self.told(PLAN, StepWord::Done, format!("plan {name} is made"));
        self.look_at_plan(&name)
    }

    fn hash_of_plan(&self, name: &PlanName) -> Result<Option<String>> {
        let there = standing(&self.places.plans.file(name))?;
        Ok(there.map(|bytes| hash_of(&bytes)))
    }

    /// One that was cut off may have made a plan, and no timer for it.
    fn keep_plan(&mut self, name: &PlanName, note: &mut ClientNote) -> Result<()> {
        let seen = self.see_plan(name)?;
        let part = plan_part(name.as_str());
        let now = self.hash_of_plan(name)?;
        let was_begun = note.known(&part).iter().any(|hash| hash == BEGUN);
        let is_ours = was_begun || now.is_some_and(|now| note.known(&part).contains(&now));
        let lacks = match &seen.runner {
            PlanRunner::Timer(timer) => {
                timer.state != UnitState::Written || timer.active != Some(true)
            }
            PlanRunner::Cron(_) => false,
        };
        if is_ours && lacks {
            self.run_plan(PlanAction::Modify(PlanModifyArgs {
                name: name.to_string(),
                keys: PlanKeyArgs::default(),
            }))?;
        }
        if was_begun {
            note.know_only(&part, self.hash_of_plan(name)?.as_deref());
        }
        if !note.known(WORDS).contains(&self.hash_of_words()) {
            self.warnings.push(format!(
                "plan {name} was there, and stays as it is: the token says otherwise; `stillpoint \
                 plan modify {name}` changes it, `stillpoint plan delete {name}` makes room for it"
            ));
        }
        let said = format!("plan {name} is there, and stays as it is");
        self.told(PLAN, StepWord::Kept, said);
        self.look_at_plan(name)
    }

    /// The same of what stands already.
    pub fn look_again(&mut self) -> Result<()> {
        match self.plan_name()? {
            Some(name) => self.look_at_plan(&name),
            None => Ok(()),
        }
    }

    fn see_plan(&self, name: &PlanName) -> Result<SeenPlan> {
        let found = plan::look_at_plans(self.common)?;
        let mut seen = found.seen.into_iter();
        seen.find(|one| one.plan.name == *name).ok_or_else(|| {
            let path = self.places.plans.file(name);
            let what = format!("{} is there, and holds no plan", path.display());
            Error::new(ErrorKind::Exists, what)
                .with_hint("`stillpoint plan list` says what is wrong with it")
        })
    }

    /// Tells what keeps the plan from running by itself, or from going to the vault.
    fn look_at_plan(&mut self, name: &PlanName) -> Result<()> {
        let seen = self.see_plan(name)?;
        let vault = &self.token.vault.name;
        let config = Config::read(&self.common.config_place())?;
        let meant = MeantVault {
            name: vault,
            url: &self.token.vault.settings.url,
            is_usual: config.usual_vault() == Some(vault.as_str()),
        };
        let trouble = not_run(&seen, &PlanNotes::at(self.common.plan_notes.clone()));
        self.runs = trouble.is_none() && meant.takes(&seen);
        self.warnings.extend(trouble);
        if !meant.takes(&seen) {
            self.warnings.push(format!(
                "plan {name} was there, and goes to another vault: `stillpoint plan modify {name} \
                 --vault {vault}` changes that"
            ));
        }
        Ok(())
    }

    /// Runs a command on plans as it means the vault of the token.
    fn run_plan(&mut self, action: PlanAction) -> Result<()> {
        let common = for_vault(self.common, &self.token.vault.name);
        let report = plan::run(&PlanArgs { action }, &common, self.dispatch)?;
        let warnings = report.json["warnings"].as_array();
        let warnings = warnings.into_iter().flatten();
        let warnings = warnings.filter_map(|one| one.as_str().map(str::to_owned));
        self.warnings.extend(warnings);
        Ok(())
    }
}

/// The same options, for a vault of that name in the configuration, by the key that stands there.
pub fn for_vault(common: &Common, name: &str) -> Common {
    Common {
        vault: Some(name.to_owned()),
        password_file: None,
        password_command: None,
        ..common.clone()
    }
}
