//! An instance that is lost runs from its vault at once, and moves to disks of its own while it
//! runs and writes. Nothing is restored before; the vault stays as it is.

use super::bank;
use super::great::{Expected, Instance, check_new, live};
use crate::disk::{Bus, Disk, spoil};
use crate::lab::Lab;
use crate::machine::{COMMAND, Firmware, Machine, Parts};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a disk may take to move, beside a guest without KVM.
const MOVE: Duration = Duration::from_secs(300);
/// How long a server may take to begin, and to end.
const SERVER: Duration = Duration::from_secs(60);

/// Boots from `serve --overlay`, is right, moves, and boots from where it moved to.
pub fn an_instance_runs_from_its_vault(lab: &Lab) -> Result<()> {
    let instance = Instance::at_ease(lab)?;
    let expected = live(lab, &instance)?;
    let vault = taken_off(&instance.vault, &lab.dir.join("taken-off"))?;
    let before = files(&vault)?;
    for firmware in [Firmware::Bios, Firmware::Uefi] {
        let rescue = Rescue {
            lab,
            instance: &instance,
            expected: &expected,
            vault: &vault,
            firmware,
            name: format!("{firmware:?}").to_lowercase(),
        };
        let done = rescue.run_move_and_boot();
        done.with_context(|| format!("from the vault, by {firmware:?}"))?;
    }
    ensure!(files(&vault)? == before, "the vault is not what it was");
    Ok(())
}

/// One machine that is made of what a vault has.
struct Rescue<'a> {
    lab: &'a Lab,
    instance: &'a Instance,
    expected: &'a Expected,
    vault: &'a Path,
    firmware: Firmware,
    name: String,
}

/// What there was when the work was stopped: records, and confirmed transfers.
struct Done {
    records: u64,
    transfers: u64,
}

