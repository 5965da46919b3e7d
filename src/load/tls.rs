//! TLS towards the server: which certificates are accepted.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{PemObject as _, SectionKind, SliceIter};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme, WantsVerifier,
};

use super::target::TargetError;
use crate::plan::HttpVersion;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM file of the authorities to trust **in place of** the system's, as with `curl --cacert`, so that a result names
    /// exactly what it trusted, and a node without CA certificates can be used.
    pub ca_file: Option<CaFile>,
    pub insecure: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaFile {
    pub path: PathBuf,
    /// Its bytes, or why it could not be read: an error only where TLS is spoken.
    pub content: Result<Vec<u8>, String>,
}

impl Tls {
    /// A client configuration that offers `http` by ALPN and nothing else.
    ///
    /// # Errors
    /// [`TargetError::Ca`] when `ca_file` gives no certificate, [`TargetError::NoRoots`] when the system has none.
    pub(crate) fn config(&self, http: HttpVersion) -> Result<ClientConfig, TargetError> {
        let builder = builder()?;
        let provider = Arc::clone(builder.crypto_provider());
        let mut config = match (&self.ca_file, self.insecure) {
            (Some(_), true) => return Err(TargetError::InsecureWithCa),
            (None, true) => {
                let verifier = Arc::new(Unverified { provider });
                builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
            }
            (Some(file), false) => builder.with_root_certificates(authorities(file)?).with_no_client_auth(),
            (None, false) => builder.with_root_certificates(system_roots()?).with_no_client_auth(),
        };
        let protocol: &[u8] = match http {
            HttpVersion::Http1 => b"http/1.1",
            HttpVersion::Http2 => b"h2",
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(config)
    }
}

/// A configuration for connections without TLS: reqwest wants one, and its own would need CA certificates on the node.
pub(crate) fn none() -> Result<ClientConfig, TargetError> {
    Ok(builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, TargetError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    builder.map_err(|error| TargetError::Tls { reason: error.to_string() })
}

fn system_roots() -> Result<RootCertStore, TargetError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _unusable) = roots.add_parsable_certificates(found.certs);
    match added {
        0 => {
            let reason = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
            Err(TargetError::NoRoots { reason })
        }
        _ => Ok(roots),
    }
}

fn authorities(file: &CaFile) -> Result<RootCertStore, TargetError> {
    let wrong = |found: String| TargetError::Ca { file: file.path.clone(), found };
    let bytes = file.content.as_ref().map_err(|error| wrong(error.clone()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bytes) {
        let certificate = certificate.map_err(|error| wrong(format!("PEM that breaks off: {error}")))?;
        roots
            .add(certificate)
            .map_err(|error| wrong(format!("a certificate that cannot be used: {error}")))?;
    }
    if roots.is_empty() {
        return Err(wrong(described(bytes)));
    }
    Ok(roots)
}

/// The content of a file that holds no certificate, for errors.
fn described(bytes: &[u8]) -> String {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return "an empty file".to_owned();
    }
    let sections = SliceIter::<(SectionKind, Vec<u8>)>::new(bytes).filter_map(Result::ok);
    let mut kinds: Vec<&str> = sections
        .map(|(kind, _)| match kind {
            SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                "a private key"
            }
            SectionKind::PublicKey => "a public key",
            SectionKind::Csr => "a certificate request",
            SectionKind::Crl => "a revocation list",
            _ => "something else",
        })
        .collect();
    kinds.dedup();
    match (kinds.as_slice(), bytes.first()) {
        ([], Some(0x30)) => "a certificate in DER, not PEM".to_owned(),
        ([], _) => "no PEM".to_owned(),
        (kinds, _) => format!("{} and no certificate", kinds.join(", ")),
    }
}

/// Accepts every certificate; the handshake's signatures are still checked against it.
#[derive(Debug)]
struct Unverified {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
