use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

/// An origin that speaks HTTP/1.1 and HTTP/2, in the clear or over TLS, and answers with what it saw
/// of connection and request, as JSON. Ends when it is dropped.
pub struct Modern {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    runtime: Option<Runtime>,
}

impl Modern {
    /// In the clear; HTTP/2 with prior knowledge.
    pub fn clear() -> Self {
        Self::start(None)
    }

    /// Over TLS, with a certificate from `folder` and these protocols in ALPN. With `clients`, a file
    /// of authorities there, only those who have a certificate of theirs.
    pub fn tls(folder: &Path, stem: &str, protocols: &[&str], clients: Option<&str>) -> Self {
        let chain = CertificateDer::pem_file_iter(folder.join(format!("{stem}.pem"))).unwrap();
        let key = PrivateKeyDer::from_pem_file(folder.join(format!("{stem}.key"))).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let mut roots = RootCertStore::empty();
                for authority in CertificateDer::pem_file_iter(folder.join(file)).unwrap() {
                    roots.add(authority.unwrap()).unwrap();
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let mut config = builder.with_single_cert(chain.map(Result::unwrap).collect(), key).unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self::start(Some(TlsAcceptor::from(Arc::new(config))))
    }

    fn start(tls: Option<TlsAcceptor>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::<AtomicUsize>::default();
        let count = connections.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::spawn(accept(stream, tls.clone(), number));
            }
        });
        Self { address, connections, runtime: Some(runtime) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it accepted, those that failed their handshake included.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Modern {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

/// The gRPC health protocol: `down` does not serve, `unknown` is an error, everything else serves.
async fn check(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let asked =
        request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let is = |name: &[u8]| asked.ends_with(name);
    let answer = Response::builder().header("content-type", "application/grpc");
    if is(b"unknown") {
        return answer.header("grpc-status", "5").body(Full::default()).unwrap();
    }
    let status = if is(b"down") { 2 } else { 1 };
    answer.body(Full::new(Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, status]))).unwrap()
}

async fn accept(stream: TcpStream, tls: Option<TlsAcceptor>, number: usize) {
    let Some(tls) = tls else {
        serve(stream, json!({ "connection": number })).await;
        return;
    };
    let Ok(stream) = tls.accept(stream).await else { return };
    let (_, session) = stream.get_ref();
    let client = session.peer_certificates().map(|chain| common_name(&chain[0]));
    let about = json!({ "connection": number, "sni": session.server_name(), "client": client });
    serve(stream, about).await;
}

fn common_name(certificate: &CertificateDer<'_>) -> String {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let (_, certificate) = X509Certificate::from_der(certificate).unwrap();
    let name = certificate.subject().iter_common_name().next();
    name.and_then(|name| name.as_str().ok()).unwrap_or_default().to_owned()
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, about: Value) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut saw = about.clone();
        saw["version"] = format!("{:?}", request.version()).into();
        saw["path"] = request.uri().path().into();
        let host = request.headers().get("host").and_then(|host| host.to_str().ok());
        saw["host"] = request.uri().authority().map(http::uri::Authority::as_str).or(host).into();
        async move {
            if request.uri().path() == "/grpc.health.v1.Health/Check" {
                return Ok::<_, Infallible>(check(request).await);
            }
            Ok(Response::new(Full::new(Bytes::from(saw.to_string()))))
        }
    });
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}
