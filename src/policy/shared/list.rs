//! A list of which one may stand alone.

use crate::values::{ConfigPath, Finding, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de};
use std::fmt;
use std::marker::PhantomData;

/// What a list is of.
pub trait Listed {
    /// What to write, such as ``a limit such as `{ rate: 100/s }` ``.
    const EXPECTED: &'static str;
    /// For the schema: what it is.
    const DESCRIPTION: &'static str;
    /// The name of the list in the schema.
    const NAME: &'static str;
    /// The most that there may be.
    const MOST: usize;
    /// What several are called.
    const SEVERAL: &'static str;
    /// The policy that they are of.
    const POLICY: &'static str;
}

/// A list of which one may stand alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T: Listed> OneOrMany<T> {
    /// Compiles each of them.
    ///
    /// # Errors
    /// There is none, there are too many, two have one name, or one of them is wrong.
    pub fn compile<C>(
        &self,
        mut compile: impl FnMut(&T) -> Result<C, Vec<Finding>>,
        name: impl Fn(&C) -> &str,
    ) -> Result<Vec<C>, Vec<Finding>> {
        let (several, count) = (T::SEVERAL, self.0.len());
        if !(1..=T::MOST).contains(&count) {
            let problem = Problem::new(format!("{count} {several}, and one to {} can be", T::MOST))
                .remedy(format!("write {}, or take the policy out with `{}: off`", T::EXPECTED, T::POLICY));
            return Err(vec![Finding::error(ConfigPath::root(), problem)]);
        }
        let (mut all, mut found) = (Vec::<C>::with_capacity(count), Vec::new());
        for (index, config) in self.0.iter().enumerate() {
            let path = if count > 1 { ConfigPath::root().index(index) } else { ConfigPath::root() };
            match compile(config) {
                Ok(next) if all.iter().any(|known| name(known) == name(&next)) => {
                    let problem = Problem::new(format!("there are two {several} `{}`", name(&next)))
                        .remedy("give one of them another `name`");
                    found.push(Finding::error(path, problem));
                }
                Ok(next) => all.push(next),
                Err(wrong) => found.extend(wrong.into_iter().map(|finding| finding.under(&path))),
            }
        }
        if found.is_empty() { Ok(all) } else { Err(found) }
    }
}

impl<'de, T: Listed + Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);
        impl<'de, T: Listed + Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
            type Value = OneOrMany<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}, or a list of them", T::EXPECTED)
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<OneOrMany<T>, A::Error> {
                Ok(OneOrMany(vec![T::deserialize(de::value::MapAccessDeserializer::new(map))?]))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<OneOrMany<T>, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(list)).map(OneOrMany)
            }
        }
        deserializer.deserialize_any(Visitor(PhantomData))
    }
}

impl<T: Serialize> Serialize for OneOrMany<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &*self.0 {
            [one] => one.serialize(serializer),
            several => several.serialize(serializer),
        }
    }
}

impl<T: Listed + JsonSchema> JsonSchema for OneOrMany<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::NAME.into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let one = generator.subschema_for::<T>();
        schemars::json_schema!({
            "description": T::DESCRIPTION,
            "anyOf": [one, { "type": "array", "items": one, "minItems": 1, "maxItems": T::MOST }],
        })
    }
}
