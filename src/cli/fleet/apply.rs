//! `fleet apply`: what is missing for the instances of a list to be activated, some at a time. All
//! that can be refused is refused before the first instance is touched.

use super::super::args::FleetApplyArgs;
use super::super::progress::ProgressDisplay;
use super::reach::{asking, batch, teller};
use crate::error::Result;
use crate::fleet::{
    EarlierResults, FleetPackage, HostFile, ResultFile, TokenSource, apply_to, run_batch,
};
use crate::report::{self, Report};

pub fn run(args: &FleetApplyArgs, progress: &ProgressDisplay) -> Result<Report> {
    let mut work = asking(&args.reach, args.timeout, progress)?;
    work.enter.remote_token_file = args.remote_token_file.clone();
    let list = HostFile::read(&args.reach.file)?;
    work.runner.check(&list.hosts)?;
    let package = args.package.as_deref().map(FleetPackage::read);
    work.package = package.transpose()?;
    let _lock = list.lock()?;
    let earlier = EarlierResults::read(&list)?;
    let unread = earlier.unread;
    work.token = args
        .token_file
        .as_deref()
        .map(TokenSource::of)
        .transpose()?;
    if let Some(token) = &work.token {
        token.check(&list.hosts)?;
    }
    let mut kept = ResultFile::begin(&list, earlier)?;
    let path = kept.path().to_owned();
    let mut tell = teller(&list, progress);
    let ended = run_batch(
        &list.hosts,
        batch(&args.reach, progress),
        &|host| apply_to(&work, host),
        &mut |result| {
            tell(result);
            kept.add(result)
        },
    );
    let mut ended = ended.map_err(|error| match error.hint() {
        None => error.with_hint(format!(
            "what became of them stands in {}; the same command goes on: what is done is only \
             looked at",
            path.display()
        )),
        Some(_) => error,
    })?;
    let stopped = ended.stopped.take();
    let results = ended.rows(&list.hosts);
    let mut report = report::fleet::apply(&list.path, &path, &results, stopped.as_ref());
    if unread > 0 {
        report.mention(
            "the results of an instance were cut off by an earlier end: it was looked at anew",
        );
    }
    Ok(report)
}
