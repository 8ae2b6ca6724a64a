//! Certificates that nobody but a test trusts.

/// An authority, and a certificate of it for the loopback address with its key, all in PEM.
pub(crate) struct Certified {
    pub authority: String,
    pub certificate: String,
    pub key: String,
}

impl Certified {
    pub(crate) fn make() -> Self {
        let mut authority = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_key = rcgen::KeyPair::generate().expect("a key");
        let pem = authority.self_signed(&authority_key).expect("a certificate").pem();
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])
            .and_then(|parameters| parameters.signed_by(&key, &issuer))
            .expect("a certificate");
        Self { authority: pem, certificate: certificate.pem(), key: key.serialize_pem() }
    }
}
