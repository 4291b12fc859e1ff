//! What upstreams are told, as far as it can be judged without a look at files or the network.

use super::ranges::{number, some_time};
use super::references::is_host;
use super::{Findings, section};
use crate::config::Config;
use crate::config::model::fallback::Fallback;
use crate::config::model::route::{Route, Target};
use crate::config::model::upstream::{
    Balance, Breaker, Condition, Discover, HashKey, Hedge, HostRewrite, Limits, PassiveHealth, Probe,
    Protocol, SameSite, StickyCookie, Tls, Upstream, Verify,
};
use crate::values::{ConfigPath, Duration, EndpointAddress, Name, Percent, Problem};
use std::collections::HashMap;

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let upstreams = section("upstreams");
    for (name, item) in &config.upstreams {
        upstream(item, &upstreams.key(name), findings);
    }
    let dns = section("dns");
    for (field, time) in
        [("timeout", config.dns.timeout), ("min_ttl", config.dns.min_ttl), ("max_ttl", config.dns.max_ttl)]
    {
        some_time(time, &dns, field, findings);
    }
    if config.dns.min_ttl > config.dns.max_ttl {
        let problem = Problem::new("`min_ttl` is longer than `max_ttl`").remedy("make it shorter");
        findings.error(dns.key("min_ttl"), problem);
    }
    for (name, route) in &config.routes {
        if let Some(on) = &route.retry.on {
            conditions(on, &section("routes").key(name).key("retry").key("on"), findings);
        }
        let is_translated = route.policies.grpc_web.as_ref().is_some_and(|setting| setting.on().is_some());
        if is_translated && let Some(upstream) = speaks_no_http2(config, route) {
            let problem =
                Problem::new(format!("gRPC needs HTTP/2, and the upstream `{upstream}` speaks HTTP/1.1"))
                    .remedy("give the upstream `protocol: http2`");
            findings.error(section("routes").key(name).key("policies").key("grpc_web"), problem);
        }
    }
}

/// An upstream of the route that cannot be called by gRPC.
fn speaks_no_http2<'a>(config: &'a Config, route: &'a Route) -> Option<&'a Name> {
    let mut upstreams: Vec<&Name> = match &route.to {
        Target::Upstream(upstream) => vec![upstream],
        Target::Split(split) => split.weights.keys().collect(),
        Target::Respond(_) | Target::Redirect(_) | Target::Echo(_) => Vec::new(),
    };
    upstreams.extend(route.fallback.iter().flat_map(Fallback::upstreams));
    upstreams.into_iter().find(|name| {
        config.upstreams.get(*name).is_some_and(|upstream| match upstream.protocol {
            Protocol::Http1 => true,
            Protocol::Auto => upstream.tls.is_none(),
            Protocol::Http2 => false,
        })
    })
}

fn upstream(upstream: &Upstream, path: &ConfigPath, findings: &mut Findings) {
    match &upstream.discover {
        Some(from) => discover(from, upstream, path, findings),
        None => endpoints(upstream, &path.key("endpoints"), findings),
    }
    health(upstream, &path.key("health"), findings);
    balance(&upstream.balance, &path.key("balance"), findings);
    if let Some(tls) = &upstream.tls {
        tls_to(tls, upstream, &path.key("tls"), findings);
    }
    let times = &upstream.timeouts;
    let at = path.key("timeouts");
    for (field, time) in
        [("connect", times.connect), ("read", times.read), ("write", times.write), ("total", times.total)]
    {
        some_time(time, &at, field, findings);
    }
    some_time(upstream.idle_timeout, path, "idle_timeout", findings);
    if let Some(most) = &upstream.limits {
        limits(most, times.total, &path.key("limits"), findings);
    }
    for (field, rules) in [("breaker", &upstream.breaker), ("endpoint_breaker", &upstream.endpoint_breaker)] {
        if let Some(rules) = rules {
            breaker(rules, &path.key(field), findings);
        }
    }
    let at = path.key("retry");
    number(upstream.retry.attempts.into(), (1, 16), &at, "attempts", findings);
    number(upstream.retry.at_once.into(), (0, 1000), &at, "at_once", findings);
    conditions(&upstream.retry.on, &at.key("on"), findings);
    if let Some(rules) = &upstream.hedge {
        hedge(rules, upstream, &path.key("hedge"), findings);
    }
}

