//! Numbers, sizes and times that must be in a range, and words of a fixed set.

use super::{Findings, section};
use crate::config::Config;
use crate::config::model::listener::Listener;
use crate::config::model::route::{Redirect, Route, Target};
use crate::config::model::telemetry::Telemetry;
use crate::policy::rate_limit;
use crate::telemetry::access_log::field_names;
use crate::values::{ByteSize, ConfigPath, Duration, Problem};

const MOST_BUCKETS: usize = 50;
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let process = section("process");
    let connections = config.process.upstream_connections.into();
    number(connections, (1, 1_000_000), &process, "upstream_connections", findings);
    number(config.process.limit_keys.into(), (1000, 100_000_000), &process, "limit_keys", findings);
    number(config.process.quota_keys.into(), (1000, 10_000_000), &process, "quota_keys", findings);
    let memory = config.process.body_memory;
    size(memory, (ByteSize::mib(1), ByteSize::mib(1 << 20)), &process, "body_memory", findings);
    telemetry(&config.telemetry, findings);
    let plans = section("plans");
    for (name, plan) in &config.plans {
        if let Some((field, problem)) = rate_limit::plan_problem(plan) {
            findings.error(plans.key(name).key(field), problem);
        }
    }
    let listeners = section("listeners");
    for (name, item) in &config.listeners {
        listener(item, &listeners.key(name), findings);
    }
    let routes = section("routes");
    for (name, item) in &config.routes {
        route(item, &|| routes.key(name), findings);
    }
}

fn listener(listener: &Listener, path: &ConfigPath, findings: &mut Findings) {
    let limits = &listener.limits;
    let at = path.key("limits");
    size(limits.headers, (ByteSize::kib(1), ByteSize::mib(1)), &at, "headers", findings);
    size(limits.uri, (ByteSize::kib(1), ByteSize::kib(64)), &at, "uri", findings);
    size(limits.window, (ByteSize::kib(1), ByteSize::mib(256)), &at, "window", findings);
    number(limits.header_count.into(), (1, 256), &at, "header_count", findings);
    number(limits.requests.into(), (1, u32::MAX.into()), &at, "requests", findings);
    number(limits.streams.into(), (1, 10_000), &at, "streams", findings);
    for (field, time) in [
        ("header_time", limits.header_time),
        ("idle", limits.idle),
        ("body_time", limits.body_time),
        ("write_time", limits.write_time),
        ("max_age", limits.max_age),
    ] {
        some_time(time, &at, field, findings);
    }
    for (field, time) in [("idle", limits.upgraded.idle), ("age", limits.upgraded.age)] {
        some_time(time, &at.key("upgraded"), field, findings);
    }
    number(limits.connections.into(), (1, 10_000_000), &at, "connections", findings);
    number(limits.client_connections.into(), (1, 10_000_000), &at, "client_connections", findings);
    number(limits.client_prefix.into(), (16, 128), &at, "client_prefix", findings);
    number(limits.handshakes.into(), (1, 1_000_000), &at, "handshakes", findings);
    if let Some(proxy_protocol) = &listener.proxy_protocol {
        let at = path.key("proxy_protocol");
        some_time(proxy_protocol.time, &at, "time", findings);
        if proxy_protocol.from.is_empty() {
            let problem = Problem::new("nobody may speak the PROXY protocol")
                .remedy("name the balancers' networks, or leave `proxy_protocol` out");
            findings.error(at.key("from"), problem);
        }
    }
    if let Some(tls) = &listener.tls {
        some_time(tls.handshake_time, &path.key("tls"), "handshake_time", findings);
    }
}

fn route(route: &Route, path: &dyn Fn() -> ConfigPath, findings: &mut Findings) {
    let times = &route.timeouts;
    for (field, time) in
        [("connect", times.connect), ("read", times.read), ("write", times.write), ("total", times.total)]
    {
        if let Some(time) = time
            && time.is_zero()
        {
            some_time(time, &path().key("timeouts"), field, findings);
        }
    }
    if let Some(attempts) = route.retry.attempts {
        number(attempts.into(), (1, 16), &path().key("retry"), "attempts", findings);
    }
    match &route.to {
        Target::Respond(respond) => {
            let at = path().key("to").key("respond");
            number(respond.status.into(), (200, 599), &at, "status", findings);
        }
        Target::Redirect(to) => redirect(to, &path().key("to").key("redirect"), findings),
        Target::Upstream(_) | Target::Split(_) | Target::Echo(_) => {}
    }
}

