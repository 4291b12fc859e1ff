//! A configuration as text that may be shown: secrets as `***`, and where a value came from the
//! environment the `${NAME}` that it came from.

use super::Config;
use super::de::{Plain, plain};
use super::secrets::Secrets;
use super::tree::{self, Kind, Node};
use serde_yaml::{Mapping, Value};
use std::collections::BTreeMap;

const SECTIONS: [&str; 16] = [
    "version",
    "process",
    "admin",
    "telemetry",
    "dns",
    "stores",
    "caches",
    "listeners",
    "upstreams",
    "identity",
    "consumers",
    "plans",
    "roles",
    "policies",
    "hosts",
    "routes",
];

impl Config {
    /// What is written, all files together, as YAML. It is read from the texts rather than from the
    /// values in force, so a value from the environment cannot be in it.
    pub fn view(&self) -> String {
        let secrets = Secrets::new();
        let mut merged: BTreeMap<usize, Value> = BTreeMap::new();
        for source in &self.sources.files {
            let Some(mut root) = tree::parse(&source.text).root else { continue };
            secrets.hide(&mut root);
            let Kind::Map(sections) = &root.kind else { continue };
            for (key, section) in sections {
                let Some(at) = SECTIONS.iter().position(|known| *known == key.text) else { continue };
                match (merged.get_mut(&at), value(section)) {
                    (Some(Value::Mapping(all)), Value::Mapping(more)) => all.extend(more),
                    (_, section) => {
                        merged.insert(at, section);
                    }
                }
            }
        }
        let all: Mapping = merged.into_iter().map(|(at, value)| (SECTIONS[at].into(), value)).collect();
        serde_yaml::to_string(&all).unwrap_or_default()
    }
}

fn value(node: &Node<'_>) -> Value {
    match &node.kind {
        Kind::Gone => Value::Null,
        Kind::List(items) => Value::Sequence(items.iter().map(value).collect()),
        Kind::Map(entries) => {
            let pairs = entries.iter().map(|(key, item)| (Value::from(&*key.text), value(item)));
            Value::Mapping(pairs.collect())
        }
        Kind::Scalar(scalar) if !scalar.plain => Value::from(&*scalar.text),
        Kind::Scalar(scalar) => match plain(&scalar.text) {
            Plain::Null => Value::Null,
            Plain::Bool(is) => Value::from(is),
            Plain::Unsigned(n) => Value::from(n),
            Plain::Signed(n) => Value::from(n),
            // As it is written: a number must not change its look.
            Plain::Float(_) | Plain::Text(_) => Value::from(&*scalar.text),
        },
    }
}
