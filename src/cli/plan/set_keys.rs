//! The options of `plan create` and `plan modify`, as keys of a plan's file.

use super::super::args::PlanKeyArgs;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{NamedZone, PlanEdit, parse_zone};
use jiff::Timestamp;
use jiff::civil::Time;

/// What takes a key away.
const NONE: &str = "none";

/// Sets what was given.
pub fn set_keys(edit: &mut PlanEdit, keys: &PlanKeyArgs, now: Timestamp) -> Result<()> {
    if let Some(zone) = &keys.zone {
        edit.set_text("zone", zone);
    }
    if let Some(start) = &keys.start {
        let start = whole_start(edit, start, now)?;
        edit.set_text("start", &start);
    }
    set_disks(edit, keys);
    set_retention(edit, keys);
    let texts = [("every", &keys.every), ("level", &keys.level)];
    for (key, text) in texts {
        if let Some(text) = text {
            edit.set_text(key, text);
        }
    }
    let removable = [
        ("hooks.prescript", "hooks.prescript", &keys.prescript),
        ("hooks.postscript", "hooks.postscript", &keys.postscript),
        ("hooks.timeout", "hooks.timeout", &keys.hook_timeout),
        ("jitter", "jitter", &keys.jitter),
        ("window", "window", &keys.window),
        ("limits.read", "limits.read", &keys.limit_read),
        ("limits.write", "limits.write", &keys.limit_write),
        ("mirror.to", "mirror", &keys.mirror),
        ("mirror.every", "mirror.every", &keys.mirror_every),
        ("verify.sample", "verify", &keys.verify),
        ("verify.every", "verify.every", &keys.verify_every),
        ("drill.every", "drill", &keys.drill_every),
        ("drill.check", "drill.check", &keys.drill_check),
        ("drill.timeout", "drill.timeout", &keys.drill_timeout),
        ("drill.memory", "drill.memory", &keys.drill_memory),
        ("gc.every", "gc", &keys.gc_every),
    ];
    for (key, whole, text) in removable {
        match text.as_deref() {
            Some(NONE) => edit.remove(whole),
            Some(text) => edit.set_text(key, text),
            None => {}
        }
    }
    if let Some(boot) = keys.drill_boot {
        edit.set_flag("drill.boot", boot);
    }
    Ok(())
}

fn set_disks(edit: &mut PlanEdit, keys: &PlanKeyArgs) {
    if !keys.disks.is_empty() {
        edit.set_texts("disks", &keys.disks);
        edit.remove("exclude");
    }
    if keys.all || !keys.exclude.is_empty() {
        edit.set_text("disks", "all");
        edit.remove("exclude");
    }
    if !keys.exclude.is_empty() {
        edit.set_texts("exclude", &keys.exclude);
    }
    if let Some(partial) = keys.partial {
        edit.set_flag("partial", partial);
    }
}

fn set_retention(edit: &mut PlanEdit, keys: &PlanKeyArgs) {
    let rules = [
        ("last", keys.keep_last),
        ("hourly", keys.keep_hourly),
        ("daily", keys.keep_daily),
        ("weekly", keys.keep_weekly),
        ("monthly", keys.keep_monthly),
        ("yearly", keys.keep_yearly),
    ];
    for (rule, number) in rules {
        if let Some(number) = number {
            edit.set_number(&format!("retention.{rule}"), number);
        }
    }
    match keys.retention.as_deref() {
        Some(NONE) => edit.remove("retention"),
        Some(text) => edit.set_text("retention", text),
        None => {}
    }
}

/// A time of the day becomes the next such time in the plan's zone; all else stays as it is.
fn whole_start(edit: &PlanEdit, text: &str, now: Timestamp) -> Result<String> {
    let is_time_alone = text.contains(':') && !text.contains(['-', 'T', ' ']);
    let Some(time) = text.parse::<Time>().ok().filter(|_| is_time_alone) else {
        return Ok(text.to_owned());
    };
    let zone = edit.text("zone").map_or(Ok(NamedZone::utc()), parse_zone);
    let zone = zone.map_err(|why| Error::new(ErrorKind::Usage, format!("--zone: {why}")))?;
    let today = now.to_zoned(zone.zone.clone()).date();
    let next = [Some(today), today.tomorrow().ok()].into_iter().flatten();
    let mut next = next.map(|date| date.to_datetime(time)).filter(|start| {
        let start = start.to_zoned(zone.zone.clone());
        start.is_ok_and(|start| start.timestamp() > now)
    });
    let start = next.next().unwrap_or_else(|| today.to_datetime(time));
    Ok(start.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_time_of_the_day_is_the_next_one_in_the_zone() {
        let now: Timestamp = "2026-11-30T12:00:00Z".parse().unwrap();
        let started = |zone: Option<&str>, start: &str| {
            let mut edit = PlanEdit::new("p".parse().unwrap(), Path::new("/x"));
            let keys = PlanKeyArgs {
                start: Some(start.into()),
                zone: zone.map(Into::into),
                ..PlanKeyArgs::default()
            };
            set_keys(&mut edit, &keys, now).unwrap();
            edit.text("start").unwrap().to_owned()
        };
        assert_eq!(started(None, "02:30"), "2026-12-01T02:30:00");
        assert_eq!(started(None, "12:00:01"), "2026-11-30T12:00:01");
        assert_eq!(started(None, "12:00"), "2026-12-01T12:00:00");
        assert_eq!(started(Some("Asia/Tokyo"), "02:30"), "2026-12-01T02:30:00");
        assert_eq!(started(Some("Asia/Tokyo"), "20:30"), "2026-12-01T20:30:00");
        assert_eq!(
            started(Some("America/New_York"), "20:30"),
            "2026-11-30T20:30:00"
        );
        let whole = "2020-01-01T00:00:00";
        assert_eq!(started(None, whole), whole);
    }

    #[test]
    fn none_takes_away_what_was_set() {
        let mut edit = PlanEdit::new("p".parse().unwrap(), Path::new("/x"));
        edit.set_text("start", "2026-12-01T02:30:00");
        edit.set_text("every", "1d");
        let now = Timestamp::now();
        let text = |text: &str| Some(text.to_owned());
        let set = PlanKeyArgs {
            retention: text("30d"),
            window: text("01:00-02:00"),
            mirror: text("m"),
            mirror_every: text("1w"),
            ..PlanKeyArgs::default()
        };
        set_keys(&mut edit, &set, now).unwrap();
        let plan = edit.plan(now).unwrap();
        assert!(plan.window.is_some() && plan.follow_ups().len() == 2);
        let every = PlanKeyArgs {
            mirror_every: text(NONE),
            ..PlanKeyArgs::default()
        };
        set_keys(&mut edit, &every, now).unwrap();
        assert_eq!(edit.plan(now).unwrap().mirror.unwrap().every, None);
        let unset = PlanKeyArgs {
            retention: text(NONE),
            window: text(NONE),
            mirror: text(NONE),
            ..PlanKeyArgs::default()
        };
        set_keys(&mut edit, &unset, now).unwrap();
        let plan = edit.plan(now).unwrap();
        assert!(plan.window.is_none() && plan.follow_ups().is_empty());
    }
}
