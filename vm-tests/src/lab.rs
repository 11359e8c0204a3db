//! What a scenario works with: a folder of its own, guests that were booted once and come back in a
//! second, the product, and a place for what it measured.

use crate::agent::Output;
use crate::cache::{Kernel, Layout, folder, key, made, system_disk};
use crate::disk::{Bus, Disk};
use crate::machine::{Firmware, Machine, Parts, recipe};
use crate::product::package;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A scenario's workplace.
pub struct Lab {
    /// Files of this scenario.
    pub dir: PathBuf,
    /// The kernel it is about.
    pub kernel: Kernel,
    /// What the scenario proves shall be taken away.
    pub broken: bool,
    product: PathBuf,
    notes: RefCell<Vec<String>>,
}

/// Long work in a guest: a snapshot, a restore. A quarter of it was seen at most.
pub const LONG: Duration = Duration::from_secs(900);

impl Lab {
    /// A workplace in a folder that is there.
    pub fn new(dir: &Path, (kernel, broken): (Kernel, bool), product: &Path) -> Self {
        Self {
            dir: dir.into(),
            kernel,
            broken,
            product: product.into(),
            notes: RefCell::default(),
        }
    }

    /// The product, to be run on this host.
    pub fn program(&self) -> PathBuf {
        self.product.with_file_name("product").join("stillpoint")
    }

    /// Something measured, for the listing.
    pub fn note(&self, text: impl Into<String>) {
        self.notes.borrow_mut().push(text.into());
    }

    /// All that was noted.
    pub fn notes(&self) -> Vec<String> {
        self.notes.borrow().clone()
    }

    /// A blank disk of so many MiB.
    pub fn blank(&self, name: &str, mib: u64) -> Result<Disk> {
        Disk::blank(&self.dir, name, mib, Bus::Virtio)
    }

    /// A guest with the product in it, as it was a moment after its boot, now.
    pub fn guest(&self, name: &str) -> Result<Machine> {
        self.guest_on(name, Layout::Plain)
    }

    /// The same with another layout of its system disk.
    pub fn guest_on(&self, name: &str, layout: Layout) -> Result<Machine> {
        let mut machine = self.fresh_on(name, layout)?;
        self.bring_product(&mut machine)?;
        Ok(machine)
    }

    /// A guest with nothing of the product in it, as it was a moment after its boot, now.
    pub fn fresh(&self, name: &str) -> Result<Machine> {
        self.fresh_on(name, Layout::Plain)
    }

    fn fresh_on(&self, name: &str, layout: Layout) -> Result<Machine> {
        let (disk, state) = booted(self.kernel, layout)?;
        let system = self.dir.join(format!("{name}.qcow2"));
        overlay(&disk, "qcow2", &system)?;
        let mut machine = Machine::start(&Parts {
            dir: &self.dir,
            name,
            firmware: Firmware::Bios,
            system: &system,
            format: "qcow2",
            disks: &[],
            incoming: true,
            clock: None,
        })?;
        machine.load(&state)?;
        machine.wait_agent()?;
        machine.set_time()?;
        Ok(machine)
    }

    /// A machine that is powered on with these disks; the system's stays as it is.
    pub fn power_on(
        &self,
        name: &str,
        firmware: Firmware,
        (system, disks): (&Path, &[Disk]),
    ) -> Result<Machine> {
        let copy = self.dir.join(format!("{name}.qcow2"));
        overlay(system, "raw", &copy)?;
        self.boot(&Parts {
            dir: &self.dir,
            name,
            firmware,
            system: &copy,
            format: "qcow2",
            disks,
            incoming: false,
            clock: None,
        })
    }

    /// Powers a machine on, and waits until its guest's agent answers.
    pub fn boot(&self, parts: &Parts<'_>) -> Result<Machine> {
        let name = parts.name;
        let begun = Instant::now();
        let mut machine = Machine::start(parts)?;
        machine.wait_agent().with_context(|| {
            let console = machine.console();
            let last: Vec<&str> = console.lines().rev().take(15).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            format!(
                "{name} does not boot; its console ends:\n{}",
                last.join("\n")
            )
        })?;
        let seconds = begun.elapsed().as_secs_f64();
        self.note(format!("{name}: boots in {seconds:.1} s"));
        if parts.clock.is_none() {
            machine.set_time()?;
        }
        Ok(machine)
    }

    /// Carries the product as a Debian package into a guest, below `/root`.
    pub fn bring_package(&self, machine: &mut Machine) -> Result<()> {
        let image = package(&self.product).context("make the package")?;
        let mut disk = Disk::of(&image, "package", Bus::Virtio);
        disk.read_only = true;
        machine.plug(&disk)?;
        machine.sh(&format!("tar -xf {} -C /root", disk.path()))?;
        machine.unplug(&disk)
    }

