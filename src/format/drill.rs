//! A drill: what was tried with a snapshot, and what came of it, put beside it by who tried. JSON
//! in an envelope. It is a claim of whoever may put, and nothing rests on it. It names itself and
//! the manifest that was tried, so that none counts elsewhere, later, or for other bytes.

use super::damaged;
use super::envelope::ObjectKind;
use super::manifest::JsonObject;
use super::seal::Sealer;
use crate::error::Result;
use crate::model::{Bytes, SnapshotId, clip};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Most steps of a drill.
const MAX_STEPS: usize = 64;
/// Most values in the record of one.
const MAX_VALUES: usize = 1024;
/// Longest text of a step, in bytes: the end of what a program said.
const MAX_TEXT: usize = 600;
/// The longest name of a host, of a version or of a kernel's release.
const MAX_NAME: usize = 255;
/// The longest path of a script.
const MAX_PATH: usize = 4096;

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrillOutcome {
    /// It is as it should be.
    Passed,
    /// It is not.
    Failed,
    /// Nobody knows: it was not tried. So is a word that a reader does not know.
    #[serde(other)]
    NotDone,
}

/// What a drill tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrillKind {
    /// Filesystems are opened by a kernel and checked, and a script sees the tree.
    Opened,
    /// A machine is booted.
    Booted,
    /// Something that a reader does not know: it says nothing of the others.
    #[serde(other)]
    Other,
}

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillStep {
    /// What: `vda1 (ext4): checked by e2fsck`.
    pub what: String,
    /// What came of it.
    pub outcome: DrillOutcome,
    /// What was said of it: the first line of a program that passed, the last ones of one that
    /// failed, or why it was not tried.
    #[serde(default)]
    pub said: String,
    /// How long it took, in milliseconds.
    #[serde(default)]
    pub took_ms: u64,
}

/// Which bytes a manifest is: the hash at its end, in hex. Of bytes that were decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ManifestHash(String);

impl ManifestHash {
    /// Of a manifest as it is stored, which has been decoded.
    pub fn of(stored: &[u8]) -> Self {
        let hash = stored.last_chunk().copied().unwrap_or([0; 32]);
        Self(blake3::Hash::from_bytes(hash).to_hex().to_string())
    }
}

/// What was tried with a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillRecord {
    /// Its own name: a copy under another one is none.
    pub drill: SnapshotId,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The very manifest that was tried.
    pub manifest: ManifestHash,
    /// The part of its manifest's name that stands for its host.
    pub host: String,
    /// When it began, by the clock of who tried.
    pub time: Timestamp,
    /// The name of the host that tried.
    pub by: String,
    /// Stillpoint's version.
    pub writer: String,
    /// The release of the kernel whose drivers have opened the filesystems.
    pub kernel: String,
    /// The script that was run against the tree, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// How long all of it took, in milliseconds.
    pub took_ms: u64,
    /// What it tries; absent in records of before there were kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<DrillKind>,
    /// The machine that was booted, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootProof>,
    /// What was tried, in that order.
    pub steps: Vec<DrillStep>,
}

/// A machine that was made of a snapshot's disks, and what was seen of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootProof {
    /// The disk that it was to boot from.
    pub disk: String,
    /// `bios` or `uefi`.
    pub firmware: String,
    /// The type of the machine, and how it sees its disks: `pc, virtio`.
    pub machine: String,
    /// What ran it: `QEMU 10.0.2`.
    pub emulator: String,
    /// Whether the processor ran its code itself.
    pub accelerated: bool,
    /// How much memory it had.
    pub memory: Bytes,
    /// How it was seen that it is up; absent: it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<BootMark>,
    /// The console's log, which whoever tried keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<KeptDigest>,
    /// A picture of the screen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub screen: Option<KeptDigest>,
}

/// How it was seen that a machine is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootMark {
    /// `login`, `target` or `power_button`.
    pub seen: String,
    /// `serial`, `screen` or `acpi`.
    pub on: String,
    /// The line that says so.
    pub line: String,
    /// How long after power-on that was, in milliseconds.
    pub after_ms: u64,
}

