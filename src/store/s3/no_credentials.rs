//! Why there are no keys to sign a request with, and whether that may pass. It says what failed
//! where, and must never say a secret: of a source's answer no more than its status or code.

use crate::error::{Error, ErrorKind};
use crate::model::clip;
use aws_credential_types::provider::error::CredentialsError;
use std::error::Error as StdError;

/// Longest text of causes that is repeated, in bytes.
const MOST_CAUSES: usize = 400;

/// All texts of an error and its causes.
pub(super) fn causes(error: &dyn StdError) -> String {
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

/// Whether a store with this code refuses keys that it took before: others may be had by now.
pub(super) fn are_stale(code: &str) -> bool {
    matches!(
        code,
        "ExpiredToken"
            | "ExpiredTokenException"
            | "TokenRefreshRequired"
            | "InvalidToken"
            | "InvalidAccessKeyId"
            | "InvalidClientTokenId"
    )
}

/// What it means when a request could not be signed; `None`: that is not why it failed. `worked`:
/// there were keys before, so their source fails in passing.
pub(super) fn no_keys(error: &(dyn StdError + 'static), worked: bool) -> Option<Error> {
    let passing = |kind| if worked { ErrorKind::Io } else { kind };
    if let Some(own) = found::<Error>(error) {
        // A file that is being replaced.
        let error = Error::new(passing(own.kind()), own.to_string());
        return Some(match own.hint() {
            Some(hint) => error.with_hint(hint),
            None => error,
        });
    }
    let Some(trouble) = found::<CredentialsError>(error) else {
        // The SDK's own limit on the time that it takes has no public type.
        let text = causes(error);
        return text.contains("identity resolver timed out").then(|| {
            let what = "where the credentials come from does not answer";
            Error::new(ErrorKind::Io, what).with_hint(SOURCE)
        });
    };
    let why = clip(&causes(trouble), MOST_CAUSES);
    Some(match trouble {
        CredentialsError::CredentialsNotLoaded(_) => {
            let what = format!("there are no credentials for it: {why}");
            Error::new(passing(ErrorKind::Unsupported), what).with_hint(
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or give the instance \
                 a role",
            )
        }
        CredentialsError::InvalidConfiguration(_) => {
            let what = format!("its credentials are not set up rightly: {why}");
            Error::new(ErrorKind::Unsupported, what)
                .with_hint("what names their source is wrong: AWS_* of the environment, a profile")
        }
        _ => {
            let what = format!("no credentials came from where they come from: {why}");
            Error::new(ErrorKind::Io, what).with_hint(SOURCE)
        }
    })
}

const SOURCE: &str = "is the source of the credentials up (instance metadata, container, STS), and \
                      may this host ask it?";

/// The innermost cause of that type.
fn found<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut found = None;
    let mut next = Some(error);
    while let Some(cause) = next {
        found = cause.downcast_ref().or(found);
        next = cause.source();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt;
    use std::time::Duration;

    /// As the SDK wraps it.
    #[derive(Debug)]
    struct Wrapped(CredentialsError);

    impl fmt::Display for Wrapped {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("dispatch failure")
        }
    }

    impl StdError for Wrapped {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&self.0)
        }
    }

    fn judged(trouble: CredentialsError, worked: bool) -> Error {
        no_keys(&Wrapped(trouble), worked).unwrap()
    }

    #[test]
    fn what_may_pass_is_tried_again_and_says_why() {
        for worked in [false, true] {
            let passing = [
                CredentialsError::provider_error("status 503"),
                CredentialsError::unhandled("status 503"),
            ];
            for trouble in passing {
                let error = judged(trouble, worked);
                assert_eq!(error.kind(), ErrorKind::Io, "{error}");
                assert!(error.to_string().contains("status 503"), "{error}");
            }
            let slow = CredentialsError::provider_timed_out(Duration::from_secs(7));
            let error = judged(slow, worked);
            assert_eq!(error.kind(), ErrorKind::Io, "{error}");
            assert!(error.to_string().contains("7 seconds"), "{error}");
            let wrong = CredentialsError::invalid_configuration("no such profile");
            let error = judged(wrong, worked);
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.to_string().contains("no such profile"), "{error}");
        }
    }

    #[test]
    fn who_had_keys_may_have_them_again() {
        for (worked, kind) in [(false, ErrorKind::Unsupported), (true, ErrorKind::Io)] {
            let none = CredentialsError::not_loaded("no metadata service");
            let error = judged(none, worked);
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains("metadata service"), "{error}");
            assert!(error.hint().unwrap().contains("AWS_ACCESS_KEY_ID"));
        }
        for (worked, kind) in [(false, ErrorKind::Usage), (true, ErrorKind::Io)] {
            let own = Error::new(ErrorKind::Usage, "keys.env: others can read it");
            let own = CredentialsError::provider_error(own.with_hint("chmod 0600"));
            let error = judged(own, worked);
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains("others can read it"), "{error}");
            assert_eq!(error.hint(), Some("chmod 0600"));
        }
    }

    #[test]
    fn other_failures_are_none_of_these() {
        let other = std::io::Error::other("connection refused, by a credential's ghost");
        assert!(no_keys(&other, true).is_none());
    }
}
