use crate::config::model::listener;
use crate::values::{ConfigPath, Finding, Problem, pem};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use std::path::Path;
use std::sync::Arc;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// A certificate with its key, and whom it is for.
#[derive(Debug)]
pub(super) struct ServerCertificate {
    pub(super) key: Arc<CertifiedKey>,
    /// DNS names in lower case, and addresses; at least one.
    pub(super) names: Vec<String>,
    /// Seconds since 1970.
    pub(super) not_after: i64,
}

/// Loads and checks a certificate. `at` is its place, `now` the seconds since 1970.
pub(super) fn load(
    config: &listener::Certificate,
    at: &ConfigPath,
    provider: &CryptoProvider,
    now: i64,
) -> Result<(ServerCertificate, Vec<Finding>), Vec<Finding>> {
    let chain_at = at.key("certificate");
    let key_at = at.key("key");
    let chain = pem::pem_items::<CertificateDer<'static>>(&config.certificate, "certificate");
    let key = pem::private_key(&config.key);
    let (chain, key) = match (chain, key) {
        (Ok(chain), Ok(key)) => (chain, key),
        (chain, key) => {
            let chain = chain.err().map(|problem| Finding::error(chain_at, problem));
            let key = key.err().map(|problem| Finding::error(key_at, problem));
            return Err(chain.into_iter().chain(key).collect());
        }
    };
    let facts = read_facts(&chain[0], &config.certificate);
    let facts = facts.map_err(|problem| vec![Finding::error(chain_at.clone(), problem)])?;
    let key = CertifiedKey::from_der(chain, key, provider)
        .map_err(|error| vec![Finding::error(key_at, pem::explain_key(&config.key, &error))])?;
    let warning = pem::check_validity(&config.certificate, (facts.not_before, facts.not_after), now);
    let warnings = warning.map(|problem| Finding::warning(chain_at, problem)).into_iter().collect();
    Ok((ServerCertificate { key: Arc::new(key), names: facts.names, not_after: facts.not_after }, warnings))
}

struct Facts {
    names: Vec<String>,
    not_before: i64,
    not_after: i64,
}

fn read_facts(der: &CertificateDer<'_>, path: &Path) -> Result<Facts, Problem> {
    let shown = path.display();
    let (_, certificate) = X509Certificate::from_der(der)
        .map_err(|_| Problem::new(format!("the certificate in `{shown}` cannot be parsed")))?;
    let names = alternative_names(&certificate, |name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(octets) => address(octets),
        _ => None,
    });
    if names.is_empty() {
        return Err(Problem::new(format!("the certificate in `{shown}` is for no name"))
            .remedy("clients look at subjectAltName alone: have it issued with DNS names there"));
    }
    let validity = certificate.validity();
    Ok(Facts {
        names,
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
    })
}

/// The alternative names of a certificate that `pick` has text for.
pub(super) fn alternative_names(
    certificate: &X509Certificate<'_>,
    pick: impl Fn(&GeneralName<'_>) -> Option<String>,
) -> Vec<String> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    extension.map(|names| names.value.general_names.iter().filter_map(pick).collect()).unwrap_or_default()
}

/// The text of an address as a certificate has it: 4 or 16 octets.
pub(super) fn address(octets: &[u8]) -> Option<String> {
    let address = match octets.len() {
        4 => std::net::IpAddr::from(<[u8; 4]>::try_from(octets).ok()?),
        16 => std::net::IpAddr::from(<[u8; 16]>::try_from(octets).ok()?),
        _ => return None,
    };
    Some(address.to_string())
}
