use super::certificates::{Authority, connect, get};
use super::*;
use crate::config::model::listener::Tls;
use crate::listen::HandshakeFailure;
use crate::values::Finding;
use rustls::version::TLS12;

fn tls(yaml: &str) -> Tls {
    serde_yaml::from_str(yaml).unwrap()
}

fn compile(yaml: &str) -> Arc<TlsSetup> {
    let (setup, warnings) = TlsSetup::compile(&tls(yaml)).unwrap();
    assert_eq!(warnings, []);
    Arc::new(setup)
}

impl Bench {
    fn add_tls(&self, id: u16, yaml: &str) -> SocketAddr {
        self.add(id, listener(""), Some(compile(yaml)))
    }

    async fn failures(&self, cause: HandshakeFailure, count: u64) {
        let counters = self.listeners.counters()[0].1.clone();
        patiently(async {
            while counters.handshake_failures(cause) < count {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let all = HandshakeFailure::ALL.map(|cause| counters.handshake_failures(cause));
        assert_eq!(all.iter().sum::<u64>(), count, "{all:?}");
    }
}

/// The first DNS name of the certificate that a client was shown.
async fn shown(address: SocketAddr, name: &str, authority: &Authority) -> String {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let stream = connect(address, name, &authority.client_config()).await.unwrap();
    let der = &stream.get_ref().1.peer_certificates().unwrap()[0];
    let (_, certificate) = X509Certificate::from_der(der).unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    names.value.general_names[0].to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificate_follows_from_the_name() {
    let authority = Authority::new();
    let exact = authority.issue("exact", &["a.example", "b.example"]);
    let wild = authority.issue("wild", &["*.wild.example"]);
    let bench = Bench::start();
    let address = bench.add_tls(0, &format!("certificates: [{wild}, {exact}]"));
    for (name, expected) in [
        ("a.example", "DNSName(a.example)"),
        ("B.Example", "DNSName(a.example)"),
        ("c.wild.example", "DNSName(*.wild.example)"),
    ] {
        assert_eq!(shown(address, name, &authority).await, expected, "{name}");
    }
    let config = authority.client_config();
    for name in ["deep.c.wild.example", "wild.example", "other.test"] {
        let error = get(address, name, &config, "/").await.unwrap_err().to_string();
        assert!(error.contains("UnrecognisedName"), "{name}: {error}");
    }
    let error = get(address, "127.0.0.1", &config, "/").await.unwrap_err().to_string();
    assert!(error.contains("UnrecognisedName"), "no name at all: {error}");
    bench.failures(HandshakeFailure::UnknownName, 4).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_default_serves_who_asks_for_no_known_name() {
    let authority = Authority::new();
    let first = authority.issue("first", &["a.example"]);
    let second = authority.issue("second", &["b.example", "127.0.0.1"]);
    let bench = Bench::start();
    let address = bench.add_tls(0, &format!("{{ certificates: [{first}, {second}], default: b.example }}"));
    let answer = get(address, "127.0.0.1", &authority.client_config(), "/who").await.unwrap();
    assert!(answer.body.contains("sni=None http2=false"), "{}", answer.body);
    let error = get(address, "c.example", &authority.client_config(), "/").await.unwrap_err();
    assert!(error.to_string().contains("only valid for DnsName(\"b.example\")"), "{error}");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_over_tls_keeps_the_connection_and_its_limits() {
    let authority = Authority::new();
    let certificate = authority.issue("a", &["a.example"]);
    let bench = Bench::start();
    let config = listener("limits: { header_time: 200ms, idle: 1h }");
    let address = bench.add(0, config, Some(compile(&format!("certificates: [{certificate}]"))));
    let mut client = Client::over(connect(address, "a.example", &authority.client_config()).await.unwrap());
    assert!(client.get("/who").await.body.contains("sni=Some(\"a.example\")"));
    assert_eq!(client.get("/large").await.body.len(), LARGE);
    let body = "y".repeat(LARGE);
    client.send(&format!("POST /count HTTP/1.1\r\nhost: a\r\ncontent-length: {LARGE}\r\n\r\n{body}")).await;
    assert_eq!(client.receive().await.body, LARGE.to_string());
    client.send("GET / HTTP/1.1\r\nhos").await;
    assert_eq!(client.receive().await.status, 408);
    client.closed().await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alpn_settles_on_http_2_unless_it_is_off() {
    let authority = Authority::new();
    let certificate = authority.issue("a", &["a.example"]);
    let bench = Bench::start();
    let address = bench.add_tls(0, &format!("certificates: [{certificate}]"));
    let mut config = authority.client_config();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = connect(address, "a.example", &config).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let body = http2::get(stream, "/who").await;
    assert!(body.contains("sni=Some(\"a.example\") http2=true"), "{body}");

    let old = bench.add_tls(1, &format!("{{ certificates: [{certificate}], http2: false }}"));
    let stream = connect(old, "a.example", &config).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_must_begin_in_time() {
    let authority = Authority::new();
    let certificate = authority.issue("a", &["a.example"]);
    let bench = Bench::start();
    let config = listener("limits: { header_time: 100ms, idle: 200ms }");
    let address = bench.add(0, config, Some(compile(&format!("certificates: [{certificate}]"))));
    let mut config = authority.client_config();
    config.alpn_protocols = vec![b"h2".to_vec()];
    for begin in ["", "PRI * HT", "GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut client = Client::over(connect(address, "a.example", &config).await.unwrap());
        client.send(begin).await;
        patiently(bench.listeners.drained()).await;
    }
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_versions_and_other_ciphers_are_refused() {
    let authority = Authority::new();
    let certificate = authority.issue("a", &["a.example"]);
    let bench = Bench::start();
    let strict = bench.add_tls(0, &format!("{{ certificates: [{certificate}], min_version: '1.3' }}"));
    let old = authority.trusting(None, &[&TLS12]);
    assert!(get(strict, "a.example", &old, "/").await.is_err());
    assert!(get(strict, "a.example", &authority.client_config(), "/").await.is_ok());
    bench.failures(HandshakeFailure::Incompatible, 1).await;

    let both = bench.add_tls(1, &format!("certificates: [{certificate}]"));
    assert!(get(both, "a.example", &old, "/").await.is_ok());

    let wanted = "TLS_AES_256_GCM_SHA384";
    let picky = bench.add_tls(2, &format!("{{ certificates: [{certificate}], ciphers: [{wanted}] }}"));
    let stream = connect(picky, "a.example", &authority.client_config()).await.unwrap();
    let suite = stream.get_ref().1.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, rustls::CipherSuite::TLS13_AES_256_GCM_SHA384);
    assert!(get(picky, "a.example", &old, "/").await.is_err(), "1.2 has no suite left");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_certificates_are_verified() {
    let authority = Authority::new();
    let server = authority.issue("a", &["a.example"]);
    authority.revoke(13);
    let (ca, crl) = (authority.path("ca.pem"), authority.path("crl.pem"));
    let (ca, crl) = (ca.display(), crl.display());
    let bench = Bench::start();
    let required = bench.add_tls(
        0,
        &format!("{{ certificates: [{server}], client: {{ ca: {ca}, crl: {crl}, require: true }} }}"),
    );
    let optional = bench.add_tls(1, &format!("{{ certificates: [{server}], client: {{ ca: {ca} }} }}"));
    let anonymous = authority.client_config();
    let known = authority.trusting(Some(&authority.client("billing", 12)), rustls::ALL_VERSIONS);
    let revoked = authority.trusting(Some(&authority.client("fired", 13)), rustls::ALL_VERSIONS);
    let stranger = authority.trusting(Some(&Authority::new().client("stranger", 1)), rustls::ALL_VERSIONS);

    // The same configuration twice: a resumed session would bring its certificate back unseen.
    for _ in 0..2 {
        let answer = get(required, "a.example", &known, "/who").await.unwrap();
        let expected = "subject=Some(\"CN=billing\") names=Some([\"billing.example\"])";
        assert!(answer.body.ends_with(expected), "{}", answer.body);
    }
    assert!(get(required, "a.example", &anonymous, "/").await.is_err());
    bench.failures(HandshakeFailure::CertificateMissing, 1).await;
    assert!(get(required, "a.example", &revoked, "/").await.is_err());
    assert!(get(required, "a.example", &stranger, "/").await.is_err());
    let counters = bench.listeners.counters()[0].1.clone();
    patiently(async {
        while counters.handshake_failures(HandshakeFailure::CertificateInvalid) < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;

    let answer = get(optional, "a.example", &anonymous, "/who").await.unwrap();
    assert!(answer.body.ends_with("subject=None names=None"), "{}", answer.body);
    assert!(get(optional, "a.example", &known, "/who").await.unwrap().body.contains("CN=billing"));
    assert!(get(optional, "a.example", &stranger, "/").await.is_err(), "optional does not mean any");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_for_the_next_handshake() {
    let authority = Authority::new();
    let before = authority.issue("before", &["before.example", "a.example"]);
    let after = authority.issue("after", &["after.example", "a.example"]);
    let bench = Bench::start();
    let address = bench.add_tls(0, &format!("certificates: [{before}]"));
    let mut open = Client::over(connect(address, "a.example", &authority.client_config()).await.unwrap());
    assert_eq!(open.get("/").await.status, 200);
    assert_eq!(shown(address, "a.example", &authority).await, "DNSName(before.example)");
    let setup = compile(&format!("certificates: [{after}]"));
    assert!(bench.listeners.update(ListenerId(0), Arc::new(listener("")), Some(setup)));
    assert_eq!(shown(address, "a.example", &authority).await, "DNSName(after.example)");
    assert_eq!(open.get("/").await.status, 200, "an open connection goes on");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_resumed_by_ticket() {
    let authority = Authority::new();
    let certificate = authority.issue("a", &["a.example"]);
    let bench = Bench::start();
    let address = bench.add_tls(0, &format!("certificates: [{certificate}]"));
    let config = authority.client_config();
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let mut client = Client::over(connect(address, "a.example", &config).await.unwrap());
        assert_eq!(client.get("/").await.status, 200);
        kinds.push(client.0.get_ref().get_ref().1.handshake_kind().unwrap());
    }
    assert_eq!(kinds[1], rustls::HandshakeKind::Resumed, "{kinds:?}");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_comes_to_nothing_is_counted_by_cause() {
    let authority = Authority::new();
    let certificate = authority.issue("a", &["a.example"]);
    let bench = Bench::start();
    let yaml = format!("{{ certificates: [{certificate}], handshake_time: 50ms }}");
    let address = bench.add_tls(0, &yaml);
    let mut slow = Client::connect(address).await;
    slow.send("\u{16}").await;
    slow.closed().await;
    bench.failures(HandshakeFailure::TimedOut, 1).await;
    let yaml = format!("{{ certificates: [{certificate}], handshake_time: 1h }}");
    bench.listeners.update(ListenerId(0), Arc::new(listener("")), Some(compile(&yaml)));
    drop(Client::connect(address).await);
    let counters = bench.listeners.counters()[0].1.clone();
    patiently(async {
        while counters.handshake_failures(HandshakeFailure::Closed) < 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut plain = Client::connect(address).await;
    plain.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    patiently(async {
        while counters.handshake_failures(HandshakeFailure::NotTls) < 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    bench.stop().await;
}

/// Severity, path and text of each finding, a line each.
fn report(findings: &[Finding], authority: &Authority) -> Vec<String> {
    let folder = authority.path("").display().to_string();
    findings
        .iter()
        .map(|finding| {
            format!("{:?} {}: {}", finding.severity, finding.path, finding.problem.what).replace(&folder, "")
        })
        .collect()
}

#[test]
fn what_does_not_fit_is_found() {
    let authority = Authority::new();
    let good = authority.issue("good", &["a.example"]);
    let other = authority.issue("other", &["b.example"]);
    let nameless = authority.place("nameless", &authority.sign(&rcgen::CertificateParams::default()));
    authority.write("empty.pem", "");
    authority.write("text.pem", "not at all");
    let at = |certificate: &str, key: &str| {
        let (certificate, key) = (authority.path(certificate), authority.path(key));
        format!("{{ certificate: {}, key: {} }}", certificate.display(), key.display())
    };
    let swapped = at("good.pem", "other.key");
    let missing = at("missing.pem", "missing.key");
    let crossed = at("good.key", "good.pem");
    let text = at("text.pem", "empty.pem");
    let ca = |ca: &str, crl: &str| {
        let (ca, crl) = (authority.path(ca), authority.path(crl));
        format!("certificates: [{good}], client: {{ ca: {}, crl: {} }}", ca.display(), crl.display())
    };
    for (yaml, expected) in [
        (
            format!("certificates: [{good}, {missing}]"),
            vec![
                "Error certificates[1].certificate: file `missing.pem` cannot be read: No such file or directory (os error 2)",
                "Error certificates[1].key: file `missing.key` cannot be read: No such file or directory (os error 2)",
            ],
        ),
        (
            format!("certificates: [{crossed}]"),
            vec![
                "Error certificates[0].certificate: file `good.key` has no certificate in it",
                "Error certificates[0].key: file `good.pem` has no private key in it",
            ],
        ),
        (
            format!("certificates: [{text}]"),
            vec![
                "Error certificates[0].certificate: file `text.pem` is not PEM",
                "Error certificates[0].key: file `empty.pem` is not PEM",
            ],
        ),
        (
            format!("certificates: [{swapped}]"),
            vec!["Error certificates[0].key: the key in `other.key` does not belong to the certificate"],
        ),
        (
            format!("certificates: [{nameless}]"),
            vec!["Error certificates[0].certificate: the certificate in `nameless.pem` is for no name"],
        ),
        ("certificates: []".to_owned(), vec!["Error certificates: no certificate is named"]),
        (
            format!("certificates: [{good}, {other}], default: c.example"),
            vec!["Error default: unknown certificate name `c.example`"],
        ),
        (
            format!("certificates: [{good}], ciphers: [TLS_AES_128_GCM_SHA257]"),
            vec!["Error ciphers[0]: unknown cipher suite `TLS_AES_128_GCM_SHA257`"],
        ),
        (
            format!(
                "certificates: [{good}], min_version: '1.3', ciphers: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]"
            ),
            vec!["Error ciphers: none of the cipher suites is for a TLS version that is spoken here"],
        ),
        (
            ca("good.key", "text.pem"),
            vec![
                "Error client.ca: file `good.key` has no certificate in it",
                "Error client.crl: file `text.pem` is not PEM",
            ],
        ),
    ] {
        let findings = TlsSetup::compile(&tls(&format!("{{ {yaml} }}"))).unwrap_err();
        assert_eq!(report(&findings, &authority), expected, "{yaml}");
    }
}

#[test]
fn what_is_odd_is_warned_of() {
    let authority = Authority::new();
    let first = authority.issue("first", &["a.example", "b.example"]);
    let second = authority.issue_until("second", &["c.example", "b.example"], 2099);
    let yaml = format!("certificates: [{first}, {second}]");
    // One day before 2099 begins.
    let new_year = 4_070_908_800;
    let (setup, findings) = TlsSetup::compile_at(&tls(&yaml), new_year - 86_400).unwrap();
    assert_eq!(
        report(&findings, &authority),
        [
            "Warning certificates[1].certificate: the certificate in `second.pem` expires soon, at 2099-01-01T00:00:00Z",
            "Warning certificates[1].certificate: name `b.example` has a certificate already, with the same kind of key",
        ]
    );
    assert_eq!(findings[1].other.as_ref().unwrap().to_string(), "certificates[0].certificate");
    assert_eq!(setup.expiries()[1], ("c.example".to_owned(), new_year));
    let (_, findings) = TlsSetup::compile_at(&tls(&yaml), new_year + 1).unwrap();
    assert_eq!(
        report(&findings[..1], &authority),
        [
            "Warning certificates[1].certificate: the certificate in `second.pem` expired at 2099-01-01T00:00:00Z"
        ]
    );
}
