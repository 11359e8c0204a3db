//! What the shell of an instance is told to run. Each is one text without line breaks, that any
//! shell takes for one call of `sh`; between two lines of ours stands what it answers, so that
//! greetings, noise and lost exit codes do no harm. No text of a list is in it, and no secret.

use super::package::{FleetPackage, PackageKind};
use crate::error::{Error, ErrorKind, Result};
use shlex::Quoter;
use std::fmt::Write;

/// Stands before an answer.
pub(super) const BEGIN: &str = "stillpoint-fleet: begin";
/// Stands behind it, before the exit code.
pub(super) const END: &str = "stillpoint-fleet: end ";
/// What is answered where nothing is installed.
pub(super) const ABSENT: &str = "stillpoint-fleet: absent";
/// Where programs are, also for shells that are told of less.
const PATH: &str = "export LC_ALL=C PATH=\"$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:\
                    /sbin:/bin\"";
/// How it is put in place, from the file `$f`: under a name of its own, tried, then at once.
const PUT: &str = "mkdir -p /usr/local/sbin && n=$(mktemp /usr/local/sbin/.stillpoint.XXXXXX) && \
                   { cp \"$f\" \"$n\" && chmod 0755 \"$n\" && v=$(\"$n\" --version) && \
                   case \"$v\" in \"stillpoint \"*) ;; *) echo 'that is no stillpoint'; \
                   false ;; esac && mv -f \"$n\" /usr/local/sbin/stillpoint || \
                   { rm -f \"$n\"; false; }; }";

/// How instances are entered.
#[derive(Clone, Debug, Default)]
pub struct EnterOptions {
    /// Whether who logs in becomes root by `sudo -n`.
    pub sudo: bool,
    /// Where on instances the token lies, if it is not sent.
    pub remote_token_file: Option<String>,
}

impl EnterOptions {
    /// What it has installed, and how that stands.
    pub(super) fn status(&self) -> Result<String> {
        let script = format!(
            "if command -v stillpoint >/dev/null 2>&1; then stillpoint client status --json; \
             else echo '{ABSENT}'; fi"
        );
        self.entered(&script)
    }

    /// Installs what comes by its input.
    pub(super) fn install(&self, package: &FleetPackage) -> Result<String> {
        let put = match package.kind {
            PackageKind::Deb => "mv \"$d/package\" \"$d/stillpoint.deb\" && \
                 DEBIAN_FRONTEND=noninteractive dpkg --install \"$d/stillpoint.deb\""
                .to_owned(),
            PackageKind::Rpm => "rpm --upgrade --replacepkgs \"$d/package\"".to_owned(),
            PackageKind::Tarball => format!(
                "mkdir \"$d/all\" && tar -xzf \"$d/package\" -C \"$d/all\" && \
                 f=$(find \"$d/all\" -mindepth 2 -maxdepth 2 -type f -name stillpoint -perm \
                 -100) && test -f \"$f\" && {PUT}"
            ),
            PackageKind::Program => format!("f=\"$d/package\" && {PUT}"),
        };
        let mut script = String::from(
            "umask 077; d=$(mktemp -d) || exit 90; trap 'rm -rf \"$d\"' EXIT; \
             trap 'exit 143' HUP INT TERM; ",
        );
        // Writing to a string cannot fail.
        let _ = write!(
            script,
            "head -c {} >\"$d/package\" || exit 91; s=$(sha256sum <\"$d/package\") || exit 92; \
             test \"${{s%% *}}\" = {} || {{ echo 'what came has another SHA-256'; exit 93; }}; \
             umask 022; ({put}) >\"$d/said\" 2>&1 </dev/null; c=$?; tail -c 2000 \"$d/said\"; \
             exit $c",
            package.bytes.0, package.sha256
        );
        self.entered(&script)
    }

    /// Activates it with the token that comes by its input, or that lies there.
    pub(super) fn activate(&self) -> Result<String> {
        let file = match &self.remote_token_file {
            None => "-".into(),
            Some(path) => quoted(path)?,
        };
        self.entered(&format!(
            "stillpoint client activate --token-file {file} --json"
        ))
    }

    /// The script between our lines, as one call.
    fn entered(&self, script: &str) -> Result<String> {
        let script = format!(
            "{PATH}; echo; echo '{BEGIN}'; ({script}); c=$?; echo; echo \"{END}$c\"; exit $c"
        );
        let sudo = if self.sudo { "sudo -n " } else { "" };
        Ok(format!("{sudo}sh -c {}", quoted(&script)?))
    }
}

/// One word of a shell.
fn quoted(text: &str) -> Result<String> {
    let word = Quoter::new().quote(text).map_err(|error| {
        Error::new(ErrorKind::Usage, "what is no text for a shell").with_source(error)
    })?;
    Ok(word.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Bytes;
    use std::process::Command;

    fn all() -> Vec<String> {
        let enter = EnterOptions {
            sudo: false,
            remote_token_file: Some("/root/a 'b' $(c)".into()),
        };
        let mut all = vec![enter.status().unwrap(), enter.activate().unwrap()];
        for kind in [
            PackageKind::Deb,
            PackageKind::Rpm,
            PackageKind::Tarball,
            PackageKind::Program,
        ] {
            let package = FleetPackage {
                path: "/x".into(),
                kind,
                bytes: Bytes(7),
                sha256: "0".repeat(64),
            };
            all.push(enter.install(&package).unwrap());
        }
        all
    }

    #[test]
    fn each_is_one_line_and_what_a_shell_takes_for_one_call() {
        for command in all() {
            assert!(!command.contains('\n'), "{command}");
            let words = shlex::split(&command).unwrap();
            assert_eq!(
                (&*words[0], &*words[1], words.len()),
                ("sh", "-c", 3),
                "{command}"
            );
            let checked = Command::new("sh").args(["-n", "-c", &words[2]]).status();
            assert!(checked.unwrap().success(), "{command}");
        }
        let sudo = EnterOptions {
            sudo: true,
            ..EnterOptions::default()
        };
        let words = shlex::split(&sudo.activate().unwrap()).unwrap();
        assert_eq!(words[..4], ["sudo", "-n", "sh", "-c"]);
        assert!(words[4].contains("--token-file - --json"));
    }

    #[test]
    fn a_path_is_one_word_on_the_other_side() {
        let command = &all()[1];
        let inner = &shlex::split(command).unwrap()[2];
        let words = shlex::split(inner).unwrap();
        assert!(
            words.iter().any(|word| word == "/root/a 'b' $(c)"),
            "{inner}"
        );
        let bad = EnterOptions {
            sudo: false,
            remote_token_file: Some("a\0b".into()),
        };
        assert!(bad.activate().is_err());
    }
}
