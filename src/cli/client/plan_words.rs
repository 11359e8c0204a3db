//! The plan of a token, as words that `plan create` takes. Nothing else is taken from them: no
//! option of every command, and no other command.

use super::super::args::PlanCreateArgs;
use super::super::plan::set_keys;
use crate::client::TokenPlan;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{PlanEdit, PlanName};
use clap::Parser;
use jiff::Timestamp;
use std::path::Path;

/// What stands for no plan.
const NONE: &str = "none";

#[derive(Parser, Debug)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct PlanWords {
    #[command(flatten)]
    args: PlanCreateArgs,
}

/// The arguments in the words of a token's plan.
pub fn arguments(plan: &TokenPlan) -> Result<PlanCreateArgs> {
    let mut args = parse(&plan.words)?;
    if args.name.as_ref().is_some_and(|name| *name != plan.name) {
        let what = "the plan: its name is not that in its words";
        return Err(Error::new(ErrorKind::Usage, what));
    }
    args.name = Some(plan.name.clone());
    Ok(args)
}

fn parse(words: &[String]) -> Result<PlanCreateArgs> {
    let parsed = PlanWords::try_parse_from(words).map_err(|error| {
        let said = error.to_string();
        let line = said.lines().next().unwrap_or_default();
        let line = line.strip_prefix("error: ").unwrap_or(line);
        Error::new(ErrorKind::Usage, format!("the plan: {line}"))
            .with_hint("its words are those of `stillpoint plan create --help`")
    })?;
    Ok(parsed.args)
}

/// The plan that a text means; `None`: none. It is checked as a whole, but for what only its host
/// knows.
pub fn planned(text: &str, now: Timestamp) -> Result<Option<TokenPlan>> {
    if text.trim() == NONE {
        return Ok(None);
    }
    let words: Vec<String> = text.split_whitespace().map(Into::into).collect();
    let args = parse(&words)?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => format!("every-{}", args.keys.every.as_deref().unwrap_or("time")),
    };
    let checked: PlanName = name.parse()?;
    let mut edit = PlanEdit::new(checked, Path::new("the plan"));
    set_keys(&mut edit, &args.keys, now)?;
    edit.plan(now)?;
    Ok(Some(TokenPlan { name, words }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_what_plan_create_takes_and_nothing_else() {
        let now = Timestamp::now();
        let usual = planned("daily --start 02:30 --every 1d --jitter 1h", now).unwrap();
        let usual = usual.unwrap();
        assert_eq!((usual.name.as_str(), usual.words.len()), ("daily", 7));
        let args = arguments(&usual).unwrap();
        assert_eq!(args.name.as_deref(), Some("daily"));
        assert_eq!(args.keys.every.as_deref(), Some("1d"));
        let unnamed = planned("--start 02:30 --every 6h", now).unwrap().unwrap();
        assert_eq!(unnamed.name, "every-6h");
        assert_eq!(
            arguments(&unnamed).unwrap().name.as_deref(),
            Some("every-6h")
        );
        let like = planned("6h --start 05:30 --every 6h", now)
            .unwrap()
            .unwrap();
        assert_eq!(arguments(&like).unwrap().keys.every.as_deref(), Some("6h"));
        assert_eq!(planned(" none ", now).unwrap(), None);
        for wrong in [
            "",
            "daily",
            "daily --start 02:30 --every 10000h",
            "daily --start 02:30 --every 1d --vault s3://other/place",
            "daily --start 02:30 --every 1d --help",
            "../daily --start 02:30 --every 1d",
            "daily weekly --start 02:30 --every 1d",
        ] {
            let error = planned(wrong, now).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{wrong}");
        }
    }
}
