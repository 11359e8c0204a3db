//! The process that takes a mount down when the one that serves it was killed:
//! `stillpoint __mount`, with a socket as its standard input. It mounts nothing, and touches
//! nothing as long as the other one lives. Where both are killed, the next mount does it, or
//! `unmount`.

use super::note::{FoundNote, Liveness, MountNote, take_turn};
use super::take_down::take_down_dead;
use crate::error::{Error, ErrorKind, Result};
use crate::helper::{self, Helper, NoMessage, Role, recv, send};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// The hidden command under which the program becomes a mount watcher.
pub const MOUNT_WATCHER_COMMAND: &str = "__mount";
const ROLE: Role = Role {
    command: MOUNT_WATCHER_COMMAND,
    name: "mount-watch",
};
/// How long it may take to get ready.
const READY_WITHIN: Duration = Duration::from_secs(15);
/// A wait for the end of the other process is begun again after this time.
const AGAIN: Duration = Duration::from_secs(3600);
/// The first pause between two tries, and the longest.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What is watched. The note may be gone when it is needed, so it is told.
#[derive(Serialize, Deserialize)]
struct WatchOrder {
    path: Vec<u8>,
    note: MountNote,
}

/// The watcher of this process's mount. When this is dropped without having been told that all is
/// unmounted, it waits for the end of this process, and takes the mount down.
pub(super) struct MountWatcher {
    helper: Helper,
    socket: OwnedFd,
}

impl MountWatcher {
    /// Starts it.
    pub(super) fn start(program: &Path, path: &Path, note: &MountNote) -> Result<Self> {
        let (helper, socket) = Helper::start(program, ROLE)?;
        let what = "the process that watches a mount did not get ready";
        let failed = Error::new(ErrorKind::Failed, what);
        let order = WatchOrder {
            path: path.as_os_str().as_bytes().to_vec(),
            note: note.bare(),
        };
        if let Err(errno) = send(&socket, &order) {
            return Err(failed.with_source(errno));
        }
        match recv(&socket, READY_WITHIN) {
            Ok(()) => Ok(Self { helper, socket }),
            Err(_) => Err(failed),
        }
    }

    /// Its pid.
    pub(super) fn pid(&self) -> u32 {
        self.helper.pid()
    }

    /// Whether somebody has ended it.
    pub(super) fn has_ended(&self) -> bool {
        self.helper.has_ended(Duration::ZERO)
    }

    /// Tells it that nothing is left to be taken down.
    pub(super) fn dismiss(self) {
        // If it is gone, nobody needs to be told.
        let _ = send(&self.socket, &true);
    }
}

/// Runs as the watcher. Exit code 0: nothing is left; 2: nobody has started it as one.
pub fn mount_watcher_main() -> ExitCode {
    let Some(socket) = helper::begin() else {
        return ExitCode::from(2);
    };
    let _ = nix::sys::prctl::set_name(c"mount-watch");
    let Ok(order) = recv::<WatchOrder>(&socket, READY_WITHIN) else {
        return ExitCode::from(2);
    };
    let path = PathBuf::from(OsString::from_vec(order.path));
    let _ = send(&socket, &());
    loop {
        match recv::<bool>(&socket, AGAIN) {
            Ok(_) => return ExitCode::SUCCESS,
            Err(NoMessage::Waiting) => {}
            Err(NoMessage::Gone) => break,
        }
    }
    let mut pause = PAUSE;
    while take_down(&path, &order.note).is_err() {
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    ExitCode::SUCCESS
}

fn take_down(path: &Path, told: &MountNote) -> Result<()> {
    // The note knows more, and may be gone.
    let note = MountNote::read(path).unwrap_or_else(|_| told.clone());
    if note.liveness() == Liveness::Alive {
        return Err(Error::new(ErrorKind::Busy, "its process still runs"));
    }
    // Without a run directory nobody else knows of it.
    let _turn = match path.parent() {
        Some(run_dir) if run_dir.is_dir() => Some(take_turn(run_dir)?),
        _ => None,
    };
    // Left by a process that was killed while it wrote the note.
    let _ = std::fs::remove_file(path.with_extension("draft"));
    take_down_dead(&FoundNote {
        path: path.to_owned(),
        note,
    })
}
