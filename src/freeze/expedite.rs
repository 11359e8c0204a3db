//! Has the kernel expedite RCU grace periods while something waits for them. A `FIFREEZE` waits for
//! three (`fs/super.c`, `percpu_down_write()`), each step of the tracking programs for one. A grace
//! period takes 4 to 20 ms, and well under 1 ms when it is expedited (`kernel/rcu/update.c`,
//! `rcu_gp_is_expedited()`). The switch belongs to the whole host: it is on for an instant only, it
//! must never stay on, and what its owner has set is left alone.
//!
//! Concurrent runs share the switch through a file in the run directory. Each user holds a shared
//! `flock` of it. The user that can upgrade its lock to an exclusive one on release is the last,
//! and switches it off. While we have it on, the file holds the boot's id, so that the next run or
//! `thaw` switches it off if the users were killed.

use crate::error::{IoContext, Result};
use crate::helper::{check_run_dir, in_memory, open_run_dir};
use crate::sys::machine::boot_id;
use crate::sys::plain;
use nix::fcntl::OFlag;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// `Documentation/admin-guide/kernel-parameters.txt`, `rcupdate.rcu_expedited`.
const SWITCH: &str = "/sys/kernel/rcu_expedited";
/// Takes precedence over it.
const NEVER: &str = "/sys/kernel/rcu_normal";
/// Lists of processors that must not be interrupted, as an expedited grace period does.
const UNDISTURBED: [&str; 2] = [
    "/sys/devices/system/cpu/isolated",
    "/sys/devices/system/cpu/nohz_full",
];
/// The file's name in the run directory.
const NOTE: &str = "expedited";
/// If the run directory has a file of this name, it stands in for the switch: each test has its
/// own, as the real one belongs to the whole host.
const STAND_IN: &str = "rcu_expedited";
/// What the file holds instead of the boot's id when we do not have it on. It is as long as that,
/// so that the file's page stays.
const NOBODY: [u8; 36] = [b' '; 36];
/// How often to try. Others hold the exclusive lock during a few system calls only.
const TRIES: usize = 16;

/// The switch, or nothing where it is not to be used: then a freeze only takes longer.
#[derive(Clone, Debug, Default)]
pub struct Expedite(Option<Arc<Switch>>);

#[derive(Debug)]
struct Switch {
    switch: File,
    note: File,
    boot: String,
    /// One open file has one lock, so it can be used once at a time.
    in_use: AtomicBool,
}

/// As long as it lives, grace periods are expedited.
#[derive(Debug)]
pub struct Expedited(Arc<Switch>);

impl Expedite {
    /// Finds the switch. It is left alone where processors are isolated, where the owner wants
    /// ordinary grace periods, or where the run directory does not lie in memory.
    pub fn find(run_dir: &Path) -> Self {
        let normal = fs::read_to_string(NEVER).is_ok_and(|text| text.trim() != "0");
        let disturbed = |path: &&str| fs::read_to_string(path).is_ok_and(|text| names_any(&text));
        let unwanted = normal || UNDISTURBED.iter().any(disturbed);
        if unwanted && !run_dir.join(STAND_IN).exists() {
            return Self(None);
        }
        Self(Switch::open(run_dir, true).ok().flatten().map(Arc::new))
    }

    /// Switches it on, unless its owner has it on, or this very object. It never waits for a disk.
    pub fn begin(&self) -> Option<Expedited> {
        let switch = self.0.as_ref()?;
        if switch.in_use.swap(true, Ordering::AcqRel) {
            return None;
        }
        let expedited = Expedited(Arc::clone(switch));
        // If it is not on by us, the value is dropped at once.
        switch.on().is_ok_and(|on| on).then_some(expedited)
    }
}

impl Drop for Expedited {
    fn drop(&mut self) {
        // If it fails, the next run does it.
        let _ = self.0.off();
        self.0.in_use.store(false, Ordering::Release);
    }
}

