//! `fleet template`: an empty list of instances.

use super::super::args::FleetTemplateArgs;
use crate::error::Result;
use crate::fleet::write_template;
use crate::report::{self, Report};

pub fn run(args: &FleetTemplateArgs) -> Result<Report> {
    if let Some(file) = &args.file {
        write_template(file)?;
    }
    Ok(report::fleet::template(args.file.as_deref()))
}
