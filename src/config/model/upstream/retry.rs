use crate::values::{Duration, Percent, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de};
use std::{fmt, str::FromStr};

/// What happens when an endpoint fails: another one is tried, where that is safe. What could not be
/// sent (`connect`) may always be; everything else only if its method is idempotent (RFC 9110 section
/// 9.2.2), its body is still in hand (64 KiB, or any that a policy held) and the client has got nothing yet.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Attempts in all, 1 to 16. Default 2.
    #[schemars(range(min = 1, max = 16))]
    pub attempts: u8,
    /// What is tried again: `connect` (no connection within `timeouts.connect`, TLS included), `reset`
    /// (the connection broke before an answer), `timeout` (no answer within `timeouts.read`), and
    /// statuses of the upstream, 400 to 599. Default `[connect, reset]`.
    pub on: Vec<Condition>,
    /// How long to wait before another attempt: drawn between nothing and a bound that begins with
    /// the first time and doubles up to the second. Default `25ms..250ms`.
    pub backoff: Backoff,
    /// The longest `Retry-After` of an endpoint that is waited for; with a longer one, its answer is
    /// the client's. Default 1s.
    pub retry_after: Duration,
    /// How many further attempts there may be for all requests to this upstream together, so that
    /// what is overloaded is not asked twice as often: this share of the requests that are under way, at any
    /// moment; and of all requests over time, besides 100 saved up and one a second. A connection that breaks costs the
    /// latter alone while there is an endpoint that has not been tried. Default 20%.
    pub budget: Percent,
    /// How many further attempts may be under way in any case, where `budget` of the requests under way is fewer;
    /// 0 to 1000. Default 3.
    #[schemars(range(max = 1000))]
    pub at_once: u16,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 2,
            on: vec![Condition::Connect, Condition::Reset],
            backoff: Backoff { from: Duration::from_millis(25), to: Duration::from_millis(250) },
            retry_after: Duration::from_secs(1),
            budget: Percent::from_basis_points(2_000),
            at_once: 3,
        }
    }
}

/// A route's own say in what happens when an endpoint fails. What it leaves out is as the upstream
/// has it; the budget is the upstream's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteRetry {
    /// Attempts in all, 1 to 16.
    #[schemars(range(min = 1, max = 16))]
    pub attempts: Option<u8>,
    /// What is tried again.
    pub on: Option<Vec<Condition>>,
    /// How long to wait before another attempt.
    pub backoff: Option<Backoff>,
    /// The longest `Retry-After` that is waited for.
    pub retry_after: Option<Duration>,
}

/// Something that is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// There was no connection.
    Connect,
    /// The connection broke before an answer.
    Reset,
    /// There was no answer in time.
    Timeout,
    /// The upstream answered with this status.
    Status(u16),
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("connect"),
            Self::Reset => f.write_str("reset"),
            Self::Timeout => f.write_str("timeout"),
            Self::Status(status) => write!(f, "{status}"),
        }
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Condition;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`connect`, `reset`, `timeout` or a status from 400 to 599")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Condition, E> {
                match text {
                    "connect" => Ok(Condition::Connect),
                    "reset" => Ok(Condition::Reset),
                    "timeout" => Ok(Condition::Timeout),
                    text => {
                        let known = ["connect", "reset", "timeout"];
                        let mut problem = Problem::unknown("condition", text, known);
                        if !problem.remedy.as_ref().is_some_and(|remedy| remedy.starts_with("did")) {
                            problem = problem
                                .remedy("write `connect`, `reset`, `timeout` or a status from 400 to 599");
                        }
                        Err(E::custom(problem))
                    }
                }
            }
            fn visit_u64<E: de::Error>(self, status: u64) -> Result<Condition, E> {
                match u16::try_from(status) {
                    Ok(status @ 400..=599) => Ok(Condition::Status(status)),
                    _ => Err(E::custom(
                        Problem::new(format!("{status} is not the status of an error"))
                            .remedy("what can be tried again is a status from 400 to 599"),
                    )),
                }
            }
            fn visit_i64<E: de::Error>(self, status: i64) -> Result<Condition, E> {
                self.visit_u64(u64::try_from(status).unwrap_or_default())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for Condition {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Connect => serializer.serialize_str("connect"),
            Self::Reset => serializer.serialize_str("reset"),
            Self::Timeout => serializer.serialize_str("timeout"),
            Self::Status(status) => serializer.serialize_u16(*status),
        }
    }
}

impl JsonSchema for Condition {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Condition".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                { "enum": ["connect", "reset", "timeout"] },
                { "type": "integer", "minimum": 400, "maximum": 599 },
            ],
        })
    }
}

/// Two times, the second not shorter: `25ms..250ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The bound before the second attempt.
    pub from: Duration,
    /// What the bound doubles up to.
    pub to: Duration,
}

impl FromStr for Backoff {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let remedy = "write two times, such as `25ms..250ms`";
        let shown: String = text.chars().take(40).collect();
        let Some((from, to)) = text.split_once("..") else {
            return Err(Problem::new(format!("`{shown}` is not a back-off")).remedy(remedy));
        };
        let (from, to) = (from.trim().parse::<Duration>()?, to.trim().parse::<Duration>()?);
        if from > to {
            return Err(Problem::new(format!("in `{shown}` the first time is longer")).remedy(remedy));
        }
        if to > Duration::from_secs(60) {
            return Err(Problem::new(format!("`{to}` is too long to wait for another attempt"))
                .remedy("wait at most `60s`"));
        }
        Ok(Self { from, to })
    }
}

impl fmt::Display for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.from, self.to)
    }
}

impl<'de> Deserialize<'de> for Backoff {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Backoff {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Backoff {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Backoff".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[0-9]+(ms|s|m)\\.\\.[0-9]+(ms|s|m)$",
            "examples": ["25ms..250ms"],
        })
    }
}
