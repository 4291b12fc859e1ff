//! TLS with real clients: curl, rustls and h2.

use crate::harness::{Authority, Gateway, PATIENCE, curl, send};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

fn gateway(settings: &str) -> Gateway {
    let folder = TempDir::new().unwrap();
    let tls = folder.path().join("tls");
    let authority = Authority::within(&tls);
    authority.issue(&tls, "site", &["localhost", "site.example"]);
    authority.issue(&tls, "wild", &["*.wild.example"]);
    authority.issue(&tls, "me", &["me.example"]);
    authority.issue(&tls, "former", &["former.example"]);
    authority.revoke(&tls, &["former"]);
    let theirs = folder.path().join("strangers");
    Authority::within(&theirs).issue(&theirs, "other", &["me.example"]);
    Gateway::start_in(
        folder,
        &format!(
            "admin: {{ address: '127.0.0.1:PORT_admin' }}\n\
             listeners:\n  web: {{ address: '127.0.0.1:PORT_web' }}\n  secure:\n    address: '127.0.0.1:PORT_secure'\n    \
             tls: {{ certificates: [{{ certificate: tls/site.pem, key: tls/site.key }}, {{ certificate: tls/wild.pem, key: tls/wild.key }}]{settings} }}\n\
             routes:\n  plain: {{ on: [web], to: {{ redirect: {{ scheme: https }} }} }}\n  all: {{ on: [secure], to: {{ echo: {{}} }} }}\n"
        ),
    )
}

/// The version of HTTP and the body, or what curl says.
fn ask(gateway: &Gateway, name: &str, arguments: &[&str]) -> Result<(String, String), String> {
    let port = gateway.at("secure").port();
    let mut all = vec!["--cacert".to_owned(), "tls/ca.pem".to_owned(), "--resolve".to_owned()];
    all.extend([format!("{name}:{port}:127.0.0.1"), format!("https://{name}:{port}/")]);
    all.extend(arguments.iter().map(ToString::to_string));
    let output = curl(gateway.folder(), &all);
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200"), "{text}");
    Ok((head.split(' ').next().unwrap().to_owned(), body.to_owned()))
}

#[test]
fn curl_speaks_both_versions_of_http() {
    let gateway = gateway("");
    let (version, body) = ask(&gateway, "site.example", &[]).unwrap();
    assert_eq!(version, "HTTP/2", "agreed on by ALPN");
    assert!(body.contains("\"scheme\": \"https\""), "{body}");
    assert_eq!(ask(&gateway, "site.example", &["--http1.1"]).unwrap().0, "HTTP/1.1");
    assert_eq!(ask(&gateway, "a.wild.example", &[]).unwrap().0, "HTTP/2");
    assert!(ask(&gateway, "a.b.wild.example", &[]).is_err(), "a wildcard is one label");
    assert!(ask(&gateway, "unknown.example", &["-k"]).is_err(), "an unknown name is refused");
    let metrics = gateway.admin("GET", "/metrics", "").text();
    assert!(metrics.contains("tollgate_certificate_expiry_seconds{"), "{metrics}");
    let plain = send(gateway.web(), "GET /a?b HTTP/1.1\r\nhost: site.example\r\nconnection: close\r\n\r\n");
    assert_eq!((plain.status, plain.field("location")), (308, Some("https://site.example/a?b")));
}

#[test]
fn http2_can_be_switched_off_and_a_default_named() {
    let gateway = gateway(", http2: false, default: site.example");
    assert_eq!(ask(&gateway, "site.example", &[]).unwrap().0, "HTTP/1.1");
    assert!(ask(&gateway, "unknown.example", &["-k"]).is_ok(), "an unknown name gets the default");
    assert!(ask(&gateway, "unknown.example", &[]).is_err(), "which is not its own");
}

#[test]
fn an_old_version_is_refused() {
    let gateway = gateway(", min_version: '1.3'");
    assert!(ask(&gateway, "site.example", &["--tls-max", "1.2"]).is_err());
    assert!(ask(&gateway, "site.example", &["--tlsv1.3"]).is_ok());
}