/// A file that is kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptDigest {
    /// Its length.
    pub length: Bytes,
    /// Its BLAKE3 hash, in hex.
    pub blake3: String,
}

impl KeptDigest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            length: Bytes(bytes.len() as u64),
            blake3: blake3::hash(bytes).to_hex().to_string(),
        }
    }
}

impl BootProof {
    fn texts(&mut self) -> Vec<&mut String> {
        let mut all = vec![
            &mut self.disk,
            &mut self.firmware,
            &mut self.machine,
            &mut self.emulator,
        ];
        if let Some(up) = &mut self.up {
            all.extend([&mut up.seen, &mut up.on, &mut up.line]);
        }
        let kept = [&mut self.console, &mut self.screen];
        all.extend(kept.into_iter().flatten().map(|kept| &mut kept.blake3));
        all
    }
}

const DRILL: JsonObject = JsonObject {
    kind: ObjectKind::Drill,
    most: MAX_VALUES,
};

impl DrillRecord {
    /// What it has tried. A record of before there were kinds says so by its machine.
    pub fn tried(&self) -> DrillKind {
        self.kind.unwrap_or(match self.boot {
            Some(_) => DrillKind::Booted,
            None => DrillKind::Opened,
        })
    }

    /// The first step that failed.
    pub fn failed(&self) -> Option<&DrillStep> {
        let mut steps = self.steps.iter();
        steps.find(|step| step.outcome == DrillOutcome::Failed)
    }

    /// Whether all was tried, and nothing failed.
    pub fn is_whole(&self) -> bool {
        let passed = |step: &DrillStep| step.outcome == DrillOutcome::Passed;
        !self.steps.is_empty() && self.steps.iter().all(passed)
    }

    /// The same with the one step alone that its result rests on, and without what was said.
    #[must_use]
    pub fn in_short(mut self) -> Self {
        let is = |wanted: DrillOutcome| move |step: &DrillStep| step.outcome == wanted;
        let mut at = self.steps.iter().position(is(DrillOutcome::Failed));
        at = at.or_else(|| self.steps.iter().position(is(DrillOutcome::NotDone)));
        let at = at.unwrap_or_default();
        self.steps = self.steps.into_iter().skip(at).take(1).collect();
        for step in &mut self.steps {
            step.said = String::new();
        }
        self
    }

    /// The bytes to store. Long texts are cut. Of steps beyond the bound those are left out that
    /// passed, then those that were not done; the last one counts them, and is no better than they.
    pub fn encode(&self, sealer: &Sealer) -> Result<Vec<u8>> {
        let mut record = self.clone();
        if self.steps.len() > MAX_STEPS {
            let rank = |step: &DrillStep| match step.outcome {
                DrillOutcome::Failed => 0,
                DrillOutcome::NotDone => 1,
                DrillOutcome::Passed => 2,
            };
            record.steps.sort_by_key(rank);
            let left_out = record.steps.split_off(MAX_STEPS - 1);
            // The worst of them comes first.
            let worst = left_out.first().map(|step| step.outcome);
            record.steps.push(DrillStep {
                what: format!("{} more steps", left_out.len()),
                outcome: worst.unwrap_or(DrillOutcome::NotDone),
                said: "they are not in this record".into(),
                took_ms: left_out.iter().map(|step| step.took_ms).sum(),
            });
        }
        for step in &mut record.steps {
            step.what = clip(&step.what, MAX_TEXT / 3);
            step.said = clip(&step.said, MAX_TEXT);
        }
        record.check = record.check.map(|path| clip(&path, MAX_PATH));
        for text in [&mut record.by, &mut record.writer, &mut record.kernel] {
            *text = clip(text, MAX_NAME);
        }
        for text in record.boot.iter_mut().flat_map(BootProof::texts) {
            *text = clip(text, MAX_NAME);
        }
        DRILL.encode(&record, sealer)
    }

