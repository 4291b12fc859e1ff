use super::certificate::{self, ServerCertificate};
use super::names::Names;
use super::{clients, suites};
use crate::config::model::listener::{MinVersion, Tls};
use crate::values::{ConfigPath, Finding, Problem};
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A listener's TLS, ready for handshakes.
#[derive(Debug)]
pub struct TlsSetup {
    pub(super) names: Arc<Names>,
    pub(super) config: Arc<ServerConfig>,
    pub(super) handshake_time: Duration,
    expiries: Vec<(String, i64)>,
}

impl TlsSetup {
    /// Reads the files that the configuration names and checks that all of it fits. Paths of
    /// findings are relative to `tls`.
    ///
    /// # Errors
    /// All findings, the warnings included, if one of them is an error.
    pub fn compile(config: &Tls) -> Result<(Self, Vec<Finding>), Vec<Finding>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self::compile_at(config, i64::try_from(now).unwrap_or(i64::MAX))
    }

    /// As [`TlsSetup::compile`], so many seconds after 1970.
    pub(in crate::listen) fn compile_at(
        config: &Tls,
        now: i64,
    ) -> Result<(Self, Vec<Finding>), Vec<Finding>> {
        let root = ConfigPath::root();
        let mut provider = aws_lc_rs::default_provider();
        let mut report = Report::default();
        if let Some(suites) = report.take(suites::choose(&config.ciphers, &provider, &root.key("ciphers"))) {
            provider.cipher_suites = suites;
        }
        let provider = Arc::new(provider);
        let certificates = load_certificates(config, &provider, now, &mut report);
        let (mut names, taken) = Names::new(&certificates, &root.key("certificates"));
        report.findings.extend(taken);
        // A certificate that could not be loaded may be the one that is meant.
        if let (Some(default), false) = (&config.default, report.failed) {
            let set = names.set_default(default);
            report.take(set.map_err(|problem| vec![Finding::error(root.key("default"), problem)]));
        }
        let names = Arc::new(names);
        let server = report.take(server_config(config, &provider, names.clone()));
        let handshake_time = config.handshake_time.get();
        let expiries = certificates.iter().map(|it| (it.names[0].clone(), it.not_after)).collect();
        match server {
            Some(server) if !report.failed => {
                let setup = Self { names, config: Arc::new(server), handshake_time, expiries };
                Ok((setup, report.findings))
            }
            _ => Err(report.findings),
        }
    }

    /// Whether a client that asked for one of these names would have been shown a certificate that
    /// is for the other one as well. A client may then use its connection for both (RFC 9113
    /// section 9.1.1); otherwise it is at the wrong door. Names are looked at in lower case.
    pub fn is_for_both(&self, asked: &str, other: &str) -> bool {
        let of =
            |name: &str| self.names.candidates(Some(&name.to_ascii_lowercase())).cloned().unwrap_or_default();
        let (shown, others) = (of(asked), of(other));
        shown.iter().any(|one| others.iter().any(|other| Arc::ptr_eq(one, other)))
    }

    /// Each certificate's first name, and when it expires, in seconds since 1970.
    pub fn expiries(&self) -> Vec<(String, i64)> {
        self.expiries.clone()
    }
}

/// Findings so far, and whether an error is among them.
#[derive(Default)]
struct Report {
    findings: Vec<Finding>,
    failed: bool,
}

impl Report {
    fn take<T>(&mut self, result: Result<T, Vec<Finding>>) -> Option<T> {
        result
            .map_err(|findings| {
                self.findings.extend(findings);
                self.failed = true;
            })
            .ok()
    }
}

fn load_certificates(
    config: &Tls,
    provider: &CryptoProvider,
    now: i64,
    report: &mut Report,
) -> Vec<ServerCertificate> {
    let at = ConfigPath::root().key("certificates");
    if config.certificates.is_empty() {
        let problem = Problem::new("no certificate is named").remedy("name at least one, with its key");
        report.take::<()>(Err(vec![Finding::error(at.clone(), problem)]));
    }
    let mut certificates = Vec::new();
    for (index, each) in config.certificates.iter().enumerate() {
        let loaded = certificate::load(each, &at.index(index), provider, now);
        if let Some((certificate, warnings)) = report.take(loaded) {
            report.findings.extend(warnings);
            certificates.push(certificate);
        }
    }
    certificates
}

fn server_config(
    config: &Tls,
    provider: &Arc<CryptoProvider>,
    names: Arc<Names>,
) -> Result<ServerConfig, Vec<Finding>> {
    let root = ConfigPath::root();
    let versions: &[_] = match config.min_version {
        MinVersion::V12 => &[&TLS13, &TLS12],
        MinVersion::V13 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(|_| {
            let problem = Problem::new("none of the cipher suites is for a TLS version that is spoken here")
                .remedy("those of TLS 1.3 begin with `TLS_AES_` or `TLS_CHACHA20_`");
            vec![Finding::error(root.key("ciphers"), problem)]
        })?;
    let builder = match &config.client {
        Some(client) => {
            builder.with_client_cert_verifier(clients::verifier(client, &root.key("client"), provider)?)
        }
        None => builder.with_no_client_auth(),
    };
    let mut server = builder.with_cert_resolver(names);
    server.alpn_protocols = alpn(config);
    server.ignore_client_order = !config.ciphers.is_empty();
    // Sessions are resumed by tickets alone: nothing is kept for clients that may not come back.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    if config.client.is_none() {
        server.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| {
            vec![Finding::error(root, Problem::new(format!("no random keys for session tickets: {error}")))]
        })?;
    } else {
        // A resumed session brings back the client certificate of the first handshake unchecked: one
        // that was revoked or expired since, or whose authority a reload removed, would still be let
        // in for as long as its ticket lives. So each connection shows and proves its certificate.
        server.send_tls13_tickets = 0;
    }
    Ok(server)
}

fn alpn(config: &Tls) -> Vec<Vec<u8>> {
    let mut protocols = vec![b"http/1.1".to_vec()];
    if config.http2 {
        protocols.insert(0, b"h2".to_vec());
    }
    protocols
}
