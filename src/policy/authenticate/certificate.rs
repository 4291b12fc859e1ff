//! A client certificate that the listener has verified.

use super::bearer::now;
use super::{Attempt, Refusal};
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
}

impl Certificate {
    pub(super) fn compile(config: &CertificateConfig, identity: &Identity) -> Self {
        Self { any: config.any, consumers: Arc::clone(identity.consumers()) }
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
