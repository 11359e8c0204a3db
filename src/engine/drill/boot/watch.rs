//! Watches a machine until it is up, or never will be. What is seen is the guest's own word; what
//! is not seen proves nothing against it.

use super::console::SignedLine;
use super::machine::BootMachine;
use super::marks::{BootSign, NOTHING_BOOTS, asks_for_login, is_wanting, sign};
use crate::engine::drill::setting::{DrillMonitor, TIME_IS_OVER, millis};
use crate::error::{ErrorKind, Result};
use crate::export::PairedServer;
use crate::format::BootMark;
use serde_json::json;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long it is listened to at once.
const LISTEN: Duration = Duration::from_millis(100);
/// How often its screen and its state are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What is on its screen counts once it has stood for so many looks.
const LOGIN_STANDS: u32 = 2;
const END_STANDS: u32 = 4;
/// It was at rest when it was less busy than half a processor in so many looks.
const RESTS: usize = 10;
/// It powers itself off so soon after its power button was pressed, or not because of that.
const OBEYS_WITHIN: Duration = Duration::from_secs(30);
/// A machine resets itself no more often than that before it is up: a loader may, once.
const MOST_RESETS: u32 = 2;

/// What came of it.
pub(super) enum BootEnd {
    /// It is up.
    Up(BootMark),
    /// It has come to its end before that, in words.
    Down(String),
    /// Nobody knows, for this reason.
    NotKnown(String),
    /// QEMU has ended, or cannot go on.
    Died(String),
}

/// Where a line was seen, for people.
pub(super) fn place_in_words(on: &str) -> &str {
    match on {
        "serial" => "serial console",
        other => other,
    }
}

/// How a machine is looked at.
#[derive(Clone, Copy)]
pub(super) struct WatchOptions {
    /// Whether its screen may show letters.
    pub has_letters: bool,
    /// Whether the processor runs its code itself, as fast as a machine's own would.
    pub accelerated: bool,
    /// When one that says nothing has its power button pressed.
    pub rest: Duration,
    /// Whether its disk may be made for another firmware.
    pub may_be_another: bool,
}

/// Who watches.
pub(super) struct BootWatch<'a> {
    machine: &'a mut BootMachine,
    servers: &'a [PairedServer],
    monitor: &'a DrillMonitor<'a>,
    options: WatchOptions,
    resets: u32,
    /// What its screen shows, and in how many looks it has.
    rows: Vec<String>,
    stands: u32,
    /// How busy it was, at the last looks.
    busy: VecDeque<BusyLook>,
    /// How many of its clocks had run out, and whether it was at rest until the last of them did.
    ran_out: u32,
    rested: bool,
    /// How many requests its disks had, and since when.
    asked: u64,
    quiet_since: Instant,
    pressed: Option<PressedButton>,
}

/// When the button was pressed, and what had been written by then.
#[derive(Clone, Copy)]
struct PressedButton {
    at: Instant,
    written: u64,
}

/// How busy a machine was by a moment.
struct BusyLook {
    at: Instant,
    busy: Duration,
}

impl<'a> BootWatch<'a> {
    pub(super) fn new(
        machine: &'a mut BootMachine,
        servers: &'a [PairedServer],
        monitor: &'a DrillMonitor<'a>,
        options: WatchOptions,
    ) -> Self {
        Self {
            machine,
            servers,
            monitor,
            options,
            resets: 0,
            rows: Vec::new(),
            stands: 0,
            busy: VecDeque::new(),
            ran_out: 0,
            rested: false,
            asked: 0,
            quiet_since: Instant::now(),
            pressed: None,
        }
    }

