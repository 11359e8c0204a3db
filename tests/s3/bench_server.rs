//! A plain S3 server for `scripts/bench-s3`: s3s-fs over HTTP on loopback, which may answer late,
//! as one at the other end of a long line does.
//!
//! Usage: `s3-server FOLDER DELAY`: the buckets are FOLDER's folders; each request waits DELAY
//! milliseconds. It prints its address. The key is AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY.

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use std::io::{Error, Write};
use std::time::Duration;
use tokio::net::TcpListener;

fn argument(of: Option<String>, what: &str) -> Result<String, Error> {
    of.ok_or_else(|| Error::other(format!("{what} is missing")))
}

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let folder = argument(arguments.next(), "FOLDER")?;
    let delay = argument(arguments.next(), "DELAY")?;
    let delay = Duration::from_millis(delay.parse().map_err(Error::other)?);
    let from_environment = |name: &str| argument(std::env::var(name).ok(), name);
    let key = from_environment("AWS_ACCESS_KEY_ID")?;
    let secret = from_environment("AWS_SECRET_ACCESS_KEY")?;
    let files =
        s3s_fs::FileSystem::new(&folder).map_err(|error| Error::other(format!("{error:?}")))?;
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(key, secret));
    let service = builder.build();
    tokio::runtime::Runtime::new()?.block_on(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut out = std::io::stdout();
        writeln!(out, "http://{}", listener.local_addr()?)?;
        out.flush()?;
        loop {
            let (connection, _) = listener.accept().await?;
            // Packets go out at once, as they do where a network is between.
            connection.set_nodelay(true)?;
            let service = service.clone();
            let answer = service_fn(move |request: Request<Incoming>| {
                let service = service.clone();
                async move {
                    tokio::time::sleep(delay).await;
                    Service::call(&service, request).await
                }
            });
            let served = http1::Builder::new().serve_connection(TokioIo::new(connection), answer);
            // A client that breaks its connection is no matter of the others.
            tokio::spawn(async move { served.await.ok() });
        }
    })
}
