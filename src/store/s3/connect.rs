//! Makes a client of the SDK from settings. What stores disagree about is switched off here:
//! checksums that were not asked for, bodies in chunks, the SDK's own retries and time-outs.

use super::credentials::with_credentials;
use super::settings::{CredentialSource, S3Settings};
use super::timeouts::PatientClient;
use super::traffic::Wire;
use crate::error::{Error, ErrorKind, IoContext, Result};
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::SharedAsyncSleep;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    ConfigBag, Intercept, RequestChecksumCalculation, ResponseChecksumValidation,
    RuntimeComponents, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::BoxError;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpClient};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The region that stores of one region take, and AWS for what has none.
const NO_REGION: &str = "us-east-1";
/// A connection that was idle for longer is not used again: stores and what stands before them
/// close such without a word.
const IDLE: Duration = Duration::from_secs(20);

/// A client for a store, whose requests are noted on `wire`.
pub(super) async fn client(settings: &S3Settings, wire: Arc<Wire>) -> Result<Client> {
    let http = http_client(settings.ca_file.as_deref())?;
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http.clone())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(endpoint) = &settings.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    loader = with_credentials(loader, &settings.credentials)?;
    let found = loader.region(region(settings, &http)).load().await;
    let elsewhere = found.endpoint_url().is_some()
        || std::env::var_os("AWS_ENDPOINT_URL_S3").is_some_and(|url| !url.is_empty());
    let timeouts = TimeoutConfig::builder().connect_timeout(settings.patience.connect);
    let config = aws_sdk_s3::config::Builder::from(&found)
        .http_client(PatientClient::new(http, settings.patience, wire))
        .force_path_style(settings.path_style.unwrap_or(elsewhere))
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts.build())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .interceptor(PlainHeaders);
    Ok(Client::from_conf(config.build()))
}

/// The region that was set, or that the environment, the profile or the instance says. Who names an
/// endpoint is not asked for the instance's.
fn region(settings: &S3Settings, http: &SharedHttpClient) -> RegionProviderChain {
    let mut profile = ProfileFileRegionProvider::builder();
    if let CredentialSource::Profile(name) = &settings.credentials {
        profile = profile.profile_name(name);
    }
    let chain = RegionProviderChain::first_try(settings.region.clone().map(Region::new))
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(profile.build());
    let has_endpoint = ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|url| !url.is_empty()));
    let chain = match settings.endpoint.is_some() || has_endpoint {
        true => chain,
        false => {
            let config = ProviderConfig::without_region().with_http_client(http.clone());
            chain.or_else(ImdsRegionProvider::builder().configure(&config).build())
        }
    };
    chain.or_else(Region::from_static(NO_REGION))
}

/// Whom to trust: those that the system trusts, and those in `ca_file`.
fn trust(ca_file: Option<&Path>) -> Result<TlsContext> {
    let mut trusted = TrustStore::default();
    if let Some(path) = ca_file {
        let pem = std::fs::read(path).io_context("read the certificates", path)?;
        if !pem
            .windows(27)
            .any(|part| part == b"-----BEGIN CERTIFICATE-----")
        {
            let what = format!("{}: there is no certificate in it", path.display());
            return Err(Error::new(ErrorKind::Usage, what).with_hint("PEM is what is read"));
        }
        trusted = trusted.with_pem_certificate(pem);
    }
    let tls = TlsContext::builder().with_trust_store(trusted).build();
    tls.map_err(|error| {
        Error::new(ErrorKind::Usage, "the certificates cannot be used").with_source(error)
    })
}

/// Makes connections. What is not set has no limit of its own.
fn connector(
    tls: &TlsContext,
    settings: Option<&HttpConnectorSettings>,
    sleep: Option<SharedAsyncSleep>,
) -> Connector {
    let mut builder = Connector::builder()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(tls.clone())
        .proxy_config(ProxyConfig::from_env())
        .pool_idle_timeout(IDLE);
    builder.set_connector_settings(settings.cloned());
    builder.set_sleep_impl(sleep);
    builder.build()
}

/// What makes single requests of the web, for who is no store. It follows no redirect and tries
/// nothing twice.
///
/// # Errors
/// The certificates cannot be used.
pub fn web_connector(ca_file: Option<&Path>) -> Result<Connector> {
    trust(ca_file).map(|tls| connector(&tls, None, None))
}

/// A client that trusts the system's certificates, and those in `ca_file`.
fn http_client(ca_file: Option<&Path>) -> Result<SharedHttpClient> {
    let tls = trust(ca_file)?;
    let made = move |settings: Option<&_>, components: Option<&RuntimeComponents>| {
        let sleep = components.and_then(RuntimeComponents::sleep_impl);
        connector(&tls, settings, sleep)
    };
    Ok(Builder::new().build_with_connector_fn(made))
}

/// Takes headers out of requests that some stores change before they check the signature.
#[derive(Debug)]
struct PlainHeaders;

impl Intercept for PlainHeaders {
    fn name(&self) -> &'static str {
        "PlainHeaders"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        context
            .request_mut()
            .headers_mut()
            .remove("accept-encoding");
        Ok(())
    }
}
