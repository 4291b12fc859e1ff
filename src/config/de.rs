//! From a [`Node`] to the types of the model, by serde.
//!
//! Stricter than most readers of YAML, so that nothing is guessed: a number is not text, `yes` and
//! `on` are not booleans, a key without a value is not a default.

use super::misfit::{Misfit, one_of};
use super::tree::{Key, Kind, Node, Scalar, shown};
use crate::values::{Problem, Step};
use serde::de::{self, DeserializeSeed, IntoDeserializer as _, Visitor};
use std::fmt;

/// What a plain scalar is.
pub(super) enum Plain<'s> {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(&'s str),
}

/// The few forms of YAML's core schema that other languages write too.
pub(super) fn plain(text: &str) -> Plain<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "true" => return Plain::Bool(true),
        "false" => return Plain::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return Plain::Text(text);
    }
    let leading_zero = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    if leading_zero {
        return Plain::Text(text);
    }
    if let Ok(n) = text.parse() {
        return Plain::Unsigned(n);
    }
    if let Ok(n) = text.parse() {
        return Plain::Signed(n);
    }
    match text.parse::<f64>() {
        Ok(n) if n.is_finite() => Plain::Float(n),
        _ => Plain::Text(text),
    }
}

fn found(node: &Node<'_>) -> String {
    match &node.kind {
        Kind::List(_) => "a list".to_owned(),
        Kind::Map(_) => "a map".to_owned(),
        Kind::Gone => "nothing".to_owned(),
        Kind::Scalar(scalar) if !scalar.plain || scalar.written.is_some() => "text".to_owned(),
        Kind::Scalar(scalar) => match plain(&scalar.text) {
            Plain::Null => "nothing".to_owned(),
            Plain::Bool(_) => "a boolean".to_owned(),
            Plain::Unsigned(_) | Plain::Signed(_) | Plain::Float(_) => "a number".to_owned(),
            Plain::Text(_) => "text".to_owned(),
        },
    }
}

/// A key without a value is a mistake wherever it stands, an optional field included: a `tls:`
/// whose lines slipped to the left must not become a listener in the clear.
fn nothing() -> Misfit {
    Misfit::new(
        Problem::new("there is no value here")
            .remedy("give one, or take the key away; check the indentation of the lines below"),
    )
}

fn wrong(node: &Node<'_>, expected: impl fmt::Display) -> Misfit {
    if node.is_null() {
        return nothing();
    }
    let misfit = Misfit::expected(expected, found(node));
    match &node.kind {
        Kind::Scalar(Scalar { written: Some(_), .. }) => {
            misfit.remedy("a variable is text, never a list or a map")
        }
        _ => misfit,
    }
}

impl<'n> Node<'n> {
    fn text(&self) -> Result<&str, Misfit> {
        let Kind::Scalar(scalar) = &self.kind else { return Err(wrong(self, "text")) };
        if !scalar.plain || scalar.written.is_some() {
            return Ok(&scalar.text);
        }
        match plain(&scalar.text) {
            Plain::Text(text) => Ok(text),
            Plain::Null => Err(nothing()),
            Plain::Bool(_) | Plain::Unsigned(_) | Plain::Signed(_) | Plain::Float(_) => Err(Misfit::new(
                Problem::new(format!("expected text, found {}", found(self))).remedy("put it in quotes"),
            )),
        }
    }

    fn whole(&self, least: i128, most: i128) -> Result<i128, Misfit> {
        let expected = match (least < 0, most >= i32::MAX.into()) {
            (true, true) => "a whole number".to_owned(),
            (false, true) => "a whole number that is not negative".to_owned(),
            _ => format!("a whole number from {least} to {most}"),
        };
        let Kind::Scalar(scalar) = &self.kind else { return Err(wrong(self, expected)) };
        if scalar.is_quoted() {
            return Err(Misfit::new(
                Problem::new(format!("expected {expected}, found text")).remedy("take the quotes away"),
            ));
        }
        let n = match plain(&scalar.text) {
            Plain::Unsigned(n) => i128::from(n),
            Plain::Signed(n) => i128::from(n),
            Plain::Null if scalar.written.is_none() => return Err(nothing()),
            _ => return Err(Misfit::expected(expected, format_args!("`{}`", shown(&scalar.text)))),
        };
        if (least..=most).contains(&n) {
            return Ok(n);
        }
        Err(Misfit::expected(expected, format_args!("`{n}`")))
    }
}