fn hedge(hedge: &Hedge, upstream: &Upstream, path: &ConfigPath, findings: &mut Findings) {
    some_time(hedge.after, path, "after", findings);
    number(hedge.at_once.into(), (0, 1000), path, "at_once", findings);
    if matches!(upstream.balance, Balance::Sticky(_)) {
        let problem = Problem::new("a client that is kept at one endpoint cannot be answered by another")
            .remedy("take `hedge` away, or balance otherwise");
        findings.error(path.clone(), problem);
    }
    if upstream.discover.is_none() && upstream.endpoints.iter().filter(|it| it.weight > 0).count() < 2 {
        let problem = Problem::new("there is no second endpoint, so no request is hedged")
            .remedy("add one, or take `hedge` away");
        findings.warning(path.clone(), problem);
    }
    let times = [("read", upstream.timeouts.read), ("total", upstream.timeouts.total)];
    if let Some((name, time)) = times.into_iter().find(|(_, time)| hedge.after >= *time) {
        let problem = Problem::new(format!(
            "`after` ({}) is not below `timeouts.{name}` ({time}), so no request is hedged",
            hedge.after
        ))
        .remedy("make it shorter");
        findings.warning(path.key("after"), problem);
    }
}

fn endpoints(upstream: &Upstream, path: &ConfigPath, findings: &mut Findings) {
    if upstream.endpoints.is_empty() {
        let problem = Problem::new("there are no endpoints")
            .remedy("add one, such as `127.0.0.1:8080`, or say where to find them in `discover`");
        findings.error(path.clone(), problem);
    } else if upstream.endpoints.iter().all(|endpoint| endpoint.weight == 0) {
        let problem = Problem::new("every endpoint has the weight 0: none would get a request")
            .remedy("give one of them a weight from 1 to 1000");
        findings.error(path.clone(), problem);
    }
    let mut seen = HashMap::new();
    for (index, endpoint) in upstream.endpoints.iter().enumerate() {
        let at = path.index(index);
        match &endpoint.address {
            EndpointAddress::Inet(address) if address.port() == 0 => {
                let problem =
                    Problem::new("an endpoint cannot have port 0").remedy("name the port it listens on");
                findings.error(at.clone(), problem);
            }
            EndpointAddress::Unix(socket) if socket.as_os_str().len() > EndpointAddress::LONGEST_PATH => {
                let problem = Problem::new(format!("`{}` is too long for a socket", socket.display()))
                    .remedy(format!("a path has at most {} bytes", EndpointAddress::LONGEST_PATH));
                findings.error(at.clone(), problem);
            }
            _ => {}
        }
        if let Some(first) = seen.insert(&endpoint.address, index) {
            let problem = Problem::new(format!("the endpoint `{}` is there twice", endpoint.address))
                .remedy("take one away; a larger share is a `weight`");
            findings.twice(at, path.index(first), problem);
        }
    }
}

fn discover(from: &Discover, upstream: &Upstream, path: &ConfigPath, findings: &mut Findings) {
    if !upstream.endpoints.is_empty() {
        let problem = Problem::new("endpoints are either listed or found")
            .remedy("take `endpoints` or `discover` away");
        findings.twice(path.key("discover"), path.key("endpoints"), problem);
    }
    if let Discover::Srv(name) = from
        && (!is_host(name) || name.contains('*'))
    {
        let problem = Problem::new(format!("`{name}` is not the name of a service"))
            .remedy("write it as `_http._tcp.orders.internal`, without a port");
        findings.error(path.key("discover").key("srv"), problem);
    }
}

