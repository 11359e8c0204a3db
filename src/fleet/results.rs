//! What became of each instance, beside the list, a line of JSON each: written as soon as it is
//! known, for the list's owner alone. Who is killed loses nothing but what is under way. It must
//! never hold a secret, and replaces nothing that is not such a file.

use super::host_file::{HostFile, folder_of};
use super::steps::HostResult;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::printable;
use crate::sys::plain;
use nix::fcntl::OFlag;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A longer file is none of ours.
const MOST_BYTES: u64 = 64 << 20;
/// What comes behind the list's name.
const ENDING: &str = ".results";

/// What is there of an earlier run.
#[derive(Debug)]
pub struct EarlierResults {
    path: PathBuf,
    found: HashMap<String, HostResult>,
    /// Lines that could not be read, and will be gone.
    pub unread: usize,
}

impl EarlierResults {
    /// Reads what is beside a list, before anything is done.
    ///
    /// # Errors
    /// What stands there is no such file.
    pub fn read(list: &HostFile) -> Result<Self> {
        let mut name = list.path.file_name().unwrap_or_default().to_owned();
        name.push(ENDING);
        let path = folder_of(&list.path).join(name);
        let (found, unread) = read(&path)?;
        Ok(Self {
            path,
            found,
            unread,
        })
    }
}

/// The file of results of a list.
#[derive(Debug)]
pub struct ResultFile {
    path: PathBuf,
    file: File,
    /// Behind half a line nothing is written any more.
    is_broken: bool,
}

impl ResultFile {
    /// The one beside a list: what is there of its instances stays, of others it goes.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin(list: &HostFile, earlier: EarlierResults) -> Result<Self> {
        let EarlierResults { path, found, .. } = earlier;
        let mut text = String::new();
        for host in &list.hosts {
            if let Some(result) = found.get(&host.instance) {
                text.push_str(&line(result)?);
            }
        }
        let file = put(&path, text.as_bytes()).map_err(|error| {
            error.with_hint("nothing was done yet: the results could not be kept; make room there")
        })?;
        Ok(Self {
            path,
            file,
            is_broken: false,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds what became of an instance. It outlasts a power cut.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&mut self, result: &HostResult) -> Result<()> {
        let line = line(result)?;
        let written = match self.is_broken || !self.is_in_place() {
            true => {
                let why = "it is not the file any more that this run has begun";
                Err(Error::new(
                    ErrorKind::Failed,
                    format!("{}: {why}", self.path.display()),
                ))
            }
            false => {
                let written = self.file.write_all(line.as_bytes());
                let written = written.and_then(|()| self.file.sync_data());
                written.io_context("write", &self.path)
            }
        };
        self.is_broken |= written.is_err();
        written.map_err(|error| {
            error
                .and_said(format!("what became of {} is not kept", result.instance))
                .with_hint("mend that; the same command goes on")
        })
    }

    /// Whether nobody has replaced it.
    fn is_in_place(&self) -> bool {
        let (ours, there) = (self.file.metadata(), fs::symlink_metadata(&self.path));
        let place = |found: fs::Metadata| (found.dev(), found.ino());
        matches!((ours.map(place), there.map(place)), (Ok(ours), Ok(there)) if ours == there)
    }
}

fn line(result: &HostResult) -> Result<String> {
    let text = printable::json(result)
        .map_err(|error| Error::new(ErrorKind::Failed, "a result is no JSON").with_source(error))?;
    Ok(text + "\n")
}

/// What is there, the last of each instance, and how many lines cannot be read.
fn read(path: &Path) -> Result<(HashMap<String, HostResult>, usize)> {
    let file = match plain::open(path, OFlag::O_RDONLY) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok((HashMap::new(), 0));
        }
        other => other.io_context("open the results", path)?,
    };
    let refused = |why: &str| {
        let what = format!("{}: {why}: nothing was done", path.display());
        Error::new(ErrorKind::Usage, what).with_hint("results are kept there: move it away")
    };
    let stat = file.metadata().io_context("look at", path)?;
    if stat.uid() != nix::unistd::geteuid().as_raw() || stat.mode() & 0o022 != 0 {
        return Err(refused("others can write to it"));
    }
    let mut bytes = Vec::new();
    let mut most = file.take(MOST_BYTES + 1);
    most.read_to_end(&mut bytes).io_context("read", path)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(refused("it is longer than 64 MiB"));
    }
    // What was killed leaves one line without an end; what begins otherwise is somebody else's.
    if !bytes.is_empty() && !bytes.starts_with(b"{\"instance\":") {
        return Err(refused("it holds no results"));
    }
    let (mut found, mut unread) = (HashMap::new(), 0);
    for line in bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        match serde_json::from_slice::<HostResult>(line) {
            Ok(result) => {
                found.insert(result.instance.clone(), result);
            }
            Err(_) => unread += 1,
        }
    }
    Ok((found, unread))
}