impl Rescue<'_> {
    fn run_move_and_boot(&self) -> Result<()> {
        let servers = ["vda", "vdb"].map(|disk| self.serve(disk));
        let [system, data] = servers;
        let servers = [system?, data?];
        let mut guest = self.boot(&servers)?;
        let (records, transfers) =
            check_new(&mut guest, self.firmware, self.instance, self.expected)?;

        // It works on, and from now on nothing of that may be lost.
        let pause = self.instance.pause;
        self.instance.ledger.start_with(&mut guest, "", pause)?;
        bank::work(&mut guest, transfers + 5, pause)?;
        let records = self.grown(&mut guest, records)?;
        guest.sh("set -e; echo before >/root/moved; sync")?;
        let targets = self.move_away(&mut guest, servers)?;

        // Nobody is asked any more.
        self.grown(&mut guest, records)?;
        guest.sh(
            "set -e; echo 3 >/proc/sys/vm/drop_caches; sha256sum --quiet -c /root/sums; \
             echo after >>/root/moved; echo after >/srv/data/moved; sync; \
             ! journalctl -b -k | grep -E 'I/O error|EXT4-fs error|XFS.*[Cc]orrupt'",
        )?;
        let transfers = bank::stop(&mut guest)?;
        self.instance.ledger.stop(&mut guest)?;
        let records = self.instance.ledger.count(&mut guest)?;
        guest.power_off()?;
        let done = Done { records, transfers };
        self.boot_again(targets, &done)
    }

    /// The machine, from the servers alone.
    fn boot(&self, [system, data]: &[Server; 2]) -> Result<Machine> {
        self.lab.boot(&Parts {
            dir: &self.lab.dir,
            name: &self.name,
            firmware: self.firmware,
            system: Path::new(&system.uri),
            format: "raw",
            disks: &[data.disk()],
            incoming: false,
            clock: None,
        })
    }

    /// Moves both disks while the machine works, and ends their servers.
    fn move_away(&self, guest: &mut Machine, servers: [Server; 2]) -> Result<[Disk; 2]> {
        let begun = Instant::now();
        let (name, lab) = (&self.name, self.lab);
        // One of them is larger than what moves there.
        let targets = [
            lab.blank(&format!("{name}-system"), 2600)?,
            lab.blank(&format!("{name}-data"), 640)?,
        ];
        let device = LoopDevice::of(&targets[0].file)?;
        guest.monitor.move_drive("system", &device.0, MOVE)?;
        guest
            .monitor
            .move_disk(&servers[1].disk(), &targets[1], MOVE)?;
        let seconds = begun.elapsed().as_secs_f64();
        lab.note(format!("{name}: both disks moved in {seconds:.1} s"));
        servers.into_iter().try_for_each(Server::end)?;
        Ok(targets)
    }

    /// The machine from where it moved to, with nothing else there.
    fn boot_again(&self, [system, mut data]: [Disk; 2], done: &Done) -> Result<()> {
        if self.lab.broken {
            // GRUB's second part.
            (0..16).try_for_each(|part| spoil(&system, (1 << 20) + part * 4096))?;
        }
        data.name = "data".into();
        let name = format!("{}-moved", self.name);
        let disks = (system.file.as_path(), &[data][..]);
        let mut guest = self.lab.power_on(&name, self.firmware, disks)?;
        guest.sh(
            "set -e; [ \"$(cat /root/moved)\" = \"$(printf 'before\\nafter')\" ]; \
             [ \"$(cat /srv/data/moved)\" = after ]; sha256sum --quiet -c /root/sums; \
             ! journalctl -b -k | grep -E 'EXT4-fs error|XFS.*[Cc]orrupt'",
        )?;
        let ledger = &self.instance.ledger;
        ledger.check(&mut guest, done.records, done.records)?;
        bank::check(&mut guest, done.transfers, done.transfers + 1)?;
        guest.done();
        Ok(())
    }

    /// Waits until the ledgers have more than so many records; how many they have.
    fn grown(&self, guest: &mut Machine, before: u64) -> Result<u64> {
        let end = Instant::now() + COMMAND;
        loop {
            let count = self.instance.ledger.count(guest)?;
            if count >= before + 5 {
                return Ok(count);
            }
            ensure!(
                Instant::now() < end,
                "the ledger does not grow: {count} records"
            );
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// Begins to serve a disk.
    fn serve(&self, disk: &str) -> Result<Server> {
        let at = |ending: &str| self.lab.dir.join(format!("{}-{disk}.{ending}", self.name));
        let socket = at("sock");
        let said = std::fs::File::create(at("server.txt"))?;
        // It does not outlive the runner.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(self.lab.program())
            .args(["serve", "latest", "--disk", disk, "--listen"])
            .arg(format!("unix:{}", socket.display()))
            .arg("--overlay")
            .arg(at("overlay"))
            .arg("--vault")
            .arg(self.vault)
            .env("STILLPOINT_CACHE_DIR", self.lab.dir.join("cache"))
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said);
        let child = command.spawn().context("start the server")?;
        let uri = format!("nbd+unix:///{disk}?socket={}", socket.display());
        let mut server = Server { child, uri };
        let end = Instant::now() + SERVER;
        while !socket.exists() {
            if let Some(status) = server.child.try_wait()? {
                let said = std::fs::read_to_string(at("server.txt"))?;
                bail!("the server of {disk} is gone, {status}: {said}");
            }
            ensure!(Instant::now() < end, "the server of {disk} does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }
}

/// A server of one disk.
struct Server {
    child: Child,
    uri: String,
}

impl Server {
    /// What it serves, as the data disk of a machine.
    fn disk(&self) -> Disk {
        Disk::of(Path::new(&self.uri), "data", Bus::Virtio)
    }

    /// Stops it as its user would.
    fn end(mut self) -> Result<()> {
        kill(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGTERM,
        )?;
        let end = Instant::now() + SERVER;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(Instant::now() < end, "{} is still served", self.uri);
            std::thread::sleep(Duration::from_millis(50));
        };
        ensure!(status.code() == Some(143), "{}: {status}", self.uri);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A device of this host with a file behind it. Who has it open keeps it.
struct LoopDevice(String);

impl LoopDevice {
    fn of(file: &Path) -> Result<Self> {
        let mut setup = Command::new("losetup");
        let output = setup.args(["--find", "--show"]).arg(file).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "losetup: {said}");
        Ok(Self(String::from_utf8(output.stdout)?.trim().into()))
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}

/// Takes a vault off the disk that it is on. Nothing is mounted on this host: others look at what is.
fn taken_off(disk: &Disk, to: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(to)?;
    // The instance lost its power.
    let mut check = Command::new("e2fsck");
    let output = check.args(["-f", "-y"]).arg(&disk.file).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        matches!(output.status.code(), Some(0 | 1)),
        "e2fsck: {said}"
    );
    let mut dump = Command::new("debugfs");
    let request = format!("rdump vault {}", to.display());
    let output = dump.args(["-R", &request]).arg(&disk.file).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let vault = to.join("vault");
    ensure!(vault.join("vault.json").exists(), "debugfs: {said}");
    Ok(vault)
}

/// The names, lengths and times of all files.
fn files(folder: &Path) -> Result<Vec<String>> {
    let mut find = Command::new("find");
    let output = find
        .arg(folder)
        .args(["-type", "f", "-printf", "%p %s %T@\n"])
        .output()?;
    ensure!(
        output.status.success(),
        "find {}: {}",
        folder.display(),
        output.status
    );
    let mut said: Vec<String> = String::from_utf8(output.stdout)?
        .lines()
        .map(str::to_owned)
        .collect();
    said.sort();
    ensure!(!said.is_empty(), "there is no file in {}", folder.display());
    Ok(said)
}
