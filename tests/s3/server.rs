//! A real S3 server for tests: s3s-fs over HTTP on loopback, in a folder that goes away with it.

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::auth::{S3Auth, SimpleAuth};
use s3s::service::{S3Service, S3ServiceBuilder};
use std::path::PathBuf;
use std::process::Command;
use stillpoint::store::{CredentialSource, S3Place, S3Settings, S3Store};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// The key that the server knows.
pub const KEY: &str = "AKTESTKEY";
/// Its secret, which no text of the product may hold.
pub const SECRET: &str = "s3cret/of+tests";
/// The bucket that is there.
pub const BUCKET: &str = "bucket";

/// A server with an empty bucket.
pub struct Server {
    /// `http://127.0.0.1:PORT`.
    pub endpoint: String,
    folder: TempDir,
    /// Its requests are dropped with it.
    runtime: Option<Runtime>,
}

impl Server {
    /// Starts one that knows one key.
    pub fn start() -> Self {
        Self::start_with(SimpleAuth::from_single(KEY, SECRET))
    }

    /// Starts one that asks `auth` about keys.
    pub fn start_with(auth: impl S3Auth) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("stillpoint-s3-")
            .tempdir_in("/dev/shm")
            .unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder.path()).unwrap());
        builder.set_auth(auth);
        let service = builder.build();
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(serve(listener, service));
        Self {
            endpoint,
            folder,
            runtime: Some(runtime),
        }
    }

    /// A file with the credentials.
    pub fn credentials(&self) -> PathBuf {
        credentials(self.folder.path())
    }

    /// Where the objects below a prefix are as files.
    pub fn files(&self, prefix: &str) -> PathBuf {
        self.folder.path().join(BUCKET).join(prefix)
    }

    /// A place in the bucket.
    pub fn place(&self, prefix: &str) -> S3Place {
        place(&self.endpoint, &self.credentials(), prefix)
    }

    /// A store in the bucket.
    pub fn store(&self, prefix: &str) -> S3Store {
        S3Store::open(self.place(prefix)).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(listener: TcpListener, service: S3Service) {
    while let Ok((connection, _)) = listener.accept().await {
        let connection = TokioIo::new(connection);
        let served = http1::Builder::new().serve_connection(connection, service.clone());
        tokio::spawn(async move {
            // A client that breaks its connection is a client of these tests.
            let _ = served.await;
        });
    }
}

/// Writes a file of credentials into a folder.
pub fn credentials(folder: &std::path::Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("credentials.env");
    let text = format!("AWS_ACCESS_KEY_ID={KEY}\nAWS_SECRET_ACCESS_KEY={SECRET}\n");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// A place behind an endpoint.
pub fn place(endpoint: &str, credentials: &std::path::Path, prefix: &str) -> S3Place {
    S3Place {
        bucket: BUCKET.into(),
        prefix: prefix.into(),
        settings: S3Settings {
            endpoint: Some(endpoint.into()),
            region: Some("us-east-1".into()),
            credentials: CredentialSource::File(credentials.into()),
            ..S3Settings::default()
        },
    }
}

/// The program shall find the server, and nothing else of this host.
pub fn environment(command: &mut Command, endpoint: &str) {
    command
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_ACCESS_KEY_ID", KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .env("AWS_REGION", "us-east-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
}
