use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::ClientConfig;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// A certificate authority that lives as long as a test.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// The stems of what was issued; a serial number is a place here, from 1.
    issued: Mutex<Vec<String>>,
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, issued: Mutex::default() }
    }

    /// A new one that has written itself to `ca.pem` in this folder, and to `revoked.pem` that nothing
    /// is revoked.
    pub fn within(folder: &Path) -> Self {
        let authority = Self::new();
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("ca.pem"), authority.issuer.pem()).unwrap();
        authority.revoke(folder, &[]);
        authority
    }

    /// Issues a certificate for these names (DNS names, addresses, URIs, mail addresses) into a folder, as
    /// `<stem>.pem` and `<stem>.key`; an entry for `certificates`.
    pub fn issue(&self, folder: &Path, stem: &str, names: &[&str]) -> String {
        self.issue_until(folder, stem, names, (2100, 1, 1))
    }

    /// The same, valid until the beginning of a day: year, month and day.
    pub fn issue_until(
        &self,
        folder: &Path,
        stem: &str,
        names: &[&str],
        (year, month, day): (i32, u8, u8),
    ) -> String {
        let is_other = |name: &&str| name.contains("://") || name.contains('@');
        let (others, names): (Vec<&str>, Vec<&str>) = names.iter().copied().partition(is_other);
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.subject_alt_names.extend(others.into_iter().map(|name| match name.contains("://") {
            true => SanType::URI(name.try_into().unwrap()),
            false => SanType::Rfc822Name(name.try_into().unwrap()),
        }));
        params.distinguished_name.push(DnType::CommonName, stem);
        params.not_after = date_time_ymd(year, month, day);
        let serial = {
            let mut issued = self.issued.lock().unwrap();
            issued.push(stem.to_owned());
            issued.len() as u64
        };
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let write = |ending: &str, text: String| {
            let (fresh, path) = (folder.join("fresh.tmp"), folder.join(format!("{stem}.{ending}")));
            std::fs::write(&fresh, text).unwrap();
            std::fs::rename(fresh, &path).unwrap();
            path
        };
        // The key first: whoever watches the certificate finds both.
        let key = write("key", key.serialize_pem());
        let certificate = write("pem", certificate.pem());
        format!("{{ certificate: '{}', key: '{}' }}", certificate.display(), key.display())
    }

    /// Writes to `revoked.pem` that the certificates of these stems are revoked.
    pub fn revoke(&self, folder: &Path, stems: &[&str]) {
        let issued = self.issued.lock().unwrap();
        let serials = (1_u64..).zip(issued.iter()).filter(|(_, stem)| stems.contains(&stem.as_str()));
        let revoked = serials.map(|(serial, _)| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let text = list.signed_by(&self.issuer).unwrap().pem().unwrap();
        std::fs::write(folder.join("revoked.pem"), text).unwrap();
    }

    /// A client's side of TLS that trusts this authority and offers these protocols.
    pub fn client(&self, protocols: &[&str]) -> Arc<ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}
