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
use s3s::dto::*;
use s3s::service::S3ServiceBuilder;
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};
use std::fs::File;
use std::io::{Error, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;
use tokio::net::TcpListener;

/// s3s-fs reads what it is asked for 4 KiB at a time, each by a thread of its own: that would be
/// all that is measured. Here an answer is read at once.
struct ReadAtOnce {
    files: s3s_fs::FileSystem,
    folder: PathBuf,
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = S3Result<S3Response<T>>> + Send + 'a>>;

macro_rules! pass_on {
    ($($name:ident: $input:ident => $output:ident;)*) => {$(
        fn $name<'s, 'a>(&'s self, request: S3Request<$input>) -> Answer<'a, $output>
        where
            's: 'a,
            Self: 'a,
        {
            self.files.$name(request)
        }
    )*};
}

impl S3 for ReadAtOnce {
    pass_on! {
        abort_multipart_upload: AbortMultipartUploadInput => AbortMultipartUploadOutput;
        complete_multipart_upload: CompleteMultipartUploadInput => CompleteMultipartUploadOutput;
        copy_object: CopyObjectInput => CopyObjectOutput;
        create_bucket: CreateBucketInput => CreateBucketOutput;
        create_multipart_upload: CreateMultipartUploadInput => CreateMultipartUploadOutput;
        delete_object: DeleteObjectInput => DeleteObjectOutput;
        delete_objects: DeleteObjectsInput => DeleteObjectsOutput;
        get_bucket_location: GetBucketLocationInput => GetBucketLocationOutput;
        head_bucket: HeadBucketInput => HeadBucketOutput;
        head_object: HeadObjectInput => HeadObjectOutput;
        list_objects: ListObjectsInput => ListObjectsOutput;
        list_objects_v2: ListObjectsV2Input => ListObjectsV2Output;
        list_parts: ListPartsInput => ListPartsOutput;
        put_object: PutObjectInput => PutObjectOutput;
        upload_part: UploadPartInput => UploadPartOutput;
    }

    fn get_object<'s, 'a>(
        &'s self,
        request: S3Request<GetObjectInput>,
    ) -> Answer<'a, GetObjectOutput>
    where
        's: 'a,
        Self: 'a,
    {
        Box::pin(async move {
            let path = (self.folder.join(&request.input.bucket)).join(&request.input.key);
            let mut response = self.files.get_object(request).await?;
            let output = &mut response.output;
            let length = usize::try_from(output.content_length.unwrap_or(0));
            // "bytes 5-9/100"
            let range = output.content_range.as_deref().unwrap_or("bytes 0-");
            let first = range.trim_start_matches("bytes ").split('-').next();
            let (Ok(length), Some(Ok(first))) = (length, first.map(str::parse)) else {
                return Err(s3_error!(InternalError));
            };
            let mut bytes = vec![0; length];
            let read = File::open(path).and_then(|file| file.read_exact_at(&mut bytes, first));
            read.map_err(|_| s3_error!(InternalError))?;
            output.body = Some(StreamingBlob::from(Body::from(bytes)));
            Ok(response)
        })
    }
}

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
    let folder = PathBuf::from(folder);
    let mut builder = S3ServiceBuilder::new(ReadAtOnce { files, folder });
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
