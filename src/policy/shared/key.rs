//! By what requests are told apart where something is counted: for each client address, consumer, header …

use super::caller::Caller;
use super::template::{Scope, cookie_value};
use crate::identity::Principal;
use crate::policy::context::PolicyContext;
use crate::values::{ConfigPath, Finding, Problem, Sha256};
use http::HeaderName;
use pingora_http::RequestHeader;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de};
use std::fmt;
use std::hash::Hasher;
use std::net::IpAddr;

/// By what requests are told apart: one thing, or several together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyConfig(pub Vec<PartConfig>);

/// One thing by which requests are told apart. Those that lack it count together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PartConfig {
    /// The client's address; of IPv6 its /64 unless `{ client_ip: { v6: 56 } }` says otherwise, since a
    /// client has as many addresses there as it likes.
    ClientIp(Prefixes),
    /// The consumer. Callers that are none count together.
    Consumer,
    /// Who the credential says calls, whether that is a consumer or not.
    Subject,
    /// The consumer's plan: all consumers of a plan together.
    Plan,
    /// The tenant that the consumer belongs to: all of its consumers together.
    Tenant,
    /// The route, where a limit is for several.
    Route,
    /// A header field of the request. A client chooses what it says.
    #[serde(serialize_with = "as_text")]
    #[schemars(with = "String")]
    Header(HeaderName),
    /// A cookie of the request. A client chooses what it says.
    Cookie(String),
    /// A claim of the caller's token; dots lead into objects.
    Claim(String),
}

/// How much of an address counts, in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Prefixes {
    /// Of IPv4, 8 to 32. Default 32.
    #[schemars(range(min = 8, max = 32))]
    pub v4: u8,
    /// Of IPv6, 16 to 128. Default 64.
    #[schemars(range(min = 16, max = 128))]
    pub v6: u8,
}

impl Default for Prefixes {
    fn default() -> Self {
        Self { v4: 32, v6: 64 }
    }
}

impl Default for KeyConfig {
    fn default() -> Self {
        Self(vec![PartConfig::ClientIp(Prefixes::default())])
    }
}

fn as_text<S: serde::Serializer>(name: &HeaderName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_str())
}

const WORDS: [(&str, PartConfig); 6] = [
    ("client_ip", PartConfig::ClientIp(Prefixes { v4: 32, v6: 64 })),
    ("consumer", PartConfig::Consumer),
    ("subject", PartConfig::Subject),
    ("plan", PartConfig::Plan),
    ("tenant", PartConfig::Tenant),
    ("route", PartConfig::Route),
];

const EXPECTED: &str = "`client_ip`, `consumer`, `subject`, `plan`, `tenant`, `route`, \
                        `{ header: NAME }`, `{ cookie: NAME }`, `{ claim: NAME }`";

/// What stands in a map of one key.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Named {
    ClientIp(Prefixes),
    Header(String),
    Cookie(String),
    Claim(String),
}

impl<'de> Deserialize<'de> for PartConfig {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = PartConfig;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "one of {EXPECTED}")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<PartConfig, E> {
                let found = WORDS.into_iter().find(|(word, _)| *word == text);
                found.map(|(_, part)| part).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<PartConfig, A::Error> {
                let named = Named::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(match named {
                    Named::ClientIp(prefixes) => PartConfig::ClientIp(prefixes),
                    Named::Cookie(name) => PartConfig::Cookie(name),
                    Named::Claim(name) => PartConfig::Claim(name),
                    Named::Header(name) => PartConfig::Header(name.parse().map_err(|_| {
                        de::Error::invalid_value(de::Unexpected::Str(&name), &"a header field's name")
                    })?),
                })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl<'de> Deserialize<'de> for KeyConfig {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = KeyConfig;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "one of {EXPECTED}, or a list of them")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<KeyConfig, E> {
                let found = WORDS.into_iter().find(|(word, _)| *word == text);
                let found = found.ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))?;
                Ok(KeyConfig(vec![found.1]))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<KeyConfig, A::Error> {
                let part = PartConfig::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(KeyConfig(vec![part]))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<KeyConfig, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(list)).map(KeyConfig)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for KeyConfig {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &*self.0 {
            [one] => Word(one).serialize(serializer),
            several => serializer.collect_seq(several.iter().map(Word)),
        }
    }
}

