//! Whose certificate a server shows.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use protocol::text::one_line;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Name;

/// The most characters that are shown of a name in a certificate.
const SHOWN: usize = 80;

/// What a certificate says of itself. Nobody may have checked it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// Who made it, fit to be shown.
    pub(crate) issuer: String,
    /// Whether that is whom it is for: it is its own authority.
    pub(crate) is_self_signed: bool,
    /// When it ends.
    pub(crate) not_after: SystemTime,
}

impl Certificate {
    /// Reads a certificate; `None` if it is none.
    pub(super) fn from_der(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let until = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or_default();
        Some(Self {
            issuer: name(certificate.issuer()),
            is_self_signed: certificate.issuer() == certificate.subject(),
            not_after: SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(until))?,
        })
    }
}

/// What a person would call it: its own name, and the organization's where that says more.
fn name(name: &X509Name<'_>) -> String {
    let common = name.iter_common_name().find_map(|name| name.as_str().ok());
    let organization = name.iter_organization().find_map(|name| name.as_str().ok());
    let shown = match (common, organization) {
        (Some(common), Some(organization)) if !common.contains(organization) => {
            format!("{common}, {organization}")
        }
        (Some(one), _) | (None, Some(one)) => one.to_owned(),
        (None, None) => name.to_string(),
    };
    one_line(&shown, SHOWN)
}

/// Trusts as another verifier does; where that knows no authority behind a certificate, it says whose it is.
#[derive(Debug)]
pub(super) struct Naming(pub(super) Arc<dyn ServerCertVerifier>);

/// A certificate by an authority that is not trusted.
#[derive(Debug)]
pub(super) struct UnknownAuthority(Certificate);

impl fmt::Display for UnknownAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Certificate { issuer, is_self_signed, .. } = &self.0;
        match is_self_signed {
            true => write!(f, "it is signed by itself ({issuer}), and this machine does not know it"),
            false => write!(f, "it is by an authority that this machine does not know ({issuer})"),
        }
    }
}

impl std::error::Error for UnknownAuthority {}

impl ServerCertVerifier for Naming {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now).map_err(
            |error| match error {
                Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                    let named = Certificate::from_der(end_entity).map(|certificate| {
                        CertificateError::Other(OtherError(Arc::new(UnknownAuthority(certificate))))
                    });
                    Error::InvalidCertificate(named.unwrap_or(CertificateError::UnknownIssuer))
                }
                error => error,
            },
        )
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, Issuer, KeyPair, date_time_ymd};

    use super::*;

    fn named(common: Option<&str>, organization: Option<&str>) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in [(DnType::CommonName, common), (DnType::OrganizationName, organization)] {
            if let Some(value) = value {
                params.distinguished_name.push(kind, value);
            }
        }
        params
    }

    fn of_authority(common: Option<&str>, organization: Option<&str>) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::new(named(common, organization), key);
        let mut server = named(Some("hub.example"), None);
        server.not_after = date_time_ymd(2031, 1, 1);
        let certificate = server.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
        Certificate::from_der(certificate.der()).unwrap()
    }

    #[test]
    fn an_authority_goes_by_its_name_and_its_organization() {
        let issuer = |common, organization| of_authority(common, organization).issuer;
        assert_eq!(issuer(Some("Proxy CA"), Some("Acme")), "Proxy CA, Acme");
        assert_eq!(issuer(Some("Acme Proxy CA"), Some("Acme")), "Acme Proxy CA");
        assert_eq!(issuer(None, Some("Acme")), "Acme");
        assert_eq!(issuer(None, None), "");
        assert_eq!(issuer(Some("a\u{1b}[31m\nb"), None), r"a\u{1b}[31m b");
        assert!(issuer(Some(&"x".repeat(500)), None).chars().count() <= SHOWN + 1);
    }

    #[test]
    fn a_certificate_tells_its_end_and_whether_it_is_its_own_authority() {
        let certificate = of_authority(Some("CA"), None);
        let seconds = certificate.not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!((seconds, certificate.is_self_signed), (1_924_992_000, false));
        let own = named(Some("hub"), None).self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert!(Certificate::from_der(own.der()).unwrap().is_self_signed);
    }

    #[test]
    fn what_is_no_certificate_is_none() {
        let own = named(Some("hub"), None).self_signed(&KeyPair::generate().unwrap()).unwrap();
        for length in 0..own.der().len() {
            assert_eq!(Certificate::from_der(&own.der()[..length]), None);
        }
        proptest::proptest!(|(bytes: Vec<u8>)| { Certificate::from_der(&bytes); });
    }
}
