//! `doctor`: what this host can and cannot do, and the remedy. It changes and freezes nothing.

use super::args::Common;
use super::outcome::Outcome;
use crate::device::read::io_uring_available;
use crate::device::{Facts, Host};
use crate::error::Result;
use serde_json::{Value, json};
use std::fmt::Write;

pub fn run(_: &Common) -> Result<Outcome> {
    let mut text = String::new();
    let mut documents: Vec<Value> = Vec::new();
    let mut amiss = 0;
    let mut add = |name: &str, value: &str, ok: bool, remedy: Option<&str>| {
        let mark = if ok { "ok" } else { "!!" };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{mark}  {name}: {value}");
        if let Some(remedy) = remedy {
            let _ = writeln!(text, "      {remedy}");
        }
        amiss += usize::from(!ok);
        documents.push(json!({"name": name, "value": value, "ok": ok, "remedy": remedy}));
    };
    for finding in Facts::gather(&Host::here())?.findings() {
        add(finding.name, &finding.value, finding.ok, finding.remedy);
    }
    match io_uring_available() {
        Ok(()) => add("io_uring at work", "yes", true, None),
        Err(error) => add(
            "io_uring at work",
            &error.to_string(),
            false,
            Some("disks are read by threads instead, which is slower and safe"),
        ),
    }
    let verdict = match amiss {
        0 => "this host can do everything".to_owned(),
        count => format!("{count} things are amiss"),
    };
    text.push_str(&verdict);
    let json = json!({"findings": documents, "amiss": amiss});
    Ok(Outcome::done(json, text).below(amiss > 0))
}
