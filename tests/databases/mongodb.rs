//! The hooks of MongoDB, against a stand-in for its shell: Debian has no server. It must never
//! be taken for more than it shows: how they lock, wait and unlock, not what a server does.

use super::hooks::Hooks;
use super::server::found;
use crate::cli::lab::{finish, tool};
use crate::support::host::skipped;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A shell whose server is a folder: `locked` is there when it is locked, `down` when it is down.
const SHELL: &str = r"#!/usr/bin/env node
const fs = require('fs');
const at = (name) => 'FOLDER/' + name;
globalThis.print = (text) => console.log(text);
globalThis.sleep = (ms) =>
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
const runCommand = (command) => {
    if (command.fsync && command.lock) {
        fs.writeFileSync(at('locked'), '');
        return { ok: 1 };
    }
    if (!command.fsyncUnlock || !fs.existsSync(at('locked'))) {
        return { ok: 0, errmsg: 'not locked' };
    }
    fs.unlinkSync(at('locked'));
    return { ok: 1 };
};
globalThis.connect = (uri) => {
    if (fs.existsSync(at('down'))) {
        throw new Error('connect ECONNREFUSED');
    }
    return { getSiblingDB: () => ({ runCommand }) };
};
fs.writeFileSync(at('pid'), String(process.pid));
try {
    require(process.argv.at(-1));
} catch (error) {
    console.error(String(error));
    process.exit(1);
}
";

struct Stand {
    folder: TempDir,
    hooks: Hooks,
}

impl Stand {
    fn new(test: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() || !found("node").exists() {
            skipped(test, "needs root and node");
            return None;
        }
        let folder = TempDir::new().unwrap();
        let shell = folder.path().join("mongosh");
        let text = SHELL.replace("FOLDER", folder.path().to_str().unwrap());
        fs::write(&shell, text).unwrap();
        fs::set_permissions(&shell, Permissions::from_mode(0o700)).unwrap();
        let settings = format!("client=({})\n", shell.display());
        let hooks = Hooks::install_named("mongodb", &folder.path().join("hooks"), &settings);
        Some(Self { folder, hooks })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn is_locked(&self) -> bool {
        self.at("locked").exists()
    }

    fn is_let_go(&self) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.is_locked() {
            assert!(Instant::now() < until, "still locked");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn the_hooks_of_mongodb_lock_and_unlock() {
    let Some(stand) = Stand::new("databases: hooks of mongodb") else {
        return;
    };
    let hooks = &stand.hooks;
    hooks.before(None).expect(0);
    assert!(stand.is_locked());
    hooks.after("cut").expect(0);
    assert!(!stand.is_locked());
    hooks.before(None).expect(0);
    hooks.before(None).expect(0);
    assert!(stand.is_locked());
    hooks.after("cut").expect(0);
    assert!(!stand.is_locked());
    hooks.after("failed").expect(0);
    hooks.after("cut").expect(1);
    // A second run leaves the first alone.
    hooks.before(None).expect(0);
    let mut second = hooks.command(&hooks.prescript, "pre");
    let run = finish(second.env("STILLPOINT_RUN", "01OTHER")).expect(1);
    assert!(run.stderr.contains("01TEST"), "{run:?}");
    assert!(stand.is_locked());
    hooks.after("cut").expect(0);
}

#[test]
fn the_hooks_of_mongodb_unlock_whatever_happens() {
    let Some(stand) = Stand::new("databases: lost hooks of mongodb") else {
        return;
    };
    let hooks = &stand.hooks;
    // Its session is killed: what is left of prescript unlocks.
    hooks.before(None).expect(0);
    let pid = fs::read_to_string(stand.at("pid")).unwrap();
    tool("kill", &["-KILL", &pid]);
    stand.is_let_go();
    hooks.after("cut").expect(1);
    // Postscript is lost: the time limit ends it.
    let shell = stand.at("mongosh");
    hooks.set(&format!("client=({})\nlimit=1\n", shell.display()));
    hooks.before(None).expect(0);
    assert!(stand.is_locked());
    stand.is_let_go();
    let run = hooks.after("cut").expect(1);
    assert!(run.stderr.contains("too early"), "{run:?}");
    // The server is down.
    fs::write(stand.at("down"), "").unwrap();
    let run = hooks.before(None).expect(1);
    assert!(run.stderr.contains("ECONNREFUSED"), "{run:?}");
    hooks.after("failed").expect(0);
}
