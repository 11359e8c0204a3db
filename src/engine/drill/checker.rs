//! The programs that check a filesystem without changing it, and what their exit codes mean. A
//! program that was ended, or is too old for what it sees, has found nothing wrong: it does not
//! know.

use super::step_end::{StepEnd, said_by, tail};
use crate::hooks::ProgramEnd;

/// A program that checks filesystems of one kind.
pub(super) struct FilesystemChecker {
    /// Its name.
    pub program: &'static str,
    /// What stands before the device.
    pub args: &'static [&'static str],
    codes: ExitCodes,
}

/// What a program means by exit codes other than 0.
#[derive(Clone, Copy)]
enum ExitCodes {
    /// fsck(8): bits. 4 is harm that is left; 8, 16, 32 and 128 say that it could not look.
    Bits,
    /// 1 is harm, or anything else that ended it.
    One,
    /// fsck.fat(8): 1 is whatever it would mend, a mark of having been mounted among it.
    Mended,
}

/// Bits of fsck(8) that say that it could not look: an operational error, wrong usage, cancelled,
/// a library is missing. With them 4 says nothing.
const COULD_NOT_LOOK: i32 = 8 | 16 | 32 | 128;

/// Words by which programs say that what they see is newer than they, or that they lack something.
const DOES_NOT_KNOW: [&str; 7] = [
    "unsupported filesystem features",
    "unsupported features",
    "unsupported option features",
    "unknown compat/rocompat/incompat features",
    "out of memory",
    "cannot allocate memory",
    "couldn't allocate",
];

/// By the kind that a signature has.
pub(super) fn checker(kind: &str) -> Option<FilesystemChecker> {
    let checker = |program, args, codes| {
        Some(FilesystemChecker {
            program,
            args,
            codes,
        })
    };
    match kind {
        // Without -f it believes the superblock that all is well.
        "ext2" | "ext3" | "ext4" => checker("e2fsck", &["-f", "-n"], ExitCodes::Bits),
        "xfs" => checker("xfs_repair", &["-n"], ExitCodes::One),
        "btrfs" => checker("btrfs", &["check", "--readonly"], ExitCodes::One),
        "vfat" => checker("fsck.fat", &["-n"], ExitCodes::Mended),
        _ => None,
    }
}

impl FilesystemChecker {
    /// What its end means.
    pub(super) fn judge(&self, end: &ProgramEnd) -> StepEnd {
        let said = format!("{}: {}", self.program, said_by(end));
        let Some(code) = end.code else {
            return StepEnd::not_done(said);
        };
        let harm = match (self.codes, code) {
            (_, 0) => {
                let first = end.output.lines().next().unwrap_or_default();
                return StepEnd::passed(format!("{}: {first}", self.program));
            }
            (ExitCodes::Bits, code) => code & COULD_NOT_LOOK == 0,
            (ExitCodes::One, 1) => {
                let output = end.output.to_lowercase();
                !DOES_NOT_KNOW.iter().any(|words| output.contains(words))
            }
            (ExitCodes::Mended, 1) if is_marked_alone(&end.output) => {
                return StepEnd::passed(format!("{}: {}", self.program, tail(&end.output)));
            }
            _ => false,
        };
        match harm {
            true => StepEnd::failed(said),
            false => StepEnd::not_done(said),
        }
    }
}

