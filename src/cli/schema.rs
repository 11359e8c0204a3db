//! `schema`: what the documents of `--json` look like.

use super::args::SchemaArgs;
use crate::error::Result;
use crate::report::{Report, schema};

pub fn run(args: &SchemaArgs) -> Result<Report> {
    let name = args.command.join(" ");
    let schema = schema((!args.command.is_empty()).then_some(name.as_str()))?;
    let text = format!("{schema:#}");
    Ok(Report::done(schema, text))
}
