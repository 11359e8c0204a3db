//! A document sent to a receiver, signed, so that the receiver knows who speaks, and when.

use super::event::NotifyEvent;
use super::secret::{WebhookSecret, resolve};
use super::web::{Undelivered, WebRequest, ask};
use crate::config::WebhookSettings;
use jiff::Timestamp;
use ring::hmac;
use std::time::Duration;

/// What is sent to a receiver.
pub(super) struct WebhookCall<'a> {
    pub settings: &'a WebhookSettings,
    /// The secret of the environment.
    pub secret: Option<&'a WebhookSecret>,
    pub event: &'a NotifyEvent,
    pub timeout: Duration,
    pub cancelled: &'a dyn Fn() -> bool,
}

/// The signature of a body that is sent at this second of Unix time: HMAC-SHA256 of `SECOND.BODY`,
/// as `v1=` and hexadecimal digits.
pub fn signature(secret: &WebhookSecret, second: i64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{second}.").as_bytes());
    context.update(body);
    format!("v1={}", hex::encode(context.sign()))
}

/// Sends it. Each try has its own time in its signature.
///
/// # Errors
/// Why it did not arrive.
pub(super) fn send(call: &WebhookCall<'_>) -> Result<(), Undelivered> {
    let url = resolve(&call.settings.address).map_err(Undelivered::Unreached)?;
    let of_file = call.settings.secret_file.as_deref();
    let secret = match (of_file.map(WebhookSecret::read), call.secret) {
        (Some(read), _) => read.map_err(Undelivered::Unreached)?,
        (None, Some(given)) => given.clone(),
        (None, None) => {
            let what = "there is no secret of 16 bytes or more: name secret_file, or set \
                        STILLPOINT_WEBHOOK_SECRET; nothing is sent unsigned";
            return Err(Undelivered::Unreached(what.into()));
        }
    };
    let body = call.event.document();
    let body = body.map_err(|error| Undelivered::Refused(error.to_string()))?;
    let body = body.into_bytes();
    let second = Timestamp::now().as_second();
    let headers = vec![
        ("content-type", "application/json".to_owned()),
        ("user-agent", super::AGENT.to_owned()),
        ("stillpoint-event", call.event.event.name().to_owned()),
        ("stillpoint-timestamp", second.to_string()),
        ("stillpoint-signature", signature(&secret, second, &body)),
    ];
    ask(WebRequest {
        url: &url,
        method: "POST",
        headers,
        body,
        ca_file: call.settings.ca_file.as_deref(),
        timeout: call.timeout,
        cancelled: call.cancelled,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reckoned with `openssl dgst -sha256 -hmac`.
    #[test]
    fn the_signature_is_that_of_any_other_implementation() {
        let secret = WebhookSecret::new(b"0123456789abcdef".to_vec()).unwrap();
        assert_eq!(
            signature(&secret, 1_800_000_000, b"{\"a\":1}"),
            "v1=d3e17924cac4a72ca2ee9e5700df170fdb5733eaf69ecd909fb0c18a962b03a5"
        );
    }
}
