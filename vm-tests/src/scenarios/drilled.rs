//! `drill --boot` on the host, with a real machine's disk: it boots by BIOS and by UEFI; without
//! its boot loader it fails, and with an fstab that names what is not there it ends in emergency mode,
//! which is a failure, with the console's last lines.

use crate::cache::{Layout, system_disk};
use crate::lab::Lab;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A whole drill, on a busy machine without KVM.
const PATIENCE: &str = "15m";

/// Boots what is whole, and fails what is not.
pub fn a_machine_is_booted_from_its_vault(lab: &Lab) -> Result<()> {
    let (image, _) = system_disk(lab.kernel, Layout::Plain)?;
    let drilled = Drilled {
        lab,
        disk: lab.dir.join("disk.raw"),
        vault: lab.dir.join("vault"),
    };
    run(Command::new("cp")
        .args(["--sparse=always"])
        .arg(&image)
        .arg(&drilled.disk))?;
    drilled.product(&["init", &drilled.vault.display().to_string()], 0)?;
    if lab.broken {
        drilled.lose_loader()?;
    }
    drilled.snapshot()?;
    for firmware in ["bios", "uefi"] {
        let document = drilled.boot(firmware, 0)?;
        let up = &document["boot"]["up"];
        ensure!(up["on"] == "serial", "{firmware}: {document:#}");
        let seconds = up["after_ms"].as_f64().context("no time")? / 1000.0;
        lab.note(format!("{firmware}: up {seconds:.1} s after power-on"));
    }
    // The same machine without its loader.
    let sector = drilled.lose_loader()?;
    drilled.snapshot()?;
    failed(&drilled.boot("bios", 1)?, "boots by BIOS")?;

    drilled.disk()?.write_all_at(&sector, 0)?;
    drilled.break_fstab()?;
    drilled.snapshot()?;
    let document = drilled.boot("uefi", 1)?;
    failed(&document, "boots by UEFI")?;
    let said = document["steps"][0]["said"].as_str().context("no words")?;
    ensure!(said.contains("emergency mode"), "{document:#}");
    ensure!(
        said.contains("beef"),
        "not what it waited for: {document:#}"
    );
    Ok(())
}

fn failed(document: &Value, step: &str) -> Result<()> {
    let at = document["failed_step"].as_str().unwrap_or_default();
    ensure!(
        document["result"] == "failed" && at.contains(step),
        "{document:#}"
    );
    ensure!(document["boot"]["up"].is_null(), "{document:#}");
    Ok(())
}

/// A machine's disk, and its vault.
struct Drilled<'a> {
    lab: &'a Lab,
    disk: PathBuf,
    vault: PathBuf,
}

impl Drilled<'_> {
    /// What a BIOS begins with goes; what it was.
    fn lose_loader(&self) -> Result<[u8; 512]> {
        let disk = self.disk()?;
        let mut sector = [0; 512];
        disk.read_exact_at(&mut sector, 0)?;
        disk.write_all_at(&[0; 512], 0)?;
        Ok(sector)
    }

    fn disk(&self) -> Result<File> {
        let mut options = File::options();
        Ok(options.read(true).write(true).open(&self.disk)?)
    }

    /// A filesystem that is nowhere.
    fn break_fstab(&self) -> Result<()> {
        let table = run(Command::new("sfdisk").arg("-J").arg(&self.disk))?;
        let table: Value = serde_json::from_slice(&table.stdout)?;
        let parts = table["partitiontable"]["partitions"].as_array();
        let parts = parts.context("no partitions")?.iter();
        let root = parts.max_by_key(|part| part["size"].as_u64());
        let start = root.and_then(|root| root["start"].as_u64());
        let start = start.context("no root")? * 512;
        let place = format!("{}?offset={start}", self.disk.display());
        let debugfs =
            |request: &str| run(Command::new("debugfs").args(["-w", "-R", request, &place]));
        let mut table = debugfs("cat /etc/fstab")?.stdout;
        table.extend(b"\nUUID=00000000-dead-beef-0000-000000000000 /srv ext4 defaults 0 2\n");
        let file = self.lab.dir.join("fstab");
        std::fs::write(&file, table)?;
        debugfs("rm /etc/fstab")?;
        debugfs(&format!("write {} /etc/fstab", file.display()))?;
        Ok(())
    }

    fn snapshot(&self) -> Result<()> {
        let device = LoopDevice::of(&self.disk)?;
        self.product(&["snapshot", &device.0, "--full"], 0)?;
        Ok(())
    }

    fn boot(&self, firmware: &str, code: i32) -> Result<Value> {
        let keep = self.lab.dir.join("drills").display().to_string();
        let work = self.lab.dir.display().to_string();
        let line = [
            "drill",
            "latest",
            "--boot",
            "--no-kvm",
            "--timeout",
            PATIENCE,
        ];
        let folders = ["--firmware", firmware, "--keep", &keep, "--work", &work];
        self.product(&[&line[..], &folders].concat(), code)
    }

    /// Runs the product on this host; its document.
    fn product(&self, args: &[&str], code: i32) -> Result<Value> {
        let mut command = Command::new(self.lab.program());
        command
            .args(["--json", "--quiet"])
            .args(args)
            .arg("--run-dir")
            .arg(self.lab.dir.join("run"))
            .env("STILLPOINT_CACHE_DIR", self.lab.dir.join("cache"));
        if args.first() != Some(&"init") {
            command.arg("--vault").arg(&self.vault);
        }
        let output = command.output().context("run the product")?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.code() == Some(code),
            "{args:?}: {}: {said}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_str(&said).with_context(|| said.into_owned())
    }
}

/// A device of this host with a file behind it.
struct LoopDevice(String);

impl LoopDevice {
    fn of(file: &Path) -> Result<Self> {
        let set_up = run(Command::new("losetup").args(["--find", "--show"]).arg(file))?;
        Ok(Self(String::from_utf8(set_up.stdout)?.trim().into()))
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}

fn run(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {said}");
    }
    Ok(output)
}
