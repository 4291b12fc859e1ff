use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// TLS to the endpoints of an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// The name that is asked for (SNI) and that the certificate must be for. Default: the host of
    /// `host` where that is a name, else what the endpoint was discovered by, else its IP address.
    pub server_name: Option<String>,
    /// A PEM file of the authorities that may issue the endpoints' certificates. Default: those of the
    /// operating system, as they were when the process began.
    pub ca: Option<PathBuf>,
    /// What we show if an endpoint asks who we are.
    pub client: Option<ClientCertificate>,
    /// `full` (the default), or `off`: anybody's certificate is taken, so that whoever is in between
    /// reads and changes everything.
    pub verify: Verify,
}

/// A client certificate.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificate {
    /// A PEM file: the certificate, then the ones between it and the authority.
    pub certificate: PathBuf,
    /// A PEM file with its private key.
    pub key: PathBuf,
}

/// How a certificate is verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// By its authority, its names and its time.
    #[default]
    Full,
    /// Not at all.
    Off,
}
