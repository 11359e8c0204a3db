//! `doctor`: what this host can and cannot do, and the remedy. It changes nothing, and freezes
//! nothing unless `--freeze-test` asks for it.

use super::args::{Common, DoctorArgs};
use super::context;
use super::outcome::Outcome;
use crate::device::read::io_uring_available;
use crate::device::{Facts, Host, HostLayout};
use crate::engine::{FreezeTest, VaultPlace, freeze_test, look_at_freezing};
use crate::error::Result;
use crate::model::Bytes;
use crate::model::printable::one_line;
use crate::track::{obstacles, uncounted, unwatched};
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

/// With less room than this a vault is as good as full: what a run has on its way at a time, and
/// some.
const LITTLE: Bytes = Bytes(256 << 20);
const OWN_DISK: &str = "put the vault on a disk of its own: on one of a snapshot it would be lost \
                        with it";

/// What was found so far, for people and for programs.
#[derive(Default)]
struct Findings {
    text: String,
    documents: Vec<Value>,
    amiss: usize,
}

impl Findings {
    fn add(&mut self, name: &str, value: &str, ok: bool, remedy: Option<&str>) {
        let mark = if ok { "ok" } else { "!!" };
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{mark}  {}: {}", one_line(name), one_line(value));
        if let Some(remedy) = remedy {
            let _ = writeln!(self.text, "      {remedy}");
        }
        self.amiss += usize::from(!ok);
        let document = json!({"name": name, "value": value, "ok": ok, "remedy": remedy});
        self.documents.push(document);
    }
}

pub fn run(args: &DoctorArgs, common: &Common) -> Result<Outcome> {
    let mut found = Findings::default();
    for finding in Facts::gather(&Host::here())?.findings() {
        // Snapshots mount it where it is missing.
        let ok = finding.ok || finding.name == "bpf filesystem";
        found.add(finding.name, &finding.value, ok, finding.remedy);
    }
    add_tracking(&mut found);
    match io_uring_available() {
        Ok(()) => found.add("io_uring at work", "yes", true, None),
        Err(error) => found.add(
            "io_uring at work",
            &error.to_string(),
            false,
            Some("disks are read by threads instead, which is slower and safe"),
        ),
    }
    if common.vault.as_deref().is_some_and(|name| !name.is_empty()) {
        add_vault(&mut found, common);
    }
    let test = if args.freeze_test.is_empty() {
        add_look(&mut found, common)?;
        Value::Null
    } else {
        context::need_root()?;
        let test = freeze_test(&args.freeze_test, &common.places()?)?;
        add_test(&mut found, &test);
        document(&test)
    };
    found.text.push_str(&match found.amiss {
        0 => "nothing is amiss".to_owned(),
        1 => "1 thing is amiss".into(),
        count => format!("{count} things are amiss"),
    });
    let json = json!({
        "findings": found.documents,
        "amiss": found.amiss,
        "freeze_test": test,
    });
    Ok(Outcome::done(json, found.text).below(found.amiss > 0))
}

fn add_tracking(found: &mut Findings) {
    let fatal: Vec<_> = obstacles().into_iter().filter(|one| one.fatal).collect();
    for obstacle in fatal.iter().chain(&uncounted()) {
        let remedy = format!("{}; until then snapshots are refused", obstacle.remedy);
        found.add("tracking", &obstacle.what, false, Some(&remedy));
    }
    if fatal.is_empty() {
        found.add("tracking", "can be started", true, None);
    }
    if let Some(limit) = unwatched().filter(|_| fatal.is_empty()) {
        found.add("tracking", &limit.what, true, Some(&limit.remedy));
    }
}

/// What a freeze would meet.
fn add_look(found: &mut Findings, common: &Common) -> Result<()> {
    match look_at_freezing(&common.places()?) {
        Ok(all) => {
            for one in all {
                let (name, remedy) = (format!("freezing {}", one.what), one.remedy.as_deref());
                found.add(&name, &one.found, remedy.is_none(), remedy);
            }
        }
        Err(error) => found.add("freezing", &error.to_string(), false, error.hint()),
    }
    let others =
        "cannot be told without a try: --freeze-test DISK freezes and thaws for an instant";
    found.add("frozen by others, or stuck", others, true, None);
    Ok(())
}

