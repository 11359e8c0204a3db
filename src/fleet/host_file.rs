//! The list of instances: a file of CSV, read as a whole and refused as a whole. It decides who
//! gets a secret and a program, so it must be one that nobody else can change. It must never be
//! written to, and what stands in it is quoted only as far as it is a name.

use super::columns::{Columns, TEMPLATE};
use super::host::FleetHost;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::helper::FileLock;
use crate::model::printable::one_line;
use crate::sys::plain;
use csv::{ReaderBuilder, StringRecord};
use nix::fcntl::OFlag;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Most instances of one list.
pub const MOST_HOSTS: usize = 10_000;
/// Longest list, in bytes.
const MOST_BYTES: u64 = 16 << 20;
/// Most things that are said of a list that is refused.
const MOST_SAID: usize = 20;
/// What spreadsheets write before a text.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// A list that was read.
#[derive(Debug)]
pub struct HostFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its instances, in order; one at least.
    pub hosts: Vec<FleetHost>,
}

impl HostFile {
    /// Reads it.
    ///
    /// # Errors
    /// `Usage`: all that is wrong with it, by lines; others can change it. `NotFound`.
    pub fn read(path: &Path) -> Result<Self> {
        let mut file = open(path)?;
        let mut bytes = Vec::new();
        let most = Read::by_ref(&mut file).take(MOST_BYTES + 1);
        { most }.read_to_end(&mut bytes).io_context("read", path)?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(refused(path, "it is longer than 16 MiB"));
        }
        let hosts = hosts_of(text_of(&bytes, path)?, path)?;
        Ok(Self {
            path: path.to_owned(),
            hosts,
        })
    }

    /// Takes it for one run at a time, until what is returned is dropped. The lock is a file of its
    /// own: the list may be replaced meanwhile.
    ///
    /// # Errors
    /// `Busy`: another run has it.
    pub fn lock(&self) -> Result<FileLock> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let lock = folder_of(&self.path).join(format!(".{name}.lock"));
        FileLock::try_take(&lock)?.ok_or_else(|| {
            let what = format!("another run is at work on {}", self.path.display());
            Error::new(ErrorKind::Busy, what).with_hint("wait until it has ended: nothing was done")
        })
    }
}

/// Writes a new list without instances, which its owner alone can read.
///
/// # Errors
/// `Exists`: nothing is replaced.
pub fn write_template(path: &Path) -> Result<()> {
    let mut options = OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(path);
    let mut file = opened.io_context("make", path)?;
    file.write_all(TEMPLATE.as_bytes())
        .io_context("write", path)
}

fn refused(path: &Path, what: impl Display) -> Error {
    let what = format!("{}: {what}: nothing was done", path.display());
    Error::new(ErrorKind::Usage, what)
        .with_hint("`stillpoint fleet template` prints the header; `stillpoint help fleets` tells")
}

/// Opens it, if nobody else can put another one there or change it.
fn open(path: &Path) -> Result<File> {
    let file = plain::open(path, OFlag::O_RDONLY).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidInput => refused(path, "it is no regular file").with_hint(
            "name the file itself: neither links nor pipes are followed, as they may be others'",
        ),
        _ => Error::io("open", path, error),
    })?;
    let me = nix::unistd::geteuid().as_raw();
    let stat = file.metadata().io_context("look at", path)?;
    let mine = |uid: u32| uid == me || uid == 0;
    if !mine(stat.uid()) || stat.mode() & 0o022 != 0 {
        let hint = format!("chown root: {0} && chmod 0600 {0}", path.display());
        return Err(refused(path, "others can write to it").with_hint(hint));
    }
    let folder = folder_of(path);
    let stat = fs::metadata(folder).io_context("look at", folder)?;
    let sticky = stat.mode() & libc::S_ISVTX != 0;
    if !mine(stat.uid()) || stat.mode() & 0o022 != 0 && !sticky {
        let what = format!("others can replace it, as {} is theirs", folder.display());
        return Err(refused(path, what).with_hint("move it to a folder that is yours alone"));
    }
    Ok(file)
}

/// The folder that a file is in.
pub(super) fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().unwrap_or(Path::new("/"));
    match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    }
}

fn text_of<'a>(bytes: &'a [u8], path: &Path) -> Result<&'a str> {
    let bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(refused(path, "it is UTF-16").with_hint("save it as CSV in UTF-8"));
    }
    let line = |end: usize| {
        bytes
            .iter()
            .take(end)
            .filter(|byte| **byte == b'\n')
            .count()
            + 1
    };
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        return Err(refused(path, format!("line {} has a NUL", line(at))));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let what = format!("line {} is not UTF-8", line(error.valid_up_to()));
        refused(path, what).with_hint("save it as CSV in UTF-8")
    })
}

