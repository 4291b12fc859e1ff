//! Faults on purpose: to try what clients, limits and breakers make of an upstream that is slow or fails.
//!
//! ```yaml
//! fault: { header: x-fault, delay: { by: 500ms, share: 10% }, abort: { status: 503, share: 5% } }
//! ```

use super::context::PolicyContext;
use super::{CompileEnv, Policy, Step, Verdict, at};
use crate::rejection::Rejection;
use crate::telemetry::random;
use crate::values::{ConfigPath, Duration, Finding, Percent, Problem};
use http::{HeaderName, StatusCode};
use pingora_http::RequestHeader;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Requests are delayed or refused on purpose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FaultConfig {
    /// Only requests with this header field. Whoever sends it asks for the fault. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// Requests that wait before they go on. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<DelayConfig>,
    /// Requests that are refused, after their delay if they have one. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abort: Option<AbortConfig>,
}

/// Requests that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DelayConfig {
    /// How long, 1ms to 60s.
    pub by: Duration,
    /// The share of requests. Default 100%.
    #[serde(default = "all")]
    pub share: Percent,
}

/// Requests that are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AbortConfig {
    /// With this status, 400 to 599.
    #[schemars(range(min = 400, max = 599))]
    pub status: u16,
    /// The share of requests. Default 100%.
    #[serde(default = "all")]
    pub share: Percent,
}

const fn all() -> Percent {
    Percent::ALL
}

/// The longest delay.
const LONGEST: Duration = Duration::from_secs(60);

/// [`FaultConfig`], compiled.
#[derive(Debug)]
pub struct Fault {
    header: Option<HeaderName>,
    delay: Option<DelayConfig>,
    abort: Option<(StatusCode, Percent)>,
}

/// The request was refused on purpose.
pub const FAULT_INJECTED: &str = "fault_injected";

impl Policy for Fault {
    const NAME: &'static str = "fault";
    type Config = FaultConfig;

    fn compile(config: &FaultConfig, _: &CompileEnv<'_>) -> Result<Self, Vec<Finding>> {
        let mut found = Vec::new();
        let never = |share: Percent| share.basis_points() == 0;
        if config.delay.is_none() && config.abort.is_none() {
            let problem = Problem::new("neither `delay` nor `abort` says what happens")
                .remedy("write one, such as `abort: { status: 503, share: 5% }`, or `fault: off`");
            found.push(Finding::error(ConfigPath::root(), problem));
        }
        let header = config.header.as_ref().and_then(|name| {
            let parsed = name.parse().ok();
            if parsed.is_none() {
                let problem = Problem::new(format!("`{name}` is not a header field's name"));
                found.push(at("header", problem.remedy("write the name alone, such as `x-fault`")));
            }
            parsed
        });
        if let Some(delay) = config.delay {
            let path = ConfigPath::root().key("delay");
            if delay.by.is_zero() || delay.by > LONGEST {
                let problem = Problem::new(format!("`by` cannot be {}", delay.by)).remedy("write 1ms to 60s");
                found.push(Finding::error(path.key("by"), problem));
            }
            if never(delay.share) {
                found.push(Finding::error(path.key("share"), Problem::new("nothing would be delayed")));
            }
        }
        let abort = config.abort.and_then(|abort| {
            let path = ConfigPath::root().key("abort");
            if never(abort.share) {
                found.push(Finding::error(path.key("share"), Problem::new("nothing would be refused")));
            }
            let status = StatusCode::from_u16(abort.status).ok();
            let status = status.filter(|status| status.is_client_error() || status.is_server_error());
            if status.is_none() {
                let problem = Problem::new(format!("`{}` refuses nothing", abort.status));
                found.push(Finding::error(
                    path.key("status"),
                    problem.remedy("write a status from 400 to 599"),
                ));
            }
            Some((status?, abort.share))
        });
        if found.is_empty() { Ok(Self { header, delay: config.delay, abort }) } else { Err(found) }
    }

    fn on_request<'a>(&'a self, head: &'a RequestHeader, _: &'a mut PolicyContext) -> Step<'a> {
        if self.header.as_ref().is_some_and(|name| !head.headers.contains_key(name)) {
            return Step::Continue;
        }
        let abort = self.abort.filter(|(_, share)| falls_in(*share, random::next_u64()));
        let refusal = abort.map(|(status, _)| Box::new(refusal(status)));
        let delay = self.delay.filter(|delay| falls_in(delay.share, random::next_u64()));
        match (delay, refusal) {
            (None, None) => Step::Continue,
            (None, Some(refusal)) => Step::Reject(refusal),
            (Some(delay), refusal) => Step::Wait(Box::pin(async move {
                tokio::time::sleep(delay.by.get()).await;
                refusal.map_or(Verdict::Continue, Verdict::Reject)
            })),
        }
    }
}

fn refusal(status: StatusCode) -> Rejection {
    Rejection::new(status, FAULT_INJECTED, "This fails on purpose")
}

/// True for as great a share of all numbers.
fn falls_in(share: Percent, number: u64) -> bool {
    number % 10_000 < u64::from(share.basis_points())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(yaml: &str) -> Result<Fault, Vec<Finding>> {
        Fault::compile(&serde_saphyr::from_str(yaml).unwrap(), &CompileEnv::default())
    }

    #[test]
    fn as_many_fail_as_are_to() {
        let policy = compile("{ abort: { status: 503, share: 25% } }").unwrap();
        let head = RequestHeader::build("GET", b"/", None).unwrap();
        let refused =
            |_: &u32| matches!(policy.on_request(&head, &mut PolicyContext::new()), Step::Reject(_));
        let count = (0..10_000).filter(refused).count();
        // More than ten standard deviations on either side.
        assert!((2000..3000).contains(&count), "{count}");
        assert_eq!((0..10_000).filter(|number| falls_in("0.25%".parse().unwrap(), *number)).count(), 25);
    }

    #[test]
    fn a_header_asks_for_it() {
        let policy = compile("{ header: x-fault, abort: { status: 418 } }").unwrap();
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        assert!(matches!(policy.on_request(&head, &mut PolicyContext::new()), Step::Continue));
        head.insert_header("x-fault", "").unwrap();
        let mut cx = PolicyContext::new();
        let Step::Reject(refusal) = policy.on_request(&head, &mut cx) else { panic!("it passes") };
        assert_eq!((refusal.status.as_u16(), refusal.code), (418, FAULT_INJECTED));
    }

    #[test]
    fn mistakes() {
        for (yaml, at) in [
            ("{}", ""),
            ("{ header: 'a b', abort: { status: 503 } }", "header"),
            ("{ delay: { by: 0s } }", "delay.by"),
            ("{ delay: { by: 61s } }", "delay.by"),
            ("{ delay: { by: 1s, share: 0% } }", "delay.share"),
            ("{ abort: { status: 200 } }", "abort.status"),
            ("{ abort: { status: 503, share: 0% } }", "abort.share"),
        ] {
            let found = compile(yaml).unwrap_err();
            assert!(found.iter().any(|finding| finding.path.to_string() == at), "{yaml}: {found:?}");
        }
    }
}
