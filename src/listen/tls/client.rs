use pingora_core::protocols::tls::SslDigest;
use rustls::pki_types::CertificateDer;

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
    /// The subject's serial number, in hexadecimal.
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
