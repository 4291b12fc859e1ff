//! TLS to endpoints: what the configuration's files hold, read and checked once.

use crate::config::model::upstream as model;
use crate::values::{ConfigPath, Finding, Problem, pem};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use x509_parser::prelude::{FromDer, X509Certificate};

/// What connections to the endpoints of an upstream are secured by.
#[derive(Debug)]
pub(super) struct UpstreamTls {
    /// Who may issue certificates; none for those whom the operating system trusts.
    pub authorities: Option<Vec<CertificateDer<'static>>>,
    /// Our own certificate with those between it and its authority, and its key.
    pub client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    /// The name that is asked for and verified, unless the endpoint's own is.
    pub server_name: Option<String>,
    /// Whether certificates are verified.
    pub verify: bool,
}

impl UpstreamTls {
    /// Reads the files that the configuration names. Paths of findings are relative to `tls`.
    ///
    /// # Errors
    /// All findings, the warnings included, if one of them is an error.
    pub fn compile(config: &model::Tls) -> Result<(Self, Vec<Finding>), Vec<Finding>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let root = ConfigPath::root();
        let mut warnings = Vec::new();
        let mut errors = Vec::new();
        let mut take = |path: ConfigPath, read: Result<Option<Problem>, Problem>| match read {
            Ok(warning) => warnings.extend(warning.map(|problem| Finding::warning(path, problem))),
            Err(problem) => errors.push(Finding::error(path, problem)),
        };
        let mut authorities = None;
        if let Some(ca) = &config.ca {
            let read = read_authorities(ca, now).map(|(read, warning)| {
                authorities = Some(read);
                warning
            });
            take(root.key("ca"), read);
        }
        let mut client = None;
        if let Some(pair) = &config.client {
            let at = root.key("client");
            let chain = pem::pem_items::<CertificateDer<'static>>(&pair.certificate, "certificate");
            let validity = chain.as_ref().map_err(Clone::clone).and_then(|chain| {
                let validity = validity(&chain[0], &pair.certificate)?;
                Ok(pem::check_validity(&pair.certificate, validity, now))
            });
            let key = pem::private_key(&pair.key);
            take(at.key("certificate"), validity);
            take(at.key("key"), key.as_ref().map(|_| None).map_err(Clone::clone));
            if let (Ok(chain), Ok(key)) = (chain, key) {
                take(at.key("key"), fits(&chain, &key, &pair.key).map(|()| None));
                client = Some((chain, key));
            }
        }
        if !errors.is_empty() {
            errors.append(&mut warnings);
            return Err(errors);
        }
        let verify = config.verify == model::Verify::Full;
        Ok((Self { authorities, client, server_name: config.server_name.clone(), verify }, warnings))
    }
}

/// What connections of one upstream must have in common with those of another to be shared. Names
/// are not in it: they belong to the endpoint.
impl Hash for UpstreamTls {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let hash = |list: &[CertificateDer<'_>], state: &mut H| {
            list.iter().for_each(|certificate| certificate.as_ref().hash(state));
            list.len().hash(state);
        };
        self.authorities.is_some().hash(state);
        hash(self.authorities.as_deref().unwrap_or_default(), state);
        if let Some((chain, key)) = &self.client {
            hash(chain, state);
            key.secret_der().hash(state);
        }
        self.verify.hash(state);
    }
}

type Authorities = (Vec<CertificateDer<'static>>, Option<Problem>);

fn read_authorities(path: &Path, now: i64) -> Result<Authorities, Problem> {
    let read = pem::pem_items::<CertificateDer<'static>>(path, "certificate")?;
    let mut store = RootCertStore::empty();
    let mut warning = None;
    for certificate in &read {
        let shown = path.display();
        store.add(certificate.clone()).map_err(|error| {
            Problem::new(format!("a certificate in `{shown}` cannot be an authority: {error}"))
                .remedy("put the certificates of authorities into the file, and nothing else")
        })?;
        warning = warning.or(pem::check_validity(path, validity(certificate, path)?, now));
    }
    Ok((read, warning))
}

/// From when to when a certificate is valid, in seconds since 1970.
fn validity(certificate: &CertificateDer<'_>, path: &Path) -> Result<(i64, i64), Problem> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|_| Problem::new(format!("the certificate in `{}` cannot be parsed", path.display())))?;
    let validity = parsed.validity();
    Ok((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

fn fits(chain: &[CertificateDer<'static>], key: &PrivateKeyDer<'static>, path: &Path) -> Result<(), Problem> {
    let provider = aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain.to_vec(), key.clone_key(), &provider)
        .map(drop)
        .map_err(|error| pem::explain_key(path, &error))
}