    /// Watches until something is certain, or the time is over.
    ///
    /// # Errors
    /// A signal.
    pub(super) fn run(mut self) -> Result<BootEnd> {
        let mut looked = Instant::now();
        loop {
            self.monitor.outer.check()?;
            self.machine.listen(LISTEN);
            let console = &self.machine.console;
            if let Some(signed) = console.up().or_else(|| console.down()) {
                return Ok(self.signed(&signed, "serial"));
            }
            if let Some(end) = self.events().or_else(|| self.servers_end()) {
                return Ok(end);
            }
            if self.machine.has_died() {
                self.machine.listen(Duration::ZERO);
                let why = self.machine.complaint();
                return Ok(match self.machine.was_killed() {
                    true => BootEnd::NotKnown("QEMU was killed".into()),
                    false => BootEnd::Died(format!("QEMU has ended: {why}")),
                });
            }
            if self.monitor.is_over() {
                return Ok(BootEnd::NotKnown(format!(
                    "neither a login nor a failure was seen; {TIME_IS_OVER}"
                )));
            }
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                self.look_how_busy();
                if let Some(signed) = self.screen() {
                    return Ok(self.signed(&signed, "screen"));
                }
                self.look_whether_it_rests();
            }
        }
    }

    fn signed(&self, signed: &SignedLine, on: &str) -> BootEnd {
        let after_ms = millis(self.machine.begun.elapsed());
        let what = match signed.sign {
            BootSign::Up(seen) => {
                return BootEnd::Up(BootMark {
                    seen: seen.into(),
                    on: on.into(),
                    line: signed.line.clone(),
                    after_ms,
                });
            }
            BootSign::Down(what) => what,
        };
        let (seconds, line) = (after_ms as f64 / 1000.0, &signed.line);
        let on = place_in_words(on);
        let said = format!("{what}, as its {on} says after {seconds:.1} s: {line}");
        match self.doubt(what) {
            Some(why) => BootEnd::NotKnown(format!("{why}: {said}")),
            None => BootEnd::Down(said),
        }
    }

    /// What may have brought it to its end beside the snapshot.
    fn doubt(&self, what: &str) -> Option<&'static str> {
        let console = &self.machine.console;
        if console.is_wanting() || self.rows.iter().any(|row| is_wanting(row)) {
            let why = "it has too little memory, or lacks something of its processor (--memory)";
            return Some(why);
        }
        if what == NOTHING_BOOTS && self.options.may_be_another {
            return Some("its disk has a boot loader for a BIOS, too (--firmware bios)");
        }
        // A host that is too slow has the machine's clocks run out while it works.
        let ran_out = console.timers() > 0;
        let is_slow = ran_out && !self.options.accelerated && !self.rested;
        is_slow.then_some("its clocks ran out while it was busy, on a host that may be too slow")
    }

    fn look_how_busy(&mut self) {
        let at = Instant::now();
        match self.machine.busy() {
            Some(busy) => self.busy.push_back(BusyLook { at, busy }),
            None => self.busy.clear(),
        }
        if self.busy.len() > RESTS {
            self.busy.pop_front();
        }
        let ran_out = self.machine.console.timers();
        if ran_out != self.ran_out {
            self.ran_out = ran_out;
            self.rested = self.was_at_rest();
        }
    }

    /// Whether it neither worked nor wanted to, for some time before now.
    fn was_at_rest(&self) -> bool {
        let (Some(first), Some(last)) = (self.busy.front(), self.busy.back()) else {
            return false;
        };
        let time = last.at.duration_since(first.at);
        self.busy.len() >= RESTS && last.busy.saturating_sub(first.busy) < time / 2
    }

    /// What stands on its screen: where its letters say that it is up, or at its end.
    fn screen(&mut self) -> Option<SignedLine> {
        if !self.options.has_letters {
            return None;
        }
        let rows = self.machine.screen_lines();
        match rows == self.rows {
            true => self.stands += 1,
            false => self.stands = 1,
        }
        self.rows = rows;
        // A menu may have any words in it.
        if self.rows.iter().any(|row| row.contains(MENU)) {
            return None;
        }
        let last = self.rows.last().filter(|row| asks_for_login(row));
        if let Some(last) = last.filter(|_| self.stands >= LOGIN_STANDS) {
            return Some(SignedLine::new(BootSign::Up("login"), last));
        }
        let signs = self.rows.iter().rev();
        let mut signs = signs.filter_map(|row| Some(SignedLine::new(sign(row)?, row)));
        signs.next().filter(|_| self.stands >= END_STANDS)
    }

    fn events(&mut self) -> Option<BootEnd> {
        while let Some(event) = self.machine.take_event() {
            let end = match event.name {
                "RESET" if event.by_guest => self.has_reset(),
                "SHUTDOWN" if event.by_guest => Some(self.has_shut_down()),
                "STOP" => self.stands_still(),
                _ => None,
            };
            if end.is_some() {
                return end;
            }
        }
        None
    }

    fn has_reset(&mut self) -> Option<BootEnd> {
        self.resets += 1;
        let count = self.resets;
        (count > MOST_RESETS).then(|| {
            BootEnd::NotKnown(format!(
                "it has reset itself {count} times, and said no why"
            ))
        })
    }

    /// QEMU has stopped it: the processor cannot go on, or a disk cannot be written to.
    fn stands_still(&mut self) -> Option<BootEnd> {
        let state = self.machine.ask("query-status", &json!({})).ok()?;
        match state["status"].as_str()? {
            "internal-error" => Some(BootEnd::Died("this processor cannot run it".into())),
            "io-error" => Some(self.servers_end().unwrap_or_else(|| {
                BootEnd::NotKnown("what it writes cannot be written here".into())
            })),
            _ => None,
        }
    }

    fn has_shut_down(&mut self) -> BootEnd {
        let after = self.machine.begun.elapsed();
        let seconds = after.as_secs_f64();
        let Some(pressed) = self.pressed else {
            return BootEnd::Down(format!("it has powered itself off after {seconds:.1} s"));
        };
        let took = pressed.at.elapsed();
        let written = self.disks_had(WRITES).unwrap_or_default();
        if took > OBEYS_WITHIN || written <= pressed.written {
            let what = format!(
                "it has powered itself off {:.1} s after its power button was pressed, for \
                 an unknown reason",
                took.as_secs_f64()
            );
            return BootEnd::NotKnown(what);
        }
        BootEnd::Up(BootMark {
            seen: "power_button".into(),
            on: "acpi".into(),
            line: "it has powered itself off when its power button was pressed".into(),
            after_ms: millis(after),
        })
    }

    /// What its disks' servers know better: the machine stands still.
    fn servers_end(&self) -> Option<BootEnd> {
        let failures = self.servers.iter().flat_map(PairedServer::failures);
        let mut failures = failures.filter(|failure| failure.kind == ErrorKind::NoSpace);
        failures.next().map(|failure| {
            BootEnd::NotKnown(format!(
                "there is no room for what it writes: {}; give it more with --room, or elsewhere \
                 with --work",
                failure.what
            ))
        })
    }

    /// How many requests of these kinds its disks had.
    fn disks_had(&mut self, kinds: &[&str]) -> Option<u64> {
        let stats = self.machine.ask("query-blockstats", &json!({})).ok()?;
        let disks = stats.as_array()?.iter();
        let counts = disks.flat_map(|disk| {
            let of = |kind: &&str| disk["stats"][kind].as_u64().unwrap_or(0);
            kinds.iter().map(of)
        });
        Some(counts.fold(0, u64::saturating_add))
    }

    /// A machine that says nothing has its power button pressed once it rests: what answers it is
    /// at work, and no boot loader, initramfs or emergency mode does.
    fn look_whether_it_rests(&mut self) {
        if self.machine.console.has_kernel() {
            return;
        }
        let Some(asked) = self.disks_had(REQUESTS) else {
            return;
        };
        if asked != self.asked {
            self.asked = asked;
            self.quiet_since = Instant::now();
        }
        if self.quiet_since.elapsed() < self.options.rest {
            return;
        }
        // Once more after another rest: the first time nobody may have listened yet.
        self.quiet_since = Instant::now();
        let Some(written) = self.disks_had(WRITES) else {
            return;
        };
        let at = Instant::now();
        if self.machine.ask("system_powerdown", &json!({})).is_ok() {
            self.pressed = Some(PressedButton { at, written });
        }
    }
}

/// What stands above a menu of GRUB's.
const MENU: &str = "GNU GRUB";
/// Kinds of requests, as QEMU counts them.
const REQUESTS: &[&str] = &["rd_operations", "wr_operations", "flush_operations"];
const WRITES: &[&str] = &["wr_operations"];
