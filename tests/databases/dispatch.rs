//! Several pairs of hooks run as one: the order, and what becomes of the others when one fails.

use super::hooks::{Hooks, replace};
use crate::support::host::skipped;
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use tempfile::TempDir;

struct Several {
    folder: TempDir,
    hooks: Hooks,
}

impl Several {
    fn new(test: &str, names: &[&str]) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            skipped(test, "needs root");
            return None;
        }
        let folder = TempDir::new().unwrap();
        let hooks = Hooks::install_named("all", &folder.path().join("hooks"), "");
        let several = Self { folder, hooks };
        let each = several.at("hooks.d");
        DirBuilder::new().mode(0o755).create(&each).unwrap();
        replace(&several.hooks.prescript, "folder=", &each);
        for name in names {
            fs::create_dir(each.join(name)).unwrap();
            several.say(name, "prescript", "exit 0");
            several.say(name, "postscript", "exit 0");
        }
        Some(several)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A hook that writes itself down and then does this.
    fn say(&self, name: &str, kind: &str, what: &str) {
        let path = self.at("hooks.d").join(name).join(kind);
        let trace = self.at("trace");
        let text = format!(
            "#!/bin/sh\necho {name} $STILLPOINT_PHASE $STILLPOINT_RUN >>{}\n{what}\n",
            trace.display()
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
    }

    /// What has run since it was asked for last.
    fn trace(&self) -> String {
        let text = fs::read_to_string(self.at("trace")).unwrap_or_default();
        let _ = fs::remove_file(self.at("trace"));
        text.replace(" 01TEST", "").replace('\n', ", ")
    }
}

#[test]
fn several_hooks_run_in_order_and_back() {
    let Some(all) = Several::new("databases: several hooks", &["10-a", "20-b", "30-c"]) else {
        return;
    };
    all.hooks.before(None).expect(0);
    assert_eq!(all.trace(), "10-a pre, 20-b pre, 30-c pre, ");
    all.hooks.after("cut").expect(0);
    assert_eq!(all.trace(), "30-c post, 20-b post, 10-a post, ");
    all.hooks.after("failed").expect(0);
    all.hooks.after("cut").expect(1);
    assert_eq!(all.trace(), "");
}

#[test]
fn what_was_begun_is_ended_whatever_fails() {
    let Some(all) = Several::new("databases: failing hooks", &["10-a", "20-b", "30-c"]) else {
        return;
    };
    all.say("20-b", "prescript", "exit 7");
    let run = all.hooks.before(None).expect(1);
    assert!(
        run.stderr.contains("20-b/prescript failed with 7"),
        "{run:?}"
    );
    all.hooks.after("failed").expect(0);
    assert_eq!(all.trace(), "10-a pre, 20-b pre, 20-b post, 10-a post, ");
    all.say("20-b", "prescript", "exit 0");
    all.say("30-c", "postscript", "exit 8");
    all.hooks.before(None).expect(0);
    let run = all.hooks.after("cut").expect(1);
    assert!(
        run.stderr.contains("30-c/postscript failed with 8"),
        "{run:?}"
    );
    assert!(all.trace().ends_with("30-c post, 20-b post, 10-a post, "));
}

#[test]
fn hooks_that_others_can_write_to_stop_all() {
    let Some(all) = Several::new("databases: unsafe hooks", &["10-a", "20-b"]) else {
        return;
    };
    let hook = all.at("hooks.d/20-b/postscript");
    fs::set_permissions(&hook, Permissions::from_mode(0o755)).unwrap();
    all.hooks.before(None).expect(1);
    fs::remove_file(&hook).unwrap();
    all.hooks.before(None).expect(1);
    std::os::unix::fs::symlink(all.at("hooks.d/10-a/postscript"), &hook).unwrap();
    all.hooks.before(None).expect(1);
    fs::remove_file(&hook).unwrap();
    all.say("20-b", "postscript", "exit 0");
    let folder = all.at("hooks.d");
    fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
    all.hooks.before(None).expect(1);
    assert_eq!(all.trace(), "", "something was run");
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    all.hooks.before(None).expect(0);
    all.hooks.after("cut").expect(0);
}
