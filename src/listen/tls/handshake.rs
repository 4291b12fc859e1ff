use super::setup::TlsSetup;
use super::suites::iana_name;
use crate::identity::certificate::{ClientCertificate, ClientTls};
use crate::listen::counters::HandshakeFailure;
use rustls::server::{Acceptor, ServerConnection};
use rustls::{Error, ProtocolVersion};
use std::io;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// A fatal alert `unrecognized_name` (RFC 6066 section 3), as a record in the clear. rustls would
/// say `access_denied`, which clients take for a matter of their certificate.
const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x70];

/// Why a handshake came to nothing.
#[derive(Debug)]
pub(in crate::listen) struct Failed {
    pub(in crate::listen) cause: HandshakeFailure,
    pub(in crate::listen) detail: String,
}

impl TlsSetup {
    /// Does the handshake, within its time.
    pub(in crate::listen) async fn handshake(
        &self,
        tcp: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, ClientTls), Failed> {
        match pingora_timeout::timeout(self.handshake_time, self.negotiate(tcp)).await {
            Ok(done) => done,
            Err(_) => Err(Failed { cause: HandshakeFailure::TimedOut, detail: String::new() }),
        }
    }

    async fn negotiate(&self, tcp: TcpStream) -> Result<(TlsStream<TcpStream>, ClientTls), Failed> {
        let start = LazyConfigAcceptor::new(Acceptor::default(), tcp).await?;
        let name = start.client_hello().server_name().map(str::to_owned);
        if self.names.candidates(name.as_deref()).is_none() {
            let mut tcp = start.io;
            // A client that has gone need not know.
            let _ = tcp.write_all(&UNRECOGNIZED_NAME).await;
            let _ = tcp.shutdown().await;
            let detail = name.unwrap_or_else(|| "no name".to_owned());
            return Err(Failed { cause: HandshakeFailure::UnknownName, detail });
        }
        let stream = start.into_stream(self.config.clone()).await?;
        let client = facts(name, stream.get_ref().1)?;
        Ok((stream, client))
    }
}

fn facts(sni: Option<String>, session: &ServerConnection) -> Result<ClientTls, Failed> {
    let certificate = match session.peer_certificates().and_then(<[_]>::first) {
        None => None,
        // Without its facts the client would pass for one that has shown no certificate.
        Some(der) => Some(Box::new(ClientCertificate::parse(der).ok_or_else(|| Failed {
            cause: HandshakeFailure::CertificateInvalid,
            detail: "the client's certificate cannot be parsed".to_owned(),
        })?)),
    };
    Ok(ClientTls {
        sni,
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        },
        cipher: session.negotiated_cipher_suite().map_or("unknown", |suite| iana_name(suite.suite())),
        http2: session.alpn_protocol() == Some(b"h2"),
        certificate,
    })
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        let cause = match tls {
            None => HandshakeFailure::Closed,
            Some(Error::InvalidMessage(_)) => HandshakeFailure::NotTls,
            Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => HandshakeFailure::Incompatible,
            Some(Error::NoCertificatesPresented) => HandshakeFailure::CertificateMissing,
            Some(Error::InvalidCertificate(_) | Error::InvalidCertRevocationList(_)) => {
                HandshakeFailure::CertificateInvalid
            }
            Some(_) => HandshakeFailure::Other,
        };
        Self { cause, detail: error.to_string() }
    }
}
