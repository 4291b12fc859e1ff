//! gRPC and gRPC-Web through the gateway: all four kinds of call, deadlines, and how calls fail.

use crate::harness::{Answer, Client, Exchange, Gateway, Http2, Streams, trailers, wait_until};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const IN_FLIGHT: &str = "tollgate_http_in_flight{listener=\"web\"}";
const GRPC: &[(&str, &str)] = &[("content-type", "application/grpc+proto")];

fn gateway(origin: &Streams) -> Gateway {
    Gateway::start(&format!(
        "admin: {{ address: '127.0.0.1:PORT_admin' }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web', h2c: true }} }}\n\
         upstreams: {{ calls: {{ endpoints: ['{}'], protocol: http2 }} }}\n\
         routes:\n\
         \x20 all:\n\
         \x20   policies:\n\
         \x20     grpc_web: {{}}\n\
         \x20     cors: {{ origins: ['https://app.example'], headers: [content-type, x-grpc-web] }}\n\
         \x20   to: calls\n",
        origin.address()
    ))
}

/// A message with its prefix.
fn message(text: &str) -> Vec<u8> {
    [&[0, 0, 0, 0, text.len() as u8], text.as_bytes()].concat()
}

fn call(path: &str) -> http::request::Builder {
    http::Request::post(format!("http://a{path}"))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
        .header("proxy-authorization", "Basic eA==")
}

/// A service of four kinds, and what goes wrong with one.
async fn serve(mut exchange: Exchange) {
    let path = exchange.path().to_owned();
    match path.as_str() {
        "/refuses" => exchange.head_only(
            200,
            &[
                ("content-type", "application/grpc+proto"),
                ("grpc-status", "5"),
                ("grpc-message", "none%20such"),
            ],
        ),
        "/silent" => {
            while exchange.read().await.is_some() {}
            std::future::pending::<()>().await;
        }
        "/resets" => exchange.reset(h2::Reason::INTERNAL_ERROR),
        "/page" => {
            let mut body = exchange.begin(404, &[("content-type", "text/plain")]);
            body.send_data(Bytes::from_static(b"no such page"), true).unwrap();
        }
        "/fields" => {
            let names: Vec<&str> = exchange.request.headers().keys().map(http::HeaderName::as_str).collect();
            let said = format!("{} te={:?}", names.join(" "), exchange.request.headers().get("te"));
            let mut body = exchange.begin(200, GRPC);
            body.send_data(message(&said).into(), false).unwrap();
            body.send_trailers(trailers(&[("grpc-status", "0")])).unwrap();
        }
        _ => {
            // Each message is answered by itself, before the next one is there.
            let mut body = exchange.begin(200, GRPC);
            while let Some(piece) = exchange.read().await {
                if !piece.is_empty() {
                    body.send_data(piece, false).unwrap();
                }
                if path == "/breaks" {
                    // A reset overtakes what is not sent yet.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    return body.send_reset(h2::Reason::INTERNAL_ERROR);
                }
                if path == "/stalls" {
                    std::future::pending::<()>().await;
                }
            }
            body.send_trailers(trailers(&[("grpc-status", "0"), ("x-checksum", "7")])).unwrap();
        }
    }
}

