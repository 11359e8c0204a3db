//! `client update`: another version of this program in its place, where no package manager has it.

use super::super::args::{ClientUpdateArgs, Common};
use super::super::{context, signals};
use super::busy::refuse_while_busy;
use super::places::ClientPlaces;
use crate::client::{InstallOptions, belongs_to_packages, swap_program};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::printable::one_line;
use crate::report::{self, Report};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A program says its version within this.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Most bytes that it may say.
const MOST_WORDS: u64 = 400;

pub fn run(args: &ClientUpdateArgs, common: &Common) -> Result<Report> {
    context::need_root_to("replace the program")?;
    let program = own_path()?;
    if belongs_to_packages(&program) {
        let what = format!(
            "{} belongs to a package manager; nothing was changed",
            program.display()
        );
        let machine = std::env::consts::ARCH;
        let debian = if machine == "aarch64" {
            "arm64"
        } else {
            "amd64"
        };
        return Err(Error::new(ErrorKind::Unsupported, what).with_hint(format!(
            "apt install ./stillpoint_VERSION_{debian}.deb, or dnf install \
             ./stillpoint-VERSION.{machine}.rpm",
        )));
    }
    check_folder(&program)?;
    let places = ClientPlaces::of(common)?;
    let _lock = places.lock()?;
    refuse_while_busy(&places, common).map_err(|error| error.and_said("nothing was changed"))?;
    let swapped = swap_program(&InstallOptions {
        from: &args.from,
        program: &program,
        version: env!("CARGO_PKG_VERSION"),
        sha256: args.sha256.as_deref(),
        allow_older: args.allow_older,
        run: &version_of,
    })?;
    Ok(report::client::updated(&program, &swapped))
}

/// Where this program is.
fn own_path() -> Result<PathBuf> {
    let found = std::env::current_exe();
    let found = found.map_err(|error| Error::io("find", Path::new("/proc/self/exe"), error))?;
    if found.to_string_lossy().ends_with(" (deleted)") {
        let what = "this program was replaced while it ran; nothing was changed";
        return Err(Error::new(ErrorKind::Busy, what).with_hint("run it again"));
    }
    Ok(found)
}

/// That others cannot exchange what is put there before it is run.
fn check_folder(program: &Path) -> Result<()> {
    let folder = program.parent().unwrap_or(Path::new("/"));
    let found = std::fs::metadata(folder).io_context("look at", folder)?;
    let owner = nix::unistd::geteuid().as_raw();
    if found.uid() == owner && found.mode() & 0o022 == 0 {
        return Ok(());
    }
    let what = format!(
        "{}: others can write to it; nothing was changed",
        folder.display()
    );
    Err(Error::new(ErrorKind::Usage, what)
        .with_hint("have the program in a folder of root's, like /usr/local/sbin"))
}

/// The version that a program says it is.
fn version_of(program: &Path) -> Result<String> {
    let shown = program.display();
    let failed = |why: &str| {
        let what = format!("{shown} {why}");
        Error::new(ErrorKind::Failed, what).with_hint(
            "is it one for this machine? The static one of the tarball needs nothing of the host",
        )
    };
    let mut command = Command::new(program);
    command.arg("--version").env_clear().stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|error| failed("does not run here").with_source(error))?;
    let until = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < until && signals::check().is_ok() => {
                std::thread::sleep(LOOK_EVERY);
            }
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                signals::check()?;
                return Err(failed("did not say its version within 20 s"));
            }
        }
    };
    let said = child.stdout.take().map(words_in).unwrap_or_default();
    let version = said.trim().strip_prefix("stillpoint ");
    match version.filter(|_| status.success()) {
        Some(version) if !version.contains(char::is_whitespace) => Ok(version.to_owned()),
        // What loads it says what it lacks: a later glibc, most of the time.
        _ => match child
            .stderr
            .take()
            .map(words_in)
            .unwrap_or_default()
            .lines()
            .next()
        {
            Some(why) if !status.success() => {
                let why = one_line(why);
                Err(failed(&format!("does not run here ({status}): {why}")))
            }
            _ => Err(failed("does not say that it is stillpoint")),
        },
    }
}

/// What stands in a pipe of a process that has ended. What is no text is no word.
fn words_in(pipe: impl Read + AsFd) -> String {
    let mut said = Vec::new();
    // A child of its own may have it open for ever.
    let _ = fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
    let _ = pipe.take(MOST_WORDS).read_to_end(&mut said);
    String::from_utf8(said).unwrap_or_default()
}