fn limits(limits: &Limits, total: Duration, path: &ConfigPath, findings: &mut Findings) {
    some_time(limits.wait, path, "wait", findings);
    number(limits.waiting.into(), (0, 100_000), path, "waiting", findings);
    if limits.wait > Duration::from_secs(60).min(total) {
        let problem = Problem::new(format!("a request cannot wait for {}", limits.wait))
            .remedy("write a time of at most a minute that is within `timeouts.total`");
        findings.error(path.key("wait"), problem);
    }
}

fn breaker(breaker: &Breaker, path: &ConfigPath, findings: &mut Findings) {
    some_time(breaker.within, path, "within", findings);
    some_time(breaker.open_for, path, "open_for", findings);
    number(breaker.of_at_least.into(), (1, 1_000_000), path, "of_at_least", findings);
    number(breaker.probes.into(), (1, 1000), path, "probes", findings);
    if let Some(slow) = breaker.slow {
        some_time(slow.after, &path.key("slow"), "after", findings);
    }
    let never = |share: Percent| share.basis_points() == 0;
    if never(breaker.failures) && breaker.slow.is_none_or(|slow| never(slow.share)) {
        let problem = Problem::new("it would never open").remedy("write a share such as `failures: 50%`");
        findings.error(path.key("failures"), problem);
    }
}

fn passive(passive: &PassiveHealth, path: &ConfigPath, findings: &mut Findings) {
    some_time(passive.eject, path, "eject", findings);
    some_time(passive.longest, path, "longest", findings);
    if passive.consecutive_failures == 0 && passive.success_rate.is_none() {
        let problem = Problem::new("nothing would be left out")
            .remedy("write a number such as `consecutive_failures: 5`");
        findings.error(path.key("consecutive_failures"), problem);
    }
    if let Some(rate) = &passive.success_rate {
        let at = path.key("success_rate");
        some_time(rate.every, &at, "every", findings);
        if !(0.5..=10.0).contains(&rate.deviations) {
            let problem =
                Problem::new(format!("`deviations` cannot be {}", rate.deviations)).remedy("write 0.5 to 10");
            findings.error(at.key("deviations"), problem);
        }
    }
}

fn health(upstream: &Upstream, path: &ConfigPath, findings: &mut Findings) {
    if let Some(rules) = &upstream.health.passive {
        passive(rules, &path.key("passive"), findings);
    }
    let Some(active) = &upstream.health.active else { return };
    let at = path.key("active");
    some_time(active.every, &at, "every", findings);
    some_time(active.timeout, &at, "timeout", findings);
    number(active.healthy_after.into(), (1, 100), &at, "healthy_after", findings);
    number(active.unhealthy_after.into(), (1, 100), &at, "unhealthy_after", findings);
    match &active.probe {
        Probe::Tcp => {}
        Probe::Http(probe) => {
            let target = probe.path.parse::<http::uri::PathAndQuery>();
            if !probe.path.starts_with('/') || target.is_err() {
                let problem = Problem::new(format!("`{}` is not a path", probe.path))
                    .remedy("begin with `/`, such as `/healthz`");
                findings.error(at.key("probe").key("http").key("path"), problem);
            }
            if let Some(host) = probe.host.as_ref().filter(|host| http::HeaderValue::try_from(*host).is_err())
            {
                let problem = Problem::new(format!("`{host}` is not a host")).remedy("write a host name");
                findings.error(at.key("probe").key("http").key("host"), problem);
            }
        }
        Probe::Grpc(_) => {
            let speaks = match upstream.protocol {
                Protocol::Http1 => false,
                Protocol::Http2 => true,
                Protocol::Auto => upstream.tls.is_some(),
            };
            if !speaks {
                let problem = Problem::new("gRPC needs HTTP/2, which is not spoken to this upstream")
                    .remedy("add `protocol: http2`");
                findings.error_at_key(at.key("probe").key("grpc"), problem);
            }
        }
    }
}