#[test]
fn calls_of_all_kinds_keep_their_messages_and_trailers() {
    let origin = Streams::start(serve);
    let gateway = gateway(&origin);
    let client = Http2::clear(gateway.web());
    // One message, several, none.
    for frames in [&[&message("one")[..]][..], &[&message("one"), &message("two"), b""], &[b""]] {
        let answer = client.send(call("/echo"), frames);
        assert_eq!((answer.status, answer.body.clone()), (200, frames.concat()));
        assert_eq!(answer.field("content-type"), Some("application/grpc+proto"));
        assert_eq!((answer.trailer("grpc-status"), answer.trailer("x-checksum")), (Some("0"), Some("7")));
    }
    // Both directions at once: neither waits for the other one's end.
    let mut talk = client.talk(client.begin(call("/echo"), &[&message("hello")], false));
    assert_eq!(talk.hear(), Some(message("hello")));
    for text in ["a", "b", "c"] {
        talk.say(&message(text), false);
        assert_eq!(talk.hear(), Some(message(text)));
    }
    talk.say(b"", true);
    assert_eq!(talk.hear(), None);
    assert!(talk.trailers().contains(&"grpc-status: 0".to_owned()));

    let refused = client.send(call("/refuses"), &[&message("x")]);
    assert_eq!(
        (refused.field("grpc-status"), refused.field("grpc-message")),
        (Some("5"), Some("none%20such"))
    );
    assert!(refused.headers_only);
    let fields = String::from_utf8(client.send(call("/fields"), &[&message("x")]).body).unwrap();
    assert!(fields.contains("te=Some(\"trailers\")"), "{fields}");
    assert!(!fields.contains("proxy-authorization"), "{fields}");
    assert_eq!(origin.connections(), 1, "streams share a connection");
    wait_until("nothing is in flight", || gateway.metric(IN_FLIGHT) == 0.0);
}

#[test]
fn a_deadline_is_kept() {
    let origin = Streams::start(serve);
    let gateway = gateway(&origin);
    let client = Http2::clear(gateway.web());
    let began = Instant::now();
    let silent = client.send(call("/silent").header("grpc-timeout", "200m"), &[&message("x")]);
    assert_eq!(
        (silent.status, silent.field("grpc-status")),
        (200, Some("4")),
        "DEADLINE_EXCEEDED: {silent:?}"
    );
    let stalled = client.send(call("/stalls").header("grpc-timeout", "300m"), &[&message("x")]);
    assert_eq!((stalled.body, stalled.cut), (message("x"), false));
    assert_eq!(
        stalled.trailers.iter().filter(|line| *line == "grpc-status: 4").count(),
        1,
        "{:?}",
        stalled.trailers
    );
    assert!(began.elapsed() < Duration::from_secs(10), "long before the upstream's own times");
    // What is no such time bounds nothing.
    let fine = client.send(call("/echo").header("grpc-timeout", "soon"), &[&message("x")]);
    assert_eq!(fine.trailer("grpc-status"), Some("0"));
    wait_until("nothing is in flight", || gateway.metric(IN_FLIGHT) == 0.0);
}

#[test]
fn a_call_that_breaks_off_ends_with_a_status() {
    let origin = Streams::start(serve);
    let gateway = gateway(&origin);
    let client = Http2::clear(gateway.web());
    let reset = client.send(call("/resets"), &[&message("x")]);
    assert_eq!((reset.status, reset.field("grpc-status")), (200, Some("14")), "UNAVAILABLE: {reset:?}");
    let broken = client.send(call("/breaks"), &[&message("x")]);
    assert_eq!((broken.body, broken.cut), (message("x"), false));
    assert_eq!(
        broken.trailers.iter().filter(|line| *line == "grpc-status: 14").count(),
        1,
        "{:?}",
        broken.trailers
    );
    drop(origin);
    let gone = client.send(call("/echo"), &[&message("x")]);
    assert_eq!((gone.status, gone.field("grpc-status")), (200, Some("14")), "{gone:?}");
}

