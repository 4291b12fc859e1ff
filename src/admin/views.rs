//! What is in force, as JSON, and the switches of an operator.

use super::{Answer, as_json, problem};
use crate::runtime::{Snapshot, Target};
use crate::upstream::breaker::State;
use http::StatusCode;
use serde_json::{Value, json};

/// The routes in force, in the order of their names.
pub(super) fn routes(snapshot: &Snapshot) -> Value {
    let names = |target: &Target| match target {
        Target::Upstream(at) => json!({ "upstream": snapshot.upstreams[*at].0.name.as_str() }),
        Target::Split(split) => {
            let names: Vec<&str> =
                split.shares.iter().map(|(at, _)| snapshot.upstreams[*at].0.name.as_str()).collect();
            json!({ "split": names })
        }
        Target::Local(_) => json!({ "local": true }),
    };
    let routes = snapshot.routes.iter().map(|route| {
        let config = snapshot.config.routes.get(&route.name);
        json!({
            "name": route.name.as_str(),
            "match": config.map(|config| &config.matches),
            "priority": config.map(|config| config.priority),
            "on": config.map(|config| &config.on),
            "policies": route.chains.plain.origins().iter().map(|origin| origin.name).collect::<Vec<_>>(),
            "to": names(&route.target),
            "off": route.switch.is_off(),
        })
    });
    Value::Array(routes.collect())
}

/// The upstreams in force, in the order of their names.
pub(super) fn upstreams(snapshot: &Snapshot) -> Value {
    let upstreams = snapshot.upstreams.iter().map(|(upstream, _)| {
        let set = upstream.endpoints();
        let endpoints = set.endpoints().iter().map(|endpoint| {
            json!({
                "address": endpoint.label,
                "weight": endpoint.weight,
                "in_flight": endpoint.state.in_flight(),
                "draining": endpoint.state.draining(),
                "healthy": upstream.monitor().map(|_| endpoint.state.healthy()),
                "breaker": upstream.breaker_of(endpoint).map(State::as_str),
            })
        });
        let discovery = upstream.discovery().map(
            |discovery| json!({ "source": discovery.source.to_string(), "failures": discovery.failures() }),
        );
        json!({
            "name": upstream.name.as_str(),
            "endpoints": endpoints.collect::<Vec<_>>(),
            "discover": discovery,
            "panicking": upstream.panicking(),
            "breaker": upstream.breaker().map(|(state, _)| state.as_str()),
        })
    });
    Value::Array(upstreams.collect())
}

pub(super) fn switch_route(snapshot: &Snapshot, name: &str, off: bool) -> Answer {
    let Some(route) = snapshot.routes.iter().find(|route| route.name.as_str() == name) else {
        return problem(StatusCode::NOT_FOUND, "there is no such route");
    };
    route.switch.set_off(off);
    log::warn!("route switched by an admin route={name} off={off}");
    as_json(StatusCode::OK, &json!({ "route": name, "off": off }))
}

pub(super) fn drain(snapshot: &Snapshot, name: &str, address: &str, draining: bool) -> Answer {
    let upstream = snapshot.upstreams.iter().find(|(upstream, _)| upstream.name.as_str() == name);
    let endpoint = upstream.and_then(|(upstream, _)| {
        upstream.endpoints().endpoints().iter().find(|endpoint| *endpoint.label == *address).cloned()
    });
    let Some(endpoint) = endpoint else {
        return problem(StatusCode::NOT_FOUND, "there is no such upstream or endpoint");
    };
    endpoint.state.set_draining(draining);
    log::warn!("endpoint switched by an admin upstream={name} endpoint={address} draining={draining}");
    let in_flight = endpoint.state.in_flight();
    as_json(
        StatusCode::OK,
        &json!({ "upstream": name, "endpoint": address, "draining": draining, "in_flight": in_flight }),
    )
}