fn hosts_of(text: &str, path: &Path) -> Result<Vec<FleetHost>> {
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        // Rows of other lengths are told with the rest.
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut record = StringRecord::new();
    let mut next = |record: &mut StringRecord| {
        reader
            .read_record(record)
            .map_err(|error| refused(path, "it is no CSV").with_source(error))
    };
    if !next(&mut record)? {
        return Err(refused(path, "it is empty"));
    }
    let columns = Columns::of(record.iter()).map_err(|wrong| {
        let error = refused(path, told(&wrong));
        match record.len() == 1 && (text.contains(';') || text.contains('\t')) {
            true => error.with_hint("save it with commas between the columns"),
            false => error,
        }
    })?;
    let (mut hosts, mut wrong, mut rows) = (Vec::new(), Vec::new(), 0);
    let mut lines = LineCount::of(text);
    while next(&mut record)? {
        rows += 1;
        if rows > MOST_HOSTS {
            wrong.insert(0, format!("it has more than {MOST_HOSTS} instances"));
            break;
        }
        let line = lines.at(record.position().map_or(0, csv::Position::byte));
        match host_of(line, &record, &columns) {
            Ok(host) => hosts.push(host),
            Err(more) => wrong.extend(more.iter().map(|what| format!("line {line}: {what}"))),
        }
    }
    if rows == 0 {
        wrong.push("it has no instances".into());
    }
    wrong.extend(doubled(&hosts));
    match wrong.is_empty() {
        true => Ok(hosts),
        false => Err(refused(path, told(&wrong))),
    }
}

/// On which line a row begins, for rows in order. The parser takes the end of a line of two bytes
/// for the beginning of the next row.
struct LineCount<'a> {
    left: &'a str,
    byte: u64,
    line: u64,
}

impl<'a> LineCount<'a> {
    fn of(text: &'a str) -> Self {
        Self {
            left: text,
            byte: 0,
            line: 1,
        }
    }

    fn at(&mut self, byte: u64) -> u64 {
        let more = usize::try_from(byte.saturating_sub(self.byte)).unwrap_or(usize::MAX);
        let (passed, left) = self.left.split_at_checked(more).unwrap_or((self.left, ""));
        let begun = left.trim_start_matches(['\r', '\n']);
        let ends = passed.matches('\n').count();
        let before = left.len() - begun.len();
        self.byte += passed.len() as u64;
        self.line += ends as u64;
        self.left = left;
        let skipped = left.get(..before).unwrap_or_default();
        self.line + skipped.matches('\n').count() as u64
    }
}

fn host_of(
    line: u64,
    record: &StringRecord,
    columns: &Columns,
) -> std::result::Result<FleetHost, Vec<String>> {
    let count = Columns::COUNT;
    match columns.cells(|place| record.get(place)) {
        Some(cells) if record.len() == count => FleetHost::of(line, cells),
        _ => Err(vec![format!("{} cells, not {count}", record.len())]),
    }
}

/// What stands in two rows and may stand in one.
fn doubled(hosts: &[FleetHost]) -> Vec<String> {
    let mut seen: HashMap<String, u64> = HashMap::new();
    let mut wrong = Vec::new();
    for host in hosts {
        let addresses = host.addresses.iter().map(|one| {
            let name = one.as_str().rsplit('@').next().unwrap_or_default();
            format!("address {}", name.to_ascii_lowercase())
        });
        let instance = format!("instance {}", host.instance);
        for key in std::iter::once(instance).chain(addresses) {
            match seen.entry(key) {
                Entry::Vacant(free) => {
                    free.insert(host.line);
                }
                Entry::Occupied(taken) => {
                    let (key, first) = (one_line(taken.key()), taken.get());
                    wrong.push(match *first == host.line {
                        true => format!("line {first}: {key} stands there twice"),
                        false => format!("lines {first} and {}: {key} is the same", host.line),
                    });
                }
            }
        }
    }
    wrong
}

