use super::*;
use crate::values::{ByteSize, Duration};
use std::io::{Read, Write};
use std::net::TcpListener;

/// Answers one connection with these bytes once a whole head came; where it listens.
fn server(answer: &'static [u8]) -> ServiceUrl {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
            head.push(byte[0]);
        }
        let _ = stream.write_all(answer);
        // Until the caller has what it wants.
        let _ = stream.read(&mut byte);
    });
    url
}

fn client(config: &CallConfig) -> Client {
    Outbound::default().client(config).unwrap()
}

#[tokio::test]
async fn an_answer_of_any_status_is_an_answer() {
    let url = server(b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\ncache-control: max-age=7\r\n\r\nnone");
    let answer = client(&CallConfig::default()).call(Call::get(url)).await.unwrap();
    assert_eq!((answer.status.as_u16(), &*answer.body, answer.max_age()), (404, &b"none"[..], Some(7)));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let url = server(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n");
    let answer = client(&CallConfig::default()).call(Call::get(url)).await.unwrap();
    assert_eq!(answer.status.as_u16(), 302);
}

#[tokio::test]
async fn what_is_too_large_is_not_read() {
    let config = CallConfig { max_answer: "8B".parse::<ByteSize>().unwrap(), ..CallConfig::default() };
    for answer in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123456789"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n12345\r\n4\r\n6789\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999\r\n\r\n1",
    ] {
        let failed = client(&config).call(Call::get(server(answer))).await.unwrap_err();
        assert_eq!(failed, Failure::TooLarge(8));
    }
}

#[tokio::test]
async fn every_call_ends() {
    let config = CallConfig { timeout: Duration::from_millis(50), ..CallConfig::default() };
    for answer in [&b""[..], b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n123"] {
        let failed = client(&config).call(Call::get(server(answer))).await.unwrap_err();
        assert_eq!(failed, Failure::Timeout(config.timeout.get()));
    }
}

#[tokio::test]
async fn what_is_not_http_is_a_failure() {
    let failed =
        client(&CallConfig::default()).call(Call::get(server(b"SSH-2.0\r\n\r\n"))).await.unwrap_err();
    assert!(matches!(failed, Failure::Broken(_)), "{failed}");
}

#[tokio::test]
async fn nobody_there_is_a_failure() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}/?secret=x").parse().unwrap();
    let failed = client(&CallConfig::default()).call(Call::get(url)).await.unwrap_err();
    assert!(matches!(failed, Failure::Connect(_)), "{failed}");
    assert!(!failed.to_string().contains("secret"), "{failed}");
}

#[test]
fn clients_with_the_same_authorities_share_connections() {
    let outbound = Outbound::default();
    let first = outbound.client(&CallConfig::default()).unwrap();
    let slow = CallConfig { timeout: Duration::from_secs(60), ..CallConfig::default() };
    let second = outbound.client(&slow).unwrap();
    assert!(Arc::ptr_eq(&first.inner, &second.inner));
}

#[test]
fn a_file_without_authorities_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let config = CallConfig { ca: Some(path.clone()), ..CallConfig::default() };
    assert!(Outbound::default().client(&config).unwrap_err().what.contains("cannot be read"));
    for text in ["", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        std::fs::write(&path, text).unwrap();
        assert!(Outbound::default().client(&config).is_err(), "{text}");
    }
}

#[test]
fn how_long_an_answer_may_be_reused() {
    for (values, age) in [
        (&[][..], None),
        (&["max-age=60"], Some(60)),
        (&["public, Max-Age=\"60\""], Some(60)),
        (&["max-age=60", "max-age=30"], Some(30)),
        (&["max-age=60, no-store"], Some(0)),
        (&["no-cache"], Some(0)),
        (&["max-age=-1"], Some(0)),
        (&["max-age=99999999999999999999999"], Some(0)),
        (&["public"], None),
    ] {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(http::header::CACHE_CONTROL, HeaderValue::from_static(value));
        }
        let answer = Answer { status: StatusCode::OK, headers, body: Bytes::new() };
        assert_eq!(answer.max_age(), age, "{values:?}");
    }
}
