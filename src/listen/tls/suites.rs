use crate::values::{ConfigPath, Finding, Problem};
use rustls::crypto::CryptoProvider;
use rustls::{CipherSuite, SupportedCipherSuite};

/// The IANA name of a cipher suite; rustls has another word for those of TLS 1.3.
pub(super) fn iana_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or("unknown"),
    }
}

/// The suites of these names, in their order; all of the provider's if there are none.
pub(super) fn choose(
    names: &[String],
    provider: &CryptoProvider,
    at: &ConfigPath,
) -> Result<Vec<SupportedCipherSuite>, Vec<Finding>> {
    if names.is_empty() {
        return Ok(provider.cipher_suites.clone());
    }
    let mut chosen = Vec::new();
    let mut findings = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match provider.cipher_suites.iter().find(|suite| iana_name(suite.suite()) == name) {
            Some(suite) => chosen.push(*suite),
            None => {
                let known = provider.cipher_suites.iter().map(|suite| iana_name(suite.suite()));
                findings.push(Finding::error(at.index(index), Problem::unknown("cipher suite", name, known)));
            }
        }
    }
    if findings.is_empty() { Ok(chosen) } else { Err(findings) }
}