fn tls_to(tls: &Tls, upstream: &Upstream, path: &ConfigPath, findings: &mut Findings) {
    if let Some(name) = &tls.server_name
        && !(is_host(name) && !name.contains('*') || name.parse::<std::net::IpAddr>().is_ok())
    {
        let problem = Problem::new(format!("`{name}` is not the name of a server"))
            .remedy("write the host that the certificate is for, such as `orders.internal`, without a port");
        findings.error(path.key("server_name"), problem);
    }
    let by_socket = upstream.endpoints.iter().any(|endpoint| endpoint.address.unix().is_some());
    if by_socket && tls.server_name.is_none() && !matches!(upstream.host, HostRewrite::Name(_)) {
        let problem = Problem::new("a Unix socket has no name that a certificate could be for")
            .remedy("add `server_name`");
        findings.error(path.clone(), problem);
    }
    if tls.verify == Verify::Off {
        let problem = Problem::new("certificates are not verified: whoever is in between reads everything")
            .remedy("take `verify: off` away and name the authority in `ca`");
        findings.warning(path.key("verify"), problem);
    }
}

fn balance(balance: &Balance, path: &ConfigPath, findings: &mut Findings) {
    match balance {
        Balance::RoundRobin | Balance::LeastRequest | Balance::PeakEwma | Balance::Random => {}
        Balance::Hash(HashKey::ClientIp | HashKey::Path) => {}
        Balance::Hash(HashKey::Header(name)) => {
            if http::HeaderName::try_from(name).is_err() {
                let problem = Problem::new(format!("`{name}` is not a header's name"))
                    .remedy("write the name alone, such as `x-user`");
                findings.error(path.key("hash").key("header"), problem);
            }
        }
        Balance::Hash(HashKey::Cookie(name)) => {
            cookie_name(name, &path.key("hash").key("cookie"), findings);
        }
        Balance::Sticky(cookie) => sticky(cookie, &path.key("sticky"), findings),
    }
}

fn cookie_name(name: &str, path: &ConfigPath, findings: &mut Findings) {
    // A cookie's name is a token (RFC 6265 section 4.1.1), which is what a header's name is.
    if http::HeaderName::try_from(name).is_err() {
        let problem = Problem::new(format!("`{name}` is not a cookie's name"))
            .remedy("write letters, digits, `-` and `_`, such as `session`");
        findings.error(path.clone(), problem);
    }
}

fn sticky(sticky: &StickyCookie, path: &ConfigPath, findings: &mut Findings) {
    cookie_name(&sticky.cookie, &path.key("cookie"), findings);
    let is_text = |text: &str| text.bytes().all(|c| (0x20..0x7f).contains(&c) && c != b';' && c != b',');
    if !sticky.path.starts_with('/') || !is_text(&sticky.path) {
        let problem = Problem::new(format!("`{}` is not the path of a cookie", sticky.path))
            .remedy("begin with `/`; `;` and `,` cannot be in it");
        findings.error(path.key("path"), problem);
    }
    if let Some(domain) = sticky.domain.as_ref().filter(|domain| !is_host(domain)) {
        let problem = Problem::new(format!("`{domain}` is not a host name"))
            .remedy("write it as `example.com`, without a port");
        findings.error(path.key("domain"), problem);
    }
    if sticky.same_site == SameSite::None && sticky.secure != Some(true) {
        let problem =
            Problem::new("browsers refuse `same_site: none` without `secure`").remedy("add `secure: true`");
        findings.error(path.key("same_site"), problem);
    }
    if sticky.secret.as_ref().is_some_and(|key| (1..16).contains(&key.expose().len())) {
        let problem = Problem::new("the secret is too short to keep anybody from guessing it")
            .remedy("take at least 16 bytes, such as those of `openssl rand -hex 16`");
        findings.error(path.key("secret"), problem);
    }
}

pub(super) fn conditions(on: &[Condition], path: &ConfigPath, findings: &mut Findings) {
    for (index, condition) in on.iter().enumerate() {
        if let Some(first) = on[..index].iter().position(|known| known == condition) {
            let problem = Problem::new("this is there twice").remedy("take one away");
            findings.twice(path.index(index), path.index(first), problem);
        }
    }
}
