//! Whether this machine, restored, would boot elsewhere: what speaks against it, and the remedies.

use super::Report;
use crate::engine::{BootRisk, BootRiskLevel, Restorability};
use crate::model::printable::one_line;
use serde_json::json;
use std::fmt::Write;

fn words(level: BootRiskLevel) -> &'static str {
    match level {
        BootRiskLevel::WillNotBoot => "will not boot",
        BootRiskLevel::MayNotBoot => "may not boot",
        BootRiskLevel::BehavesOtherwise => "will behave otherwise",
    }
}

/// What `doctor --restorable` reports.
pub fn report(found: &Restorability) -> Report {
    let mut text = String::new();
    // Writing to a string cannot fail.
    for one in &found.looked_at {
        let _ = writeln!(
            text,
            "ok  {}: {}",
            one_line(&one.what),
            one_line(&one.found)
        );
    }
    for note in &found.notes {
        let _ = writeln!(text, "--  {}", one_line(note));
    }
    for one in &found.not_looked_at {
        let _ = writeln!(
            text,
            "??  {}: not looked at: {}",
            one_line(&one.what),
            one_line(&one.reason)
        );
    }
    found.risks.iter().for_each(|risk| add(&mut text, risk));
    if found.more_risks > 0 {
        let _ = writeln!(text, "!!  and {} more like these", found.more_risks);
    }
    text.push_str(&verdict(found));
    let amiss = found.risks.len() + found.more_risks;
    let json = json!({
        "findings": [],
        "amiss": amiss,
        "freeze_test": null,
        "restorable": found,
    });
    Report::done(json, text).below(!found.is_clean())
}

fn add(text: &mut String, risk: &BootRisk) {
    let what = one_line(&risk.what);
    let _ = writeln!(text, "!!  {}: {what}", words(risk.level));
    for line in [&risk.place, &risk.why, &risk.remedy] {
        let _ = writeln!(text, "      {}", one_line(line));
    }
}

fn verdict(found: &Restorability) -> String {
    let count = |level| {
        found
            .risks
            .iter()
            .filter(|risk| risk.level == level)
            .count()
    };
    let levels = [
        BootRiskLevel::WillNotBoot,
        BootRiskLevel::MayNotBoot,
        BootRiskLevel::BehavesOtherwise,
    ];
    let counted = levels.map(|level| (count(level), words(level)));
    let counted = counted.iter().filter(|(count, _)| *count > 0);
    let counted: Vec<String> = counted.map(|(n, words)| format!("{n} {words}")).collect();
    let unseen = match found.not_looked_at.len() {
        0 => String::new(),
        1 => "; 1 thing could not be looked at, and nothing is known of it".to_owned(),
        n => format!("; {n} things could not be looked at, and nothing is known of them"),
    };
    match counted.is_empty() {
        true => {
            format!("nothing was found that would keep this machine from booting elsewhere{unseen}")
        }
        false => format!("elsewhere this machine: {}{unseen}", counted.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::NotLookedAt;

    #[test]
    fn what_could_not_be_looked_at_is_never_called_fine() {
        let mut found = Restorability::default();
        let clean = report(&found);
        assert_eq!(clean.code, 0);
        assert!(
            clean.text.ends_with("from booting elsewhere"),
            "{}",
            clean.text
        );
        found.not_looked_at.push(NotLookedAt {
            what: "/boot\u{1b}".into(),
            reason: "it is not there".into(),
        });
        let unseen = report(&found);
        assert_eq!(unseen.code, 3);
        assert!(
            unseen.text.contains("??  /boot\\u{1b}: not looked at"),
            "{}",
            unseen.text
        );
        assert!(
            unseen.text.ends_with("nothing is known of it"),
            "{}",
            unseen.text
        );
        assert_eq!(unseen.json["amiss"], 0);
    }

    #[test]
    fn risks_are_counted_by_how_bad_they_are() {
        let risk = |level| BootRisk {
            level,
            what: "w".into(),
            place: "/p:1".into(),
            why: "y".into(),
            remedy: "r".into(),
        };
        let found = Restorability {
            risks: vec![
                risk(BootRiskLevel::WillNotBoot),
                risk(BootRiskLevel::BehavesOtherwise),
            ],
            ..Restorability::default()
        };
        let told = report(&found);
        assert_eq!(told.code, 3);
        assert!(
            told.text
                .contains("!!  will not boot: w\n      /p:1\n      y\n      r\n")
        );
        assert!(
            told.text
                .ends_with("1 will not boot, 1 will behave otherwise"),
            "{}",
            told.text
        );
        assert_eq!(
            told.json["restorable"]["risks"][1]["level"],
            "behaves_otherwise"
        );
    }
}
