//! One request of the web, within a time that includes all of it: names, connection, certificates,
//! the head of the answer. Its body is not read. It must never follow a redirect, try twice, or
//! show more of an address than its scheme and host.

use crate::config::SecretUrl;
use crate::hooks::TellerFault;
use crate::store::web_connector;
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use std::error::Error as StdError;
use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio::runtime::Builder;
use tokio::time::timeout;

/// How often is asked whether to give up.
const ASKED: Duration = Duration::from_millis(50);
/// Most letters of a reason.
const MOST_REASON: usize = 200;

/// Why a message did not arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Undelivered {
    /// Nobody has it.
    Unreached(String),
    /// Somebody has it, and does not want it: or has done with it what he does.
    Refused(String),
}

impl Undelivered {
    /// The reason with more before it.
    pub(super) fn of(self, whom: &str) -> Self {
        match self {
            Self::Unreached(why) => Self::Unreached(format!("{whom}: {why}")),
            Self::Refused(why) => Self::Refused(format!("{whom}: {why}")),
        }
    }
}

impl From<TellerFault> for Undelivered {
    fn from(fault: TellerFault) -> Self {
        match fault {
            TellerFault::NotYet(why) => Self::Unreached(why),
            TellerFault::Ended(why) => Self::Refused(why),
        }
    }
}

/// What is asked.
pub(super) struct WebRequest<'a> {
    pub url: &'a SecretUrl,
    pub method: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Whom to trust beside those that the system trusts.
    pub ca_file: Option<&'a Path>,
    /// So long it may take, all of it.
    pub timeout: Duration,
    /// Whether to give it up.
    pub cancelled: &'a dyn Fn() -> bool,
}

/// Asks it. All is well when the answer's status begins with 2.
///
/// # Errors
/// Why not, without the address.
pub(super) fn ask(asked: WebRequest<'_>) -> Result<(), Undelivered> {
    let host = asked.url.shown().to_owned();
    let path = asked.url.reveal().get(host.len()..).unwrap_or_default();
    let path = path.to_owned();
    let status = send(asked).map_err(|why| {
        // Whatever stands in it, the address does not.
        let shown = path.len() <= 1 || !why.contains(&path);
        let why = if shown { &why } else { "the request failed" };
        Undelivered::Unreached(format!("{host}: {why}"))
    })?;
    let why = format!("{host}: it answered {status}");
    match status {
        200..=299 => Ok(()),
        300..=399 => Err(Undelivered::Unreached(format!(
            "{why}: redirects are not followed"
        ))),
        // These are of the address, the key or the moment, and not of what was sent.
        401..=404 | 407 | 408 | 425 | 429 => Err(Undelivered::Unreached(why)),
        400..=499 => Err(Undelivered::Refused(why)),
        _ => Err(Undelivered::Unreached(why)),
    }
}

fn send(asked: WebRequest<'_>) -> Result<u16, String> {
    let connector = web_connector(asked.ca_file).map_err(|error| error.to_string())?;
    let mut request = HttpRequest::new(SdkBody::from(asked.body));
    let unusable = "the address cannot be used";
    request
        .set_method(asked.method)
        .map_err(|_| unusable.to_owned())?;
    request
        .set_uri(asked.url.reveal())
        .map_err(|_| unusable.to_owned())?;
    for (name, value) in asked.headers {
        request.headers_mut().insert(name, value);
    }
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no thread for the network: {error}"))?;
    let until = Instant::now() + asked.timeout;
    let answer = runtime.block_on(async {
        let mut answer = pin!(connector.call(request));
        loop {
            if let Ok(done) = timeout(ASKED, answer.as_mut()).await {
                return done.map_err(|error| reason(&error));
            }
            if Instant::now() >= until {
                let seconds = asked.timeout.as_secs();
                return Err(format!("no answer within {seconds} s"));
            }
            if (asked.cancelled)() {
                return Err("it was stopped".into());
            }
        }
    });
    // A name server that does not answer keeps its thread for long.
    runtime.shutdown_background();
    Ok(answer?.status().as_u16())
}

/// What lies at the bottom of a failure.
fn reason(error: &ConnectorError) -> String {
    let mut deepest: &dyn StdError = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let text: String = deepest.to_string().chars().take(MOST_REASON).collect();
    match error.is_timeout() {
        true => format!("no answer in time: {text}"),
        false => format!("it cannot be reached: {text}"),
    }
}