#[test]
fn a_caller_that_leaves_is_heard_of_upstream() {
    let told = Arc::<AtomicUsize>::default();
    let count = told.clone();
    let origin = Streams::start(move |mut exchange| {
        let count = count.clone();
        async move {
            let mut body = exchange.begin(200, GRPC);
            body.send_data(message("first").into(), false).unwrap();
            let _ = std::future::poll_fn(|cx| body.poll_reset(cx)).await;
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let gateway = gateway(&origin);
    let client = Http2::clear(gateway.web());
    let mut talk = client.talk(client.begin(call("/watch"), &[&message("x")], true));
    assert_eq!(talk.hear(), Some(message("first")), "what is there comes at once");
    drop(talk);
    wait_until("the origin is told", || told.load(Ordering::SeqCst) == 1);
    wait_until("nothing is in flight", || gateway.metric(IN_FLIGHT) == 0.0);
}

/// A gRPC-Web call over HTTP/1.1.
fn web_call(gateway: &Gateway, path: &str, content_type: &str, body: &[u8]) -> Answer {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\norigin: https://app.example\r\ncontent-type: {content_type}\r\n\
         x-grpc-web: 1\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    Client::new(gateway.web()).send([head.as_bytes(), body].concat())
}

/// The trailers' frame at the end of a gRPC-Web answer.
fn last_frame(block: &str) -> Vec<u8> {
    [&[0x80, 0, 0, 0, block.len() as u8], block.as_bytes()].concat()
}

/// Base64 that was padded piece by piece.
fn decode(text: &[u8]) -> Vec<u8> {
    let groups = text.chunks(4).map(|group| STANDARD.decode(group).unwrap());
    groups.collect::<Vec<_>>().concat()
}

#[test]
fn a_page_calls_by_grpc_web() {
    let origin = Streams::start(serve);
    let gateway = gateway(&origin);
    let expected =
        [message("one"), message("two"), last_frame("grpc-status: 0\r\nx-checksum: 7\r\n")].concat();
    let asked = [message("one"), message("two")].concat();
    let binary = web_call(&gateway, "/echo", "application/grpc-web+proto", &asked);
    assert_eq!((binary.status, binary.field("content-type")), (200, Some("application/grpc-web+proto")));
    assert_eq!(binary.body, expected);
    assert_eq!(binary.field("access-control-allow-origin"), Some("https://app.example"));
    assert!(binary.field("access-control-expose-headers").is_some_and(|names| names.contains("grpc-status")));

    let text = STANDARD.encode(message("one")) + &STANDARD.encode(message("two"));
    let answer = web_call(&gateway, "/echo", "application/grpc-web-text+proto", text.as_bytes());
    assert_eq!(answer.field("content-type"), Some("application/grpc-web-text+proto"));
    assert_eq!(decode(&answer.body), expected);
    let client = Http2::clear(gateway.web());
    let request = http::Request::post("http://a/echo").header("content-type", "application/grpc-web-text");
    let over_2 = client.send(request, &[text.as_bytes()]);
    assert_eq!((decode(&over_2.body), over_2.trailers), (expected, Vec::new()));

    // A status without a body, a refusal of ours, and what is no call.
    let refused = web_call(&gateway, "/refuses", "application/grpc-web+proto", &message("x"));
    assert_eq!((refused.status, refused.field("grpc-status")), (200, Some("5")), "{refused:?}");
    assert!(refused.body.is_empty());
    let reset = web_call(&gateway, "/resets", "application/grpc-web-text", b"AAAAAAA=");
    assert_eq!((reset.status, reset.field("grpc-status")), (200, Some("14")), "{reset:?}");
    assert_eq!(reset.field("content-type"), Some("application/grpc-web-text"));
    assert!(reset.field("access-control-expose-headers").is_some_and(|names| names.contains("grpc-status")));
    let page = web_call(&gateway, "/page", "application/grpc-web", &message("x"));
    assert_eq!((page.status, page.text().as_str()), (404, "no such page"));
    let garbage = web_call(&gateway, "/echo", "application/grpc-web-text", b"#no base64#");
    assert_eq!((garbage.status, garbage.field("grpc-status")), (200, Some("13")), "{garbage:?}");

    let preflight = "OPTIONS /echo HTTP/1.1\r\nhost: a\r\norigin: https://app.example\r\n\
                     access-control-request-method: POST\r\naccess-control-request-headers: content-type,x-grpc-web\r\n\r\n";
    let allowed = Client::new(gateway.web()).send(preflight);
    assert_eq!(
        (allowed.status, allowed.field("access-control-allow-origin")),
        (204, Some("https://app.example"))
    );
    let fields = web_call(&gateway, "/fields", "application/grpc-web", &message("x")).text();
    assert!(fields.contains("te=Some(\"trailers\")") && !fields.contains("x-grpc-web"), "{fields}");
    wait_until("nothing is in flight", || gateway.metric(IN_FLIGHT) == 0.0);
}
