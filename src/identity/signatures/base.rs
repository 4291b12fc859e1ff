//! What a signature is of: the signature base (RFC 9421, section 2.5).

use super::Refused;
use crate::message::authority;
use crate::values::Sha256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pingora_http::RequestHeader;
use sfv::{BareItem, InnerList, Item, ListEntry, SerializeValue as _};
use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashMap;

/// The most components that a signature covers.
const MOST_COMPONENTS: usize = 64;

/// What stays as it is where a query parameter is encoded again (RFC 9421, section 2.2.8).
const PARAMETER: &AsciiSet = &NON_ALPHANUMERIC.remove(b'*').remove(b'-').remove(b'.').remove(b'_');

/// A request as its sender signed it.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The head as it came.
    pub head: &'a RequestHeader,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// What it was let in by before: another policy has checked the same signature.
    pub admitted: Option<Sha256>,
}

/// A part of a request that can be covered by a signature (RFC 9421, section 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Component {
    Method,
    TargetUri,
    Authority,
    Scheme,
    RequestTarget,
    Path,
    Query,
    /// A query parameter, by its name as it stands in the identifier.
    QueryParam(Box<str>),
    Field(HeaderName),
    /// A field whose values are wrapped, each by itself (`bs`).
    WrappedField(HeaderName),
}

impl Component {
    /// A component that has a name alone.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "@method" => Self::Method,
            "@target-uri" => Self::TargetUri,
            "@authority" => Self::Authority,
            "@scheme" => Self::Scheme,
            "@request-target" => Self::RequestTarget,
            "@path" => Self::Path,
            "@query" => Self::Query,
            _ if name.bytes().any(|c| c.is_ascii_uppercase()) => return None,
            _ => Self::Field(HeaderName::from_bytes(name.as_bytes()).ok()?),
        })
    }

    fn of(item: &Item) -> Result<Self, Refused> {
        let unknown = || Refused::new("signature_component", "a component that is not known here");
        let BareItem::String(name) = &item.bare_item else { return Err(unknown()) };
        let mut params = item.params.iter();
        let component = match (params.next(), name.as_str()) {
            (None, "@query-param") => None,
            (None, name) => Self::named(name),
            (Some((key, BareItem::String(of))), "@query-param") if key == "name" => {
                Some(Self::QueryParam(of.as_str().into()))
            }
            (Some((key, BareItem::Boolean(true))), name) if key == "bs" => match Self::named(name) {
                Some(Self::Field(field)) => Some(Self::WrappedField(field)),
                _ => None,
            },
            // Of an answer (`req`), of trailers (`tr`), or in need of a field's type (`sf`, `key`).
            _ => None,
        };
        if params.next().is_some() {
            return Err(unknown());
        }
        component.ok_or_else(unknown)
    }

    /// True if whoever signed this signed the other one too.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let whole_target = matches!(other, Self::Path | Self::Query);
        match self {
            Self::TargetUri => {
                whole_target || matches!(other, Self::TargetUri | Self::Scheme | Self::Authority)
            }
            Self::RequestTarget => whole_target || *other == Self::RequestTarget,
            Self::WrappedField(field) => matches!(other, Self::Field(name) if name == field) || self == other,
            _ => self == other,
        }
    }

    /// The value that is signed, added to `out`.
    fn value<'m>(
        &self,
        message: Message<'m>,
        parameters: &OnceCell<Parameters<'m>>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        let head = message.head;
        let query = head.uri.query();
        match self {
            Self::Method => out.extend(head.method.as_str().bytes()),
            Self::Scheme => out.extend(message.scheme.bytes()),
            Self::Authority => out.extend(authority_of(message).bytes()),
            Self::Path => out.extend(path(head).bytes()),
            Self::Query => {
                out.push(b'?');
                out.extend(query.unwrap_or_default().bytes());
            }
            Self::RequestTarget => out.extend(target(head).bytes()),
            Self::TargetUri => {
                out.extend(message.scheme.bytes().chain("://".bytes()));
                out.extend(authority_of(message).bytes());
                out.extend(target(head).bytes());
            }
            Self::QueryParam(name) => {
                let all = parameters.get_or_init(|| parameters_of(query.unwrap_or_default()));
                out.extend(parameter(all, name)?.bytes());
            }
            Self::Field(name) => field(head, name, out)?,
            Self::WrappedField(name) => wrapped(head, name, out)?,
        }
        Ok(())
    }
}

fn absent() -> Refused {
    Refused::new("signature_component", "a covered component that the request does not have")
}

/// In lower case, without the port that goes without saying (section 2.2.3).
pub(super) fn authority_of(message: Message<'_>) -> String {
    let authority = authority::authority(message.head).to_ascii_lowercase();
    let default = if message.scheme == "https" { ":443" } else { ":80" };
    authority.strip_suffix(default).map_or_else(|| authority.clone(), str::to_owned)
}