fn redirect(redirect: &Redirect, path: &ConfigPath, findings: &mut Findings) {
    if !REDIRECTS.contains(&redirect.status) {
        let problem = Problem::new(format!("{} is not the status of a redirect", redirect.status))
            .remedy("write 301, 302, 303, 307 or 308");
        findings.error(path.key("status"), problem);
    }
    if let Some(scheme) = &redirect.scheme
        && scheme != "http"
        && scheme != "https"
    {
        findings.error(path.key("scheme"), Problem::unknown("scheme", scheme, ["http", "https"]));
    }
    if redirect.port == Some(0) {
        let problem = Problem::new("port 0 cannot be redirected to").remedy("name a port from 1 to 65535");
        findings.error(path.key("port"), problem);
    }
}

fn telemetry(telemetry: &Telemetry, findings: &mut Findings) {
    let path = section("telemetry");
    if let Some(log) = telemetry.access_log.on() {
        let at = path.key("access_log");
        number(log.queue.into(), (1, 1_000_000), &at, "queue", findings);
        for (index, field) in log.fields.iter().enumerate() {
            let header = field.strip_prefix("request.").or_else(|| field.strip_prefix("response."));
            let header = header.is_some_and(|name| http::HeaderName::try_from(name).is_ok());
            if !header && !field_names().any(|known| known == field) {
                let mut problem = Problem::unknown("field", field, field_names());
                if problem.remedy.as_ref().is_none_or(|remedy| !remedy.starts_with("did you mean")) {
                    problem = Problem::new(problem.what)
                        .remedy("a header is `request.NAME` or `response.NAME`; the schema lists the others");
                }
                findings.error(at.key("fields").index(index), problem);
            }
        }
        for (index, name) in log.redact.iter().enumerate() {
            if http::HeaderName::try_from(name).is_err() {
                let problem = Problem::new(format!("`{name}` is not a header's name"))
                    .remedy("write the name alone, such as `authorization`");
                findings.error(at.key("redact").index(index), problem);
            }
        }
    }
    buckets(&telemetry.metrics.buckets, &path.key("metrics").key("buckets"), findings);
}

fn buckets(buckets: &[Duration], path: &ConfigPath, findings: &mut Findings) {
    if !(1..=MOST_BUCKETS).contains(&buckets.len()) {
        let problem = Problem::new(format!("there cannot be {} buckets", buckets.len()))
            .remedy(format!("give 1 to {MOST_BUCKETS} upper bounds"));
        findings.error(path.clone(), problem);
    }
    if buckets.first().is_some_and(|first| first.is_zero()) {
        let problem = Problem::new("nothing takes 0s").remedy("begin with at least 1ms");
        findings.error(path.index(0), problem);
    }
    for (index, pair) in buckets.windows(2).enumerate() {
        if pair[0] >= pair[1] {
            let problem = Problem::new(format!("`{}` does not come after `{}`", pair[1], pair[0]))
                .remedy("write the bounds ascending, each once");
            findings.error(path.index(index + 1), problem);
        }
    }
}

pub(super) fn number(n: u64, range: (u64, u64), path: &ConfigPath, field: &str, findings: &mut Findings) {
    let (least, most) = range;
    if !(least..=most).contains(&n) {
        let problem = Problem::new(format!("`{field}` cannot be {n}"))
            .remedy(format!("write a number from {least} to {most}"));
        findings.error(path.key(field), problem);
    }
}

pub(super) fn size(
    n: ByteSize,
    range: (ByteSize, ByteSize),
    path: &ConfigPath,
    field: &str,
    findings: &mut Findings,
) {
    let (least, most) = range;
    if !(least..=most).contains(&n) {
        let problem = Problem::new(format!("`{field}` cannot be {n}"))
            .remedy(format!("write a size from {least} to {most}"));
        findings.error(path.key(field), problem);
    }
}

pub(super) fn some_time(time: Duration, path: &ConfigPath, field: &str, findings: &mut Findings) {
    if time.is_zero() {
        let problem = Problem::new(format!("`{field}` cannot be 0s")).remedy("write at least `1ms`");
        findings.error(path.key(field), problem);
    }
}
