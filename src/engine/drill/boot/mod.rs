//! A drill that boots: a machine without a network is made of the snapshot's disks, straight from
//! the vault, and watched until it is up, or never will be. What it writes is thrown away. It must
//! never call failed what this host could not do, nor proven what was not seen.

mod arguments;
mod console;
mod disks;
mod emulator;
mod kept;
mod machine;
mod marks;
mod options;
mod qmp;
mod watch;

pub use options::{BootDiskBus, BootFirmware, BootOptions, REST};

use super::setting::DrillOptions;
use super::step_end::StepEnd;
use super::steps::Steps;
use crate::engine::monitor::{Event, Monitor};
use crate::engine::restore::refuse_the_vault;
use crate::error::{ErrorKind, Result};
use crate::export::{PairedServer, ServedFailure};
use crate::format::{BootMark, BootProof, DiskRecord};
use crate::store::Vault;
use arguments::{MACHINE, MachinePlan, PlannedBootDisk};
use disks::{MachineDisks, MadeFor};
use emulator::Emulator;
use kept::{Picture, SeenMachine, make_place};
use machine::BootMachine;
use std::path::PathBuf;
use std::time::Duration;
use watch::{BootEnd, BootWatch, WatchOptions, place_in_words};

/// The last of a console that is told, in bytes.
const LAST_LINES: usize = 240;

/// A machine may give up what has no answer by then.
const SLOW: Duration = Duration::from_secs(5);

/// A machine that was booted, and where what was seen of it is.
pub(super) struct BootedMachine {
    pub proof: BootProof,
    /// The folder, or why there is none.
    pub kept: Result<PathBuf>,
}

/// One attempt.
struct BootAttempt {
    end: BootEnd,
    version: String,
    seen: SeenMachine,
    last_lines: String,
    failures: Vec<ServedFailure>,
    /// The longest that it has waited for an answer of the vault.
    waited: Duration,
}

/// Refuses a machine that this host cannot make, before anything else is tried.
///
/// # Errors
/// What is needed is not here, or a folder is in the vault.
pub fn can_boot(vault: &Vault, boot: &BootOptions) -> Result<()> {
    find_emulator(vault, boot).map(drop)
}

fn find_emulator(vault: &Vault, boot: &BootOptions) -> Result<Emulator> {
    refuse_the_vault(vault, &boot.keep)?;
    refuse_the_vault(vault, &boot.work)?;
    Emulator::find(boot)
}

