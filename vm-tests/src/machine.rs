//! One QEMU process: its devices, its monitor, its guest. It is gone when this is dropped, and what
//! the guest said last is kept then, unless the scenario let it go by itself.

use crate::agent::{Agent, Job, Output};
use crate::disk::{Disk, is_served};
use crate::monitor::Monitor;
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// From power-on to the agent: 25 to 50 s were seen on an idle machine, 170 s on a busy one.
pub const BOOT: Duration = Duration::from_secs(600);
/// Ordinary commands in a guest.
pub const COMMAND: Duration = Duration::from_secs(240);

/// What starts a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// `SeaBIOS`
    Bios,
    /// OVMF
    Uefi,
}

/// What a machine is made of at power-on.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    /// Where its sockets and logs go.
    pub dir: &'a Path,
    /// The name of these files.
    pub name: &'a str,
    /// What starts it.
    pub firmware: Firmware,
    /// The disk that it boots from.
    pub system: &'a Path,
    /// `raw` or `qcow2`.
    pub format: &'a str,
    /// Other disks that it has at power-on.
    pub disks: &'a [Disk],
    /// A saved state waits to be loaded, instead of power-on.
    pub incoming: bool,
    /// What its hardware's clock says at power-on, in UTC; `None`: the time.
    pub clock: Option<&'a str>,
}

/// A machine that runs.
pub struct Machine {
    dir: PathBuf,
    name: String,
    child: Child,
    /// QEMU's monitor.
    pub monitor: Monitor,
    agent: Agent,
    let_go: bool,
}

const CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// Arguments that a saved state depends on.
fn arguments(parts: &Parts<'_>) -> Result<Vec<String>> {
    let at = |ending: &str| parts.dir.join(format!("{}.{ending}", parts.name));
    let mut all: Vec<String> = [
        "-nodefaults -no-user-config -display none -machine pc -accel tcg,thread=multi",
        "-cpu max -smp 2 -m 1024 -device virtio-serial -device virtio-scsi-pci,id=scsi",
        "-device virtserialport,chardev=agent,name=org.qemu.guest_agent.0 -device virtio-rng-pci",
    ]
    .iter()
    .flat_map(|line| line.split(' '))
    .map(str::to_owned)
    .collect();
    let mut add = |option: &str, value: String| all.extend([option.to_owned(), value]);
    add("-serial", format!("file:{}", at("console").display()));
    add(
        "-qmp",
        format!("unix:{},server=on,wait=off", at("qmp").display()),
    );
    add(
        "-chardev",
        format!(
            "socket,path={},server=on,wait=off,id=agent",
            at("agent").display()
        ),
    );
    add(
        "-drive",
        format!(
            "if=none,id=system,file={},format={},cache={},discard=unmap",
            parts.system.display(),
            parts.format,
            // A flush is not waited for: what QEMU wrote outlives QEMU in the host's memory. Of a
            // server's disk that is not known.
            if is_served(parts.system) {
                "writeback"
            } else {
                "unsafe"
            }
        ),
    );
    add(
        "-device",
        "virtio-blk-pci,drive=system,serial=system,bootindex=1".into(),
    );
    for disk in parts.disks {
        add("-blockdev", disk.node().to_string());
        add("-device", disk.device().to_string());
    }
    if parts.firmware == Firmware::Uefi {
        let variables = at("variables");
        fs::copy(VARIABLES, &variables).context("no OVMF")?;
        add(
            "-drive",
            format!("if=pflash,format=raw,readonly=on,file={CODE}"),
        );
        add(
            "-drive",
            format!("if=pflash,format=raw,file={}", variables.display()),
        );
    }
    if parts.incoming {
        add("-incoming", "defer".into());
    }
    if let Some(clock) = parts.clock {
        add("-rtc", format!("base={clock}"));
    }
    Ok(all)
}

/// What a saved state depends on, as text.
pub fn recipe() -> Result<String> {
    let parts = Parts {
        dir: Path::new("DIR"),
        name: "NAME",
        firmware: Firmware::Bios,
        system: Path::new("SYSTEM"),
        format: "qcow2",
        disks: &[],
        incoming: false,
        clock: None,
    };
    Ok(arguments(&parts)?.join(" "))
}

