//! Limits that can never trigger, as far as that is certain.

use super::{Findings, section};
use crate::config::Config;
use crate::config::model::upstream::{Limits, MostRequests};
use crate::policy::config::{Policies, Setting};
use crate::policy::rate_limit::{LimitConfig, RateLimitConfig};
use crate::values::{ConfigPath, Problem};

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let policies = section("policies");
    layer(&config.policies.defaults, &policies.key("defaults"), findings);
    if let Some(limits) = &config.policies.enforced.rate_limit {
        rates(limits, &policies.key("enforced").key("rate_limit"), findings);
    }
    for (name, listener) in &config.listeners {
        layer(&listener.policies, &section("listeners").key(name).key("policies"), findings);
    }
    for (name, route) in &config.routes {
        layer(&route.policies, &section("routes").key(name).key("policies"), findings);
    }
    for (name, upstream) in &config.upstreams {
        if let Some(limits) = &upstream.limits {
            of_upstream(limits, &section("upstreams").key(name).key("limits"), findings);
        }
    }
}

fn layer(policies: &Policies, path: &ConfigPath, findings: &mut Findings) {
    if let Some(limits) = policies.rate_limit.as_ref().and_then(Setting::on) {
        rates(limits, &path.key("rate_limit"), findings);
    }
}

/// Limits of one policy count the same requests, and one that is refused costs nothing at any of them. So the count of
/// a limit is never above that of a stricter one by the same key, and it cannot refuse what that one admits.
fn rates(limits: &RateLimitConfig, path: &ConfigPath, findings: &mut Findings) {
    for (at, limit) in limits.0.iter().enumerate() {
        let before =
            |other: usize, by: &LimitConfig| is_within(by, limit) && (other < at || !is_within(limit, by));
        let stricter = limits.0.iter().enumerate().find(|(other, by)| *other != at && before(*other, by));
        if let Some((other, _)) = stricter {
            let problem =
                Problem::new("this limit never refuses anything: another one by the same key is stricter")
                    .remedy(format!(
                        "take it away, or make its rate or burst less than those of limit {}",
                        other + 1
                    ));
            findings.warning(path.index(at), problem);
        }
    }
}

/// True if whatever `strict` admits is within `loose`.
fn is_within(strict: &LimitConfig, loose: &LimitConfig) -> bool {
    let (Some(rate), Some(other)) = (strict.rate, loose.rate) else { return false };
    let burst = |limit: &LimitConfig, count: u32| limit.burst.map_or(count, std::num::NonZeroU32::get);
    // Two of one name are a mistake of their own.
    strict.name != loose.name
        && !strict.shadow
        && !strict.plan
        && !loose.plan
        && strict.key == loose.key
        && strict.cost == loose.cost
        && strict.shared == loose.shared
        && strict.on_failure == loose.on_failure
        && strict.local_share == loose.local_share
        && u128::from(rate.count()) * other.per().as_nanos()
            <= u128::from(other.count()) * rate.per().as_nanos()
        && burst(strict, rate.count()) <= burst(loose, other.count())
}

fn of_upstream(limits: &Limits, path: &ConfigPath, findings: &mut Findings) {
    if let MostRequests::Fixed(count) = limits.requests
        && limits.between != Limits::default().between
    {
        let problem = Problem::new(format!("it bounds what `auto` finds, and `requests` is {count}"))
            .remedy("take `between` away, or write `requests: auto`");
        findings.warning(path.key("between"), problem);
    }
}
