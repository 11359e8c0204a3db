//! What a store's refusal, or no answer at all, means to a user: a kind, a sentence and a hint.
//! Errors of kind `Io` may pass and are tried again; no other kind is. No text of it may hold a
//! secret: of requests it repeats names only, of answers the code and a short message.

use crate::error::{Error, ErrorKind};
use crate::model::clip;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

/// What was tried, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tried<'a> {
    /// `put`, `get`, `list` or `delete`.
    pub(super) verb: &'static str,
    /// `s3://bucket/prefix/name`.
    pub(super) url: &'a str,
    /// The bucket.
    pub(super) bucket: &'a str,
}

/// An answer that says no.
#[derive(Clone, Debug, Default)]
struct Refusal {
    status: u16,
    code: String,
    message: String,
    /// The bucket's region, where the store says it.
    region: Option<String>,
    /// The store's clock.
    date: Option<String>,
}

/// Longest message of a store that is repeated, in bytes.
const MOST_MESSAGE: usize = 200;

/// What the SDK's error means.
pub(super) fn failure<E>(error: &SdkError<E, HttpResponse>, tried: Tried<'_>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let failed = match error {
        SdkError::ServiceError(refused) => {
            refused_by(&refusal(refused.err(), refused.raw()), tried)
        }
        SdkError::ResponseError(strange) => {
            let status = strange.raw().status().as_u16();
            let what = format!("{}: its answer ({status}) makes no sense", cannot(tried));
            Error::new(ErrorKind::Io, what).with_hint("does the endpoint speak S3?")
        }
        SdkError::TimeoutError(_) => unreachable_by("it did not answer in time", tried),
        other => unreachable_by(short(&causes(other)), tried),
    };
    failed.at(tried.verb, tried.url)
}

/// A body that ended early, or came as something else than what was asked for.
pub(super) fn broken(why: impl std::fmt::Display, tried: Tried<'_>) -> Error {
    let what = format!("{}: {why}", cannot(tried));
    Error::new(ErrorKind::Io, what).at(tried.verb, tried.url)
}

fn cannot(tried: Tried<'_>) -> String {
    format!("cannot {} {}", tried.verb, tried.url)
}

fn refusal(error: &impl ProvideErrorMetadata, raw: &HttpResponse) -> Refusal {
    let header = |name| raw.headers().get(name).map(|text| clip(text, 64));
    Refusal {
        status: raw.status().as_u16(),
        code: clip(error.code().unwrap_or_default(), 64),
        message: clip(error.message().unwrap_or_default(), MOST_MESSAGE),
        region: header("x-amz-bucket-region"),
        date: header("date"),
    }
}

/// All texts of an error and its causes.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text
}

/// The same without what the SDK says before it says anything.
fn short(mut text: &str) -> &str {
    for words in ["dispatch failure: ", "io error: ", "other: ", "timeout: "] {
        text = text.strip_prefix(words).unwrap_or(text);
    }
    text
}

/// A word that says that one is to be slower, in whatever store's spelling.
fn says_slower(code: &str) -> bool {
    let code = code.to_ascii_lowercase();
    let words = [
        "slowdown",
        "throttl",
        "toomany",
        "limitexceeded",
        "ratelimit",
    ];
    words.iter().any(|word| code.contains(word))
}