/// Switches it off if all its users were killed.
///
/// # Errors
/// It may still be on.
pub(super) fn undo_expedited(run_dir: &Path) -> Result<()> {
    match Switch::open(run_dir, false)? {
        Some(switch) => switch.off().io_context("switch off", SWITCH.as_ref()),
        None => Ok(()),
    }
}

/// Whether a list of processors names any; the kernel prints `(null)` where it has no list.
fn names_any(text: &str) -> bool {
    !matches!(text.trim(), "" | "(null)")
}

impl Switch {
    /// `None` if there is no switch, or no file yet and none is to be made.
    fn open(run_dir: &Path, create: bool) -> Result<Option<Self>> {
        let path = run_dir.join(NOTE);
        if create {
            open_run_dir(run_dir)?;
        } else if path.exists() {
            check_run_dir(run_dir)?;
        } else {
            return Ok(None);
        }
        if !in_memory(&File::open(run_dir).io_context("open", run_dir)?) {
            return Ok(None);
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        options.custom_flags(nix::libc::O_NOFOLLOW);
        let switch = match options.open(run_dir.join(STAND_IN)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => options.open(SWITCH),
            other => other,
        };
        let Ok(switch) = switch else {
            return Ok(None);
        };
        let open = match create {
            true => plain::open_or_create,
            false => plain::open,
        };
        let note = open(&path, OFlag::O_RDWR).io_context("open", &path)?;
        Ok(Some(Self {
            switch,
            note,
            boot: boot_id()?,
            in_use: AtomicBool::new(false),
        }))
    }

    /// Switches it on and keeps a shared lock; returns false if it could not. `off` is to be called
    /// in any case.
    fn on(&self) -> io::Result<bool> {
        for _ in 0..TRIES {
            if self.note.try_lock().is_ok() {
                let ours = self.is_ours()?;
                if !ours && self.is_on()? {
                    return Ok(false);
                }
                self.note.write_all_at(self.boot.as_bytes(), 0)?;
                // A lock cannot be downgraded in one step. Another user that comes in between finds
                // that it is ours, and may switch it off.
                self.note.unlock()?;
            }
            if self.note.try_lock_shared().is_ok() {
                if self.is_ours()? {
                    self.set("1")?;
                    return Ok(true);
                }
                self.note.unlock()?;
            }
        }
        Ok(false)
    }

    /// Switches it off, if we have it on and no other user needs it.
    fn off(&self) -> io::Result<()> {
        // This gives up our own shared lock even if it fails: of two users that do it at the same
        // time, the second finds itself alone (flock(2)).
        if self.note.try_lock().is_err() {
            return Ok(());
        }
        let done = self.is_ours().and_then(|ours| match ours {
            true => {
                self.set("0")?;
                self.note.write_all_at(&NOBODY, 0)
            }
            false => Ok(()),
        });
        self.note.unlock()?;
        done
    }

    fn is_ours(&self) -> io::Result<bool> {
        let mut text = [0; NOBODY.len()];
        let len = self.note.read_at(&mut text, 0)?;
        Ok(text.get(..len) == Some(self.boot.as_bytes()))
    }

    /// Any other number than 0 means on.
    fn is_on(&self) -> io::Result<bool> {
        let mut text = [0; 16];
        let len = self.switch.read_at(&mut text, 0)?;
        Ok(text.get(..len).unwrap_or_default().trim_ascii() != b"0")
    }

    fn set(&self, value: &str) -> io::Result<()> {
        self.switch.write_all_at(value.as_bytes(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::sync::atomic::AtomicUsize;

    /// A switch that is a file, and a run directory in memory.
    struct Scene {
        folder: PathBuf,
        switch: PathBuf,
    }

    impl Scene {
        fn new(name: &str) -> Self {
            let name = format!("stillpoint-expedite-{name}-{}", std::process::id());
            let folder = Path::new("/dev/shm").join(name);
            open_run_dir(&folder).unwrap();
            let scene = Self {
                switch: folder.join(STAND_IN),
                folder,
            };
            fs::write(&scene.switch, "0\n").unwrap();
            scene
        }

        fn another(&self) -> Expedite {
            Expedite::find(&self.folder)
        }

        fn reads(&self) -> String {
            fs::read_to_string(&self.switch).unwrap().trim().to_owned()
        }
    }

    impl Drop for Scene {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }

    #[test]
    fn the_last_who_needs_it_switches_it_off() {
        let scene = Scene::new("last");
        let (one, other) = (scene.another(), scene.another());
        let first = one.begin().unwrap();
        assert_eq!(scene.reads(), "1");
        let second = other.begin().unwrap();
        drop(first);
        assert_eq!(scene.reads(), "1");
        undo_expedited(&scene.folder).unwrap();
        assert_eq!(scene.reads(), "1", "somebody needs it");
        drop(second);
        assert_eq!(scene.reads(), "0");
        let third = one.begin().unwrap();
        assert_eq!(scene.reads(), "1");
        drop(third);
        assert_eq!(scene.reads(), "0");
    }

    #[test]
    fn what_its_owner_has_set_stays() {
        let scene = Scene::new("owner");
        fs::write(&scene.switch, "1\n").unwrap();
        let ours = scene.another();
        assert!(ours.begin().is_none());
        undo_expedited(&scene.folder).unwrap();
        assert_eq!(scene.reads(), "1");
        // Any number but 0 means on.
        fs::write(&scene.switch, "2\n").unwrap();
        assert!(ours.begin().is_none());
        assert_eq!(scene.reads(), "2");
        fs::write(&scene.switch, "0\n").unwrap();
        assert!(ours.begin().is_some(), "nothing of the others is kept");
        assert_eq!(scene.reads(), "0");
    }

    #[test]
    fn one_at_a_time() {
        let scene = Scene::new("one");
        let ours = scene.another();
        let first = ours.begin().unwrap();
        assert!(ours.clone().begin().is_none());
        assert_eq!(scene.reads(), "1");
        drop(first);
        assert_eq!(scene.reads(), "0");
        assert!(ours.begin().is_some());
    }

    #[test]
    fn what_the_killed_have_left_on_is_switched_off() {
        let scene = Scene::new("killed");
        let one = scene.another();
        let begun = one.begin().unwrap();
        // As by the end of its process: the lock goes, and nothing else.
        begun.0.note.unlock().unwrap();
        std::mem::forget(begun);
        assert_eq!(scene.reads(), "1");
        undo_expedited(&scene.folder).unwrap();
        assert_eq!(scene.reads(), "0");
        // It is ours no more.
        fs::write(&scene.switch, "1\n").unwrap();
        undo_expedited(&scene.folder).unwrap();
        assert_eq!(scene.reads(), "1");
    }

    #[test]
    fn another_boots_note_says_nothing() {
        let scene = Scene::new("boot");
        fs::write(&scene.switch, "1\n").unwrap();
        fs::write(scene.folder.join(NOTE), "another boot").unwrap();
        undo_expedited(&scene.folder).unwrap();
        assert_eq!(scene.reads(), "1");
        assert!(scene.another().begin().is_none());
    }

    #[test]
    fn many_at_once_leave_it_off_and_have_it_on() {
        let scene = Scene::new("many");
        let had = AtomicUsize::new(0);
        std::thread::scope(|threads| {
            for _ in 0..8 {
                threads.spawn(|| {
                    let mine = scene.another();
                    let mut left = 64;
                    // One that finds no gap goes without: how often is the scheduler's affair.
                    for _ in 0..100_000 {
                        if let Some(_begun) = mine.begin() {
                            assert_eq!(scene.reads(), "1");
                            had.fetch_add(1, Ordering::Relaxed);
                            left -= 1;
                        }
                        if left == 0 {
                            break;
                        }
                    }
                });
            }
        });
        assert!(had.into_inner() > 500);
        assert_eq!(scene.reads(), "0");
        assert_eq!(fs::read(scene.folder.join(NOTE)).unwrap(), NOBODY);
    }

    #[test]
    fn lists_of_processors_name_some_or_none() {
        assert!(!["", "\n", "(null)\n"].iter().any(|text| names_any(text)));
        assert!(names_any("1-3\n"));
    }
}
