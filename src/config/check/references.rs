//! Names that stand for something else, and things that must not be twice.

use super::{Findings, Unread, fallback, section};
use crate::config::Config;
use crate::config::model::listener::Listener;
use crate::config::model::route::{Route, Target};
use crate::identity::config::CredentialConfig;
use crate::values::{ConfigPath, Name, Problem};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

pub(super) fn check(config: &Config, unread: &Unread, findings: &mut Findings) {
    listeners(config, unread, findings);
    admin(config, findings);
    let upstreams = section("upstreams");
    consumers(config, unread, findings);
    hosts(config, findings);
    let mut used = HashSet::new();
    for (name, route) in &config.routes {
        bindings(config, unread, name, route, findings);
        target(config, unread, name, route, &mut used, findings);
        fallback::check((config, unread), (name, route), &mut used, findings);
    }
    for name in config.upstreams.keys().filter(|name| !used.contains(name)) {
        let problem = Problem::new(format!("no route uses the upstream `{name}`"))
            .remedy("take it away, or name it in a route's `to`");
        findings.warning(upstreams.key(name), problem);
    }
}

fn listeners(config: &Config, unread: &Unread, findings: &mut Findings) {
    let listeners = section("listeners");
    if config.listeners.is_empty() && !unread.covers("listeners", "") {
        let problem = Problem::new("there are no listeners: nothing will be served")
            .remedy("add `listeners: { web: { address: \"0.0.0.0:8080\" } }`");
        findings.warning(listeners.clone(), problem);
    }
    let mut bound: HashMap<SocketAddr, ConfigPath> = HashMap::new();
    if let Some(admin) = &config.admin {
        bound.insert(admin.address, section("admin").key("address"));
    }
    for (name, listener) in &config.listeners {
        let path = listeners.key(name);
        let address = path.key("address");
        // Port 0 is whichever is free.
        if listener.address.port() != 0
            && let Some(first) = bound.insert(listener.address, address.clone())
        {
            let problem = Problem::new(format!("`{}` is bound twice", listener.address))
                .remedy("give one of the two another address or port");
            findings.twice(address, first, problem);
        }
        tls(listener, &path, findings);
    }
}

fn tls(listener: &Listener, path: &ConfigPath, findings: &mut Findings) {
    let Some(tls) = &listener.tls else { return };
    if listener.h2c {
        let problem = Problem::new("`h2c` is HTTP/2 in the clear, and this listener has `tls`")
            .remedy("take `h2c` away: under TLS, HTTP/2 is there by default");
        findings.error(path.key("h2c"), problem);
    }
    if tls.certificates.is_empty() {
        let problem =
            Problem::new("there are no certificates").remedy("add `{ certificate: …, key: … }` to the list");
        findings.error(path.key("tls").key("certificates"), problem);
    }
}

fn admin(config: &Config, findings: &mut Findings) {
    let Some(admin) = &config.admin else { return };
    if !admin.address.ip().to_canonical().is_loopback() && admin.token.is_empty() {
        let problem = Problem::new("the admin listener is open to the network and has no token")
            .remedy("bind it to 127.0.0.1, or set `token: ${TOLLGATE_ADMIN_TOKEN}`");
        findings.warning(section("admin").key("address"), problem);
    }
}

fn consumers(config: &Config, unread: &Unread, findings: &mut Findings) {
    let consumers = section("consumers");
    for (name, consumer) in &config.consumers.named {
        if let Some(plan) = &consumer.plan
            && !config.plans.contains_key(plan)
            && !unread.covers("plans", plan.as_str())
        {
            let known = config.plans.keys().map(Name::as_str);
            let at = consumers.key(name).key("plan");
            findings.error(at, Problem::unknown("plan", plan.as_str(), known));
        }
        for (index, credential) in consumer.credentials.iter().enumerate() {
            let CredentialConfig::Jwt(of) = credential else { continue };
            let providers = &config.identity.providers;
            if !providers.contains_key(&of.provider) && !unread.covers("identity", "") {
                let known = providers.keys().map(Name::as_str);
                let at = consumers.key(name).key("credentials").index(index).key("jwt").key("provider");
                findings.error(at, Problem::unknown("provider", of.provider.as_str(), known));
            }
        }
    }
}