fn refused_by(refusal: &Refusal, tried: Tried<'_>) -> Error {
    let (status, code) = (refusal.status, refusal.code.as_str());
    let said = match (code, refusal.message.as_str()) {
        ("", "") => format!("status {status}"),
        (code, "") => format!("{code} ({status})"),
        ("", message) => format!("{message} ({status})"),
        (code, message) => format!("{code} ({status}): {message}"),
    };
    let error = |kind| Error::new(kind, format!("{}: {said}", cannot(tried)));
    if says_slower(code) {
        return error(ErrorKind::Io)
            .with_hint("the store asks for fewer requests: limits.requests sets how many");
    }
    match (code, status) {
        ("NoSuchBucket", _) => {
            let what = format!("there is no bucket {:?} there", tried.bucket);
            Error::new(ErrorKind::Failed, format!("{}: {what}", cannot(tried)))
                .with_hint("make the bucket first; or is another region or endpoint meant?")
        }
        ("PermanentRedirect" | "AuthorizationHeaderMalformed" | "TemporaryRedirect", _)
        | ("IllegalLocationConstraintException", _)
        | (_, 301 | 307) => elsewhere(refusal, tried),
        ("NoSuchKey" | "NotFound", _) | ("", 404) => {
            let what = format!("{} is not there", tried.url);
            Error::new(ErrorKind::NotFound, what)
        }
        ("RequestTimeTooSkewed", _) => {
            let clock = refusal.date.as_deref().unwrap_or("another time");
            let what = format!("this host's clock is wrong: the store's says {clock}");
            Error::new(ErrorKind::Unsupported, format!("{}: {what}", cannot(tried)))
                .with_hint("set the clock, by chrony or timedatectl, and run it again")
        }
        ("ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired", _) => {
            error(ErrorKind::Unsupported)
                .with_hint("the credentials have expired: get new ones, and run it again")
        }
        ("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken", _) => {
            error(ErrorKind::Unsupported)
                .with_hint("the store does not know this key, or its secret is another")
        }
        ("InvalidObjectState", _) => archived(None, tried),
        ("QuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull", _) | (_, 507) => {
            error(ErrorKind::NoSpace).with_hint("the store is full, or the bucket's quota is")
        }
        ("InvalidRange", _) | (_, 416) => {
            Error::new(ErrorKind::Damaged, format!("{} is cut short", tried.url))
        }
        ("BadDigest" | "XAmzContentSHA256Mismatch" | "RequestTimeout" | "IncompleteBody", _)
        | (_, 408 | 409 | 429) => error(ErrorKind::Io),
        ("NotImplemented", _) | (_, 501) => error(ErrorKind::Unsupported)
            .with_hint("this store does not know the request; checksums = \"none\" sends least"),
        (_, 403 | 401) => denied(error(ErrorKind::Unsupported), tried),
        (_, 500..) => error(ErrorKind::Io).with_hint("the store has trouble; try again later"),
        _ => error(ErrorKind::Failed),
    }
}

/// What lies in an archive; `class` is what the store calls that.
pub(super) fn archived(class: Option<&str>, tried: Tried<'_>) -> Error {
    let class = class.map_or("an archive class".into(), |class| clip(class, 64));
    let what = format!(
        "{}: it is in {class} and must be thawed first",
        cannot(tried)
    );
    let bucket = tried.bucket;
    let key = tried
        .url
        .strip_prefix("s3://")
        .and_then(|rest| rest.split_once('/'));
    let key = key.map_or("KEY", |(_, key)| key);
    Error::new(ErrorKind::Archived, what).with_hint(format!(
        "nothing is lost; thaw what is in segments/, wait for hours, and run it again: aws s3api \
         restore-object --bucket {bucket} --key {key} --restore-request Days=7 (`stillpoint help \
         vaults` says how for all)"
    ))
}

fn elsewhere(refusal: &Refusal, tried: Tried<'_>) -> Error {
    let bucket = tried.bucket;
    let what = match &refusal.region {
        Some(region) => format!("the bucket {bucket:?} is in the region {region}"),
        None => format!("the bucket {bucket:?} is in another region"),
    };
    Error::new(ErrorKind::Usage, format!("{}: {what}", cannot(tried)))
        .with_hint("set AWS_REGION, or region in the configuration")
}

fn denied(error: Error, tried: Tried<'_>) -> Error {
    let action = match tried.verb {
        "put" => "s3:PutObject",
        "delete" => "s3:DeleteObject",
        "list" => "s3:ListBucket",
        _ => "s3:GetObject",
    };
    error.with_hint(format!(
        "the credentials need {action} there: stillpoint help vaults shows a policy"
    ))
}

