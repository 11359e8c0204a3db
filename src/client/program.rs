//! Replacing this program by another version of it. What stands by its name is a whole program at
//! every moment: the one before, or the new one, which has run once before it was put there.

use super::machine::{HEAD, not_for_here};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::helper::sync_folder;
use crate::sys::plain;
use nix::fcntl::OFlag;
use ring::digest::{Context, SHA256};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A program is no longer than this, in bytes.
const MOST: u64 = 512 << 20;
/// What is read at a time.
const PIECE: usize = 1 << 20;
/// The first bytes of what is packed.
const GZIP: &[u8] = &[0x1f, 0x8b];

/// What says which version a program is: it runs it.
pub type RunVersion<'a> = &'a dyn Fn(&Path) -> Result<String>;

/// How a program is replaced.
pub struct InstallOptions<'a> {
    /// The other program.
    pub from: &'a Path,
    /// Where this one is.
    pub program: &'a Path,
    /// The version of this one.
    pub version: &'a str,
    /// What the other one's SHA-256 must be, in hexadecimal digits.
    pub sha256: Option<&'a str>,
    /// Whether it may be older.
    pub allow_older: bool,
    /// What says its version.
    pub run: RunVersion<'a>,
}

/// What was done.
#[derive(Debug, PartialEq, Eq)]
pub struct ProgramSwap {
    /// The version that stands there now.
    pub version: String,
    /// The SHA-256 of it.
    pub sha256: String,
    /// Where the one before is; `None`: it is the same, and nothing was done.
    pub before: Option<PathBuf>,
}

/// Whether a package manager has what is at this path: nobody else puts programs into `/usr`, but
/// for `/usr/local`.
pub fn belongs_to_packages(program: &Path) -> bool {
    let within = |folder: &str| program.starts_with(folder);
    (within("/usr") && !within("/usr/local")) || within("/bin") || within("/sbin")
}

/// Replaces the program.
///
/// # Errors
/// The other one is not what it should be, or does not run: this one stands as before.
pub fn swap_program(options: &InstallOptions<'_>) -> Result<ProgramSwap> {
    if let Some(wanted) = options.sha256 {
        check_hash_word(wanted)?;
    }
    let (aside, before) = (
        beside(options.program, "new"),
        beside(options.program, "before"),
    );
    let done = swap(options, &aside, &before);
    // It was put in place, or is of no use.
    let _ = fs::remove_file(&aside);
    done.map_err(|error| error.and_said("the program is as it was"))
}

fn swap(options: &InstallOptions<'_>, aside: &Path, before: &Path) -> Result<ProgramSwap> {
    let InstallOptions { from, program, .. } = options;
    let sha256 = copy_beside(from, aside, options.sha256.is_some())?;
    if let Some(wanted) = options.sha256
        && !wanted.eq_ignore_ascii_case(&sha256)
    {
        let what = format!(
            "{}: its SHA-256 is {sha256}, and not {wanted}",
            from.display()
        );
        return Err(
            Error::new(ErrorKind::Usage, what).with_hint("fetch it again, by a way that you trust")
        );
    }
    if hash_file(program)? == sha256 {
        return Ok(ProgramSwap {
            version: options.version.into(),
            sha256,
            before: None,
        });
    }
    // A mask of the user's must not keep others from running it.
    let mode = fs::metadata(program)
        .io_context("look at", program)?
        .permissions();
    fs::set_permissions(aside, mode).io_context("set the mode of", aside)?;
    let version = (options.run)(aside)?;
    if !options.allow_older && is_older(&version, options.version) {
        let what = format!(
            "{} is stillpoint {version}, and this is {}",
            from.display(),
            options.version
        );
        return Err(Error::new(ErrorKind::Usage, what).with_hint(
            "--allow-older, if you mean it: what a later version has written may not be \
                        understood",
        ));
    }
    // A name that comes into being as a whole, also where one stands there from an earlier update.
    let draft = beside(program, "before.new");
    let _ = fs::remove_file(&draft);
    fs::hard_link(program, &draft).io_context("keep", program)?;
    fs::rename(&draft, before).io_context("keep", program)?;
    fs::rename(aside, program).io_context("put down", program)?;
    sync_folder(program.parent().unwrap_or(Path::new("/"))).io_context("write out", program)?;
    // Where it lies may forbid what its copy was allowed.
    if let Err(error) = (options.run)(program) {
        fs::rename(before, program).io_context("put back", program)?;
        return Err(error.and_said("the one before was put back"));
    }
    Ok(ProgramSwap {
        version,
        sha256,
        before: Some(before.into()),
    })
}

fn beside(program: &Path, ending: &str) -> PathBuf {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    program.with_file_name(format!("{name}.{ending}"))
}

fn check_hash_word(word: &str) -> Result<()> {
    if word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    let what = "--sha256: 64 hexadecimal digits are expected";
    Err(Error::new(ErrorKind::Usage, what).with_hint("sha256sum FILE prints them"))
}