const ME: [&str; 4] = ["--cert", "tls/me.pem", "--key", "tls/me.key"];
const FORMER: [&str; 4] = ["--cert", "tls/former.pem", "--key", "tls/former.key"];
const STRANGER: [&str; 4] = ["--cert", "strangers/other.pem", "--key", "strangers/other.key"];

#[test]
fn a_client_certificate_is_required() {
    let gateway = gateway(", client: { ca: tls/ca.pem, crl: tls/revoked.pem, require: true }");
    assert!(ask(&gateway, "site.example", &ME).is_ok());
    for arguments in [&[][..], &FORMER, &STRANGER] {
        for version in ["--tlsv1.3", "--tls-max=1.2"] {
            let version: Vec<&str> = version.split('=').collect();
            let arguments = [arguments, &version].concat();
            assert!(ask(&gateway, "site.example", &arguments).is_err(), "{arguments:?}");
        }
    }
}

#[test]
fn a_client_certificate_is_optional_and_then_has_to_be_good() {
    let gateway = gateway(", client: { ca: tls/ca.pem, crl: tls/revoked.pem }");
    assert!(ask(&gateway, "site.example", &[]).is_ok());
    assert!(ask(&gateway, "site.example", &ME).is_ok());
    assert!(ask(&gateway, "site.example", &FORMER).is_err(), "revoked");
    assert!(ask(&gateway, "site.example", &STRANGER).is_err(), "of an unknown authority");
}

fn client_config(
    folder: &Path,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&str],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("tls/ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let chain = vec![CertificateDer::from_pem_file(folder.join("tls/me.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(folder.join("tls/me.key")).unwrap();
    let mut config = builder.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

#[test]
fn rustls_speaks_http1_on_one_connection() {
    let gateway = gateway("");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = client_config(gateway.folder(), &[version], &["http/1.1"]);
        let name = ServerName::try_from("site.example").unwrap();
        let tcp = TcpStream::connect(gateway.at("secure")).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), tcp);
        stream.write_all(b"GET /1 HTTP/1.1\r\nhost: site.example\r\n\r\n").unwrap();
        let mut first = Vec::new();
        while !first.ends_with(b"}\n") {
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).unwrap();
            assert_ne!(read, 0);
            first.extend_from_slice(&buffer[..read]);
        }
        stream.write_all(b"GET /2 HTTP/1.1\r\nhost: site.example\r\nconnection: close\r\n\r\n").unwrap();
        let mut second = String::new();
        stream.read_to_string(&mut second).unwrap_or_else(|error| panic!("a clean end of TLS: {error}"));
        assert!(second.starts_with("HTTP/1.1 200") && second.contains("\"path\": \"/2\""), "{second}");
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    }
}

#[test]
fn h2_runs_many_requests_at_a_time() {
    let gateway = gateway("");
    let config = client_config(gateway.folder(), rustls::ALL_VERSIONS, &["h2", "http/1.1"]);
    let address = gateway.at("secure");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let all = async {
        let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("site.example").unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (requests, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let each = (0..50).map(|n| {
            let requests = requests.clone();
            async move {
                let request = http::Request::get(format!("https://site.example/{n}")).body(()).unwrap();
                let (response, _) = requests.ready().await.unwrap().send_request(request, true).unwrap();
                let mut response = response.await.unwrap();
                let mut body = Vec::new();
                while let Some(chunk) = response.body_mut().data().await {
                    let chunk = chunk.unwrap();
                    response.body_mut().flow_control().release_capacity(chunk.len()).unwrap();
                    body.extend_from_slice(&chunk);
                }
                let echo: serde_json::Value = serde_json::from_slice(&body).unwrap();
                assert_eq!((response.status().as_u16(), &echo["path"]), (200, &format!("/{n}").into()));
            }
        });
        futures_util::future::join_all(each).await;
        connection.abort();
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, all).await.unwrap() });
}

#[test]
fn plain_text_on_a_tls_port_harms_nobody() {
    let gateway = gateway("");
    let answer = send(gateway.at("secure"), "GET / HTTP/1.1\r\nhost: site.example\r\n\r\n");
    assert_eq!(answer.status, 0, "no answer that could be taken for one: {answer:?}");
    assert!(ask(&gateway, "site.example", &[]).is_ok());
}