/// Puts a file in place as a whole, for its owner alone, and returns it open at its end.
fn put(path: &Path, bytes: &[u8]) -> Result<File> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let folder = folder_of(path);
    let aside = folder.join(format!(".{name}.{}.new", std::process::id()));
    // Left by a process of that number that was killed at this very point.
    let _ = fs::remove_file(&aside);
    let mut options = OpenOptions::new();
    options.append(true).create_new(true).mode(0o600);
    let done = (|| {
        let mut file = options.open(&aside).io_context("write", path)?;
        file.write_all(bytes).io_context("write", path)?;
        file.sync_all().io_context("write out", path)?;
        fs::rename(&aside, path).io_context("put down", path)?;
        let opened = File::open(folder).io_context("open", folder)?;
        opened.sync_all().io_context("write out", folder)?;
        Ok(file)
    })();
    if done.is_err() {
        let _ = fs::remove_file(&aside);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::super::steps::{FleetStep, HostFailure, HostState};
    use super::*;
    use jiff::Timestamp;
    use std::os::unix::fs::symlink;

    fn instances(results: &HashMap<String, HostResult>) -> Vec<&str> {
        let mut names: Vec<&str> = results.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    fn result(instance: &str, state: HostState) -> HostResult {
        HostResult {
            instance: instance.into(),
            name: "x\u{1b}y".into(),
            address: None,
            state,
            version: None,
            last_snapshot: None,
            problems: Vec::new(),
            done: vec![FleetStep::Install],
            failure: Some(HostFailure {
                step: FleetStep::Look,
                message: "m".into(),
                hint: "h".into(),
            }),
            time: Timestamp::UNIX_EPOCH,
        }
    }

    fn list(folder: &Path, instances: &[&str]) -> HostFile {
        let path = folder.join("list.csv");
        let rows: String = instances
            .iter()
            .map(|one| format!("{one},,{one},,,\n"))
            .collect();
        let text = format!("{}{rows}", super::super::TEMPLATE);
        fs::write(&path, text).unwrap();
        HostFile::read(&path).unwrap()
    }

    #[test]
    fn each_result_is_there_as_soon_as_it_is_known_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let all = list(dir.path(), &["a", "b"]);
        let path = dir.path().join("list.csv.results");
        let open = |list: &HostFile| {
            let earlier = EarlierResults::read(list).unwrap();
            (earlier.unread, ResultFile::begin(list, earlier).unwrap())
        };
        let (_, mut file) = open(&all);
        assert_eq!(file.path(), path);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        file.add(&result("a", HostState::Installed)).unwrap();
        file.add(&result("b", HostState::Failed)).unwrap();
        file.add(&result("a", HostState::Activated)).unwrap();
        let (found, unread) = read(&path).unwrap();
        assert_eq!((instances(&found), unread), (vec!["a", "b"], 0));
        assert_eq!(found["a"], result("a", HostState::Activated));
        assert!(!fs::read_to_string(&path).unwrap().contains('\u{1b}'));
        // Who has replaced it ends the run.
        fs::copy(&path, dir.path().join("copy")).unwrap();
        fs::rename(dir.path().join("copy"), &path).unwrap();
        assert!(file.add(&result("b", HostState::Installed)).is_err());
        drop(file);

        // It was killed while it wrote, and an instance has left the list.
        let mut text = fs::read(&path).unwrap();
        text.extend(b"{\"instance\":\"b\",\"na");
        fs::write(&path, text).unwrap();
        let fewer = list(dir.path(), &["b", "c"]);
        assert_eq!(open(&fewer).0, 1);
        let (found, unread) = read(&path).unwrap();
        assert_eq!((instances(&found), unread), (vec!["b"], 0));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_is_no_file_of_results_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let all = list(dir.path(), &["a"]);
        let path = dir.path().join("list.csv.results");
        fs::write(&path, "a letter\nof two lines\n").unwrap();
        let refused = EarlierResults::read(&all).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Usage);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "a letter\nof two lines\n"
        );
        fs::remove_file(&path).unwrap();
        let other = dir.path().join("other");
        fs::write(&other, "x").unwrap();
        symlink(&other, &path).unwrap();
        assert!(EarlierResults::read(&all).is_err());
        assert_eq!(fs::read_to_string(&other).unwrap(), "x");
    }
}