/// No answer came.
fn unreachable_by(why: &str, tried: Tried<'_>) -> Error {
    let has = |words: &[&str]| words.iter().any(|word| why.contains(word));
    let why_short = clip(why, 2 * MOST_MESSAGE);
    let error = |kind| Error::new(kind, format!("{}: {why_short}", cannot(tried)));
    if has(&["dns error", "failed to lookup"]) {
        return error(ErrorKind::Io)
            .with_hint("the name server knows no such host: check the endpoint, and the network");
    }
    if has(&["InvalidContentType", "corrupt message"]) {
        return error(ErrorKind::Usage)
            .with_hint("the endpoint speaks no TLS: does its address begin with http://?");
    }
    if has(&["invalid peer certificate", "UnknownIssuer", "certificate"]) {
        return error(ErrorKind::Unsupported)
            .with_hint("name the file of the CA that signed it: ca_file in the configuration");
    }
    if has(&["credential", "identity", "no providers in chain"]) {
        let what = format!("{}: there are no credentials for it", cannot(tried));
        return Error::new(ErrorKind::Unsupported, what).with_hint(
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or give the instance a \
             role",
        );
    }
    if has(&["invalid URI", "relative URL", "valid URL", "endpoint"]) {
        return error(ErrorKind::Usage)
            .with_hint("an endpoint looks like this: https://s3.example:9000");
    }
    error(ErrorKind::Io).with_hint("is the store up, and can this host reach it?")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIED: Tried<'_> = Tried {
        verb: "put",
        url: "s3://bucket/vault/index/x",
        bucket: "bucket",
    };

    fn of(status: u16, code: &str) -> Error {
        let refusal = Refusal {
            status,
            code: code.into(),
            ..Refusal::default()
        };
        refused_by(&refusal, TRIED)
    }

    #[test]
    fn what_may_pass_is_told_from_what_stays() {
        for (status, code) in [
            (500, "InternalError"),
            (503, "SlowDown"),
            (503, ""),
            (429, ""),
            (409, "OperationAborted"),
            (403, "RequestThrottled"),
            (403, "TooManyRequests"),
            (400, "RequestTimeout"),
            (400, "BadDigest"),
        ] {
            assert_eq!(of(status, code).kind(), ErrorKind::Io, "{status} {code}");
        }
        for (status, code, kind) in [
            (403, "AccessDenied", ErrorKind::Unsupported),
            (403, "", ErrorKind::Unsupported),
            (403, "InvalidAccessKeyId", ErrorKind::Unsupported),
            (400, "ExpiredToken", ErrorKind::Unsupported),
            (403, "RequestTimeTooSkewed", ErrorKind::Unsupported),
            (404, "NoSuchBucket", ErrorKind::Failed),
            (404, "NoSuchKey", ErrorKind::NotFound),
            (404, "", ErrorKind::NotFound),
            (416, "InvalidRange", ErrorKind::Damaged),
            (403, "InvalidObjectState", ErrorKind::Archived),
            (301, "PermanentRedirect", ErrorKind::Usage),
            (507, "", ErrorKind::NoSpace),
            (501, "NotImplemented", ErrorKind::Unsupported),
            (400, "InvalidArgument", ErrorKind::Failed),
        ] {
            assert_eq!(of(status, code).kind(), kind, "{status} {code}");
        }
    }

    #[test]
    fn a_refusal_says_what_is_needed() {
        let error = of(403, "AccessDenied");
        assert!(error.hint().unwrap().contains("s3:PutObject"), "{error}");
        let away = Refusal {
            status: 301,
            region: Some("eu-west-1".into()),
            ..Refusal::default()
        };
        let error = refused_by(&away, TRIED);
        assert!(error.to_string().contains("eu-west-1"), "{error}");
        assert!(error.hint().unwrap().contains("AWS_REGION"));
    }
}
