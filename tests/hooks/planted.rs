//! What others have put beside a hook, in a folder where anyone can make files, is not taken for a
//! part of it; and what was judged is what is run, whatever becomes of the name.

use super::{Stage, status, warned};
use crate::cli::lab::{code_of, wait};
use crate::support::host::skipped;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Stdio;

/// A user who is not root.
const STRANGER: u32 = 65534;

/// A file of a stranger's.
fn plant(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    chown(path, Some(STRANGER), Some(STRANGER)).unwrap();
}

/// A stage whose hooks lie in a folder like /tmp.
fn open_stage(test: &str) -> Option<Stage> {
    let stage = Stage::new(test)?;
    stage.scripts("note pre", "note post");
    let folder = stage.lab.path("hooks");
    fs::set_permissions(&folder, Permissions::from_mode(0o1777)).unwrap();
    Some(stage)
}

/// A script in another language than the shell's.
fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn python_takes_no_module_from_the_folder_of_a_hook() {
    let Some(stage) = open_stage("python_takes_no_module") else {
        return;
    };
    if !Path::new("/usr/bin/python3").exists() {
        return skipped("python_takes_no_module", "no /usr/bin/python3");
    }
    let noted = stage.lab.at("noted");
    let evil = format!("open({noted:?}, 'a').write('planted\\n')\n");
    for module in ["json.py", "sitecustomize.py", "planted.py"] {
        plant(&stage.lab.path("hooks").join(module), &evil);
    }
    for first in ["/usr/bin/python3", "/usr/bin/env python3"] {
        let script = format!(
            "#!{first}\nimport json\ntry:\n    import planted\nexcept ImportError:\n    pass\n\
             open({noted:?}, 'a').write(json.loads('\"ran\"') + '\\n')\n"
        );
        write(&stage.pre(), &script);
        let _ = fs::remove_file(&noted);
        let document = stage.snapshot(&[]).expect(0).json();
        assert_eq!(document["level"], "application", "{document}");
        // In pairs: on a busy machine the first cut may not succeed.
        let noted = stage.noted();
        let pairs = noted.chunks(2).all(|pair| pair == ["ran", "post"]);
        assert!(pairs && !noted.is_empty(), "{first}: {noted:?}");
    }
    stage.assert_sound();
}

/// No interpreter can come from it to the folder, and nobody can change it while it runs.
#[test]
fn what_is_run_is_a_copy_that_nobody_can_change() {
    let Some(stage) = open_stage("what_is_run_is_a_copy") else {
        return;
    };
    let pre = "note $(readlink $0); (echo 'note more' >>$0) && note changed; note end";
    stage.scripts(pre, "note post");
    stage.snapshot(&[]).expect(0);
    let noted = stage.noted();
    assert!(noted[0].starts_with("/memfd:stillpoint-hook"), "{noted:?}");
    assert_eq!(noted[1..], ["end", "post"]);
}

#[test]
fn node_takes_no_module_from_the_folder_of_a_hook() {
    let Some(stage) = open_stage("node_takes_no_module") else {
        return;
    };
    if !Path::new("/usr/bin/node").exists() {
        return skipped("node_takes_no_module", "no /usr/bin/node");
    }
    let noted = stage.lab.at("noted");
    let modules = stage.lab.path("hooks/node_modules");
    fs::create_dir(&modules).unwrap();
    let evil = format!("require('fs').appendFileSync({noted:?}, 'planted\\n')\n");
    plant(&modules.join("planted.js"), &evil);
    let script = format!(
        "#!/usr/bin/node\ntry {{ require('planted') }} catch (e) {{ }}\n\
         require('fs').appendFileSync({noted:?}, 'ran\\n')\n"
    );
    write(&stage.pre(), &script);
    let document = stage.snapshot(&[]).expect(0).json();
    assert_eq!(document["level"], "application", "{document}");
    assert_eq!(stage.noted(), ["ran", "post"]);
}

/// Between the first look and the run, which may be hours, somebody puts another file there.
#[test]
fn a_hook_replaced_before_it_is_run_is_judged_anew() {
    let Some(stage) = open_stage("a_hook_replaced_before_it_is_run") else {
        return;
    };
    // While this is locked a run has seen the hooks, and has not opened them.
    stage.lab.run(&["snapshot", &stage.disk.device]).expect(0);
    let lock = File::create(stage.lab.path("run/hooks.lock")).unwrap();
    for (owner, expected) in [(STRANGER, "rejected"), (0, "ran")] {
        stage.scripts("note pre", "note post");
        let _ = fs::remove_file(stage.lab.path("noted"));
        lock.lock().unwrap();
        let args = stage.args(&[]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut command = stage.lab.command(&args);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let folder = format!("/proc/{}/fd", child.id());
        super::killed::wait_for(|| {
            let fds = fs::read_dir(&folder).unwrap();
            let links = fds.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
            links.into_iter().any(|link| link.ends_with("hooks.lock"))
        });
        stage.write(&stage.lab.path("hooks/new"), "note other");
        chown(stage.lab.path("hooks/new"), Some(owner), Some(owner)).unwrap();
        fs::rename(stage.lab.path("hooks/new"), stage.pre()).unwrap();
        lock.unlock().unwrap();
        let code = code_of(wait(&mut child, "a run whose hook was replaced"));
        let said = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
        let document: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(status(&document, "prescript"), expected, "{document}");
        if owner == 0 {
            assert_eq!(
                (code, stage.noted()),
                (0, vec!["other".into(), "post".into()])
            );
        } else {
            assert!(warned(&document, "owned by user 65534"), "{document}");
            assert_eq!((code, stage.noted()), (3, Vec::<String>::new()));
        }
    }
    stage.assert_sound();
}

/// A name in a sticky folder that an attacker was first to take.
#[test]
fn an_attacker_who_was_first_gains_nothing() {
    let Some(stage) = open_stage("an_attacker_who_was_first") else {
        return;
    };
    let roots = stage.lab.path("hooks/of-root");
    stage.write(&roots, "note of root");
    let ways: [(&str, &dyn Fn()); 3] = [
        ("owned by user 65534", &|| {
            chown(stage.pre(), Some(STRANGER), Some(STRANGER)).unwrap();
        }),
        ("symbolic link", &|| {
            fs::remove_file(stage.pre()).unwrap();
            std::os::unix::fs::symlink(&roots, stage.pre()).unwrap();
        }),
        ("2 links", &|| {
            fs::remove_file(stage.pre()).unwrap();
            fs::hard_link(&roots, stage.pre()).unwrap();
        }),
    ];
    for (words, take) in ways {
        take();
        let document = stage.snapshot(&[]).expect(3).json();
        assert!(warned(&document, words), "{document}");
        assert_eq!(stage.noted(), Vec::<String>::new(), "{words}");
    }
    stage.assert_sound();
}
