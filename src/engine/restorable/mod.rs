//! `doctor --restorable`: what will keep this machine, restored from its snapshot, from booting
//! elsewhere, told while there is time to mend it. It reads files of the machine, and tries
//! nothing out. It changes nothing, and never calls fine what it could not look at.

mod boot_loader;
mod chosen_entry;
mod cloud_init;
mod drivers;
mod firmware;
mod fstab;
mod ground;
mod image_maker;
mod initramfs;
mod kernels;
mod lz4_legacy;
mod naming;
mod network;
mod stacked;
mod tree;
mod unpack;
mod verdict;

pub use verdict::{BootRisk, BootRiskLevel, LookedAt, NotLookedAt, Restorability};

use crate::error::Result;
use crossbeam_channel::{RecvTimeoutError, Sender, unbounded};
use ground::DiskGround;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use tree::MachineFiles;

/// What is looked at.
#[derive(Clone, Debug)]
pub struct RestorableOptions {
    /// The machine's root: `/`, or where another one's is mounted.
    pub root: PathBuf,
    /// What does not answer by then is told as not looked at.
    pub patience: Duration,
}

/// What one look has found, or that it begins.
enum LookEvent {
    Begins(&'static str),
    Ended(Box<Restorability>),
}

/// Looks at a machine.
///
/// # Errors
/// Its root cannot be opened.
pub fn look_at_restorability(options: &RestorableOptions) -> Result<Restorability> {
    let tree = MachineFiles::open(&options.root)?;
    let root = options.root.clone();
    let (tell, told) = unbounded();
    // A file on a dead server keeps whoever reads it: that is this thread, and not the answer.
    let looking = thread::spawn(move || look_at_all(&tree, &root, &tell));
    let until = Instant::now() + options.patience;
    let mut found = Restorability::default();
    let mut at_work = "all of it";
    loop {
        // What is told already is taken also after the time is over: so it is asked for first.
        let next = match Instant::now() < until {
            true => told.recv_deadline(until),
            false => Err(RecvTimeoutError::Timeout),
        };
        match next {
            Ok(LookEvent::Begins(what)) => at_work = what,
            Ok(LookEvent::Ended(one)) => found.add(*one),
            Err(RecvTimeoutError::Timeout) => {
                let why = "it did not answer in time; what comes after it was not looked at either";
                found.could_not(at_work, why);
                break;
            }
            Err(RecvTimeoutError::Disconnected) => {
                if looking.join().is_err() {
                    let why = "the look at it failed by a mistake of stillpoint's own; what comes \
                               after it was not looked at either";
                    found.could_not(at_work, why);
                }
                break;
            }
        }
    }
    found.risks.sort_by_key(|risk| risk.level);
    Ok(found)
}

fn look_at_all(tree: &MachineFiles, root: &Path, tell: &Sender<LookEvent>) {
    let look = |what: &'static str, look: &mut dyn FnMut(&mut Restorability)| {
        // Who asked is gone, or has given up: then nobody reads what is sent.
        let _ = tell.send(LookEvent::Begins(what));
        let mut found = Restorability::default();
        look(&mut found);
        let _ = tell.send(LookEvent::Ended(Box::new(found)));
    };
    let mut ground = None;
    look("disks", &mut |found| {
        ground = DiskGround::scan(root, found);
        if let Some(ground) = &ground {
            ground::look(ground, found);
        }
    });
    look("fstab", &mut |found| {
        fstab::look(tree, ground.as_ref(), found)
    });
    look("the boot loader", &mut |found| {
        boot_loader::look(tree, found)
    });
    look("kernels and their initramfs", &mut |found| {
        initramfs::look(tree, found)
    });
    let arch = kernels::machine_arch(tree);
    look("firmware", &mut |found| firmware::look(tree, arch, found));
    look("LVM, RAID and encryption", &mut |found| {
        stacked::look(tree, found)
    });
    look("cloud-init", &mut |found| cloud_init::look(tree, found));
    look("network", &mut |found| network::look(tree, found));
}
