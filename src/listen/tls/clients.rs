use crate::config::model::listener::ClientCertificates;
use crate::values::{ConfigPath, Finding, Problem, pem};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use std::sync::Arc;

/// What verifies client certificates. With revocation lists, a certificate whose issuer has none is
/// refused: a missing list would let everybody in.
pub(super) fn verifier(
    config: &ClientCertificates,
    at: &ConfigPath,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Vec<Finding>> {
    let roots = authorities(config).map_err(|problem| Finding::error(at.key("ca"), problem));
    let lists = revocation_lists(config).map_err(|problem| Finding::error(at.key("crl"), problem));
    let (roots, lists) = match (roots, lists) {
        (Ok(roots), Ok(lists)) => (roots, lists),
        (roots, lists) => return Err(roots.err().into_iter().chain(lists.err()).collect()),
    };
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).with_crls(lists);
    if !config.require {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| {
        let (key, path) = match (&error, &config.crl) {
            (VerifierBuilderError::InvalidCrl(_), Some(crl)) => ("crl", crl),
            _ => ("ca", &config.ca),
        };
        let problem = Problem::new(format!("file `{}` cannot be used: {error}", path.display()));
        vec![Finding::error(at.key(key), problem)]
    })
}

fn authorities(config: &ClientCertificates) -> Result<RootCertStore, Problem> {
    let mut roots = RootCertStore::empty();
    for (index, der) in
        pem::pem_items::<CertificateDer<'static>>(&config.ca, "certificate")?.into_iter().enumerate()
    {
        roots.add(der).map_err(|error| {
            let number = index + 1;
            Problem::new(format!("certificate {number} in `{}` cannot be used: {error}", config.ca.display()))
        })?;
    }
    Ok(roots)
}

fn revocation_lists(
    config: &ClientCertificates,
) -> Result<Vec<CertificateRevocationListDer<'static>>, Problem> {
    config.crl.as_ref().map_or(Ok(Vec::new()), |path| pem::pem_items(path, "revocation list"))
}