fn hosts(config: &Config, findings: &mut Findings) {
    let hosts = section("hosts");
    let mut seen: HashMap<String, ConfigPath> = HashMap::new();
    for name in config.hosts.keys() {
        let path = hosts.key(name);
        if !is_host(name) {
            let problem = Problem::new(format!("`{name}` is not a host name"))
                .remedy("write it as `cdn.example.com` or `*.example.com`, without a port");
            findings.error(path.clone(), problem);
        }
        let same = name.trim_end_matches('.').to_ascii_lowercase();
        if let Some(first) = seen.insert(same, path.clone()) {
            let problem = Problem::new(format!("`{name}` is the same host as another one here"))
                .remedy("case and a trailing dot do not count: put the two together");
            findings.twice(path, first, problem);
        }
    }
}

/// A name of labels, the first of which may be `*`, or an IP address.
pub(super) fn is_host(name: &str) -> bool {
    let bare = name.strip_suffix('.').unwrap_or(name);
    let address = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(address) = address {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let labels = bare.strip_prefix("*.").unwrap_or(bare);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
    };
    bare.len() <= 253 && labels.split('.').all(is_label)
}

fn bindings(config: &Config, unread: &Unread, name: &Name, route: &Route, findings: &mut Findings) {
    if route.on.is_empty() {
        return;
    }
    let on = section("routes").key(name).key("on");
    let mut seen = HashMap::new();
    for (index, listener) in route.on.iter().enumerate() {
        if !config.listeners.contains_key(listener) && !unread.covers("listeners", listener.as_str()) {
            let known = config.listeners.keys().map(Name::as_str);
            findings.error(on.index(index), Problem::unknown("listener", listener.as_str(), known));
        }
        if let Some(first) = seen.insert(listener, index) {
            let problem =
                Problem::new(format!("the listener `{listener}` is there twice")).remedy("take one away");
            findings.twice(on.index(index), on.index(first), problem);
        }
    }
}

fn target<'c>(
    config: &'c Config,
    unread: &Unread,
    name: &Name,
    route: &'c Route,
    used: &mut HashSet<&'c Name>,
    findings: &mut Findings,
) {
    let to = || section("routes").key(name).key("to");
    let mut uses = |upstream: &'c Name, path: &dyn Fn() -> ConfigPath, findings: &mut Findings| {
        used.insert(upstream);
        if !config.upstreams.contains_key(upstream) && !unread.covers("upstreams", upstream.as_str()) {
            let known = config.upstreams.keys().map(Name::as_str);
            let problem = Problem::unknown("upstream", upstream.as_str(), known);
            match &route.to {
                Target::Split(_) => findings.error_at_key(path(), problem),
                _ => findings.error(path(), problem),
            }
        }
    };
    match &route.to {
        Target::Upstream(upstream) => uses(upstream, &|| to().key("upstream"), findings),
        Target::Split(split) => {
            let weights = to().key("split").key("weights");
            if split.weights.is_empty() {
                let problem = Problem::new("a split needs upstreams")
                    .remedy("write them with their weights: `{ stable: 95, canary: 5 }`");
                findings.error(weights.clone(), problem);
            } else if split.weights.values().all(|weight| *weight == 0) {
                let problem = Problem::new("every weight of the split is 0: no upstream would get a request")
                    .remedy("give one of them a weight from 1 on");
                findings.error(weights.clone(), problem);
            }
            for upstream in split.weights.keys() {
                uses(upstream, &|| weights.key(upstream), findings);
            }
        }
        Target::Respond(_) | Target::Redirect(_) | Target::Echo(_) => {}
    }
}