    /// Reads a drill of that name, which stands beside the snapshot of that name.
    ///
    /// # Errors
    /// It cannot be understood, is another one, or another snapshot's.
    pub fn decode(bytes: &[u8], sealer: &Sealer, name: DrillName) -> Result<Self> {
        let mut drill: Self = DRILL.decode(bytes, sealer)?;
        let DrillName {
            snapshot,
            drill: own,
        } = name;
        if drill.snapshot != snapshot || drill.drill != own {
            return Err(damaged(
                "it was put as another drill, or another snapshot's",
            ));
        }
        let names = [&drill.by, &drill.writer, &drill.kernel, &drill.host];
        let names_fit = names.iter().all(|name| name.len() <= MAX_NAME);
        let mut texts = drill.boot.iter_mut().flat_map(BootProof::texts);
        let texts_fit = texts.all(|text| text.len() <= MAX_NAME);
        let is_short = |step: &DrillStep| step.what.len().max(step.said.len()) <= MAX_TEXT;
        let fits = drill.steps.len() <= MAX_STEPS
            && texts_fit
            && drill.steps.iter().all(is_short)
            && names_fit
            && drill.check.iter().all(|path| path.len() <= MAX_PATH);
        if !fits {
            return Err(damaged("it is longer than a drill may be"));
        }
        Ok(drill)
    }
}

