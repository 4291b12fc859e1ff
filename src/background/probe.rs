//! Probes of endpoints: over the network, as requests go, on connections of their own.

use crate::config::model::upstream::{GrpcProbe, HttpProbe, Probe};
use crate::upstream::health::Monitor;
use crate::upstream::{Endpoint, peer};
use crate::values::EndpointAddress;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, TE, USER_AGENT};
use http::{HeaderValue, Method};
use pingora_core::connectors::http::Connector;
use pingora_core::protocols::http::client::HttpSession;
use pingora_http::RequestHeader;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};

/// How much of an answer's body is looked at.
const LARGEST_BODY: usize = 64 << 10;
/// Where the gRPC health protocol is served (grpc.health.v1).
const GRPC_CHECK: &[u8] = b"/grpc.health.v1.Health/Check";

/// Probes endpoints. It reads the authorities that the operating system trusts when it is first used.
#[derive(Default)]
pub(super) struct Prober {
    connector: OnceLock<Connector>,
}

impl Prober {
    /// One probe, within the time that the monitor gives it.
    ///
    /// # Errors
    /// Why the endpoint is not well, for the log.
    pub async fn probe(&self, monitor: &Monitor, endpoint: &Endpoint) -> Result<(), String> {
        let time = monitor.active.timeout.get();
        let probe = async {
            match &monitor.active.probe {
                Probe::Tcp => connect(&endpoint.address).await,
                Probe::Http(probe) => self.http(probe, monitor, endpoint, time).await,
                Probe::Grpc(probe) => self.grpc(probe, monitor, endpoint, time).await,
            }
        };
        match tokio::time::timeout(time, probe).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer within {}", monitor.active.timeout)),
        }
    }

    async fn open(&self, endpoint: &Endpoint, time: Duration) -> Result<HttpSession, String> {
        let connector = self.connector.get_or_init(|| Connector::new(None));
        let peer = peer::for_probe(endpoint, time);
        let session = connector.get_http_session(&*peer).await;
        session.map(|(session, _)| session).map_err(|error| error.to_string())
    }

    async fn http(
        &self,
        probe: &HttpProbe,
        monitor: &Monitor,
        endpoint: &Endpoint,
        time: Duration,
    ) -> Result<(), String> {
        let host = match &probe.host {
            Some(host) => HeaderValue::try_from(host).map_err(|error| error.to_string())?,
            None => monitor.host(endpoint),
        };
        let head = head(Method::GET, probe.path.as_bytes(), host)?;
        let mut session = self.open(endpoint, time).await?;
        let said = |error: Box<pingora_error::Error>| error.to_string();
        session.write_request_header(Box::new(head)).await.map_err(said)?;
        session.finish_request_body().await.map_err(said)?;
        read_head(&mut session).await?;
        let status = session.response_header().map_or(0, |head| head.status.as_u16());
        if !probe.statuses.iter().any(|range| range.contains(status)) {
            return Err(format!("status {status}"));
        }
        let Some(expected) = &probe.body else { return Ok(()) };
        let body = read_body(&mut session).await?;
        match memchr::memmem::find(&body, expected.as_bytes()) {
            Some(_) => Ok(()),
            None => Err("the body does not hold what it should".to_owned()),
        }
    }

    async fn grpc(
        &self,
        probe: &GrpcProbe,
        monitor: &Monitor,
        endpoint: &Endpoint,
        time: Duration,
    ) -> Result<(), String> {
        let mut head = head(Method::POST, GRPC_CHECK, monitor.host(endpoint))?;
        let mut put = |name, value| head.insert_header(name, value).map_err(|error| error.to_string());
        put(CONTENT_TYPE, "application/grpc")?;
        put(TE, "trailers")?;
        let mut session = self.open(endpoint, time).await?;
        if session.as_http2().is_none() {
            return Err("it does not speak HTTP/2".to_owned());
        }
        let said = |error: Box<pingora_error::Error>| error.to_string();
        session.write_request_header(Box::new(head)).await.map_err(said)?;
        session.write_request_body(question(&probe.service), true).await.map_err(said)?;
        read_head(&mut session).await?;
        let answer = session.response_header();
        let status = answer.map_or(0, |head| head.status.as_u16());
        // An error without a message stands in the head.
        let code = answer.and_then(|head| head.headers.get("grpc-status")).map(HeaderValue::as_bytes);
        if status != 200 || code.is_some_and(|code| code != b"0") {
            let code = String::from_utf8_lossy(code.unwrap_or_default()).into_owned();
            return Err(format!("status {status}, grpc-status {code}"));
        }
        match serving_status(&read_body(&mut session).await?) {
            Some(1) => Ok(()),
            Some(status) => Err(format!("serving status {status}")),
            None => Err("the answer is no HealthCheckResponse".to_owned()),
        }
    }
}

