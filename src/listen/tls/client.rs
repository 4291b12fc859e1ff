use super::certificate::{address, alternative_names};
use aws_lc_rs::digest::{SHA256, digest};
use pingora_core::protocols::tls::SslDigest;
use rustls::pki_types::CertificateDer;
use std::fmt::Write;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What TLS settled with a client.
#[derive(Debug)]
pub struct ClientTls {
    /// The name that the client asked for, in lower case.
    pub sni: Option<String>,
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite by its IANA name.
    pub cipher: &'static str,
    /// Whether ALPN settled on HTTP/2.
    pub http2: bool,
    /// The client's certificate, if it showed one. It was verified: an invalid one ends the handshake.
    pub certificate: Option<Box<ClientCertificate>>,
}

/// A verified client certificate, parsed once for its connection.
#[derive(Debug)]
pub struct ClientCertificate {
    /// The subject's distinguished name, such as `CN=billing, O=Example`.
    pub subject: String,
    /// The certificate's serial number, in hexadecimal.
    pub serial: String,
    /// Alternative names: DNS names, addresses, URIs (as SPIFFE has) and mail addresses.
    pub names: Vec<String>,
    /// SHA-256 of the certificate's DER, in lower-case hexadecimal.
    pub fingerprint: String,
    /// The certificate as DER, and then those above it that the client sent.
    pub chain: Vec<CertificateDer<'static>>,
}

impl ClientTls {
    /// The facts in Pingora's words. The digest must exist on a TLS connection: Pingora takes a
    /// connection without one for one in the clear.
    pub(in crate::listen) fn digest(&self) -> SslDigest {
        let serial = self.certificate.as_ref().map(|certificate| certificate.serial.clone());
        SslDigest::new(self.cipher, self.version, None, serial, Vec::new())
    }
}

impl ClientCertificate {
    /// The facts of a verified chain, which begins with the client's own certificate.
    pub(super) fn parse(chain: Vec<CertificateDer<'static>>) -> Option<Self> {
        let der = chain.first()?;
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = alternative_names(&certificate, |name| match name {
            GeneralName::DNSName(text) | GeneralName::URI(text) | GeneralName::RFC822Name(text) => {
                Some((*text).to_owned())
            }
            GeneralName::IPAddress(octets) => address(octets),
            _ => None,
        });
        Some(Self {
            subject: certificate.subject().to_string(),
            serial: hex(certificate.raw_serial()),
            names,
            fingerprint: hex(digest(&SHA256, der).as_ref()),
            chain,
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