/// A part as it is written.
struct Word<'a>(&'a PartConfig);

impl Serialize for Word<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match WORDS.iter().find(|(_, part)| part == self.0) {
            Some((word, _)) => serializer.serialize_str(word),
            None => self.0.serialize(serializer),
        }
    }
}

impl JsonSchema for KeyConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Key".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let prefixes = generator.subschema_for::<Prefixes>();
        let words: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
        let named = |name: &str, of: serde_json::Value| {
            serde_json::json!({
                "type": "object", "properties": { name: of }, "required": [name], "additionalProperties": false,
            })
        };
        let text = || serde_json::json!({ "type": "string", "minLength": 1 });
        let part = serde_json::json!({ "anyOf": [
            { "enum": words },
            named("client_ip", prefixes.to_value()),
            named("header", text()),
            named("cookie", text()),
            named("claim", text()),
        ] });
        schemars::json_schema!({
            "description": "By what requests are told apart; a list is several things together. Those that lack it count together.",
            "anyOf": [part, { "type": "array", "items": part, "minItems": 1, "maxItems": 4 }],
        })
    }
}

/// [`KeyConfig`], compiled.
#[derive(Clone, Debug)]
pub struct Key {
    parts: Box<[Part]>,
    text: Box<str>,
}

#[derive(Clone, Debug)]
enum Part {
    ClientIp(Prefixes),
    Header(HeaderName),
    Cookie(Box<str>),
    Route(Box<str>),
    Caller(Caller),
    Subject,
}

impl Key {
    /// Compiles it.
    ///
    /// # Errors
    /// What can tell nobody apart, with its path from the key.
    pub fn compile(config: &KeyConfig, scope: &Scope<'_>) -> Result<Self, Vec<Finding>> {
        let several = config.0.len() != 1;
        let at = |index: usize| {
            if several { ConfigPath::root().index(index) } else { ConfigPath::root() }
        };
        let mut found = Vec::new();
        if !(1..=4).contains(&config.0.len()) {
            let problem =
                Problem::new("a key has one to four parts").remedy(format!("name some of {EXPECTED}"));
            return Err(vec![Finding::error(ConfigPath::root(), problem)]);
        }
        for (index, part) in config.0.iter().enumerate() {
            if let Some(problem) = part.problem() {
                found.push(Finding::error(at(index), problem));
            }
            if config.0[..index].contains(part) {
                found.push(Finding::error(at(index), Problem::new("it is there twice")));
            }
        }
        if !found.is_empty() {
            return Err(found);
        }
        let parts = config.0.iter().map(|part| Part::of(part, scope)).collect();
        let text = config.0.iter().map(PartConfig::to_string).collect::<Vec<_>>().join("+");
        Ok(Self { parts, text: text.into() })
    }

    /// As it is called in names of limits: `client_ip`, `consumer+route`, `header.x-tenant`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True if it is known only once the caller is.
    pub fn needs_caller(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Caller(_) | Part::Subject))
    }

    /// True if whoever sends the request chooses what it says.
    pub fn is_chosen_by_client(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Header(_) | Part::Cookie(_) | Part::Route(_)))
            && self.parts.iter().any(|part| !matches!(part, Part::Route(_)))
    }

    /// A digest that all gateways agree on, of what this request has for each part of the key of the limit
    /// `id`.
    pub fn sha256(&self, id: &str, head: &RequestHeader, cx: &PolicyContext) -> Sha256 {
        let mut bytes = Bytes(id.as_bytes().to_vec());
        self.digest(&mut bytes, head, cx);
        Sha256::of(&bytes.0)
    }

    /// What this request has for each part, for an operator to read. Of what may be a secret (header fields,
    /// cookies) it is a digest.
    pub fn label(&self, head: &RequestHeader, cx: &PolicyContext) -> String {
        self.parts.iter().map(|part| part.label(head, cx)).collect::<Vec<_>>().join(" ")
    }

    /// Writes what this request has for each part, so that no two keys write the same.
    pub fn digest(&self, hasher: &mut impl Hasher, head: &RequestHeader, cx: &PolicyContext) {
        for part in &self.parts {
            part.write(hasher, head, cx);
        }
    }
}

