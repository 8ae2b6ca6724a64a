//! The authorities whose certificates are trusted.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

use super::WebError;
use super::certificate::Naming;
use super::settings::WebSettings;

/// The system's authorities, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name in their place, and those
/// that the settings add.
pub(super) fn trusted(settings: &WebSettings) -> Result<ClientConfig, WebError> {
    let mut added = Vec::new();
    if let Some(file) = &settings.ca {
        added = read(file).map_err(|why| {
            let file = file.display();
            WebError::Settings(format!("no certificate authority is read from {file} (ATS_P2P_CA): {why}"))
        })?;
    }
    if let Some(file) = &settings.node_extra_ca {
        match read(file) {
            Ok(found) => added.extend(found),
            Err(why) => tracing::warn!(
                "no certificate authority is read from {} (NODE_EXTRA_CA_CERTS): {why}",
                file.display()
            ),
        }
    }
    let provider = provider();
    let verifier = Verifier::new_with_extra_roots(added, provider.clone()).map_err(|error| {
        WebError::Settings(format!(
            "no encrypted connection can be made ({error}); are the system's root certificates installed, or \
             named by SSL_CERT_FILE?"
        ))
    })?;
    let builder = builder(provider)?;
    let verifier = Naming(Arc::new(verifier));
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// A configuration that trusts nobody, for what needs no TLS.
pub(super) fn none() -> Result<ClientConfig, WebError> {
    Ok(builder(provider())?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// The certificates in a file of PEM.
fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = std::fs::read(file).map_err(|error| error.to_string())?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err("it holds none in PEM".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(error.to_string()),
    }
}

fn builder(
    provider: Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, WebError> {
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| WebError::Settings(format!("TLS cannot be set up: {error}")))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
