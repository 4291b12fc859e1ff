use super::certificate::ServerCertificate;
use crate::values::{ConfigPath, Finding, Problem};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::Arc;

/// Certificates for one name, at most one for each kind of key; the first one that a client can
/// check is its.
pub(super) type Candidates = Vec<Arc<CertifiedKey>>;

/// Which certificate a name gets.
#[derive(Debug, Default)]
pub(super) struct Names {
    exact: HashMap<String, Candidates>,
    /// By what stands after `*.`.
    wildcard: HashMap<String, Candidates>,
    default: Option<Candidates>,
}

impl Names {
    /// Gives each certificate its names. Answers warnings about names that are taken.
    pub(super) fn new(certificates: &[ServerCertificate], at: &ConfigPath) -> (Self, Vec<Finding>) {
        let mut names = Self::default();
        let mut owners: HashMap<(&str, u8), usize> = HashMap::new();
        let mut findings = Vec::new();
        for (index, certificate) in certificates.iter().enumerate() {
            let algorithm = u8::from(certificate.key.key.algorithm());
            for name in &certificate.names {
                // Two for one name make sense only with two kinds of keys.
                if let Some(owner) = owners.get(&(name.as_str(), algorithm)) {
                    if *owner != index {
                        findings.push(taken(name, at, index, *owner));
                    }
                    continue;
                }
                owners.insert((name, algorithm), index);
                let candidates = match name.strip_prefix("*.") {
                    Some(parent) => names.wildcard.entry(parent.to_owned()),
                    None => names.exact.entry(name.clone()),
                };
                candidates.or_default().push(certificate.key.clone());
            }
        }
        (names, findings)
    }

    /// Lets clients without a known name have the certificates of `name`.
    pub(super) fn set_default(&mut self, name: &str) -> Result<(), Problem> {
        let name = name.to_ascii_lowercase();
        let candidates = self.find(&name).or_else(|| self.wildcard.get(name.strip_prefix("*.")?)).cloned();
        if candidates.is_none() {
            let wildcards: Vec<String> = self.wildcard.keys().map(|parent| format!("*.{parent}")).collect();
            let known = self.exact.keys().map(String::as_str).chain(wildcards.iter().map(String::as_str));
            return Err(Problem::unknown("certificate name", &name, known));
        }
        self.default = candidates;
        Ok(())
    }

    /// The certificates for a name that a client asks for: those for exactly it, those of a
    /// wildcard (which stands for one label, RFC 9525 section 6.3), or the default.
    pub(super) fn candidates(&self, name: Option<&str>) -> Option<&Candidates> {
        name.and_then(|name| self.find(name)).or(self.default.as_ref())
    }

    fn find(&self, name: &str) -> Option<&Candidates> {
        self.exact.get(name).or_else(|| {
            let (label, parent) = name.split_once('.')?;
            if label.is_empty() || label == "*" {
                return None;
            }
            self.wildcard.get(parent)
        })
    }
}

fn taken(name: &str, at: &ConfigPath, index: usize, owner: usize) -> Finding {
    let place = |index| at.index(index).key("certificate");
    let problem = Problem::new(format!("name `{name}` has a certificate already, with the same kind of key"))
        .remedy("the first one is served: remove one of them");
    Finding::warning(place(index), problem).with_other(place(owner))
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = self.candidates(hello.server_name())?;
        let offered = hello.signature_schemes();
        let fit = candidates.iter().find(|candidate| candidate.key.choose_scheme(offered).is_some());
        fit.or(candidates.first()).cloned()
    }
}