impl Machine {
    /// Powers one on, or makes it ready to load a state.
    pub fn start(parts: &Parts<'_>) -> Result<Self> {
        let at = |ending: &str| parts.dir.join(format!("{}.{ending}", parts.name));
        for ending in ["qmp", "agent"] {
            let _ = fs::remove_file(at(ending));
        }
        let arguments = arguments(parts)?;
        let said = File::create(at("qemu"))?;
        // It does not outlive the runner, and leaves the processors to what people wait for.
        let child = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "nice",
                "-n",
                "5",
                "qemu-system-x86_64",
            ])
            .args(&arguments)
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            .spawn()
            .context("start QEMU")?;
        let mut killed_on_error = Guard(Some(child));
        let monitor = Monitor::open(&at("qmp")).with_context(|| {
            let said = fs::read_to_string(at("qemu")).unwrap_or_default();
            format!("QEMU does not start: {said}")
        })?;
        Ok(Self {
            dir: parts.dir.into(),
            name: parts.name.into(),
            child: killed_on_error.0.take().context("started")?,
            monitor,
            agent: Agent::at(&at("agent")),
            let_go: false,
        })
    }

    /// Waits until the guest's agent answers.
    pub fn wait_agent(&mut self) -> Result<()> {
        let child = &mut self.child;
        self.agent.wait(BOOT, || match child.try_wait()? {
            Some(status) => bail!("QEMU is gone: {status}"),
            None => Ok(()),
        })
    }

    /// Gives the guest the host's time.
    pub fn set_time(&mut self) -> Result<()> {
        self.agent.set_time()
    }

    /// Loads a saved state and lets it go on.
    pub fn load(&mut self, state: &Path) -> Result<()> {
        self.map_ram()?;
        let uri = format!("file:{}", state.display());
        self.monitor.ask("migrate-incoming", json!({"uri": uri}))?;
        self.monitor.migrated(Duration::from_secs(60))?;
        self.monitor.ask("cont", json!({}))?;
        Ok(())
    }

    /// Saves the state; the machine stands still from then on.
    pub fn save(&mut self, state: &Path) -> Result<()> {
        self.map_ram()?;
        self.monitor.ask("stop", json!({}))?;
        let uri = format!("file:{}", state.display());
        self.monitor.ask("migrate", json!({"uri": uri}))?;
        self.monitor.migrated(Duration::from_secs(120))
    }

    fn map_ram(&mut self) -> Result<()> {
        let capabilities = json!([{"capability": "mapped-ram", "state": true}]);
        let arguments = json!({"capabilities": capabilities});
        self.monitor.ask("migrate-set-capabilities", arguments)?;
        Ok(())
    }

    /// Runs a script to its end, whatever it says.
    pub fn attempt(&mut self, script: &str, patience: Duration) -> Result<Output> {
        let job = self.agent.start(script)?;
        self.agent
            .wait_for(job, patience)
            .with_context(|| script.to_owned())
    }

    /// Runs a script, which has to succeed, and gives what it printed.
    pub fn sh(&mut self, script: &str) -> Result<String> {
        self.sh_within(script, COMMAND)
    }

    /// The same with another patience.
    pub fn sh_within(&mut self, script: &str, patience: Duration) -> Result<String> {
        let output = self.attempt(script, patience)?;
        let output = output.expect(0).with_context(|| script.to_owned())?;
        Ok(output.stdout.trim().to_owned())
    }

    /// Starts a script and does not wait.
    pub fn start_script(&mut self, script: &str) -> Result<Job> {
        self.agent.start(script)
    }

    /// What a script left behind, if it has ended.
    pub fn poll(&mut self, job: Job) -> Result<Option<Output>> {
        self.agent.poll(job)
    }

    /// Waits for a script.
    pub fn wait_for(&mut self, job: Job, patience: Duration) -> Result<Output> {
        self.agent.wait_for(job, patience)
    }

    /// Plugs a disk in and waits until the guest has it.
    pub fn plug(&mut self, disk: &Disk) -> Result<()> {
        for object in disk.objects() {
            self.monitor.ask("object-add", object)?;
        }
        self.monitor.ask("blockdev-add", disk.node())?;
        self.monitor.ask("device_add", disk.device())?;
        let path = disk.path();
        self.sh(&format!(
            "for i in $(seq 300); do [ -b {path} ] && break; sleep 0.1; done; \
             udevadm settle; [ -b {path} ]"
        ))
        .with_context(|| format!("the guest does not see {}", disk.name))?;
        Ok(())
    }

    /// Pulls a disk out, whoever uses it.
    pub fn unplug(&mut self, disk: &Disk) -> Result<()> {
        self.monitor.ask("device_del", json!({"id": disk.name}))?;
        self.monitor
            .event("DEVICE_DELETED", COMMAND, |event| {
                event["data"]["device"] == disk.name.as_str()
            })
            .with_context(|| format!("{} was not let go", disk.name))?;
        let node = json!({"node-name": format!("node-{}", disk.name)});
        self.monitor.ask("blockdev-del", node)?;
        Ok(())
    }

    /// `kill -9` of QEMU: what the guest had in memory is gone.
    pub fn power_cut(mut self) -> Result<()> {
        self.let_go = true;
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Shuts the guest down as its administrator would.
    pub fn power_off(mut self) -> Result<()> {
        self.agent.start("systemctl --no-block poweroff")?;
        let end = Instant::now() + COMMAND;
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < end, "the guest does not power off");
            std::thread::sleep(Duration::from_millis(100));
        }
        self.let_go = true;
        Ok(())
    }

    /// Presses the reset button and waits for the new boot's agent.
    pub fn reset(&mut self) -> Result<()> {
        let before = self.sh("cat /proc/sys/kernel/random/boot_id")?;
        self.monitor.ask("system_reset", json!({}))?;
        std::thread::sleep(Duration::from_secs(5));
        self.wait_agent()?;
        self.set_time()?;
        let after = self.sh("cat /proc/sys/kernel/random/boot_id")?;
        ensure!(before != after, "the machine was not reset");
        Ok(())
    }

    /// The scenario is over and all was well.
    pub fn done(mut self) {
        self.let_go = true;
    }

    /// What stands on the serial console.
    pub fn console(&self) -> String {
        let path = self.dir.join(format!("{}.console", self.name));
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if !self.let_go {
            // The scenario failed: what the guest knows about it.
            let script = "journalctl -b --no-pager | tail -n 3000; dmesg | tail -n 200";
            if let Ok(output) = self.attempt(script, Duration::from_secs(40)) {
                let _ = fs::write(
                    self.dir.join(format!("{}.journal", self.name)),
                    output.stdout,
                );
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills a process that nobody took over.
struct Guard(Option<Child>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