/// All that is wrong, as far as it fits.
pub(super) fn told(wrong: &[String]) -> String {
    let mut said = wrong.iter().take(MOST_SAID).cloned().collect::<Vec<_>>();
    if wrong.len() > MOST_SAID {
        said.push(format!("and {} more", wrong.len() - MOST_SAID));
    }
    said.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "instance,name,address,network type,plan,vault\n";

    fn hosts(text: &[u8]) -> Result<Vec<FleetHost>> {
        let path = Path::new("list.csv");
        hosts_of(text_of(text, path)?, path)
    }

    fn wrong(text: &str) -> String {
        let error = hosts(text.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        error.to_string()
    }

    #[test]
    fn a_list_is_read_as_spreadsheets_write_it() {
        let rows = "i-1,\"the \"\"first\"\", of two\",\"10.0.0.1,10.1.0.1\",Internal,,\n\
                    i-2,,web,,daily,main\n";
        let text = format!("{HEADER}{rows}");
        let crlf = format!("\u{feff}{}", text.replace('\n', "\r\n"));
        let quoted = text.replace("instance", "\"Instance\"");
        let open_end = text.trim_end().to_owned();
        for text in [&text, &crlf, &quoted, &open_end] {
            let found = hosts(text.as_bytes()).unwrap();
            assert_eq!(found.len(), 2, "{text:?}");
            assert_eq!(found[0].name, "the \"first\", of two");
            assert_eq!(found[0].addresses.len(), 2);
            assert_eq!(found[0].network, "internal");
            assert_eq!((found[1].line, &*found[1].plan), (3, "daily"));
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_lines() {
        let with = |rows: &str| wrong(&format!("{HEADER}{rows}"));
        for (text, said) in [
            (String::new(), "it is empty"),
            ("\n\n".into(), "it is empty"),
            (HEADER.into(), "it has no instances"),
            ("i-1,,a,,,\n".into(), "\"vault\" is missing"),
            (
                format!(
                    "{}i-1,,a,,,\n",
                    HEADER.to_uppercase().replace("NAME", "TOKEN")
                ),
                "\"token\"",
            ),
            (format!("{HEADER}i-1,,a,,\n"), "line 2: 5 cells, not 6"),
            (format!("{HEADER}i-1,,a,,,,\n"), "line 2: 7 cells, not 6"),
            (format!("{HEADER},,,,,\n"), "line 2: instance:"),
            (format!("{HEADER}i-1,\"a\nb\",c,,,\n"), "line 2: name:"),
            (
                format!("{HEADER}i-1,\"open,c,,,\ni-2,,b,,,\n"),
                "line 2: 2 cells",
            ),
            (
                format!("{HEADER}i-1,,a,,,\ni-1,,b,,,\n"),
                "lines 2 and 3: instance i-1 is the same",
            ),
            (
                format!("{HEADER}i-1,,a,,,\ni-2,,\"b,u@A\",,,\n"),
                "address a is the same",
            ),
            (
                format!("{HEADER}i-1,,\"a,a\",,,\n"),
                "line 2: address a stands there twice",
            ),
            (format!("{HEADER}i-1,,a\0,,,\n"), "line 2 has a NUL"),
        ] {
            assert!(wrong(&text).contains(said), "{said}: {}", wrong(&text));
        }
        let many = with(&"-,,-,,,\n".repeat(500));
        assert!(many.contains("and 980 more") && many.len() < 4000, "{many}");
        for (bytes, said) in [
            (&b"\xff\xfei\0"[..], "UTF-16"),
            (b"instance\nname\xe4", "line 2 is not UTF-8"),
        ] {
            let error = hosts(bytes).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let semicolons = HEADER.replace(',', ";");
        let error = hosts(semicolons.as_bytes()).unwrap_err();
        assert!(error.hint().unwrap().contains("commas"), "{error:?}");
    }

    #[test]
    fn ten_thousand_are_taken_and_no_more() {
        let row = |n: usize| format!("i-{n},,host-{n},,,\n");
        let all: String = (0..MOST_HOSTS).map(row).collect();
        let text = format!("{HEADER}{all}");
        assert_eq!(hosts(text.as_bytes()).unwrap().len(), MOST_HOSTS);
        assert!(wrong(&(text + &row(MOST_HOSTS))).contains("more than 10000"));
    }

    #[test]
    fn a_list_that_others_can_change_is_refused() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let set = |path: &Path, mode: u32| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let path = dir.path().join("list.csv");
        write_template(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let again = write_template(&path).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Exists);
        fs::write(&path, format!("{HEADER}i-1,,a,,,\n")).unwrap();
        let read = |path: &Path| HostFile::read(path);
        let first = read(&path).unwrap().lock().unwrap();
        // Also where an editor has put another file in its place.
        fs::rename(&path, dir.path().join("old")).unwrap();
        fs::copy(dir.path().join("old"), &path).unwrap();
        let busy = read(&path).unwrap().lock().unwrap_err();
        assert_eq!(busy.kind(), ErrorKind::Busy);
        drop(first);
        let _ = read(&path).unwrap().lock().unwrap();

        let link = dir.path().join("link.csv");
        symlink(&path, &link).unwrap();
        for other in [&link, &dir.path().to_owned(), &"/dev/null".into()] {
            let error = read(other).unwrap_err();
            assert!(error.to_string().contains("no regular file"), "{error}");
        }
        set(&path, 0o664);
        assert!(
            read(&path)
                .unwrap_err()
                .to_string()
                .contains("others can write")
        );
        set(&path, 0o600);
        set(dir.path(), 0o777);
        assert!(
            read(&path)
                .unwrap_err()
                .to_string()
                .contains("others can replace")
        );
        set(dir.path(), 0o1777);
        read(&path).unwrap();
        set(dir.path(), 0o700);
        let gone = read(&dir.path().join("gone")).unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
    }
}
