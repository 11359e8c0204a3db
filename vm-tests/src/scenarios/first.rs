//! Whether a stock kernel can do what Stillpoint needs.

use crate::lab::{Lab, good, stillpoint};
use anyhow::{Result, ensure};

/// `doctor` finds nothing fatal, and tracking starts on the system disk.
pub fn the_host_can(lab: &Lab) -> Result<()> {
    let mut guest = lab.guest("guest")?;
    if lab.broken {
        guest.sh("mount --bind /dev/null /sys/kernel/btf/vmlinux")?;
    }
    let kernel = guest.sh("uname -r")?;
    ensure!(kernel.starts_with(lab.kernel.version()), "it runs {kernel}");
    let (output, doctor) = stillpoint(&mut guest, "doctor")?;
    ensure!(output.code == 0, "doctor: {doctor:#}");
    let disks = good(&mut guest, "disks")?;
    ensure!(disks.to_string().contains("vda"), "{disks:#}");
    let track = good(&mut guest, "track start vda")?;
    let status = good(&mut guest, "track status")?;
    ensure!(status.to_string().contains("vda"), "{track:#} {status:#}");
    lab.note(format!("Linux {kernel}: tracking runs"));
    guest.done();
    Ok(())
}