impl Steps<'_> {
    /// Boots a machine, and takes down what came of it.
    ///
    /// # Errors
    /// A signal; what is needed is not here; the vault cannot be read before the machine begins.
    pub(super) fn boot(
        &mut self,
        options: &DrillOptions<'_>,
        boot: &BootOptions,
    ) -> Result<BootedMachine> {
        let emulator = find_emulator(options.vault, boot)?;
        let disks = MachineDisks::of(options.vault, &options.manifest.manifest, boot)?;
        let MadeFor { firmware, or_bios } = match boot.firmware {
            Some(firmware) => MadeFor {
                firmware,
                or_bios: false,
            },
            None => disks.firmware(self.monitor)?,
        };
        let emulator = emulator.with_firmware(firmware)?;
        make_place(&boot.keep)?;
        let disk = disks.system.identity.name.clone();
        let step = self.begin_anew(format!("{disk} boots by {firmware}"));
        let mut accelerated = emulator.accelerates;
        let mut failures = Vec::new();
        let attempt = loop {
            let plan = MachinePlan {
                emulator: &emulator,
                options: boot,
                disks: disks.disks.iter().map(|disk| planned(disk)).collect(),
                accelerated,
            };
            let servers = disks.serve(boot, self.monitor)?;
            let watched = WatchOptions {
                has_letters: firmware == BootFirmware::Bios,
                accelerated,
                rest: boot.rest,
                may_be_another: or_bios,
            };
            let attempt = self.attempt(&plan, servers, watched)?;
            failures.extend_from_slice(&attempt.failures);
            // A processor that cannot run such a guest says nothing of the snapshot.
            match &attempt.end {
                BootEnd::Died(why) if accelerated && !self.monitor.is_over() => {
                    let what = format!("once more without KVM, as {why}");
                    self.monitor.tell(Event::Note(what));
                    accelerated = false;
                }
                _ => break attempt,
            }
        };
        self.add(&step, &step_end(&attempt));
        self.all_was_served(&failures);
        let up = match attempt.end {
            BootEnd::Up(mark) => Some(mark),
            _ => None,
        };
        Ok(BootedMachine {
            proof: BootProof {
                disk,
                firmware: firmware.word().into(),
                machine: format!("{MACHINE}, {}", boot.bus.word()),
                emulator: format!("QEMU {}", attempt.version),
                accelerated,
                memory: boot.memory,
                up,
                console: Some(attempt.seen.console_digest()),
                screen: attempt.seen.screen_digest(),
            },
            kept: attempt.seen.keep(&boot.keep),
        })
    }

    fn attempt(
        &self,
        plan: &MachinePlan<'_>,
        mut servers: Vec<PairedServer>,
        watched: WatchOptions,
    ) -> Result<BootAttempt> {
        let mut machine = match BootMachine::start(plan, &mut servers) {
            Ok(machine) => machine,
            Err(error) => {
                return Ok(BootAttempt {
                    end: BootEnd::Died(error.to_string()),
                    version: "that did not begin".into(),
                    seen: SeenMachine::default(),
                    last_lines: String::new(),
                    failures: Vec::new(),
                    waited: Duration::ZERO,
                });
            }
        };
        let end = BootWatch::new(&mut machine, &servers, self.monitor, watched).run()?;
        let waits = servers.iter().map(PairedServer::longest_wait);
        let waited = waits.max().unwrap_or_default();
        let picture = match machine.picture() {
            Ok((bytes, ending)) => Some(Picture { bytes, ending }),
            Err(why) => {
                let what = format!("there is no picture of the screen: {why}");
                self.monitor.tell(Event::Note(what));
                None
            }
        };
        let mut last_lines = machine.console.last_lines(LAST_LINES);
        if last_lines.is_empty() {
            last_lines = machine.screen_lines().join("\n");
        }
        let complaints = machine.console.complaints().join("\n");
        if !complaints.is_empty() && !last_lines.contains(&complaints) {
            last_lines = format!("{complaints}\n… {last_lines}");
        }
        let seen = SeenMachine {
            console: machine.console.text(),
            picture,
        };
        let version = machine.version();
        // What it has not read by now it will not.
        drop(machine);
        Ok(BootAttempt {
            end,
            version,
            seen,
            last_lines,
            failures: servers.iter().flat_map(PairedServer::failures).collect(),
            waited,
        })
    }

    /// Whether all could be read that the machine has asked for.
    fn all_was_served(&mut self, failures: &[ServedFailure]) {
        let damage = failures
            .iter()
            .find(|failure| failure.kind == ErrorKind::Damaged);
        let others = failures
            .iter()
            .find(|failure| failure.kind != ErrorKind::NoSpace);
        let end = match (damage, others) {
            (Some(damage), _) => StepEnd::failed(damage.what.as_str()),
            (None, Some(late)) => StepEnd::not_done(late.what.as_str()),
            (None, None) => return,
        };
        let step = self.begin_anew("all that was asked of its disks could be read".into());
        self.add(&step, &end);
    }
}

fn planned(disk: &DiskRecord) -> PlannedBootDisk {
    PlannedBootDisk {
        name: disk.identity.name.clone(),
        sector: disk.identity.logical_block,
    }
}

/// What the end of an attempt says of the snapshot.
fn step_end(attempt: &BootAttempt) -> StepEnd {
    let with_last = |what: &str| match attempt.last_lines.is_empty() {
        true => format!("{what}; nothing stands on its console"),
        false => format!("{what}; its lines: {}", attempt.last_lines),
    };
    match &attempt.end {
        BootEnd::Up(mark) => StepEnd::passed(in_words(mark)),
        BootEnd::Down(what) => {
            let end = StepEnd::failed(with_last(what));
            let is_known = |failure: &&ServedFailure| failure.kind == ErrorKind::Damaged;
            let mut failures = attempt.failures.iter();
            match (failures.clone().find(is_known), failures.next()) {
                // What the vault did not answer, or answered late, may be why.
                (None, Some(late)) => end.in_doubt(&late.what),
                (None, None) if attempt.waited > SLOW => end.in_doubt(&format!(
                    "it has waited {:.1} s for one answer of the vault",
                    attempt.waited.as_secs_f64()
                )),
                _ => end,
            }
        }
        BootEnd::NotKnown(why) => StepEnd::not_done(with_last(why)),
        BootEnd::Died(why) => StepEnd::not_done(why.as_str()),
    }
}

fn in_words(mark: &BootMark) -> String {
    let seconds = mark.after_ms as f64 / 1000.0;
    let (line, on) = (&mark.line, place_in_words(&mark.on));
    match mark.seen.as_str() {
        "login" => format!("it asks for a login on its {on} after {seconds:.1} s: {line}"),
        "target" => format!("it has reached its target after {seconds:.1} s: {line}"),
        _ => format!("{line}, after {seconds:.1} s"),
    }
}
