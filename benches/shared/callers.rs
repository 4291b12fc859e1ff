//! Consumers for benches: chains that ask for an API key, among many or few.

use pingora_http::RequestHeader;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use tollgate::identity::config::{ConsumersConfig, IdentityConfig};
use tollgate::identity::{Identity, RolesConfig, Sources};
use tollgate::outbound::Outbound;
use tollgate::outbound::redis::Stores;
use tollgate::policy::CompileEnv;
use tollgate::policy::chain::{Chain, Layers};
use tollgate::policy::config::{EnforcedPolicies, Policies};
use tollgate::retained::Retained;
use tollgate::telemetry::metrics::{Metrics, MetricsSettings};
use tollgate::values::{ConfigPath, Sha256};

/// A chain of these policies, with these providers and consumers.
pub fn chain(identity: Value, consumers: &ConsumersConfig, policies: &Value) -> Chain {
    let identity: IdentityConfig = serde_json::from_value(identity).expect("a configuration");
    let metrics = Metrics::new(&MetricsSettings { max_routes: 10, buckets: Vec::new() }, 1);
    let (plans, roles) = (BTreeMap::new(), RolesConfig::default());
    let sources =
        Sources { identity: &identity, consumers, plans: &plans, roles: &roles, stores: &Stores::default() };
    let (identity, found) =
        Identity::compile(sources, (&Retained::default(), &Outbound::default()), &metrics);
    assert!(found.is_empty(), "{found:?}");
    let env = CompileEnv { identity: Arc::new(identity), ..CompileEnv::default() };
    let policies: Policies = serde_json::from_value(policies.clone()).expect("policies");
    let layers = [(ConfigPath::root(), &policies)];
    Chain::compile(&Layers { enforced: &EnforcedPolicies::default(), layers: &layers }, &env)
        .expect("a chain")
}

/// The API key of the consumer of this number.
pub fn key(number: usize) -> String {
    format!("key-of-consumer-{number:032}")
}

/// A chain that asks for an API key, with so many consumers from a file.
pub fn among(count: usize) -> Chain {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    let mut text = String::new();
    for number in 0..count {
        let hash = Sha256::of(key(number).as_bytes());
        let _ = writeln!(
            text,
            r#"{{"name":"consumer-{number}","credentials":[{{"api_key":{{"sha256":"{hash}"}}}}]}}"#
        );
    }
    file.write_all(text.as_bytes()).expect("it is written");
    drop(text);
    let consumers = ConsumersConfig { file: Some(file.path().into()), ..ConsumersConfig::default() };
    chain(
        json!({}),
        &consumers,
        &json!({ "authenticate": { "any_of": [{ "api_key": { "header": "x-api-key" } }] } }),
    )
}

/// Requests of so many of them, from all over the file.
pub fn requests(consumers: usize, count: usize) -> Vec<RequestHeader> {
    // A step that meets each of them, in an order that no cache foresees.
    let each = (0..count).map(|at| at * 7_919_993 % consumers);
    each.map(|number| {
        let mut head = RequestHeader::build("GET", b"/orders/7", None).expect("a request");
        head.append_header("x-api-key", key(number)).expect("a field");
        head
    })
    .collect()
}