/// Whether `fsck.fat` has found a filesystem that was in use, and nothing else: the mark is in one
/// byte of the boot sector, and not in its copy.
fn is_marked_alone(output: &str) -> bool {
    const MARKED: &str =
        "Dirty bit is set. Fs was not properly unmounted and some data may be corrupt.";
    let lines = || output.lines().map(str::trim);
    let is_expected = |line: &str| {
        line.is_empty()
            || line.starts_with("fsck.fat ")
            || line.ends_with(MARKED)
            || matches!(
                line,
                "There are differences between boot sector and its backup."
                    | "This is mostly harmless. Differences: (offset:original/backup)"
                    | "65:01/00"
                    | "Not automatically fixing this."
                    | "Automatically removing dirty bit."
                    | "Leaving filesystem unchanged."
            )
            || (line.ends_with(" clusters") && line.contains(" files, "))
    };
    lines().any(|line| line.ends_with(MARKED)) && lines().all(is_expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::DrillOutcome::{self, Failed, NotDone, Passed};
    use std::time::Duration;

    fn judged(kind: &str, code: Option<i32>, output: &str) -> DrillOutcome {
        let end = ProgramEnd {
            code,
            how: "how".into(),
            output: output.into(),
            took: Duration::ZERO,
        };
        checker(kind).unwrap().judge(&end).outcome
    }

    #[test]
    fn only_harm_is_called_harm() {
        for (code, outcome) in [
            (Some(0), Passed),
            (Some(4), Failed),
            // An older one, of a feature that it does not know.
            (Some(12), NotDone),
            (Some(8), NotDone),
            (Some(16), NotDone),
            (Some(32 | 4), NotDone),
            (Some(128), NotDone),
            // Ended by a signal, too late, or never started.
            (None, NotDone),
        ] {
            assert_eq!(judged("ext4", code, "said"), outcome, "{code:?}");
        }
        for kind in ["xfs", "btrfs"] {
            assert_eq!(judged(kind, Some(0), ""), Passed);
            assert_eq!(judged(kind, Some(1), "would rebuild"), Failed);
            for code in [Some(2), Some(127), None] {
                assert_eq!(judged(kind, code, ""), NotDone, "{code:?}");
            }
        }
        let old = "Superblock has unknown compat/rocompat/incompat features (0x0/0x0/0x80).\n\
                   Using a more recent xfs_repair is recommended.\n\
                   Found unsupported filesystem features.  Exiting now.";
        assert_eq!(judged("xfs", Some(1), old), NotDone);
        let old = "couldn't open because of unsupported option features (4000).";
        assert_eq!(judged("btrfs", Some(1), old), NotDone);
    }

    /// As `fsck.fat` 4.2 has said it, and 4.1 before.
    #[test]
    fn a_mark_of_having_been_mounted_passes_alone() {
        let marked = "fsck.fat 4.2 (2021-01-31)\n\
            There are differences between boot sector and its backup.\n\
            This is mostly harmless. Differences: (offset:original/backup)\n  65:01/00\n  \
            Not automatically fixing this.\n\
            Dirty bit is set. Fs was not properly unmounted and some data may be corrupt.\n \
            Automatically removing dirty bit.\n\nLeaving filesystem unchanged.\n\
            /dev/loop3: 0 files, 1/129022 clusters\n";
        assert_eq!(judged("vfat", Some(1), marked), Passed);
        let older = "fsck.fat 4.1 (2017-01-24)\n0x25: Dirty bit is set. Fs was not properly \
            unmounted and some data may be corrupt.\n Automatically removing dirty bit.\n\
            Leaving filesystem unchanged.\n/dev/loop3: 0 files, 0/2036 clusters";
        assert_eq!(judged("vfat", Some(1), older), Passed);
        let harm = "FATs differ but appear to be intact.\n  Using first FAT.\n\
            Cluster 3 out of range (21053761 > 129023). Setting to EOF.\n\
            Reclaimed 1 unused cluster (512 bytes).\n";
        for said in [
            format!("{harm}Leaving filesystem unchanged."),
            format!("{marked}{harm}"),
            marked.replace("65:01/00", "65:01/00, 90:fa/00"),
            // What was cut off may have said anything.
            format!("(12 bytes left out) {marked}"),
            String::new(),
        ] {
            assert_eq!(judged("vfat", Some(1), &said), NotDone, "{said}");
        }
        assert_eq!(judged("vfat", Some(2), marked), NotDone);
        assert_eq!(judged("vfat", Some(0), ""), Passed);
    }
}
