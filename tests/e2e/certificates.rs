//! Who calls, by client certificates: whose they are, what of them counts, and when.

use super::revocations::post;
use crate::harness::{Authority, Gateway, Origin, PATIENCE, binary, curl, wait_until};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tollgate::values::Sha256;

/// A folder with an authority in `tls`, and with certificates of several services.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    let tls = folder.path().join("tls");
    let authority = Authority::within(&tls);
    authority.issue(&tls, "site", &["localhost"]);
    for (stem, names) in [
        ("billing", &["billing.internal", "spiffe://example.internal/billing"][..]),
        ("reports", &["reports.internal", "Ops@Example.internal"]),
        ("pinned", &["pinned.internal"]),
        ("twin", &["billing.internal", "twin.internal"]),
        ("nobody", &["nobody.internal"]),
    ] {
        authority.issue(&tls, stem, names);
    }
    folder
}

fn yaml(origin: &Origin, folder: &Path, consumers: &str) -> String {
    let pinned = CertificateDer::from_pem_file(folder.join("tls/pinned.pem")).unwrap();
    let fingerprint = Sha256::of(&pinned).to_string();
    format!(
        "admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}\n\
         listeners:\n  \
           web: {{ address: '127.0.0.1:PORT_web' }}\n  \
           secure:\n    \
             address: '127.0.0.1:PORT_secure'\n    \
             tls: {{ certificates: [{{ certificate: tls/site.pem, key: tls/site.key }}], client: {{ ca: tls/ca.pem }} }}\n\
         telemetry: {{ access_log: {{ to: {{ file: access.log }}, fields: [status, consumer, principal, auth] }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
         consumers:\n{}\
         routes:\n  \
           known: {{ policies: {{ authenticate: {{ any_of: [{{ certificate: {{}} }}] }}, headers: {{ request: {{ set: {{ x-consumer: '{{consumer.name}}' }} }} }} }}, to: origin }}\n  \
           any: {{ match: {{ path: /any }}, policies: {{ authenticate: {{ any_of: [{{ certificate: {{ any: true }} }}] }}, authorize: {{ when: '\"nobody.internal\" in tls.client.dns && tls.version == \"TLSv1.3\" && tls.sni == \"localhost\"' }} }}, to: origin }}\n",
        origin.address(),
        consumers.replace("FINGERPRINT", &fingerprint),
    )
}

const CONSUMERS: &str = "  \
    billing: { credentials: [{ certificate: { uri: 'spiffe://example.internal/billing' } }, { certificate: { dns: billing.internal } }] }\n  \
    reports: { credentials: [{ certificate: { email: 'Ops@example.INTERNAL' } }] }\n  \
    pinned: { credentials: [{ certificate: { fingerprint: 'FINGERPRINT' } }] }\n  \
    twin: { credentials: [{ certificate: { subject: 'CN=twin' } }] }\n";

/// Status and body that curl gets with the certificate of this stem, if with one.
fn ask(gateway: &Gateway, stem: Option<&str>, path: &str, more: &[&str]) -> (u16, String) {
    let port = gateway.at("secure").port();
    let mut all = vec!["--cacert".to_owned(), "tls/ca.pem".to_owned()];
    if let Some(stem) = stem {
        all.extend([
            "--cert".to_owned(),
            format!("tls/{stem}.pem"),
            "--key".to_owned(),
            format!("tls/{stem}.key"),
        ]);
    }
    all.extend(more.iter().map(ToString::to_string));
    all.push(format!("https://localhost:{port}{path}"));
    let output = curl(gateway.folder(), &all);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (text.split(' ').nth(1).unwrap().parse().unwrap(), text)
}

#[test]
fn one_certificate_is_revoked_by_its_fingerprint() {
    let (origin, folder) = (Origin::saying("in"), folder());
    let yaml = yaml(&origin, folder.path(), CONSUMERS);
    let gateway = Gateway::start_in(folder, &yaml);
    let status = |stem: &str, path: &str| ask(&gateway, Some(stem), path, &[]).0;
    assert_eq!((status("billing", "/"), status("nobody", "/any")), (200, 200));
    for stem in ["billing", "nobody"] {
        let der = CertificateDer::from_pem_file(gateway.folder().join(format!("tls/{stem}.pem"))).unwrap();
        let digits = Sha256::of(&der).to_string().to_uppercase().into_bytes();
        // As openssl prints it.
        let pairs: Vec<_> = digits.chunks(2).map(String::from_utf8_lossy).collect();
        assert_eq!(post(&gateway, &json!({ "key": pairs.join(":") })).status, 201);
    }
    assert_eq!((status("billing", "/"), status("nobody", "/any")), (401, 401));
    assert_eq!(status("reports", "/"), 200, "another certificate");
}