fn path(head: &RequestHeader) -> &str {
    match head.uri.path() {
        "" => "/",
        path => path,
    }
}

pub(super) fn target(head: &RequestHeader) -> String {
    match head.uri.query() {
        Some(query) => format!("{}?{query}", path(head)),
        None => path(head).to_owned(),
    }
}

/// The parameters of a query by their names, encoded anew; none where one is there twice.
type Parameters<'q> = HashMap<String, Option<Cow<'q, str>>>;

/// Read once for all components: whoever knows a key's name can make us read it, before anything is proved.
fn parameters_of(query: &str) -> Parameters<'_> {
    let mut all = Parameters::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        all.entry(encode(&name)).and_modify(|known| *known = None).or_insert(Some(value));
    }
    all
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, PARAMETER).to_string()
}

/// One that is there once, encoded anew (section 2.2.8).
fn parameter(all: &Parameters<'_>, name: &str) -> Result<String, Refused> {
    let value = all.get(name).ok_or_else(absent)?.as_deref();
    value
        .map(encode)
        .ok_or_else(|| Refused::new("signature_component", "a covered parameter that is there twice"))
}

/// All values, with commas between them (section 2.1).
fn field(head: &RequestHeader, name: &HeaderName, out: &mut Vec<u8>) -> Result<(), Refused> {
    let mut is_there = false;
    for value in head.headers.get_all(name) {
        let text = value.as_bytes().trim_ascii();
        if !text.iter().all(|c| c.is_ascii_graphic() || matches!(c, b' ' | b'\t')) {
            return Err(Refused::new("signature_component", "a covered field that is not ASCII"));
        }
        if is_there {
            out.extend(b", ");
        }
        out.extend(text);
        is_there = true;
    }
    if is_there { Ok(()) } else { Err(absent()) }
}

/// Each value as a byte sequence (section 2.1.3).
fn wrapped(head: &RequestHeader, name: &HeaderName, out: &mut Vec<u8>) -> Result<(), Refused> {
    let values = head.headers.get_all(name).iter();
    let all: Vec<String> =
        values.map(|value| format!(":{}:", STANDARD.encode(value.as_bytes().trim_ascii()))).collect();
    if all.is_empty() {
        return Err(absent());
    }
    out.extend(all.join(", ").bytes());
    Ok(())
}

/// What a member of `signature-input` says (section 2.3).
#[derive(Debug)]
pub(super) struct Input {
    pub(super) components: Vec<(String, Component)>,
    pub(super) created: Option<u64>,
    pub(super) expires: Option<u64>,
    pub(super) nonce: Option<String>,
    pub(super) algorithm: Option<String>,
    pub(super) key: String,
    /// The whole of it, as it is signed.
    text: String,
}

impl Input {
    pub(super) fn read(list: &InnerList) -> Result<Self, Refused> {
        let wrong = |detail: &'static str| Refused::new("signature_malformed", detail);
        if list.items.len() > MOST_COMPONENTS {
            return Err(wrong("too many components"));
        }
        let mut components: Vec<(String, Component)> = Vec::with_capacity(list.items.len());
        for item in &list.items {
            let component = Component::of(item)?;
            let id = item.serialize_value().map_err(|_| wrong("a component that cannot be written"))?;
            // One must not be there twice (section 2.5), in whatever way it is written.
            if components.iter().any(|(known, same)| *known == id || *same == component) {
                return Err(wrong("a component that is covered twice"));
            }
            components.push((id, component));
        }
        let text = |name: &str| match list.params.get(name) {
            None => Ok(None),
            Some(BareItem::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(wrong("a parameter of the wrong type")),
        };
        let time = |name: &str| match list.params.get(name) {
            None => Ok(None),
            Some(BareItem::Integer(seconds)) => {
                u64::try_from(*seconds).map(Some).map_err(|_| wrong("a time before 1970"))
            }
            Some(_) => Err(wrong("a parameter of the wrong type")),
        };
        let whole = vec![ListEntry::InnerList(list.clone())];
        Ok(Self {
            components,
            created: time("created")?,
            expires: time("expires")?,
            nonce: text("nonce")?,
            algorithm: text("alg")?,
            key: text("keyid")?.ok_or_else(|| wrong("no keyid"))?,
            text: whole.serialize_value().map_err(|_| wrong("parameters that cannot be written"))?,
        })
    }

    /// The bytes that are signed.
    pub(super) fn base(&self, message: Message<'_>) -> Result<Vec<u8>, Refused> {
        let mut base = Vec::with_capacity(512);
        let parameters = OnceCell::new();
        for (id, component) in &self.components {
            base.extend(id.bytes().chain(": ".bytes()));
            component.value(message, &parameters, &mut base)?;
            base.push(b'\n');
        }
        base.extend("\"@signature-params\": ".bytes().chain(self.text.bytes()));
        Ok(base)
    }
}
