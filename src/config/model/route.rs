//! Which request goes where, and under which policies.

use super::fallback::Fallback;
use super::upstream::RouteRetry;
use crate::policy::config::Policies;
use crate::values::{Duration, Importance, Name, Network, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Which request, under which policies, goes where.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The listeners it is bound to. Default: all.
    #[serde(default)]
    pub on: Vec<Name>,
    /// Which requests it is for: one set of conditions, or a list of which any may hold. Default: all.
    #[serde(default)]
    #[serde(rename = "match")]
    pub matches: Matches,
    /// A higher one is looked at first, before host and path. Default 0.
    #[serde(default)]
    pub priority: i32,
    /// This route's own policies, over those of its listener and the gateway's defaults.
    #[serde(default)]
    pub policies: Policies,
    /// How long things may take, over the upstream's own.
    #[serde(default)]
    pub timeouts: RouteTimeouts,
    /// What happens when an endpoint fails, over the upstream's own.
    #[serde(default)]
    pub retry: RouteRetry,
    /// What requests get when the upstream fails. Default: an error.
    pub fallback: Option<Fallback>,
    /// How much it matters that its requests are answered, where the upstream's `limits` leave no room for all:
    /// `low`, `normal` or `high`. Default: what the caller's plan says, or `normal`.
    pub importance: Option<Importance>,
    /// Protocols that a client may upgrade its connection to here; what else it asks for is not
    /// passed on. Default `[websocket]`; `[]` for none.
    #[serde(default = "websocket")]
    pub upgrades: Vec<Upgrade>,
    /// A file to answer with instead of our own words, by status.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, PathBuf>")]
    pub error_pages: BTreeMap<u16, PathBuf>,
    /// An upstream's name, or one of `{ upstream: … }`, `{ split: … }`, `{ respond: … }`,
    /// `{ redirect: … }`, `{ echo: {} }`.
    pub to: Target,
}

fn websocket() -> Vec<Upgrade> {
    vec![Upgrade("websocket".into())]
}

/// The name of a protocol in `Upgrade` (RFC 9110 section 7.8). HTTP and TLS are none of them: what
/// was inside would have passed no policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Upgrade(Box<str>);

impl Upgrade {
    /// True if a client means this protocol; names are compared without case.
    pub fn is(&self, name: &str) -> bool {
        self.0.eq_ignore_ascii_case(name)
    }
}

impl<'de> Deserialize<'de> for Upgrade {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_name = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(&c);
        let name = text.split('/').next().unwrap_or_default().to_ascii_lowercase();
        if text.is_empty() || text.len() > 64 || !text.bytes().all(is_name) {
            let problem = Problem::new(format!("`{text}` is not the name of a protocol"));
            return Err(de::Error::custom(problem.remedy("write it as in `Upgrade`, such as `websocket`")));
        }
        if matches!(name.as_str(), "h2c" | "h2" | "http" | "tls") {
            let problem = Problem::new(format!("a connection cannot be upgraded to `{text}`"));
            return Err(de::Error::custom(problem.remedy(
                "requests inside would pass no policy; listeners and upstreams speak it themselves",
            )));
        }
        Ok(Self(text.into()))
    }
}

impl JsonSchema for Upgrade {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Upgrade".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "minLength": 1, "maxLength": 64, "examples": ["websocket"] })
    }
}

/// A route's own times; what is not given is the upstream's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteTimeouts {
    /// To connect.
    pub connect: Option<Duration>,
    /// Between two reads of the answer, the first one included.
    pub read: Option<Duration>,
    /// For one write.
    pub write: Option<Duration>,
    /// For the whole exchange, retries included.
    pub total: Option<Duration>,
}

/// One set of conditions, or several of which any may hold.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Matches(pub Vec<Match>);

impl Default for Matches {
    fn default() -> Self {
        Self(vec![Match::default()])
    }
}

