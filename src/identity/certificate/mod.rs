//! Client certificates: what a verified one says of who calls. Parsed once for its connection.

mod name;

pub use name::DistinguishedName;

use crate::values::{Problem, Sha256};
use rustls::pki_types::CertificateDer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de};
use std::borrow::Cow;
use std::fmt::Write as _;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// What TLS settled with a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The subject's distinguished name by RFC 4514, such as `CN=billing,O=Example`.
    pub subject: DistinguishedName,
    /// The certificate's serial number, in hexadecimal.
    pub serial: Box<str>,
    /// Alternative names that are DNS names, in lower case.
    pub dns: Box<[Box<str>]>,
    /// Alternative names that are URIs, as SPIFFE has.
    pub uris: Box<[Box<str>]>,
    /// Alternative names that are mail addresses.
    pub emails: Box<[Box<str>]>,
    /// SHA-256 of the certificate's DER, in lower-case hexadecimal.
    pub fingerprint: Box<str>,
    /// The last second at which it counts, since 1970.
    pub not_after: i64,
    /// The same digest as bytes.
    digest: Sha256,
    /// What consumers' credentials may be found by: each of the above, digested.
    digests: Box<[Sha256]>,
}

/// What of a certificate makes it a consumer's. The certificate itself was verified by the listener,
/// against the authorities in its `tls.client.ca`: these must vouch for what stands in it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CertificateConfig {
    /// The subject's distinguished name by RFC 4514, such as `CN=billing,O=Example`: the whole of it,
    /// as `openssl x509 -noout -subject -nameopt RFC2253` prints it.
    Subject(String),
    /// A DNS name among the subject's alternative names.
    Dns(String),
    /// A URI among the subject's alternative names, such as `spiffe://example.org/billing`.
    Uri(String),
    /// A mail address among the subject's alternative names.
    Email(String),
    /// The SHA-256 digest of the certificate's DER, in hexadecimal, with or without colons, as
    /// `openssl x509 -noout -fingerprint -sha256` prints it.
    Fingerprint(Fingerprint),
}

/// A certificate's SHA-256 digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fingerprint(Sha256);

impl CertificateConfig {
    /// What a certificate is looked up by.
    ///
    /// # Errors
    /// What is written cannot stand in a certificate.
    pub fn digest(&self) -> Result<Sha256, Problem> {
        let (part, text): (Part, Cow<'_, str>) = match self {
            Self::Subject(text) => {
                (Part::Subject, text.parse::<DistinguishedName>()?.as_str().to_owned().into())
            }
            Self::Dns(text) => (Part::Dns, text.to_ascii_lowercase().into()),
            Self::Uri(text) => (Part::Uri, text.as_str().into()),
            Self::Email(text) => (Part::Email, email(text)),
            Self::Fingerprint(of) => (Part::Fingerprint, of.0.to_string().into()),
        };
        if text.is_empty() {
            let problem = Problem::new("it is empty: no certificate has that");
            return Err(problem.remedy("write what stands in the certificate"));
        }
        Ok(digest(part, &text))
    }
}

/// A part of a certificate. None is ever taken for another one.
#[derive(Clone, Copy)]
enum Part {
    Subject,
    Dns,
    Uri,
    Email,
    Fingerprint,
}

fn digest(part: Part, text: &str) -> Sha256 {
    let part = match part {
        Part::Subject => "subject",
        Part::Dns => "dns",
        Part::Uri => "uri",
        Part::Email => "email",
        Part::Fingerprint => "fingerprint",
    };
    Sha256::of_parts(&[b"certificate", part.as_bytes(), text.as_bytes()])
}

/// A mail address with its host in lower case: the rest has a case (RFC 5280 section 7.5).
fn email(text: &str) -> Cow<'_, str> {
    match text.rsplit_once('@') {
        Some((local, host)) if host.bytes().any(|c| c.is_ascii_uppercase()) => {
            format!("{local}@{}", host.to_ascii_lowercase()).into()
        }
        _ => text.into(),
    }
}

impl ClientCertificate {
    /// The facts of a certificate that was verified; `None` if it cannot be parsed.
    pub fn parse(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let (mut dns, mut uris, mut emails) = (Vec::new(), Vec::new(), Vec::new());
        // What cannot be read for sure ends the handshake: the rest might be somebody else.
        let names = certificate.subject_alternative_name().ok()?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(text) => dns.push(text.to_ascii_lowercase().into()),
                GeneralName::URI(text) => uris.push(Box::from(*text)),
                GeneralName::RFC822Name(text) => emails.push(Box::from(email(text))),
                _ => {}
            }
        }
        let subject = DistinguishedName::of(certificate.subject());
        let whole = Sha256::of(der);
        let fingerprint = whole.to_string();
        let texts =
            |part, texts: &[Box<str>]| texts.iter().map(move |text| digest(part, text)).collect::<Vec<_>>();
        let mut digests = vec![digest(Part::Fingerprint, &fingerprint)];
        if !subject.as_str().is_empty() {
            digests.push(digest(Part::Subject, subject.as_str()));
        }
        digests.extend(texts(Part::Dns, &dns));
        digests.extend(texts(Part::Uri, &uris));
        digests.extend(texts(Part::Email, &emails));
        Some(Self {
            subject,
            serial: hex(certificate.raw_serial()).into(),
            dns: dns.into(),
            uris: uris.into(),
            emails: emails.into(),
            fingerprint: fingerprint.into(),
            not_after: certificate.validity().not_after.timestamp(),
            digest: whole,
            digests: digests.into(),
        })
    }

    /// SHA-256 of the certificate's DER: what revocations know it by.
    pub const fn digest(&self) -> &Sha256 {
        &self.digest
    }

    /// What consumers' credentials may be found by.
    pub(super) fn digests(&self) -> &[Sha256] {
        &self.digests
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let wrong = || {
            let problem = Problem::new("this is not the SHA-256 digest of a certificate");
            let remedy = "write its 64 hexadecimal digits; `openssl x509 -noout -fingerprint -sha256 -in FILE` prints them";
            de::Error::custom(problem.remedy(remedy))
        };
        text.replace(':', "").parse().map(Self).map_err(|_| wrong())
    }
}

impl JsonSchema for Fingerprint {
    fn schema_name() -> Cow<'static, str> {
        "Fingerprint".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A certificate's SHA-256 digest in hexadecimal, with or without colons.",
            "type": "string",
            "pattern": "^([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$",
        })
    }
}

#[cfg(test)]
mod tests;
