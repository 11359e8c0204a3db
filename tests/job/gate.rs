//! A gate at which a snapshot stands, at work, until it is let go: a prescript that waits for a
//! file. What was copied before, nothing has to take long for.

use crate::cli::lab::{LONG, Lab};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The gate of a lab; shut at first.
pub struct Gate {
    reached: PathBuf,
    open: PathBuf,
    options: [String; 8],
}

impl Gate {
    pub fn new(lab: &Lab) -> Self {
        let folder = lab.path("gate");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
        let (reached, open) = (folder.join("reached"), folder.join("open"));
        let script = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        // Or until all of it is removed, when the test has failed.
        let shut = format!("[ -d {} ] && [ ! -e {} ]", folder.display(), open.display());
        let wait = format!(
            ": >{}; while {shut}; do sleep 0.02; done",
            reached.display()
        );
        let (pre, post) = (script("pre.sh", &wait), script("post.sh", ":"));
        let options = ["--level", "application", "--hook-timeout", "120s"].map(String::from);
        let [level, application, timeout, long] = options;
        let (prescript, postscript) = ("--prescript".to_owned(), "--postscript".to_owned());
        Self {
            reached,
            open,
            options: [
                level,
                application,
                timeout,
                long,
                prescript,
                pre,
                postscript,
                post,
            ],
        }
    }

    /// These arguments, and those with which a snapshot comes to the gate.
    pub fn before<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let options = self.options.iter().map(String::as_str);
        args.iter().copied().chain(options).collect()
    }

    /// Waits until a run stands before it.
    #[track_caller]
    pub fn wait(&self) {
        let until = Instant::now() + LONG;
        while !self.reached.exists() {
            assert!(Instant::now() < until, "nothing comes to the gate");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Lets go what stands before it, and what comes.
    pub fn open(&self) {
        fs::write(&self.open, "").unwrap();
    }

    /// Nobody stands before it any more, and who comes must wait.
    pub fn shut(&self) {
        for path in [&self.reached, &self.open] {
            let _ = fs::remove_file(path);
        }
    }
}