impl<'de> Deserialize<'de> for Matches {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Matches;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of conditions, or a list of such maps")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Matches, A::Error> {
                Match::deserialize(de::value::MapAccessDeserializer::new(map)).map(|one| Matches(vec![one]))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<Matches, A::Error> {
                let list = Vec::<Match>::deserialize(de::value::SeqAccessDeserializer::new(seq))?;
                if list.is_empty() {
                    return Err(de::Error::custom("an empty list of conditions matches nothing"));
                }
                Ok(Matches(list))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Matches {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Matches".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let one = generator.subschema_for::<Match>();
        schemars::json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

/// Conditions that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// Host names, `api.example.com` or `*.example.com` (one label). Default: any.
    pub hosts: Vec<String>,
    /// A path: `/orders`, `/orders/{id}`, `/orders/*`, `/orders/{*rest}`.
    pub path: Option<String>,
    /// A regular expression that the whole path must match; its named groups are parameters. The
    /// slower way.
    pub path_regex: Option<String>,
    /// Methods. Default: any.
    pub methods: Vec<String>,
    /// Header fields by name.
    pub headers: BTreeMap<String, Condition>,
    /// Query parameters by name.
    pub query: BTreeMap<String, Condition>,
    /// Cookies by name.
    pub cookies: BTreeMap<String, Condition>,
    /// Networks that the client's address must be in. Default: any.
    pub client: Vec<Network>,
}

/// What a value must be: text (exactly that), or one of `{ prefix: … }`, `{ regex: … }`,
/// `{ present: true }`, `{ present: false }`.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// Exactly this.
    Exact(String),
    /// Beginning with this.
    Prefix(String),
    /// The whole value matches this regular expression.
    Regex(String),
    /// There at all, or not there at all.
    Present(bool),
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum LongCondition {
    Prefix(String),
    Regex(String),
    Present(bool),
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Condition;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, or one of `{ prefix: … }`, `{ regex: … }`, `{ present: … }`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Condition, E> {
                Ok(Condition::Exact(text.to_owned()))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Condition, A::Error> {
                let long = LongCondition::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(match long {
                    LongCondition::Prefix(text) => Condition::Prefix(text),
                    LongCondition::Regex(text) => Condition::Regex(text),
                    LongCondition::Present(is) => Condition::Present(is),
                })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for Condition {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Exact(text) => serializer.serialize_str(text),
            Self::Prefix(text) => LongCondition::Prefix(text.clone()).serialize(serializer),
            Self::Regex(text) => LongCondition::Regex(text.clone()).serialize(serializer),
            Self::Present(is) => LongCondition::Present(*is).serialize(serializer),
        }
    }
}

impl JsonSchema for Condition {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Condition".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let long = generator.subschema_for::<LongCondition>();
        schemars::json_schema!({ "anyOf": [{ "type": "string" }, long] })
    }
}

/// Where a route's requests go.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// To an upstream.
    Upstream(Name),
    /// To one of several upstreams by weight.
    Split(Split),
    /// A fixed answer.
    Respond(Respond),
    /// A redirect.
    Redirect(Redirect),
    /// The request itself, as JSON: for trying things out.
    Echo(Echo),
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum LongTarget {
    Upstream(Name),
    Split(Split),
    Respond(Respond),
    Redirect(Redirect),
    Echo(Echo),
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Target;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an upstream's name, or one of `{ split: … }`, `{ respond: … }`, `{ redirect: … }`, `{ echo: {} }`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Target, E> {
                text.parse().map(Target::Upstream).map_err(E::custom)
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Target, A::Error> {
                let long = LongTarget::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(match long {
                    LongTarget::Upstream(name) => Target::Upstream(name),
                    LongTarget::Split(split) => Target::Split(split),
                    LongTarget::Respond(respond) => Target::Respond(respond),
                    LongTarget::Redirect(redirect) => Target::Redirect(redirect),
                    LongTarget::Echo(echo) => Target::Echo(echo),
                })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for Target {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.clone() {
            Self::Upstream(name) => name.serialize(serializer),
            Self::Split(split) => LongTarget::Split(split).serialize(serializer),
            Self::Respond(respond) => LongTarget::Respond(respond).serialize(serializer),
            Self::Redirect(redirect) => LongTarget::Redirect(redirect).serialize(serializer),
            Self::Echo(echo) => LongTarget::Echo(echo).serialize(serializer),
        }
    }
}

impl JsonSchema for Target {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Target".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let name = generator.subschema_for::<Name>();
        let long = generator.subschema_for::<LongTarget>();
        schemars::json_schema!({ "anyOf": [name, long] })
    }
}

/// Several upstreams by weight.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Upstreams with their weights, such as `{ stable: 95, canary: 5 }`.
    pub weights: BTreeMap<Name, u16>,
    /// What keeps a caller on one side. Default: nothing, each request is drawn anew.
    pub sticky: Option<Sticky>,
}

/// What keeps a caller on one side of a split: the hash of this value. A request without it is
/// drawn anew.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sticky {
    /// The value of this header field.
    Header(String),
    /// The value of this cookie.
    Cookie(String),
}

/// A fixed answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Respond {
    /// The status, 200 to 599. Default 200.
    #[serde(default = "status_ok")]
    #[schemars(range(min = 200, max = 599))]
    pub status: u16,
    /// Header fields.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body. Default: none.
    #[serde(default)]
    pub body: String,
    /// Whether `{…}` variables in `body` stand for what is known of the request, written so that they are data where
    /// `content-type` is JSON, HTML, XML or plain text. Default false: the body is as it stands.
    #[serde(default)]
    pub template: bool,
}

fn status_ok() -> u16 {
    200
}

/// A redirect. What is not given stays as the request has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308. Default 308.
    #[schemars(schema_with = "redirect_statuses")]
    pub status: u16,
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// The host, with `{…}` variables.
    pub host: Option<String>,
    /// The port; without it the scheme's own where `scheme` is given, else the request's.
    pub port: Option<u16>,
    /// The path, with `{…}` variables.
    pub path: Option<String>,
    /// Whether the query goes along. Default true.
    pub query: bool,
}

impl Default for Redirect {
    fn default() -> Self {
        Self { status: 308, scheme: None, host: None, port: None, path: None, query: true }
    }
}

fn redirect_statuses(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "enum": [301, 302, 303, 307, 308] })
}

/// The request itself, as JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Echo {}
