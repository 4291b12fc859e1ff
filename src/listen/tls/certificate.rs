use super::file;
use crate::config::model::listener;
use crate::values::{ConfigPath, Finding, Problem};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::path::Path;
use std::sync::Arc;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// 30 days, in seconds.
const SOON: i64 = 30 * 86_400;

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
    let chain = file::pem_items::<CertificateDer<'static>>(&config.certificate, "certificate");
    let key = load_key(&config.key);
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
        .map_err(|error| vec![Finding::error(key_at, explain(&config.key, &error))])?;
    let warning = check_validity(&facts, &config.certificate, now);
    let warnings = warning.map(|problem| Finding::warning(chain_at, problem)).into_iter().collect();
    Ok((ServerCertificate { key: Arc::new(key), names: facts.names, not_after: facts.not_after }, warnings))
}

fn load_key(path: &Path) -> Result<PrivateKeyDer<'static>, Problem> {
    let bytes = file::read(path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        const ENCRYPTED: &[u8] = b"ENCRYPTED";
        if bytes.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED) {
            return Problem::new(format!("the private key in `{}` is encrypted", path.display()))
                .remedy("decrypt it: `openssl pkey -in key.pem -out plain.pem`");
        }
        match error {
            pem::Error::NoItemsFound => file::none_inside(path, &bytes, "private key"),
            _ => file::not_pem(path),
        }
    })
}

fn explain(path: &Path, error: &rustls::Error) -> Problem {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            Problem::new(format!("the key in `{}` does not belong to the certificate", path.display()))
                .remedy("the first certificate of the file must be the one that the key was made for")
        }
        _ => Problem::new(format!("the key in `{}` cannot be used: {error}", path.display()))
            .remedy("use a key for RSA (2048 bits or more), ECDSA (P-256, P-384, P-521) or Ed25519"),
    }
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

/// What is odd about the time that a certificate is valid for. It is served all the same: a client
/// that looks away is better served than nobody.
fn check_validity(facts: &Facts, path: &Path, now: i64) -> Option<Problem> {
    let shown = path.display();
    let date =
        |seconds| jiff::Timestamp::from_second(seconds).map_or_else(|_| String::new(), |t| t.to_string());
    if facts.not_after < now {
        let problem =
            Problem::new(format!("the certificate in `{shown}` expired at {}", date(facts.not_after)));
        return Some(problem.remedy("renew it: clients refuse it"));
    }
    if facts.not_before > now {
        let problem = Problem::new(format!(
            "the certificate in `{shown}` is valid from {} only",
            date(facts.not_before)
        ));
        return Some(problem.remedy("check this machine's clock, or wait: clients refuse it until then"));
    }
    if facts.not_after - now < SOON {
        let until = date(facts.not_after);
        let problem = Problem::new(format!("the certificate in `{shown}` expires soon, at {until}"));
        return Some(problem.remedy("renew it"));
    }
    None
}