#[test]
fn a_certificate_is_its_consumers_by_what_stands_in_it() {
    let origin = Origin::saying("in");
    let folder = folder();
    let yaml = yaml(&origin, folder.path(), CONSUMERS);
    let gateway = Gateway::start_in(folder, &yaml);
    for stem in ["billing", "reports", "pinned"] {
        for version in ["--http1.1", "--http2"] {
            // Whoever has proved who it is cannot say that it is another.
            let (status, _) = ask(&gateway, Some(stem), "/a", &[version, "-H", "x-consumer: root"]);
            assert_eq!((status, origin.last().fields("x-consumer")), (200, vec![stem]), "{version}");
        }
    }
    let before = origin.received().len();
    for (stem, cause) in
        [(None, "missing"), (Some("nobody"), "unknown_certificate"), (Some("twin"), "ambiguous")]
    {
        let (status, text) = ask(&gateway, stem, "/a", &[]);
        assert!(status == 401 && text.contains("www-authenticate: Certificate realm"), "{stem:?}: {text}");
        assert!(!text.contains(cause) && !text.contains("CN="), "a client does not learn why: {text}");
        let log = || fs::read_to_string(gateway.folder().join("access.log")).unwrap_or_default();
        wait_until("the cause is logged", || log().contains(&format!("\"auth\":\"{cause}\"")));
    }
    assert_eq!(origin.received().len(), before, "nothing refused goes upstream");
    let plain = crate::harness::get(gateway.web(), "/a");
    assert_eq!((plain.status, plain.code().as_str()), (401, "unauthenticated"), "there is none in the clear");

    assert_eq!(ask(&gateway, Some("nobody"), "/any", &[]).0, 200);
    assert_eq!(ask(&gateway, Some("nobody"), "/any", &["--tls-max", "1.2"]).0, 403, "a condition on TLS");
    assert_eq!(ask(&gateway, Some("reports"), "/any", &[]).0, 403, "a condition on the certificate");
    assert_eq!(ask(&gateway, None, "/any", &[]).0, 401);
    let log = || fs::read_to_string(gateway.folder().join("access.log")).unwrap_or_default();
    for line in [
        r#"{"status":200,"consumer":"billing","principal":"CN=billing","auth":"certificate"}"#,
        r#"{"status":200,"consumer":null,"principal":"CN=nobody","auth":"certificate"}"#,
    ] {
        wait_until(line, || log().contains(line));
    }
    let series = |outcome| {
        gateway.metric(&format!(
            "tollgate_auth_total{{method=\"certificate\",provider=\"_none\",outcome=\"{outcome}\"}}"
        ))
    };
    assert_eq!((series("unknown_certificate"), series("ambiguous")), (1.0, 1.0));
}

#[test]
fn a_consumer_that_is_taken_away_is_refused_on_the_connection_that_it_has() {
    let origin = Origin::saying("in");
    let folder = folder();
    let first = yaml(&origin, folder.path(), CONSUMERS);
    let second = yaml(
        &origin,
        folder.path(),
        "  pinned: { credentials: [{ certificate: { fingerprint: 'FINGERPRINT' } }] }\n",
    );
    let gateway = Gateway::start_in(folder, &first);
    let mut connection = connect(&gateway, "billing");
    assert_eq!(get(&mut connection), 200);
    gateway.rewrite(&second);
    assert_eq!(gateway.reload().status, 200);
    assert_eq!(get(&mut connection), 401);
    gateway.rewrite(&first);
    assert_eq!(gateway.reload().status, 200);
    assert_eq!(get(&mut connection), 200);
}

type Connection = StreamOwned<ClientConnection, TcpStream>;

fn connect(gateway: &Gateway, stem: &str) -> Connection {
    let tls = gateway.folder().join("tls");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(tls.join("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = vec![CertificateDer::from_pem_file(tls.join(format!("{stem}.pem"))).unwrap()];
    let key = PrivateKeyDer::from_pem_file(tls.join(format!("{stem}.key"))).unwrap();
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let tcp = TcpStream::connect(gateway.at("secure")).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), tcp)
}

/// The status of an answer, which is read to its end.
fn get(connection: &mut Connection) -> u16 {
    connection.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = connection.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "the connection survives");
        text.extend_from_slice(&buffer[..read]);
        let shown = String::from_utf8_lossy(&text).into_owned();
        let Some((head, body)) = shown.split_once("\r\n\r\n") else { continue };
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
        if body.len() >= length.unwrap().parse().unwrap() {
            return head.split(' ').nth(1).unwrap().parse().unwrap();
        }
    }
}

#[test]
fn explain_takes_a_certificate() {
    let folder = folder();
    let listeners = "version: 1\nlisteners:\n  web: { address: '127.0.0.1:8080' }\n  \
        secure: { address: '127.0.0.1:8443', tls: { certificates: [{ certificate: tls/site.pem, key: tls/site.key }], client: { ca: tls/ca.pem } } }\n";
    let rest = "consumers: { billing: { groups: [finance], credentials: [{ certificate: { subject: CN=billing } }] } }\n\
        routes: { all: { policies: { authenticate: { any_of: [{ certificate: { any: true } }] }, authorize: { groups: [finance], when: 'tls.client.subject == \"CN=billing\" && tls.sni == \"localhost\"' } }, to: { respond: {} } } }\n";
    fs::write(folder.path().join("gateway.yaml"), format!("{listeners}{rest}")).unwrap();
    let explain = |listener: &str, certificate: &str| {
        let mut command = binary();
        command.args(["explain", "-c", "gateway.yaml", "GET", "https://localhost/", "--listener", listener]);
        let output =
            command.args(["--certificate", certificate]).current_dir(folder.path()).output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    let (ok, text) = explain("secure", "tls/billing.pem");
    assert!(ok && text.contains("consumer `billing` of the groups finance: let in"), "{text}");
    let (ok, text) = explain("secure", "tls/nobody.pem");
    assert!(ok && text.contains("`CN=nobody`: refused"), "{text}");
    for (listener, certificate, says) in [
        ("web", "tls/billing.pem", "speaks no TLS"),
        ("secure", "tls/billing.key", "certificate"),
        ("secure", "none.pem", "cannot be read"),
    ] {
        let (ok, text) = explain(listener, certificate);
        assert!(!ok && text.contains(says), "{text}");
    }
}