async fn connect(address: &EndpointAddress) -> Result<(), String> {
    let connected = match address {
        EndpointAddress::Inet(address) => TcpStream::connect(address).await.map(drop),
        EndpointAddress::Unix(path) => UnixStream::connect(path).await.map(drop),
    };
    connected.map_err(|error| error.to_string())
}

fn head(method: Method, target: &[u8], host: HeaderValue) -> Result<RequestHeader, String> {
    let said = |error: Box<pingora_error::Error>| error.to_string();
    let mut head = RequestHeader::build(method, target, None).map_err(said)?;
    head.insert_header(HOST, host).map_err(said)?;
    head.insert_header(USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION"))).map_err(said)?;
    Ok(head)
}

/// Reads the head of the answer; interim ones are passed over.
async fn read_head(session: &mut HttpSession) -> Result<(), String> {
    loop {
        session.read_response_header().await.map_err(|error| error.to_string())?;
        if !session.response_header().is_some_and(|head| head.status.is_informational()) {
            return Ok(());
        }
    }
}

async fn read_body(session: &mut HttpSession) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = session.read_response_body().await.map_err(|error| error.to_string())? {
        body.extend_from_slice(&chunk);
        if body.len() >= LARGEST_BODY {
            break;
        }
    }
    Ok(body)
}

/// A `HealthCheckRequest` as a gRPC message: a flag, the length, and field 1, the service.
fn question(service: &str) -> Bytes {
    let mut message = Vec::with_capacity(service.len() + 12);
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(length as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

/// The status in a `HealthCheckResponse`: field 1, a small number; a message without it has the
/// default, 0 (unknown). None for what is no such message.
fn serving_status(body: &[u8]) -> Option<u8> {
    let (head, message) = body.split_at_checked(5)?;
    let length = u32::from_be_bytes(head[1..5].try_into().ok()?) as usize;
    let message = message.get(..length).filter(|_| head[0] == 0)?;
    match message {
        [] => Some(0),
        [0x08, status, ..] if *status < 0x80 => Some(*status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_of_a_grpc_server() {
        assert_eq!(&question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&question("a.B")[..], *b"\0\0\0\0\x05\x0a\x03a.B");
        let long = "s".repeat(300);
        let asked = question(&long);
        assert_eq!(&asked[..8], [0, 0, 0, 1, 0x2f, 0x0a, 0xac, 0x02]);
        assert_eq!(asked.len(), 5 + 3 + 300);
    }

    #[test]
    fn what_it_answers() {
        for (body, expected) in [
            (&b"\0\0\0\0\x02\x08\x01"[..], Some(1)),
            (b"\0\0\0\0\x02\x08\x02", Some(2)),
            (b"\0\0\0\0\0", Some(0)),
            (b"\x01\0\0\0\x02\x08\x01", None),
            (b"\0\0\0\0\x09\x08\x01", None),
            (b"\0\0\0\0\x01\x08", None),
            (b"\0\0", None),
            (b"", None),
        ] {
            assert_eq!(serving_status(body), expected, "{body:?}");
        }
    }
}
