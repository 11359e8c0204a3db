//! What a host can and cannot do, and the remedy.

use super::Report;
use crate::engine::FreezeTest;
use crate::model::printable::one_line;
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

const WITHOUT_GUARDIAN: &str = "snapshots are taken all the same: where the guardian is ended, the \
                                engine thaws, and what both leave frozen `stillpoint thaw` thaws";

/// What was found so far.
#[derive(Default)]
pub struct Checkup {
    text: String,
    documents: Vec<Value>,
    amiss: usize,
    freeze_test: Value,
}

impl Checkup {
    /// Adds a finding, and what to do about it.
    pub fn add(&mut self, name: &str, value: &str, ok: bool, remedy: Option<&str>) {
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

    /// Adds what a freeze took.
    pub fn add_freeze_test(&mut self, test: &FreezeTest) {
        for one in &test.filesystems {
            let value = format!("{:.1} ms, thawed in {:.1} ms", ms(one.freeze), ms(one.thaw));
            let name = format!("freezing {} ({})", one.target, one.fstype);
            self.add(&name, &value, true, None);
        }
        for (target, why) in &test.left_out {
            self.add(&format!("freezing {target}"), why, true, None);
        }
        for weakness in &test.weaknesses {
            self.add("guardian", weakness, false, Some(WITHOUT_GUARDIAN));
        }
        let value = if test.filesystems.is_empty() {
            "nothing is mounted that could be frozen".to_owned()
        } else {
            format!("{:.1} ms", ms(test.held))
        };
        self.add("frozen in all", &value, true, None);
        self.freeze_test = document(test);
    }

    /// What `doctor` reports.
    pub fn report(mut self) -> Report {
        self.text.push_str(&match self.amiss {
            0 => "nothing is amiss".to_owned(),
            1 => "1 thing is amiss".into(),
            count => format!("{count} things are amiss"),
        });
        let json = json!({
            "findings": self.documents,
            "amiss": self.amiss,
            "freeze_test": self.freeze_test,
            "restorable": null,
        });
        Report::done(json, self.text).below(self.amiss > 0)
    }
}

fn ms(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
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