impl PartConfig {
    fn problem(&self) -> Option<Problem> {
        match self {
            Self::ClientIp(prefixes) => prefixes.problem(),
            Self::Cookie(name) | Self::Claim(name) if name.is_empty() => {
                Some(Problem::new("its name is empty"))
            }
            _ => None,
        }
    }
}

impl fmt::Display for PartConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientIp(prefixes) if *prefixes == Prefixes::default() => f.write_str("client_ip"),
            Self::ClientIp(Prefixes { v4, v6 }) => write!(f, "client_ip.{v4}.{v6}"),
            Self::Consumer => f.write_str("consumer"),
            Self::Subject => f.write_str("subject"),
            Self::Plan => f.write_str("plan"),
            Self::Tenant => f.write_str("tenant"),
            Self::Route => f.write_str("route"),
            Self::Header(name) => write!(f, "header.{name}"),
            Self::Cookie(name) => write!(f, "cookie.{name}"),
            Self::Claim(name) => write!(f, "claim.{name}"),
        }
    }
}

impl Part {
    fn of(config: &PartConfig, scope: &Scope<'_>) -> Self {
        match config {
            PartConfig::ClientIp(prefixes) => Self::ClientIp(*prefixes),
            PartConfig::Header(name) => Self::Header(name.clone()),
            PartConfig::Cookie(name) => Self::Cookie(name.as_str().into()),
            PartConfig::Consumer => Self::Caller(Caller::Consumer),
            PartConfig::Plan => Self::Caller(Caller::Plan),
            PartConfig::Tenant => Self::Caller(Caller::Tenant),
            PartConfig::Claim(name) => Self::Caller(Caller::Claim(name.as_str().into())),
            PartConfig::Subject => Self::Subject,
            PartConfig::Route => {
                scope.of_this_route.set(true);
                Self::Route(scope.route.unwrap_or_default().into())
            }
        }
    }

    fn write(&self, hasher: &mut impl Hasher, head: &RequestHeader, cx: &PolicyContext) {
        match self {
            Self::ClientIp(prefixes) => hasher.write_u128(prefixes.of(cx.client)),
            Self::Route(name) => text(hasher, name.as_bytes()),
            Self::Cookie(name) => text(hasher, cookie_value(head, name).as_bytes()),
            Self::Header(name) => {
                // All of its lines: which of them counts is for whoever reads the request next.
                for value in head.headers.get_all(name) {
                    text(hasher, value.as_bytes());
                }
                hasher.write_usize(usize::MAX);
            }
            Self::Caller(caller) => {
                let said = cx.principal.as_deref().map(|principal| caller.of(principal));
                text(hasher, said.as_deref().unwrap_or_default().as_bytes());
            }
            Self::Subject => match cx.principal.as_deref() {
                None => hasher.write_u8(0),
                Some(Principal { consumer: Some(consumer), .. }) => {
                    hasher.write_u8(1);
                    text(hasher, consumer.name.as_bytes());
                }
                Some(principal) => {
                    hasher.write_u8(2);
                    text(hasher, principal.method.as_str().as_bytes());
                    text(hasher, principal.provider.as_deref().unwrap_or_default().as_bytes());
                    text(hasher, principal.subject.as_bytes());
                }
            },
        }
    }
}

