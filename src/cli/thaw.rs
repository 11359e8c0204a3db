//! `thaw`: the emergency exit.

use super::args::Common;
use super::outcome::Outcome;
use crate::error::Result;
use crate::freeze::{MountOutcome, thaw};
use serde_json::json;
use std::fmt::Write;

pub fn run(common: &Common) -> Result<Outcome> {
    super::need_root()?;
    let report = thaw(&common.run_dir)?;
    report.verdict()?;
    let mut text = String::new();
    let mut mounts = Vec::new();
    for mount in &report.mounts {
        let target = mount.target.mount_point.display().to_string();
        let outcome = match &mount.outcome {
            MountOutcome::Failed(why) => why.clone(),
            other => format!("{other:?}").to_lowercase(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{target}: {outcome}");
        mounts.push(json!({"target": target, "outcome": outcome}));
    }
    text.push_str(match report.mounts.len() {
        0 => "no run has left anything frozen",
        _ => "nothing of ours is frozen any more",
    });
    Ok(Outcome::done(json!({"mounts": mounts}), text))
}