/// Where a drill stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DrillName {
    /// Beside this snapshot.
    pub snapshot: SnapshotId,
    /// Under this name.
    pub drill: SnapshotId,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const SEALER: Sealer = Sealer::without_keys();

    fn step(outcome: DrillOutcome) -> DrillStep {
        DrillStep {
            what: "w".into(),
            outcome,
            said: "s".into(),
            took_ms: 1,
        }
    }

    fn drill(steps: Vec<DrillStep>) -> DrillRecord {
        DrillRecord {
            drill: SnapshotId::generate(2),
            snapshot: SnapshotId::generate(1),
            manifest: ManifestHash::of(&[7; 99]),
            host: "h".into(),
            time: Timestamp::UNIX_EPOCH,
            by: "b".into(),
            writer: "1".into(),
            kernel: "6".into(),
            check: None,
            took_ms: 7,
            kind: None,
            boot: None,
            steps,
        }
    }

    fn own_name(record: &DrillRecord) -> DrillName {
        DrillName {
            snapshot: record.snapshot,
            drill: record.drill,
        }
    }

    #[test]
    fn it_comes_back_and_only_under_its_own_name_beside_its_own_snapshot() {
        let one = drill(vec![
            step(DrillOutcome::Passed),
            step(DrillOutcome::NotDone),
        ]);
        let bytes = one.encode(&SEALER).unwrap();
        let name = own_name(&one);
        let read = DrillRecord::decode(&bytes, &SEALER, name).unwrap();
        assert_eq!(read, one);
        assert!(!read.is_whole() && read.failed().is_none());
        let (snapshot, drill) = (SnapshotId::generate(1), SnapshotId::generate(2));
        for other in [DrillName { snapshot, ..name }, DrillName { drill, ..name }] {
            let error = DrillRecord::decode(&bytes, &SEALER, other).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged);
        }
    }

    #[test]
    fn steps_beyond_the_bound_change_nothing_of_the_result() {
        let stored = |last: Vec<DrillStep>| {
            let mut steps = vec![step(DrillOutcome::Passed); 500];
            steps.extend(last);
            let one = drill(steps);
            let bytes = one.encode(&SEALER).unwrap();
            let read = DrillRecord::decode(&bytes, &SEALER, own_name(&one)).unwrap();
            assert_eq!(read.steps.len(), MAX_STEPS);
            read
        };
        let long = DrillStep {
            said: "x".repeat(1 << 20),
            ..step(DrillOutcome::Failed)
        };
        assert!(stored(vec![long]).failed().is_some());
        let not_done = stored(vec![step(DrillOutcome::NotDone)]);
        assert!(not_done.failed().is_none() && !not_done.is_whole());
        assert!(stored(Vec::new()).is_whole());
        assert!(
            stored(vec![step(DrillOutcome::Failed); 100])
                .failed()
                .is_some()
        );
        assert!(!drill(Vec::new()).is_whole());
    }

    #[test]
    fn a_short_one_has_the_same_result_and_a_long_one_is_none() {
        use DrillOutcome::{Failed, NotDone, Passed};
        for outcomes in [
            &[Passed, NotDone, Failed, Failed][..],
            &[Passed, NotDone],
            &[Passed],
            &[],
        ] {
            let one = drill(outcomes.iter().map(|outcome| step(*outcome)).collect());
            let short = one.clone().in_short();
            assert_eq!(short.failed().is_some(), one.failed().is_some());
            assert_eq!(short.is_whole(), one.is_whole());
            assert!(short.steps.len() <= 1);
        }
        let mut long = drill(vec![step(Passed)]);
        long.steps[0].what = "x".repeat(MAX_TEXT + 1);
        let bytes = DRILL.encode(&long, &SEALER).unwrap();
        assert!(DrillRecord::decode(&bytes, &SEALER, own_name(&long)).is_err());
    }

    #[test]
    fn what_was_booted_comes_back_and_old_readers_read_past_it() {
        let mut one = drill(vec![step(DrillOutcome::Passed)]);
        one.boot = Some(BootProof {
            disk: "vda".into(),
            firmware: "uefi".into(),
            machine: "pc, virtio".into(),
            emulator: "QEMU 10.0.2".into(),
            accelerated: false,
            memory: Bytes(1 << 30),
            up: Some(BootMark {
                seen: "login".into(),
                on: "serial".into(),
                line: "x".repeat(MAX_NAME * 2),
                after_ms: 29_000,
            }),
            console: Some(KeptDigest::of(b"console")),
            screen: None,
        });
        let bytes = one.encode(&SEALER).unwrap();
        let read = DrillRecord::decode(&bytes, &SEALER, own_name(&one)).unwrap();
        let line = &read.boot.as_ref().unwrap().up.as_ref().unwrap().line;
        assert_eq!(line.len(), MAX_NAME);
        assert_eq!(
            read.boot.as_ref().unwrap().console,
            one.boot.as_ref().unwrap().console
        );
        // What this one does not know is passed over: so it was before there was a boot.
        let mut later = serde_json::to_value(&read).unwrap();
        later["of_a_later_version"] = serde_json::json!({"boot": 1});
        assert_eq!(serde_json::from_value::<DrillRecord>(later).unwrap(), read);
        // A text that is too long is no drill.
        let bytes = DRILL.encode(&one, &SEALER).unwrap();
        assert!(DrillRecord::decode(&bytes, &SEALER, own_name(&one)).is_err());
    }

    #[test]
    fn a_kind_is_its_own_word_or_that_of_its_machine() {
        let mut one = drill(vec![step(DrillOutcome::Passed)]);
        assert_eq!(one.tried(), DrillKind::Opened);
        // A machine that never began is no filesystem that was opened.
        one.kind = Some(DrillKind::Booted);
        let bytes = one.encode(&SEALER).unwrap();
        let read = DrillRecord::decode(&bytes, &SEALER, own_name(&one)).unwrap();
        assert_eq!(read.tried(), DrillKind::Booted);
        let mut later = serde_json::to_value(&read).unwrap();
        later["kind"] = "of_a_later_version".into();
        let later: DrillRecord = serde_json::from_value(later).unwrap();
        assert_eq!(later.tried(), DrillKind::Other);
    }

    #[test]
    fn words_of_later_versions_are_no_success() {
        let later = r#"{"what":"w","outcome":"half_done"}"#;
        let read: DrillStep = serde_json::from_str(later).unwrap();
        assert_eq!(read.outcome, DrillOutcome::NotDone);
    }
}
