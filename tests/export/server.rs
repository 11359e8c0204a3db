//! A server in this process, at a socket of its own, which ends with the test.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use stillpoint::export::ServerCertificates;
use stillpoint::export::{Image, ListenAddress, NbdDisk, NbdLimits, NbdServer, Overlay};
use stillpoint::{Error, ErrorKind};
use tempfile::TempDir;

/// A server at work.
pub struct Served {
    pub folder: TempDir,
    pub address: ListenAddress,
    pub troubles: Arc<Mutex<Vec<String>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    /// Serves these disks at a Unix socket.
    pub fn new(disks: Vec<(&str, Image)>) -> Self {
        Self::with(disks, None, NbdLimits::default())
    }

    /// The same; `listen`: there.
    pub fn with(disks: Vec<(&str, Image)>, listen: Option<&str>, limits: NbdLimits) -> Self {
        Self::maybe_secured(disks, listen, limits, None)
    }

    /// The same by TLS.
    pub fn secured(
        disks: Vec<(&str, Image)>,
        listen: Option<&str>,
        limits: NbdLimits,
        certificates: ServerCertificates,
    ) -> Self {
        Self::maybe_secured(disks, listen, limits, Some(certificates))
    }

    fn maybe_secured(
        disks: Vec<(&str, Image)>,
        listen: Option<&str>,
        limits: NbdLimits,
        certificates: Option<ServerCertificates>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = format!("unix:{}", folder.path().join("s").display());
        let address = listen.unwrap_or(&socket).parse().unwrap();
        let disks = disks.into_iter().map(|(name, image)| NbdDisk {
            name: name.into(),
            description: format!("{name} of a test"),
            image,
            overlay: None,
        });
        let server = NbdServer::listen_with(&address, disks.collect(), limits, certificates);
        Self::run(folder, server.unwrap())
    }

    /// Serves one disk with an overlay at a Unix socket.
    pub fn writable(name: &str, image: Image, overlay: Overlay) -> Self {
        Self::writable_with(name, image, overlay, NbdLimits::default())
    }

    /// The same with other limits.
    pub fn writable_with(name: &str, image: Image, overlay: Overlay, limits: NbdLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = format!("unix:{}", folder.path().join("s").display());
        let disk = NbdDisk {
            name: name.into(),
            description: format!("{name} of a test"),
            image,
            overlay: Some(overlay),
        };
        let server = NbdServer::listen(&address.parse().unwrap(), vec![disk], limits).unwrap();
        Self::run(folder, server)
    }

    fn run(folder: TempDir, server: NbdServer) -> Self {
        let address = server.address().clone();
        let over = Arc::<AtomicBool>::default();
        let troubles = Arc::<Mutex<Vec<String>>>::default();
        let thread = std::thread::spawn({
            let (over, troubles) = (Arc::clone(&over), Arc::clone(&troubles));
            move || {
                let cancel = || match over.load(Ordering::SeqCst) {
                    true => Err(Error::new(ErrorKind::Interrupted(15), "over")),
                    false => Ok(()),
                };
                let tell = |what| troubles.lock().unwrap().push(what);
                let ended = server.run(&cancel, &tell).unwrap_err();
                assert_eq!(ended.kind(), ErrorKind::Interrupted(15));
            }
        });
        Self {
            folder,
            address,
            troubles,
            over,
            thread: Some(thread),
        }
    }

    /// Where clients connect.
    pub fn uri(&self, disk: &str) -> String {
        self.address.uri(disk)
    }

    /// The socket's path.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    /// Ends it.
    pub fn end(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
            let troubles = self.troubles.lock().unwrap();
            let is_bug = |what: &&String| what.contains("this is a bug");
            assert_eq!(troubles.iter().find(is_bug), None);
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
        self.over.store(true, Ordering::SeqCst);
    }
}