/// Whether the vault that is set can be reached, written to, and has room; and where it lies.
fn add_vault(found: &mut Findings, common: &Common) {
    let vault = match context::open_vault(common) {
        Ok(vault) => vault,
        Err(error) => return found.add("vault", &error.to_string(), false, error.hint()),
    };
    found.add(
        "vault",
        &format!("{} can be read", vault.location()),
        true,
        None,
    );
    let Some(path) = vault.local_path() else {
        return;
    };
    match access(path, AccessFlags::W_OK) {
        Ok(()) => found.add("vault writable", "yes", true, None),
        Err(errno) => found.add(
            "vault writable",
            &format!("no: {}", errno.desc()),
            false,
            Some("is its disk mounted, and not read-only? Snapshots cannot be stored until then"),
        ),
    }
    if let Ok(space) = statvfs(path) {
        let free = Bytes(
            space
                .blocks_available()
                .saturating_mul(space.fragment_size()),
        );
        let remedy = "make room there: a snapshot that finds none fails, and is taken out again";
        let ok = free >= LITTLE;
        let value = format!("{free} free");
        found.add("vault space", &value, ok, (!ok).then_some(remedy));
    }
    let place = HostLayout::scan_mounts().and_then(|layout| {
        let place = VaultPlace::find(&vault, &layout)?;
        let names = place
            .disks
            .iter()
            .filter_map(|dev| layout.topology.disk(*dev));
        let names: Vec<String> = names.map(|disk| disk.name().to_owned()).collect();
        Ok((place.doubt, names.join(", ")))
    });
    match place {
        Ok((Some(doubt), _)) => found.add("vault lies on", &doubt, false, Some(OWN_DISK)),
        Ok((None, names)) if names.is_empty() => {
            found.add("vault lies on", "no disk of this host", true, None);
        }
        Ok((None, names)) => {
            let value = format!("{names}, of which no snapshot can be stored there");
            found.add("vault lies on", &value, true, None);
        }
        Err(error) => found.add("vault lies on", &error.to_string(), false, error.hint()),
    }
}

fn ms(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

fn add_test(found: &mut Findings, test: &FreezeTest) {
    for one in &test.filesystems {
        let value = format!("{:.1} ms, thawed in {:.1} ms", ms(one.freeze), ms(one.thaw));
        let name = format!("freezing {} ({})", one.target, one.fstype);
        found.add(&name, &value, true, None);
    }
    for (target, why) in &test.left_out {
        found.add(&format!("freezing {target}"), why, true, None);
    }
    for weakness in &test.weaknesses {
        let remedy = "snapshots are taken all the same: where the guardian is ended, the engine \
                      thaws, and what both leave frozen `stillpoint thaw` thaws";
        found.add("guardian", weakness, false, Some(remedy));
    }
    let value = if test.filesystems.is_empty() {
        "nothing is mounted that could be frozen".to_owned()
    } else {
        format!("{:.1} ms", ms(test.held))
    };
    found.add("frozen in all", &value, true, None);
}

fn document(test: &FreezeTest) -> Value {
    let filesystems: Vec<Value> = test
        .filesystems
        .iter()
        .map(|one| {
            json!({
                "target": one.target,
                "source": one.source,
                "type": one.fstype,
                "freeze_ms": ms(one.freeze),
                "thaw_ms": ms(one.thaw),
            })
        })
        .collect();
    let left_out: Vec<Value> = test
        .left_out
        .iter()
        .map(|(target, why)| json!({"target": target, "reason": why}))
        .collect();
    json!({
        "freeze_ms": ms(test.held),
        "filesystems": filesystems,
        "left_out": left_out,
        "weaknesses": test.weaknesses,
    })
}
