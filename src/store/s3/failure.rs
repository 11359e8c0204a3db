//! What a store's refusal, or no answer at all, means to a user: a kind, a sentence and a hint.
//! Errors of kind `Io` may pass and are tried again; no other kind is. No text of it may hold a
//! secret: of requests it repeats names only, of answers the code and a short message.

use super::no_credentials::{are_stale, causes, no_keys};
use crate::error::{Error, ErrorKind};
use crate::model::{clip, counted};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use jiff::Timestamp;

/// What was tried, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tried<'a> {
    /// `put`, `get`, `list` or `delete`.
    pub(super) verb: &'static str,
    /// `s3://bucket/prefix/name`.
    pub(super) url: &'a str,
    /// The bucket.
    pub(super) bucket: &'a str,
    /// Whether the store has taken a request before: then keys, and this host's clock, were good.
    pub(super) worked: bool,
}

impl Tried<'_> {
    /// The kind of a failure that is final, unless there was none of it before.
    fn passing(self) -> ErrorKind {
        match self.worked {
            true => ErrorKind::Io,
            false => ErrorKind::Unsupported,
        }
    }
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

/// Whether the store refuses keys that it may have taken before.
pub(super) fn wants_new_keys<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    matches!(error, SdkError::ServiceError(refused)
        if refused.err().code().is_some_and(are_stale))
}

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
        other => match no_keys(other, tried.worked) {
            Some(error) => error.context(cannot(tried)),
            None => unreachable_by(short(&causes(other)), tried),
        },
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

/// A text without what the SDK says before it says anything.
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
            let what = skewed(refusal.date.as_deref(), Timestamp::now());
            Error::new(tried.passing(), format!("{}: {what}", cannot(tried)))
                .with_hint("set the clock, by chrony or timedatectl, and run it again")
        }
        ("ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired", _) => {
            error(tried.passing())
                .with_hint("the credentials have expired: get new ones, and run it again")
        }
        ("SignatureDoesNotMatch", _) => error(ErrorKind::Unsupported).with_hint(OTHER_KEY),
        (code, _) if are_stale(code) => error(tried.passing()).with_hint(OTHER_KEY),
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

/// What is tried when an object is put that is locked from then on.
pub(super) const LOCKED_PUT: &str = "put and lock";

/// A lock was asked for in a bucket that has none.
pub(super) fn no_locks(tried: Tried<'_>) -> Error {
    let what = format!(
        "{}: what snapshots of this vault need is to be locked, and the bucket {:?} locks nothing",
        cannot(tried),
        tried.bucket
    );
    Error::new(ErrorKind::Unsupported, what)
        .with_hint(
            "nothing is lost; switch object lock on for the bucket, or make one with it and \
             `mirror` the vault there",
        )
        .at(tried.verb, tried.url)
}

const OTHER_KEY: &str = "the store does not know this key, or its secret is another";

/// How far the two clocks are apart. `date` is the store's, as HTTP writes it; `now` the host's.
fn skewed(date: Option<&str>, now: Timestamp) -> String {
    let store = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
    let Some(store) = store.map(|store| store.timestamp()) else {
        let now = now.strftime("%FT%TZ");
        return format!(
            "this host's clock is wrong: it says {now}, and the store does not say what time it has"
        );
    };
    let apart = now.duration_since(store);
    let side = match apart.is_negative() {
        true => "behind",
        false => "ahead of",
    };
    let (minutes, now, store) = (
        counted(apart.unsigned_abs().as_secs() / 60, "minute"),
        now.strftime("%FT%TZ"),
        store.strftime("%FT%TZ"),
    );
    format!(
        "this host's clock is {minutes} {side} the store's: it says {now}, and the store's \
         says {store}"
    )
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
        LOCKED_PUT => "s3:PutObject and s3:PutObjectRetention",
        "lock" => "s3:PutObjectRetention",
        "list the versions of" => "s3:ListBucketVersions",
        "get a version of" => "s3:GetObjectVersion",
        "delete" => "s3:DeleteObject",
        "list" => "s3:ListBucket",
        _ => "s3:GetObject",
    };
    error.with_hint(format!(
        "the credentials need {action} there: stillpoint help s3 shows a policy"
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
        worked: false,
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
    fn what_was_good_before_may_be_good_again() {
        let now = Tried {
            worked: true,
            ..TRIED
        };
        for (status, code, kind) in [
            (400, "ExpiredToken", ErrorKind::Io),
            (403, "InvalidAccessKeyId", ErrorKind::Io),
            (403, "RequestTimeTooSkewed", ErrorKind::Io),
            (403, "AccessDenied", ErrorKind::Unsupported),
            (403, "SignatureDoesNotMatch", ErrorKind::Unsupported),
        ] {
            let refusal = Refusal {
                status,
                code: code.into(),
                ..Refusal::default()
            };
            assert_eq!(refused_by(&refusal, now).kind(), kind, "{code}");
        }
    }

    #[test]
    fn both_clocks_are_named() {
        let now: Timestamp = "2026-11-29T13:00:30Z".parse().unwrap();
        let date = |text| skewed(Some(text), now);
        assert_eq!(
            date("Sun, 29 Nov 2026 12:00:00 GMT"),
            "this host's clock is 60 minutes ahead of the store's: it says 2026-11-29T13:00:30Z, \
             and the store's says 2026-11-29T12:00:00Z"
        );
        let behind = date("Sun, 29 Nov 2026 15:30:30 GMT");
        assert!(
            behind.contains("150 minutes behind the store's"),
            "{behind}"
        );
        for none in [Some("yesterday"), None] {
            let text = skewed(none, now);
            assert!(
                text.contains("13:00:30Z, and the store does not say"),
                "{text}"
            );
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
