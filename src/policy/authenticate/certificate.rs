//! A client certificate that the listener has verified.

use super::bearer::now;
use super::{Attempt, REVOKED, Refusal};
use crate::identity::revocations::Revocations;
use crate::identity::{Consumers, Identity, Method, Principal, Several};
use crate::policy::context::PolicyContext;
use http::HeaderValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Nobody registered a scheme for certificates, which come before HTTP; a 401 must have one all the same.
pub(super) const CHALLENGE: HeaderValue = HeaderValue::from_static("Certificate realm=\"tollgate\"");

/// A client certificate that the listener has verified by its `tls.client`. A consumer has it by a
/// credential such as `{ certificate: { dns: billing.internal } }`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CertificateConfig {
    /// Whether a verified certificate that is no consumer's lets its holder in too, under the name of
    /// its subject. Default false.
    pub any: bool,
}

/// [`CertificateConfig`], compiled.
#[derive(Debug)]
pub(super) struct Certificate {
    any: bool,
    consumers: Arc<Consumers>,
    revocations: Arc<Revocations>,
}

impl Certificate {
    pub(super) fn compile(config: &CertificateConfig, identity: &Identity) -> Self {
        let revocations = Arc::clone(identity.revocations());
        Self { any: config.any, consumers: Arc::clone(identity.consumers()), revocations }
    }

    pub(super) fn attempt<'a>(&self, cx: &PolicyContext) -> Attempt<'a> {
        let Some(certificate) = cx.tls.as_deref().and_then(|tls| tls.certificate.as_deref()) else {
            return Attempt::Absent;
        };
        // The handshake was in time; the connection may have lived on.
        if i64::try_from(now()).is_ok_and(|now| now > certificate.not_after) {
            let detail = "the certificate has expired since the handshake";
            return Attempt::Refused(Refusal::new("certificate_expired", detail));
        }
        if self.revocations.refuses_key(certificate.digest()) {
            return Attempt::Refused(Refusal::new(REVOKED, "a certificate that was revoked"));
        }
        let subject = certificate.subject.as_str();
        match self.consumers.by_certificate(certificate) {
            Ok(Some(consumer)) => {
                let principal = Principal::of(Method::Certificate, subject, Arc::clone(consumer));
                Attempt::Admitted(Arc::new(principal).into())
            }
            Ok(None) if self.any => {
                Attempt::Admitted(Arc::new(Principal::new(Method::Certificate, subject)).into())
            }
            Ok(None) => Attempt::Refused(Refusal {
                detail: format!("nobody has the certificate of `{subject}`").into(),
                ..Refusal::new("unknown_certificate", "")
            }),
            Err(Several) => {
                Attempt::Refused(Refusal::new("ambiguous", "the certificate is several consumers'"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::certificate::{ClientCertificate, ClientTls};
    use crate::identity::{RolesConfig, Sources, config::IdentityConfig};
    use crate::outbound::Outbound;
    use crate::outbound::redis::Stores;
    use crate::retained::Retained;
    use crate::telemetry::metrics::{Metrics, MetricsSettings};
    use std::collections::BTreeMap;

    fn identity() -> Identity {
        let consumers = serde_json::from_str(
            r#"{"billing":{"credentials":[{"certificate":{"dns":"billing.internal"}}]}}"#,
        );
        let (identity, plans, roles) = (IdentityConfig::default(), BTreeMap::new(), RolesConfig::new());
        let sources = Sources {
            identity: &identity,
            consumers: &consumers.unwrap(),
            plans: &plans,
            roles: &roles,
            stores: &Stores::default(),
        };
        let metrics = Metrics::new(&MetricsSettings::default(), 1);
        let (identity, found) =
            Identity::compile(sources, (&Retained::default(), &Outbound::default()), &metrics);
        assert!(found.is_empty(), "{found:?}");
        identity
    }

    /// What comes of a certificate with this name that ends so many seconds from now.
    fn attempt(any: bool, name: &str, ends_in: i64) -> String {
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let issued = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let mut certificate = ClientCertificate::parse(issued.der()).unwrap();
        certificate.not_after = now() as i64 + ends_in;
        let tls = ClientTls { certificate: Some(Box::new(certificate)), ..ClientTls::default() };
        let cx = PolicyContext { tls: Some(Arc::new(tls)), ..PolicyContext::new() };
        match Certificate::compile(&CertificateConfig { any }, &identity()).attempt(&cx) {
            Attempt::Admitted(admission) => admission
                .principal
                .consumer
                .as_ref()
                .map_or("somebody".into(), |known| known.name.to_string()),
            Attempt::Refused(refusal) => refusal.cause.to_owned(),
            _ => panic!("a certificate neither waits nor answers"),
        }
    }

    #[test]
    fn a_certificate_counts_until_it_ends() {
        assert_eq!(attempt(false, "billing.internal", 60), "billing");
        assert_eq!(attempt(false, "billing.internal", -1), "certificate_expired");
        assert_eq!(attempt(false, "other.internal", 60), "unknown_certificate");
        assert_eq!(attempt(true, "other.internal", 60), "somebody");
        assert_eq!(attempt(true, "other.internal", -1), "certificate_expired");
        let way = Certificate::compile(&CertificateConfig::default(), &identity());
        assert!(matches!(way.attempt(&PolicyContext::new()), Attempt::Absent));
    }
}