/// Copies a program, and returns its SHA-256. Where nobody said what that must be, others must not
/// be able to change it.
fn copy_beside(from: &Path, aside: &Path, is_known: bool) -> Result<String> {
    // A link may lead to it: what is copied is judged, not what was named.
    let resolved = fs::canonicalize(from).io_context("find", from);
    let resolved = resolved.map_err(|error| error.with_hint("name the other program's file"))?;
    let mut file = plain::open(&resolved, OFlag::O_RDONLY).io_context("open", from)?;
    let stat = file.metadata().io_context("look at", from)?;
    let owner = nix::unistd::geteuid().as_raw();
    if !is_known && (stat.uid() != owner || stat.mode() & 0o022 != 0) {
        let what = format!("{}: others can change it", from.display());
        return Err(Error::new(ErrorKind::Usage, what).with_hint(format!(
            "say with --sha256 what it must be; or: chown root: {0} && chmod 0755 {0}",
            from.display()
        )));
    }
    // One that was killed may have left it.
    let _ = fs::remove_file(aside);
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o755)
        .open(aside);
    let mut copy = made.io_context("make", aside)?;
    let mut wrong = None;
    let sha256 = each_piece(&mut file, from, &mut |at, piece| {
        if at == 0 {
            wrong = not_a_program(piece.get(..HEAD).unwrap_or(piece));
        }
        match wrong {
            Some(_) => Ok(()),
            None => copy.write_all(piece).io_context("write", aside),
        }
    })?;
    if let Some((why, hint)) = wrong {
        let what = format!("{}: {why}", from.display());
        return Err(Error::new(ErrorKind::Usage, what).with_hint(hint));
    }
    copy.sync_all().io_context("write out", aside)?;
    Ok(sha256)
}

/// Why a file that begins so cannot take this one's place, and what to do about it; `None`: it may
/// be a program for here. What an emulator would run is none.
fn not_a_program(start: &[u8]) -> Option<(String, &'static str)> {
    let why = not_for_here(start)?;
    Some(if start.starts_with(GZIP) {
        let hint = "it is packed: tar xzf it, and name the program that was in it";
        (why, hint)
    } else if start.starts_with(b"\x7fELF") {
        (why, "take the one for this machine: `uname -m` names it")
    } else {
        (
            why,
            "name the program `stillpoint` itself, as the tarball has it",
        )
    })
}

fn hash_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).io_context("open", path)?;
    each_piece(&mut file, path, &mut |_, _| Ok(()))
}

/// Reads a file to its end, and returns its SHA-256. An empty one has one piece.
fn each_piece(
    file: &mut File,
    path: &Path,
    take: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
) -> Result<String> {
    let mut hash = Context::new(&SHA256);
    let mut room = vec![0; PIECE];
    let mut at = 0;
    loop {
        let got = match file.read(&mut room) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            other => other.io_context("read", path)?,
        };
        let piece = room.get(..got).unwrap_or_default();
        if got == 0 && at > 0 {
            break;
        }
        take(at, piece)?;
        hash.update(piece);
        at += got as u64;
        if got == 0 {
            break;
        }
        if at > MOST {
            let what = format!("{} is longer than any program", path.display());
            return Err(Error::new(ErrorKind::Usage, what));
        }
    }
    Ok(hex::encode(hash.finish()))
}

