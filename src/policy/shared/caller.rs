//! What a text may say of the caller.

use crate::identity::Principal;
use serde_json::Value;
use std::borrow::Cow;

/// Something about the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// The consumer's name.
    Consumer,
    /// The name of its plan.
    Plan,
    /// The tenant that it belongs to.
    Tenant,
    /// Its groups, with commas between them.
    Groups,
    /// The token's subject, the user's name, the key's name.
    Subject,
    /// How it was proved.
    Method,
    /// A claim by its name; where none has the whole name, dots lead into objects.
    Claim(Box<str>),
}

impl Caller {
    /// As text; empty if it is not known or has no text.
    pub(super) fn of<'p>(&self, principal: &'p Principal) -> Cow<'p, str> {
        let consumer = principal.consumer.as_deref();
        match self {
            Self::Consumer => consumer.map_or("", |consumer| &consumer.name).into(),
            Self::Plan => consumer.and_then(|consumer| consumer.plan.as_deref()).unwrap_or("").into(),
            Self::Tenant => consumer.and_then(|consumer| consumer.tenant.as_deref()).unwrap_or("").into(),
            Self::Groups => consumer.map_or("".into(), |consumer| {
                join(consumer.groups.iter().map(|group| Cow::Borrowed(&**group)))
            }),
            Self::Subject => (&*principal.subject).into(),
            Self::Method => principal.method.as_str().into(),
            Self::Claim(name) => claim(&principal.claims, name).map_or("".into(), text),
        }
    }
}

fn claim<'p>(claims: &'p Value, name: &str) -> Option<&'p Value> {
    claims.get(name).or_else(|| name.split('.').try_fold(claims, |value, step| value.get(step)))
}

/// Of a list its elements, with commas between them.
fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Array(list) => join(list.iter().map(scalar).filter(|text| !text.is_empty())),
        one => scalar(one),
    }
}

fn scalar(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => text.as_str().into(),
        Value::Bool(truth) => if *truth { "true" } else { "false" }.into(),
        Value::Number(number) => number.to_string().into(),
        Value::Null | Value::Array(_) | Value::Object(_) => "".into(),
    }
}

/// A comma inside of an element is escaped, so that none of them can pass for two.
fn join<'p>(elements: impl Iterator<Item = Cow<'p, str>>) -> Cow<'p, str> {
    let mut joined = Cow::Borrowed("");
    for element in elements {
        let element = if element.contains([',', '%']) {
            element.replace('%', "%25").replace(',', "%2C").into()
        } else {
            element
        };
        if joined.is_empty() {
            joined = element;
        } else {
            let joined = joined.to_mut();
            joined.push(',');
            joined.push_str(&element);
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Consumer, Method};
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn what_is_said_of_a_caller() {
        let groups: Box<[Box<str>]> = ["a", "b"].map(Box::from).into();
        let consumer = Consumer {
            plan: Some("gold".into()),
            tenant: Some("big".into()),
            groups: groups.to_vec().into(),
            ..Consumer::named("acme")
        };
        let claims = json!({
            "tier": "gold", "level": 3, "admin": true, "none": null, "roles": ["x", "a,b", 7, {}], "org": { "id": 9 },
            "https://id.example/tier": "silver", "a.b": "whole", "a": { "b": "deep" },
        });
        let principal = Principal { claims, ..Principal::of(Method::Jwt, "u-17", Arc::new(consumer)) };
        let claim = |name: &str| Caller::Claim(name.into());
        for (caller, expected) in [
            (Caller::Consumer, "acme"),
            (Caller::Plan, "gold"),
            (Caller::Tenant, "big"),
            (Caller::Groups, "a,b"),
            (Caller::Subject, "u-17"),
            (Caller::Method, "jwt"),
            (claim("tier"), "gold"),
            (claim("level"), "3"),
            (claim("admin"), "true"),
            (claim("none"), ""),
            (claim("nothing"), ""),
            (claim("roles"), "x,a%2Cb,7"),
            (claim("org"), ""),
            (claim("org.id"), "9"),
            (claim("org.id.x"), ""),
            (claim("https://id.example/tier"), "silver"),
            (claim("a.b"), "whole"),
        ] {
            assert_eq!(caller.of(&principal), expected, "{caller:?}");
        }
        let nobody = Principal::new(Method::ApiKey, "key");
        assert_eq!((Caller::Consumer.of(&nobody), Caller::Groups.of(&nobody)), ("".into(), "".into()));
    }
}