/// What is written of a key, as it is: a digest that all gateways agree on is made of it.
struct Bytes(Vec<u8>);

impl Hasher for Bytes {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// With its length, so that `ab` and `c` are not `a` and `bc`.
fn text(hasher: &mut impl Hasher, bytes: &[u8]) {
    hasher.write_usize(bytes.len());
    hasher.write(bytes);
}

impl Part {
    fn label(&self, head: &RequestHeader, cx: &PolicyContext) -> String {
        let said = match self {
            Self::ClientIp(prefixes) => prefixes.label(cx.client),
            Self::Route(name) => name.to_string(),
            Self::Header(_) | Self::Cookie(_) => {
                let mut bytes = Bytes(Vec::new());
                self.write(&mut bytes, head, cx);
                let digest = Sha256::of(&bytes.0).to_string();
                format!("#{}", digest.get(..12).unwrap_or(&digest))
            }
            Self::Caller(caller) => cx
                .principal
                .as_deref()
                .map_or_else(String::new, |principal| caller.of(principal).into_owned()),
            Self::Subject => cx.principal.as_deref().map_or_else(String::new, |principal| {
                principal.consumer.as_ref().map_or(&principal.subject, |consumer| &consumer.name).to_string()
            }),
        };
        match said.char_indices().nth(LONGEST_LABEL) {
            _ if said.is_empty() => "-".to_owned(),
            Some((end, _)) => format!("{}…", &said[..end]),
            None => said,
        }
    }
}

/// As much of a key's part is shown, in characters.
const LONGEST_LABEL: usize = 64;

impl Prefixes {
    /// What is wrong with it.
    pub fn problem(&self) -> Option<Problem> {
        let is_sound = (8..=32).contains(&self.v4) && (16..=128).contains(&self.v6);
        (!is_sound).then(|| Problem::new("`v4` is 8 to 32 bits and `v6` is 16 to 128"))
    }

    /// What of an address counts, for people.
    fn label(self, address: IpAddr) -> String {
        match address.to_canonical() {
            IpAddr::V4(v4) if self.v4 == 32 => v4.to_string(),
            IpAddr::V4(v4) => {
                let kept = u32::MAX.checked_shl(32 - u32::from(self.v4)).unwrap_or(0);
                format!("{}/{}", std::net::Ipv4Addr::from_bits(v4.to_bits() & kept), self.v4)
            }
            v6 @ IpAddr::V6(_) if self.v6 == 128 => v6.to_string(),
            v6 @ IpAddr::V6(_) => format!("{}/{}", std::net::Ipv6Addr::from_bits(self.of(v6)), self.v6),
        }
    }

