//! The programs that notice when a disk's capacity is set: a disk that was made smaller, and as
//! large again, has lost its end without a request. Not every kernel can run them; tracking works
//! without, and says so. It must never call a disk watched that is not.

use super::attached::{Attached, failed};
use crate::error::{Error, ErrorKind, Result};
use aya::programs::FExit;
use aya::programs::links::FdLink;
use aya::{Btf, Ebpf};
use std::path::Path;

/// The kernel's functions (`block/genhd.c`, 5.11 on) and the programs that run when they return.
const HOOKS: [Hook; 2] = [
    Hook {
        function: "set_capacity",
        program: "stillpoint_c",
        pin: "link_c",
    },
    Hook {
        function: "set_capacity_and_notify",
        program: "stillpoint_d",
        pin: "link_d",
    },
];

struct Hook {
    function: &'static str,
    program: &'static str,
    pin: &'static str,
}

/// The programs, attached while this lives.
pub(super) struct CapacityWatch {
    #[expect(dead_code, reason = "held: they stay attached")]
    attached: [Attached; 2],
    /// Kernel ids of both.
    pub ids: [u32; 2],
}

impl CapacityWatch {
    /// Finds the running programs, of which there are both or none.
    pub fn open(directory: &Path, disks: u32) -> Result<Option<Self>> {
        if !HOOKS.iter().any(|hook| directory.join(hook.pin).exists()) {
            return Ok(None);
        }
        let [first, second] = HOOKS.map(|hook| {
            let path = directory.join(hook.pin);
            Attached::open(&path, hook.program, disks)
        });
        let attached = [first?, second?];
        Ok(Some(Self {
            ids: [attached[0].id, attached[1].id],
            attached,
        }))
    }

    /// Loads, attaches and pins them. Where one of them cannot be, neither is.
    pub fn load(object: &mut Ebpf, btf: &Btf, directory: &Path) -> Result<()> {
        let outcome = HOOKS.iter().try_for_each(|hook| {
            let link = attach(object, btf, hook)?;
            let pinned = link.pin(directory.join(hook.pin));
            pinned.map(drop).map_err(failed("pin a link"))
        });
        if outcome.is_err() {
            Self::unpin(directory)?;
        }
        outcome
    }

    /// Takes the pins away: the kernel ends the programs when nobody holds them any more.
    pub fn unpin(directory: &Path) -> Result<()> {
        for hook in &HOOKS {
            let path = directory.join(hook.pin);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", &path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether this kernel's types tell of the functions; that they can be attached to, a start of
    /// the tracker shows.
    pub fn is_known(btf: &Btf) -> bool {
        HOOKS.iter().all(|hook| {
            btf.id_by_type_name_kind(hook.function, aya_obj::btf::BtfKind::Func)
                .is_ok()
        })
    }
}

fn attach(object: &mut Ebpf, btf: &Btf, hook: &Hook) -> Result<FdLink> {
    let Hook {
        function, program, ..
    } = hook;
    let found = object.program_mut(program).ok_or_else(|| {
        let message = format!("the built-in tracking object lacks {program}");
        Error::new(ErrorKind::Failed, message)
    })?;
    let program: &mut FExit = found.try_into().map_err(failed("use it"))?;
    program
        .load(function, btf)
        .map_err(failed(format_args!("follow the kernel's {function}")))?;
    let link = program
        .attach()
        .map_err(failed(format_args!("attach to the kernel's {function}")))?;
    let link = program.take_link(link).map_err(failed("take the link"))?;
    Ok(FdLink::from(link))
}
