//! A connection to a Redis server: TCP or a Unix socket, TLS, login.

use super::config::{RedisConfig, RedisTls, StoreAddress};
use crate::values::{ConfigPath, Finding, Problem, pem};
use futures_util::future::BoxFuture;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use socket2::{SockRef, TcpKeepalive};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// After so much silence the kernel asks whether the other end is still there.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Calls that may wait to be written.
const BUFFER: usize = 1024;

/// A connection, and what has to run for it to work.
pub(super) type Connected = (MultiplexedConnection, BoxFuture<'static, ()>);

/// Whom to connect to, and how.
pub(super) struct Target {
    address: StoreAddress,
    login: RedisConnectionInfo,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Target {
    /// What a configuration says; files are read. Paths of findings count from `redis`.
    ///
    /// # Errors
    /// What is wrong with the certificates or the name.
    pub(super) fn compile(config: &RedisConfig) -> Result<Self, Vec<Finding>> {
        let tls = config.tls.as_ref().map(|tls| secured(config, tls)).transpose();
        let tls = tls.map_err(|finding| vec![finding])?;
        let mut login = RedisConnectionInfo::default()
            .set_db(config.database.into())
            .set_lib_name("tollgate", env!("CARGO_PKG_VERSION"));
        if let Some(username) = &config.username {
            login = login.set_username(username);
        }
        if let Some(password) = &config.password {
            login = login.set_password(password.expose());
        }
        Ok(Self { address: config.address.clone(), login, tls })
    }

    /// Connects; it takes as long as it takes.
    ///
    /// # Errors
    /// In words, why there is no connection.
    pub(super) async fn connect(&self) -> Result<Connected, String> {
        match &self.address {
            StoreAddress::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| error.to_string())?;
                self.log_in(stream).await
            }
            StoreAddress::Inet(host, port) => {
                let stream =
                    TcpStream::connect((host.as_str(), *port)).await.map_err(|error| error.to_string())?;
                // What cannot be set costs time, not correctness.
                let _ = stream.set_nodelay(true);
                let _ = SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
                match &self.tls {
                    None => self.log_in(stream).await,
                    Some((connector, name)) => {
                        let secured = connector.connect(name.clone(), stream).await;
                        self.log_in(secured.map_err(|error| format!("TLS: {error}"))?).await
                    }
                }
            }
        }
    }

    async fn log_in<S>(&self, stream: S) -> Result<Connected, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // Deadlines are the caller's.
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_pipeline_buffer_size(BUFFER);
        let connected = MultiplexedConnection::new_with_config(&self.login, stream, config).await;
        let (connection, driver) = connected.map_err(|error| error.to_string())?;
        Ok((connection, Box::pin(driver)))
    }
}

fn secured(config: &RedisConfig, tls: &RedisTls) -> Result<(TlsConnector, ServerName<'static>), Finding> {
    let path = ConfigPath::root().key("tls");
    let host = match (&tls.server_name, &config.address) {
        (Some(name), _) => name.clone(),
        (None, StoreAddress::Inet(host, _)) => host.clone(),
        (None, StoreAddress::Unix(_)) => {
            let problem = Problem::new("a Unix socket has no name that a certificate could be for")
                .remedy("write `server_name`, or leave `tls` out: nothing leaves the machine");
            return Err(Finding::error(path, problem));
        }
    };
    let name = ServerName::try_from(host.clone()).map_err(|_| {
        let problem = Problem::new(format!("`{host}` is no name that a certificate could be for"))
            .remedy("write `server_name`, such as `redis.internal`");
        Finding::error(path.key("server_name"), problem)
    })?;
    // The process's provider, whoever comes first: `server::build` installs the same.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let builder = ClientConfig::builder().with_root_certificates(authorities(tls, &path)?);
    let client = match &tls.client {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let at = path.key("client");
            let wrong = |key: &str| {
                let at = at.key(key);
                move |problem| Finding::error(at, problem)
            };
            let chain = pem::pem_items::<CertificateDer<'static>>(&pair.certificate, "certificate");
            let chain = chain.map_err(wrong("certificate"))?;
            let key = pem::private_key(&pair.key).map_err(wrong("key"))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| wrong("key")(pem::explain_key(&pair.key, &error)))?
        }
    };
    Ok((TlsConnector::from(Arc::new(client)), name))
}

fn authorities(tls: &RedisTls, path: &ConfigPath) -> Result<RootCertStore, Finding> {
    let mut roots = RootCertStore::empty();
    let Some(ca) = &tls.ca else {
        let native = rustls_native_certs::load_native_certs();
        let (added, _) = roots.add_parsable_certificates(native.certs);
        if added == 0 {
            let problem = Problem::new("the system has no certificate authorities")
                .remedy("install them, or name the store's own as `ca`");
            return Err(Finding::error(path.clone(), problem));
        }
        return Ok(roots);
    };
    let wrong = |problem| Finding::error(path.key("ca"), problem);
    for certificate in pem::pem_items::<CertificateDer<'static>>(ca, "certificate").map_err(wrong)? {
        roots.add(certificate).map_err(|error| {
            let problem =
                Problem::new(format!("a certificate in `{}` cannot be an authority: {error}", ca.display()));
            wrong(problem.remedy("put the certificates of authorities into the file, and nothing else"))
        })?;
    }
    Ok(roots)
}
