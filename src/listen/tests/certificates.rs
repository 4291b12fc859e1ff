//! Certificates that a test makes for itself, in a folder that goes with it.

use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::path::PathBuf;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// An authority, and the folder with what it has issued.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

/// A certificate with its key, as PEM.
pub(super) struct Issued {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { issuer, folder: tempfile::tempdir().unwrap() };
        authority.write("ca.pem", &authority.issuer.pem());
        authority
    }

    pub(super) fn write(&self, file: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(file);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    pub(super) fn sign(&self, params: &CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// Issues a certificate for these names into `<stem>.pem` and `<stem>.key`; a line for
    /// `certificates`.
    pub(super) fn issue(&self, stem: &str, names: &[&str]) -> String {
        self.issue_until(stem, names, 2100)
    }

    pub(super) fn issue_until(&self, stem: &str, names: &[&str], year: i32) -> String {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        let issued = self.sign(&params);
        self.place(stem, &issued)
    }

    /// A line for `certificates` with these files.
    pub(super) fn place(&self, stem: &str, issued: &Issued) -> String {
        let certificate = self.write(&format!("{stem}.pem"), &issued.certificate);
        let key = self.write(&format!("{stem}.key"), &issued.key);
        format!("{{ certificate: {}, key: {} }}", certificate.display(), key.display())
    }

    /// A client's certificate, by the serial number that [`Authority::revoke`] knows it by.
    pub(super) fn client(&self, name: &str, serial: u64) -> Issued {
        let mut params = CertificateParams::new(vec![format!("{name}.example")]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(serial));
        self.sign(&params)
    }

    /// Writes a revocation list into `crl.pem`.
    pub(super) fn revoke(&self, serial: u64) {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        self.write("crl.pem", &list.signed_by(&self.issuer).unwrap().pem().unwrap());
    }

    /// A client's side of TLS that trusts this authority.
    pub(super) fn trusting(
        &self,
        certificate: Option<&Issued>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        match certificate {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                let chain = vec![CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        }
    }

    /// Both versions, no certificate.
    pub(super) fn client_config(&self) -> ClientConfig {
        self.trusting(None, rustls::ALL_VERSIONS)
    }
}

pub(super) async fn connect(
    address: SocketAddr,
    name: &str,
    config: &ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = patiently(TcpStream::connect(address)).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    patiently(TlsConnector::from(Arc::new(config.clone())).connect(name, tcp)).await
}

/// A request over TLS: the error of the handshake, or of the first read, which is where TLS 1.3
/// tells a client that its certificate was refused.
pub(super) async fn get(
    address: SocketAddr,
    name: &str,
    config: &ClientConfig,
    path: &str,
) -> std::io::Result<Answer> {
    let mut client = Client::over(connect(address, name, config).await?);
    client.try_send(&format!("GET {path} HTTP/1.1\r\nhost: {name}\r\n\r\n")).await?;
    patiently(client.try_receive()).await
}
