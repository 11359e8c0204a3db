//! What lines of a machine's console or screen mean: it is up, or it never will be. The lines are
//! the guest's, and what they say is its own word: a mark proves no more than that it was written.

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BootSign {
    /// It is up, by this mark.
    Up(&'static str),
    /// It has come to an end before that, in words.
    Down(&'static str),
}

/// The longest name of a host (`HOST_NAME_MAX`).
const MOST_HOST: usize = 64;
/// What is said behind a prompt by others: the kernel, cloud-init.
const OTHERS: [&str; 3] = ["[", "ci-info", "cloud-init"];
/// What a machine says whose clock has run out: a host that is too slow for it does that, too.
const TIMERS: [&str; 11] = [
    "Timed out",
    "timed out",
    "timeout",
    "Gave up waiting",
    "[ TIME ]",
    "soft lockup",
    "softlockup",
    "hung task",
    "hung_task",
    "timer doesn't work",
    "detected stalls",
];
/// What it says that is given too little, in small letters.
const WANTING: [&str; 5] = [
    "out of memory",
    "deadlocked on memory",
    "unpacking failed: write error",
    "cpu does not support",
    "cannot allocate memory",
];

/// Units by which systemd is up, as it names them.
const TARGETS: [&str; 4] = [
    "multi-user.target",
    "Multi-User System",
    "graphical.target",
    "Graphical Interface",
];

/// Where a boot ends that has failed, by what stands in a line.
const ENDS: [(&str, &str); 16] = [
    ("Kernel panic - not syncing", "its kernel has panicked"),
    ("You are in emergency mode", EMERGENCY),
    ("Entering emergency mode", EMERGENCY),
    ("You are in rescue mode", "it has stopped in rescue mode"),
    ("Give root password for maintenance", EMERGENCY),
    ("Press Enter for maintenance", EMERGENCY),
    (
        "Cannot open access to console, the root account is locked",
        EMERGENCY,
    ),
    (
        "grub rescue>",
        "its boot loader does not find its own files",
    ),
    ("No bootable device", NOTHING_BOOTS),
    ("No bootable option or device was found", NOTHING_BOOTS),
    ("UEFI Interactive Shell", NOTHING_BOOTS),
    ("Missing operating system", NOTHING_BOOTS),
    ("Operating system not found", NOTHING_BOOTS),
    ("Operating System not found", NOTHING_BOOTS),
    (
        "Failed to execute /init",
        "its kernel finds no first program",
    ),
    ("No working init found", "its kernel finds no first program"),
];
const EMERGENCY: &str = "it has stopped in emergency mode";
pub(super) const NOTHING_BOOTS: &str = "its firmware finds nothing that boots";

/// The same, by how a line begins: prompts.
const PROMPTS: [(&str, &str); 3] = [
    ("(initramfs)", "its initramfs has stopped at a prompt"),
    ("dracut:/#", "its initramfs has stopped at a prompt"),
    ("grub>", "its boot loader has stopped at a prompt"),
];

/// What a line says, without colours; `None`: nothing that decides. A login is another question:
/// [`asks_for_login`].
pub(super) fn sign(line: &str) -> Option<BootSign> {
    let line = line.trim();
    let ends = ENDS.iter().find(|(words, _)| line.contains(words));
    let ends = ends.or_else(|| PROMPTS.iter().find(|(words, _)| line.starts_with(words)));
    if let Some((_, what)) = ends {
        return Some(BootSign::Down(what));
    }
    let is_target = TARGETS.iter().any(|name| line.contains(name));
    (is_target && line.contains("Reached target")).then_some(BootSign::Up("target"))
}

/// Whether a line is a prompt for a login, with nothing behind it but what others have said since:
/// `web1 login:`.
pub(super) fn asks_for_login(line: &str) -> bool {
    let Some((before, after)) = line.trim().split_once("login:") else {
        return false;
    };
    let host = before.trim();
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_host = host.len() <= MOST_HOST && host.chars().all(is_name) && host != "Last";
    // `weblogin:` is none.
    let is_apart = host.is_empty() || before.ends_with(' ');
    let after = after.trim();
    let is_nothing = after.is_empty()
        || after.ends_with("(automatic login)")
        || OTHERS.iter().any(|other| after.starts_with(other));
    is_host && is_apart && is_nothing
}

/// Whether a line says that what the machine waits for did not come in time, by its own clock.
pub(super) fn is_timers(line: &str) -> bool {
    TIMERS.iter().any(|words| line.contains(words))
}

/// Whether a line says that it has too little memory, or lacks something of its processor.
pub(super) fn is_wanting(line: &str) -> bool {
    let line = line.to_lowercase();
    WANTING.iter().any(|words| line.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_asked_for_in_a_line_of_its_own() {
        for line in [
            "debian login:",
            "  web-1.example login: ",
            "login:",
            "host login: root (automatic login)",
            "host login: [   31.2] random: crng init done",
        ] {
            assert!(asks_for_login(line), "{line}");
        }
        for line in [
            "",
            "Last login: Mon Nov 30",
            "Last login:",
            "[    3.0] audit: login:",
            "*Debian, no login:",
            "use this login: admin",
            "pam_unix(login:session): opened",
            "weblogin:",
            "web login: admin",
        ] {
            assert!(!asks_for_login(line), "{line}");
        }
        assert!(!asks_for_login(&format!("{} login:", "x".repeat(99))));
    }

    #[test]
    fn lines_mean_what_machines_mean_by_them() {
        for line in [
            "[  OK  ] Reached target multi-user.target - Multi-User System.",
            "[    9.1] systemd[1]: Reached target Graphical Interface.",
            "[  OK  ] Reached target Multi-User System.",
        ] {
            assert_eq!(sign(line), Some(BootSign::Up("target")), "{line}");
        }
        for line in [
            "You are in emergency mode. After logging in, type \"journalctl -xb\"",
            "Press Enter for maintenance",
            "[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs",
            "(initramfs) ",
            "grub rescue> ",
            "grub> ",
            "No bootable device.",
            "BdsDxe: No bootable option or device was found.",
        ] {
            assert!(matches!(sign(line), Some(BootSign::Down(_))), "{line}");
        }
        for line in [
            "",
            "[  OK  ] Reached target basic.target - Basic System.",
            "[  OK  ] Started getty@tty1.service - Getty on tty1.",
            "Loading initial ramdisk (initramfs) ...",
            "systemd-logind.service - User Login Management.",
        ] {
            assert_eq!(sign(line), None, "{line}");
        }
        assert!(is_timers("[ TIME ] Timed out waiting for device vdb1."));
        assert!(is_wanting("error: out of memory.") && !is_wanting("Memory: 1 GiB"));
    }
}