    /// Carries the product into a guest, as `/opt/stillpoint/stillpoint`.
    pub fn bring_product(&self, machine: &mut Machine) -> Result<()> {
        let mut disk = Disk::of(&self.product, "product", Bus::Virtio);
        disk.read_only = true;
        machine.plug(&disk)?;
        let path = disk.path();
        machine.sh(&format!(
            "mkdir -p /opt/stillpoint && tar -xf {path} -C /opt/stillpoint && \
             stillpoint --version"
        ))?;
        machine.unplug(&disk)
    }
}

/// Where a guest's vault is: in a folder of the disk that is mounted on `/vault`.
pub const VAULT: &str = "/vault/vault";

/// Makes a filesystem on a disk, and a vault in it.
pub fn new_vault(machine: &mut Machine, disk: &Disk) -> Result<()> {
    machine.plug(disk)?;
    let path = disk.path();
    machine.sh(&format!(
        "set -e; mkfs.ext4 -q -E lazy_itable_init=0 {path}; mkdir -p /vault; mount {path} /vault"
    ))?;
    good(machine, &format!("init {VAULT}"))?;
    Ok(())
}

/// Finds a vault that another guest has made.
pub fn known_vault(machine: &mut Machine, disk: &Disk) -> Result<()> {
    machine.plug(disk)?;
    machine.sh(&format!("mkdir -p /vault; mount {} /vault", disk.path()))?;
    Ok(())
}

/// Waits until the guest has the partitions of a disk that was just restored. (udev reads the table
/// anew by itself when a disk that was written to is closed, in its own time.)
pub fn partitions(machine: &mut Machine, disk: &Disk) -> Result<()> {
    let path = disk.path();
    machine.sh(&format!(
        "sleep 1; udevadm settle; for i in $(seq 100); do \
         if [ -b {path}-part1 ]; then exit 0; fi; sleep 0.2; \
         [ $((i % 20)) != 0 ] || blockdev --rereadpt {path}; udevadm settle; done; exit 1"
    ))?;
    Ok(())
}

/// Runs the product in a guest; its exit code and its document.
pub fn stillpoint(machine: &mut Machine, line: &str) -> Result<(Output, Value)> {
    let script = format!(
        "if mountpoint -q /vault; then export STILLPOINT_VAULT={VAULT}; fi; \
         stillpoint --json --quiet {line}"
    );
    let output = machine.attempt(&script, LONG)?;
    let document = output.json().with_context(|| script)?;
    Ok((output, document))
}

/// Runs the product in a guest, which has to end with 0.
pub fn good(machine: &mut Machine, line: &str) -> Result<Value> {
    let (output, document) = stillpoint(machine, line)?;
    output
        .expect(0)
        .with_context(|| format!("stillpoint {line}"))?;
    Ok(document)
}

/// Restores one disk of a snapshot onto a disk that is plugged in.
pub fn restore(machine: &mut Machine, id: &str, disk: &str, target: &Disk) -> Result<Value> {
    good(
        machine,
        &format!("restore {id} {} --disk {disk} --yes", target.path()),
    )
}

/// Makes a disk that starts as another and keeps that one as it is.
fn overlay(base: &Path, format: &str, path: &Path) -> Result<()> {
    let output = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", format, "-b"])
        .args([base, path])
        .output()
        .context("run qemu-img")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "qemu-img: {said}");
    Ok(())
}

/// A guest that was booted once: its disk and its state, made if they are not there.
fn booted(kernel: Kernel, layout: Layout) -> Result<(PathBuf, PathBuf)> {
    let (image, image_key) = system_disk(kernel, layout)?;
    let qemu = Command::new("qemu-system-x86_64")
        .arg("--version")
        .output()?;
    let version = String::from_utf8_lossy(&qemu.stdout).into_owned();
    let name = key(&[&image_key, &version, &recipe()?, CALM]);
    let dir = folder()?.join(format!(
        "booted-{}-{}-{name}",
        kernel.version(),
        layout.name()
    ));
    let what = format!("a booted guest with Linux {}", kernel.version());
    made(&dir, &what, || {
        let part = dir.with_extension("part");
        let _ = fs::remove_dir_all(&part);
        fs::create_dir_all(&part)?;
        let system = part.join("system.qcow2");
        overlay(&image, "raw", &system)?;
        let mut machine = Machine::start(&Parts {
            dir: &part,
            name: "first",
            firmware: Firmware::Bios,
            system: &system,
            format: "qcow2",
            disks: &[],
            incoming: false,
            clock: None,
        })?;
        machine.wait_agent()?;
        machine.set_time()?;
        machine.sh(CALM)?;
        machine.save(&part.join("state"))?;
        machine.done();
        fs::rename(&part, &dir).map_err(Into::into)
    })?;
    Ok((dir.join("system.qcow2"), dir.join("state")))
}

/// The boot is over, and what it read stays in memory.
const CALM: &str = "systemctl is-system-running --wait; sync; \
    modprobe -a xfs btrfs dm_mod loop; stat -f / >/dev/null; true";