macro_rules! whole_numbers {
    ($($method:ident $visit:ident $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            let n = self.whole(<$type>::MIN.into(), <$type>::MAX.into())?;
            visitor.$visit(n as $type)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for &Node<'_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.kind {
            Kind::List(items) => visitor.visit_seq(Items { items, next: 0 }),
            Kind::Map(entries) => Entries::all(entries, visitor),
            Kind::Gone => Err(nothing()),
            Kind::Scalar(scalar) if !scalar.plain || scalar.written.is_some() => {
                visitor.visit_str(&scalar.text)
            }
            Kind::Scalar(scalar) => match plain(&scalar.text) {
                Plain::Null => Err(nothing()),
                Plain::Bool(is) => visitor.visit_bool(is),
                Plain::Unsigned(n) => visitor.visit_u64(n),
                Plain::Signed(n) => visitor.visit_i64(n),
                Plain::Float(n) => visitor.visit_f64(n),
                Plain::Text(text) => visitor.visit_str(text),
            },
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let expected = "`true` or `false`";
        let Kind::Scalar(scalar) = &self.kind else { return Err(wrong(self, expected)) };
        match (!scalar.is_quoted(), plain(&scalar.text)) {
            (true, Plain::Bool(is)) => return visitor.visit_bool(is),
            (true, Plain::Null) if scalar.written.is_none() => return Err(nothing()),
            _ => {}
        }
        let problem = Problem::new(format!("expected {expected}, found `{}`", shown(&scalar.text)));
        Err(Misfit::new(match scalar.text.to_ascii_lowercase().as_str() {
            "true" | "false" if scalar.is_quoted() => problem.remedy("take the quotes away"),
            "true" | "yes" | "on" | "y" => problem.remedy("write `true`"),
            "false" | "no" | "off" | "n" => problem.remedy("write `false`"),
            _ => problem,
        }))
    }

    whole_numbers! {
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64, deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let Kind::Scalar(scalar) = &self.kind else { return Err(wrong(self, "a number")) };
        match (!scalar.is_quoted(), plain(&scalar.text)) {
            (true, Plain::Unsigned(n)) => visitor.visit_f64(n as f64),
            (true, Plain::Signed(n)) => visitor.visit_f64(n as f64),
            (true, Plain::Float(n)) => visitor.visit_f64(n),
            _ => Err(wrong(self, "a number")),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_str(self.text()?)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_str(self.text()?)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_str(self.text()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.kind {
            Kind::List(items) => visitor.visit_seq(Items { items, next: 0 }),
            Kind::Scalar(scalar) if scalar.written.is_none() && !self.is_null() => {
                Err(wrong(self, "a list").remedy("put `[` and `]` around it, or `- ` before it"))
            }
            Kind::Map(_) => Err(wrong(self, "a list").remedy("write `- value` instead of `name: value`")),
            _ => Err(wrong(self, "a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.kind {
            Kind::Map(entries) => Entries::all(entries, visitor),
            Kind::List(_) => Err(wrong(self, "a map").remedy("write `name: value` instead of `- value`")),
            _ => Err(wrong(self, "a map")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match &self.kind {
            Kind::Map(_) => self.deserialize_map(visitor),
            Kind::Scalar(scalar) if self.is_null() || scalar.written.is_some() => Err(wrong(self, "a map")),
            _ => Err(wrong(self, "a map").remedy(format!("its fields are {}", one_of(fields)))),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match &self.kind {
            // A choice among fixed words: `1.2` is the word, not a number.
            Kind::Scalar(scalar) if !self.is_null() => {
                visitor.visit_enum(Choice { key: None, word: &scalar.text, value: None })
            }
            Kind::Map(entries) if entries.len() == 1 => {
                let (key, value) = &entries[0];
                visitor.visit_enum(Choice { key: Some(key), word: &key.text, value: Some(value) })
            }
            Kind::Map(entries) => Err(Misfit::new(
                Problem::new(format!("expected a map with one key, found {} keys", entries.len()))
                    .remedy(format!("one of {}", one_of(variants))),
            )),
            _ => Err(wrong(self, format_args!("one of {}", one_of(variants)))),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bytes byte_buf unit unit_struct tuple tuple_struct
    }
}

struct Items<'n, 'a> {
    items: &'n [Node<'a>],
    next: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'_, '_> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Misfit> {
        while let Some(item) = self.items.get(self.next) {
            let index = self.next;
            self.next += 1;
            if !matches!(item.kind, Kind::Gone) {
                return seed
                    .deserialize(item)
                    .map(Some)
                    .map_err(|misfit| misfit.without_value_of(item).under(Step::Index(index)));
            }
        }
        Ok(None)
    }
}

struct Entries<'n, 'a> {
    entries: &'n [(Key<'a>, Node<'a>)],
    next: usize,
}

impl<'n, 'a> Entries<'n, 'a> {
    /// Lets the visitor read the map. One that stops early read a choice: a map of one key.
    fn all<'de, V: Visitor<'de>>(entries: &'n [(Key<'a>, Node<'a>)], visitor: V) -> Result<V::Value, Misfit> {
        let mut access = Entries { entries, next: 0 };
        let value = visitor.visit_map(&mut access)?;
        let more = entries[access.next..].iter().find(|(_, value)| !matches!(value.kind, Kind::Gone));
        let Some((key, _)) = more else { return Ok(value) };
        let first = entries.first().map_or("", |(first, _)| &*first.text);
        let problem = Problem::new(format!(
            "`{}` beside `{}`: only one of them can be",
            shown(&key.text),
            shown(first)
        ))
        .remedy("take one of them away");
        Err(Misfit::new(problem).on_key(key))
    }
}

impl<'de> de::MapAccess<'de> for Entries<'_, '_> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        while let Some((key, value)) = self.entries.get(self.next) {
            self.next += 1;
            if !matches!(value.kind, Kind::Gone) {
                return seed.deserialize(KeyText(&key.text)).map(Some).map_err(|misfit| {
                    let misfit = misfit.on_key(key);
                    match key.text.contains("${") {
                        true => misfit.remedy("variables are replaced in values alone, never in keys"),
                        false => misfit,
                    }
                });
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        let Some((key, value)) = self.next.checked_sub(1).and_then(|at| self.entries.get(at)) else {
            return Err(de::Error::custom("a value without a key"));
        };
        seed.deserialize(value)
            .map_err(|misfit| misfit.without_value_of(value).under(Step::Key(key.text.to_string())))
    }
}

/// A key: always text, read as a number where one is wanted (`404: page.html`).
struct KeyText<'n>(&'n str);

macro_rules! numeric_keys {
    ($($method:ident $visit:ident $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            match self.0.parse::<$type>() {
                Ok(n) if n.to_string() == self.0 => visitor.$visit(n),
                _ => Err(Misfit::expected(
                    format_args!("a whole number from {} to {}", <$type>::MIN, <$type>::MAX),
                    format_args!("`{}`", shown(self.0)),
                )),
            }
        }
    )*};
}

impl<'de> de::Deserializer<'de> for KeyText<'_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_str(self.0)
    }

    numeric_keys! {
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 f32 f64 char str string bytes byte_buf option unit unit_struct
        seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// A word, or a map of one key.
struct Choice<'n, 'a> {
    key: Option<&'n Key<'a>>,
    word: &'n str,
    value: Option<&'n Node<'a>>,
}

impl<'de, 'n, 'a> de::EnumAccess<'de> for Choice<'n, 'a> {
    type Error = Misfit;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Misfit> {
        match (seed.deserialize(self.word.into_deserializer()), self.key) {
            (Ok(variant), _) => Ok((variant, self)),
            (Err(misfit), Some(key)) => Err(Misfit::on_key(misfit, key)),
            (Err(misfit), None) => Err(misfit),
        }
    }
}

impl<'n, 'a> Choice<'n, 'a> {
    fn value(&self) -> Result<(&'n Key<'a>, &'n Node<'a>), Misfit> {
        self.key.zip(self.value).ok_or_else(|| {
            Misfit::new(
                Problem::new(format!("`{}` needs a value", self.word))
                    .remedy(format!("write `{{ {}: … }}`", self.word)),
            )
        })
    }
}

impl<'de> de::VariantAccess<'de> for Choice<'_, '_> {
    type Error = Misfit;

    fn unit_variant(self) -> Result<(), Misfit> {
        match self.key {
            None => Ok(()),
            Some(key) => Err(Misfit::new(
                Problem::new(format!("`{}` takes no value", self.word))
                    .remedy(format!("write the word `{}` alone", self.word)),
            )
            .on_key(key)),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Misfit> {
        let (key, value) = self.value()?;
        seed.deserialize(value)
            .map_err(|misfit| misfit.without_value_of(value).under(Step::Key(key.text.to_string())))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Misfit> {
        let (key, value) = self.value()?;
        de::Deserializer::deserialize_seq(value, visitor)
            .map_err(|misfit| misfit.under(Step::Key(key.text.to_string())))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        let (key, value) = self.value()?;
        de::Deserializer::deserialize_struct(value, "", fields, visitor)
            .map_err(|misfit| misfit.under(Step::Key(key.text.to_string())))
    }
}