    /// What of an address counts. IPv4 and IPv6 never meet.
    pub fn of(self, address: IpAddr) -> u128 {
        match address.to_canonical() {
            // Of the addresses that IPv6 maps IPv4 to, which never come here as themselves.
            IpAddr::V4(v4) => {
                let kept = u32::MAX.checked_shl(32 - u32::from(self.v4)).unwrap_or(0);
                0xffff_0000_0000 | u128::from(v4.to_bits() & kept)
            }
            IpAddr::V6(v6) => v6.to_bits() & u128::MAX.checked_shl(128 - u32::from(self.v6)).unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Consumer, Method};
    use serde_json::json;
    use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
    use std::sync::Arc;

    fn key(yaml: &str) -> Key {
        let config: KeyConfig = serde_saphyr::from_str(yaml).unwrap();
        Key::compile(&config, &Scope { route: Some("r"), ..Scope::default() }).unwrap()
    }

    fn digest(key: &Key, head: &RequestHeader, cx: &PolicyContext) -> u64 {
        let mut hasher = BuildHasherDefault::<DefaultHasher>::default().build_hasher();
        key.digest(&mut hasher, head, cx);
        hasher.finish()
    }

    fn head(fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    fn from(address: &str) -> PolicyContext {
        PolicyContext { client: address.parse().unwrap(), ..PolicyContext::new() }
    }

    #[test]
    fn addresses_count_by_their_prefix() {
        let same = |key: &Key, one: &str, two: &str| {
            digest(key, &head(&[]), &from(one)) == digest(key, &head(&[]), &from(two))
        };
        let whole = key("client_ip");
        assert!(!same(&whole, "192.0.2.1", "192.0.2.2"));
        assert!(same(&whole, "192.0.2.1", "::ffff:192.0.2.1"));
        assert!(same(&whole, "2001:db8::1", "2001:db8::ffff:2"), "one network of IPv6 is one client");
        assert!(!same(&whole, "2001:db8::1", "2001:db8:0:1::1"));
        let wide = key("{ client_ip: { v4: 24, v6: 32 } }");
        assert!(same(&wide, "192.0.2.1", "192.0.2.254") && !same(&wide, "192.0.2.1", "192.0.3.1"));
        assert!(same(&wide, "2001:db8::1", "2001:db8:ffff::1") && !same(&wide, "2001:db8::1", "2001:db9::1"));
        assert!(!same(&key("{ client_ip: { v6: 128 } }"), "2001:db8::1", "2001:db8::2"));
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let both = key("[{ header: x-a }, { header: x-b }]");
        let said = |fields: &[(&'static str, &str)]| digest(&both, &head(fields), &from("::1"));
        let all = [
            said(&[("x-a", "ab"), ("x-b", "c")]),
            said(&[("x-a", "a"), ("x-b", "bc")]),
            said(&[("x-a", "a"), ("x-a", "bc")]),
            said(&[("x-a", "a")]),
            said(&[("x-b", "a")]),
            said(&[]),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one), "{at}");
        }
    }

    #[test]
    fn callers() {
        let known = |name: &str| {
            let consumer =
                Consumer { plan: Some("gold".into()), tenant: Some("big".into()), ..Consumer::named(name) };
            Principal {
                claims: json!({ "org": { "id": name } }),
                ..Principal::of(Method::Jwt, format!("sub-{name}"), Arc::new(consumer))
            }
        };
        let by = |key: &Key, principal: Option<Principal>| {
            let cx = PolicyContext { principal: principal.map(Arc::new), ..PolicyContext::new() };
            digest(key, &head(&[]), &cx)
        };
        for (yaml, apart) in [
            ("consumer", true),
            ("subject", true),
            ("plan", false),
            ("{ claim: org.id }", true),
            ("route", false),
        ] {
            let key = key(yaml);
            assert_eq!(by(&key, Some(known("a"))) != by(&key, Some(known("b"))), apart, "{yaml}");
            assert_eq!(by(&key, Some(known("a"))), by(&key, Some(known("a"))), "{yaml}");
            assert_eq!(key.needs_caller(), yaml != "route", "{yaml}");
        }
        let stranger = |subject: &str| Principal::new(Method::Jwt, subject);
        assert_ne!(by(&key("subject"), Some(stranger("a"))), by(&key("subject"), Some(stranger("b"))));
        assert_eq!(by(&key("consumer"), Some(stranger("a"))), by(&key("consumer"), None));
    }

    #[test]
    fn as_it_is_written() {
        for yaml in ["client_ip", "{ header: x-a }", "[consumer, route]", "{ client_ip: { v4: 24, v6: 48 } }"]
        {
            let config: KeyConfig = serde_saphyr::from_str(yaml).unwrap();
            let written = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<KeyConfig>(&written).unwrap(), config, "{written}");
        }
        assert_eq!(key("[consumer, { header: X-A }]").as_str(), "consumer+header.x-a");
        assert!(key("[{ header: x-a }, route]").is_chosen_by_client());
        assert!(
            !key("[{ header: x-a }, client_ip]").is_chosen_by_client() && !key("route").is_chosen_by_client()
        );
    }
}