/// Whether a version is older than another. One that is none is.
fn is_older(version: &str, than: &str) -> bool {
    let numbers = |text: &str| -> Option<Vec<u64>> {
        let plain = text.split(['-', '+']).next()?;
        plain.split('.').map(|part| part.parse().ok()).collect()
    };
    match (numbers(version), numbers(than)) {
        (Some(one), Some(other)) => {
            // What comes before a release is older than it.
            let early = |text: &str| text.contains('-');
            one < other || (one == other && early(version) && !early(than))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::head_of_here;
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    /// Programs say their version by what stands in them behind the head.
    fn version_of(path: &Path) -> Result<String> {
        let bytes = fs::read(path).unwrap();
        match std::str::from_utf8(&bytes[HEAD..]).unwrap() {
            "broken" => Err(Error::new(ErrorKind::Failed, "it does not run")),
            version => Ok(version.trim().into()),
        }
    }

    struct Place(TempDir);

    impl Place {
        fn new() -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            place.write("stillpoint", "0.2.0");
            place
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, version: &str) {
            fs::write(
                self.at(name),
                [&head_of_here(), version.as_bytes()].concat(),
            )
            .unwrap();
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(self.at(name), mode).unwrap();
        }

        fn swap(&self, change: impl FnOnce(&mut InstallOptions<'_>)) -> Result<ProgramSwap> {
            let (from, program) = (self.at("from"), self.at("stillpoint"));
            let mut options = InstallOptions {
                from: &from,
                program: &program,
                version: "0.2.0",
                sha256: None,
                allow_older: false,
                run: &version_of,
            };
            change(&mut options);
            swap_program(&options)
        }

        fn stands(&self) -> String {
            version_of(&self.at("stillpoint")).unwrap()
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.0.path()).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<String> = names.collect();
            names.sort();
            names
        }
    }

    #[test]
    fn a_newer_one_takes_the_place_and_the_one_before_stays() {
        let place = Place::new();
        for (version, before) in [("0.10.0", "0.2.0"), ("0.10.1", "0.10.0")] {
            place.write("from", version);
            let swapped = place.swap(|options| options.version = before).unwrap();
            assert_eq!(
                (swapped.version.as_str(), place.stands().as_str()),
                (version, version)
            );
            let kept = version_of(&swapped.before.unwrap()).unwrap();
            assert_eq!(kept, before);
        }
        assert_eq!(place.names(), ["from", "stillpoint", "stillpoint.before"]);
        let mode = place.at("stillpoint").metadata().unwrap().mode();
        assert_eq!(mode & 0o777, 0o755);
        // The same one again is no update.
        let again = place.swap(|_| ()).unwrap();
        assert_eq!(again.before, None);
        assert_eq!(
            version_of(&place.at("stillpoint.before")).unwrap(),
            "0.10.0"
        );
    }

    #[test]
    fn what_is_not_as_it_should_be_changes_nothing() {
        let place = Place::new();
        let refused = |change: fn(&mut InstallOptions<'_>), told: &str| {
            let error = place.swap(change).unwrap_err();
            let said = format!("{error} {}", error.hint().unwrap_or_default());
            assert!(said.contains(told), "{told}: {said}");
            assert!(said.contains("as it was") || told.contains("64"), "{said}");
            assert_eq!((place.stands().as_str(), place.names().len()), ("0.2.0", 2));
        };
        place.write("from", "0.1.9");
        refused(|_| (), "--allow-older");
        refused(|options| options.sha256 = Some("12"), "64 hexadecimal");
        refused(|options| options.sha256 = Some(ZEROS), "its SHA-256 is");
        place.write("from", "broken");
        refused(|_| (), "does not run");
        fs::write(place.at("from"), [GZIP, b"x"].concat()).unwrap();
        refused(|_| (), "tar xzf");
        fs::write(place.at("from"), "").unwrap();
        refused(|_| (), "no program");
        let mut other = head_of_here();
        // Neither x86-64 nor arm64, so it is another's everywhere.
        other[18] = 22;
        fs::write(place.at("from"), [&other, &b"0.3.0"[..]].concat()).unwrap();
        refused(|_| (), "it is a program for s390x");
        place.write("from", "0.3.0");
        fs::set_permissions(place.at("from"), fs::Permissions::from_mode(0o777)).unwrap();
        refused(|_| (), "others can change it");
    }

    static ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    #[test]
    fn who_says_what_it_must_be_may_have_it_from_anywhere() {
        let place = Place::new();
        place.write("from", "0.1.9");
        fs::set_permissions(place.at("from"), fs::Permissions::from_mode(0o777)).unwrap();
        let hash = hash_file(&place.at("from")).unwrap().to_uppercase();
        let swapped = place.swap(|options| {
            options.sha256 = Some(hash.leak());
            options.allow_older = true;
        });
        assert_eq!(swapped.unwrap().version, "0.1.9");
        assert_eq!(place.stands(), "0.1.9");
    }

    /// It runs where it was copied to, and not where it belongs: the one before comes back.
    #[test]
    fn one_that_does_not_run_in_its_place_is_taken_out_again() {
        let place = Place::new();
        place.write("from", "0.3.0");
        let only_aside = |path: &Path| match path.ends_with("stillpoint") {
            true => Err(Error::new(ErrorKind::Failed, "not here")),
            false => version_of(path),
        };
        let (from, program) = (place.at("from"), place.at("stillpoint"));
        let error = swap_program(&InstallOptions {
            from: &from,
            program: &program,
            version: "0.2.0",
            sha256: None,
            allow_older: false,
            run: &only_aside,
        });
        let error = error.unwrap_err().to_string();
        assert!(error.contains("put back"), "{error}");
        assert_eq!((place.stands().as_str(), place.names().len()), ("0.2.0", 2));
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (one, other, older) in [
            ("0.1.0", "0.1.0", false),
            ("0.1.0", "0.2.0", true),
            ("0.10.0", "0.9.0", false),
            ("1.0.0-rc1", "1.0.0", true),
            ("1.0.0", "1.0.0-rc1", false),
            ("what", "0.1.0", true),
        ] {
            assert_eq!(is_older(one, other), older, "{one} {other}");
        }
        for (path, is) in [
            ("/usr/sbin/stillpoint", true),
            ("/sbin/stillpoint", true),
            ("/usr/local/sbin/stillpoint", false),
            ("/opt/stillpoint", false),
        ] {
            assert_eq!(belongs_to_packages(Path::new(path)), is, "{path}");
        }
    }
}
