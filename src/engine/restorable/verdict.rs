//! What was found that will keep a machine from booting elsewhere, what was looked at for it, and
//! what could not be looked at: the last is never left out, for silence would read as "fine".

use serde::Serialize;

/// Most risks that are told one by one: files that are hostile or very long name thousands.
const RISKS: usize = 256;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BootRiskLevel {
    /// On any other machine.
    WillNotBoot,
    /// Where the other machine differs from this one in what is named.
    MayNotBoot,
    /// It boots, and lacks something: a network, a console, time.
    BehavesOtherwise,
}

/// One thing that will keep a restored machine from booting, or from being what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BootRisk {
    /// How bad it is.
    pub level: BootRiskLevel,
    /// What was found.
    pub what: String,
    /// Where: a file, and the line in it where there is one (`/etc/fstab:3`).
    pub place: String,
    /// Why it matters.
    pub why: String,
    /// What to do about it, in a line.
    pub remedy: String,
}

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LookedAt {
    /// What it was.
    pub what: String,
    /// What it is like.
    pub found: String,
}

/// Something that could not be looked at, so that nothing is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotLookedAt {
    /// What it was.
    pub what: String,
    /// Why not.
    pub reason: String,
}

/// Whether this machine, restored from its snapshot, would boot elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Restorability {
    /// What speaks against it, worst first.
    pub risks: Vec<BootRisk>,
    /// How many more there are than are told.
    pub more_risks: usize,
    /// What was looked at.
    pub looked_at: Vec<LookedAt>,
    /// What could not be looked at.
    pub not_looked_at: Vec<NotLookedAt>,
    /// What a restored machine does otherwise by its maker's intent, and what to choose elsewhere:
    /// nothing that is amiss.
    pub notes: Vec<String>,
}

impl Restorability {
    /// Whether there is nothing against it, and all was looked at.
    pub fn is_clean(&self) -> bool {
        self.risks.is_empty() && self.not_looked_at.is_empty()
    }

    pub(super) fn risk(&mut self, risk: BootRisk) {
        match self.risks.len() < RISKS {
            true => self.risks.push(risk),
            false => self.more_risks += 1,
        }
    }

    pub(super) fn saw(&mut self, what: impl Into<String>, found: impl Into<String>) {
        let (what, found) = (what.into(), found.into());
        self.looked_at.push(LookedAt { what, found });
    }

    pub(super) fn could_not(&mut self, what: impl Into<String>, reason: impl Into<String>) {
        let (what, reason) = (what.into(), reason.into());
        let one = NotLookedAt { what, reason };
        if self.not_looked_at.len() < RISKS && !self.not_looked_at.contains(&one) {
            self.not_looked_at.push(one);
        }
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    pub(super) fn add(&mut self, other: Self) {
        self.more_risks += other.more_risks;
        other.risks.into_iter().for_each(|risk| self.risk(risk));
        self.looked_at.extend(other.looked_at);
        let unseen = other.not_looked_at.into_iter();
        unseen.for_each(|one| self.could_not(one.what, one.reason));
        self.notes.extend(other.notes);
    }
}
