//! Which values of a tree are secrets, as the schema says: those that are `writeOnly`.

use super::tree::{Key, Kind, Node, Place};
use crate::values::nearest;
use serde_json::Value;

/// What the key of a secret may be called instead of what it is called.
const WORDS: &[&str] = &["pass", "pwd", "secret", "token", "key", "hash", "credential"];

/// How many references are followed from one schema to the next.
const REFERENCES: usize = 16;

/// The schema, asked about secrets.
pub(super) struct Secrets {
    schema: Value,
}

impl Secrets {
    pub fn new() -> Self {
        Self { schema: super::schema() }
    }

    /// Replaces every secret below `root`, which is a document.
    pub fn hide(&self, root: &mut Node<'_>) {
        hide(root, &self.expand(vec![&self.schema]), self);
    }

    /// The places of all secrets below `root`, which is a document. A value under a key that was
    /// meant to be a secret's is one as well.
    pub fn places(&self, root: &Node<'_>) -> Vec<Place> {
        let mut root = root.clone();
        self.hide(&mut root);
        let mut places = Vec::new();
        hidden(&root, &mut places);
        places
    }

    /// The keys whose values are secrets, for texts that are no tree.
    pub fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        self.secret_keys(&self.schema, &mut keys);
        keys
    }

    fn secret_keys(&self, schema: &Value, keys: &mut Vec<String>) {
        match schema {
            Value::Object(map) => {
                if let Some(Value::Object(properties)) = map.get("properties") {
                    let secret = |schema| is_secret(&self.expand(vec![schema]));
                    keys.extend(properties.iter().filter(|(_, s)| secret(s)).map(|(key, _)| key.clone()));
                }
                map.values().for_each(|value| self.secret_keys(value, keys));
            }
            Value::Array(list) => list.iter().for_each(|value| self.secret_keys(value, keys)),
            _ => {}
        }
    }

    /// The schemas that a value may follow: references and alternatives resolved.
    fn expand<'s>(&'s self, schemas: Vec<&'s Value>) -> Vec<&'s Value> {
        let mut all = schemas;
        let mut at = 0;
        while at < all.len() && all.len() < REFERENCES * REFERENCES {
            let schema = all[at];
            if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
                all.extend(self.schema.pointer(target.trim_start_matches('#')));
            }
            for alternatives in ["anyOf", "oneOf", "allOf"] {
                all.extend(schema.get(alternatives).and_then(Value::as_array).into_iter().flatten());
            }
            at += 1;
        }
        all
    }

    /// The schemas of what stands under `key`.
    fn under<'s>(&'s self, schemas: &[&'s Value], key: &str) -> Vec<&'s Value> {
        let properties = |schema: &&'s Value| schema.get("properties").and_then(Value::as_object);
        let exact: Vec<&Value> = schemas.iter().filter_map(|s| properties(s)?.get(key)).collect();
        if !exact.is_empty() {
            return self.expand(exact);
        }
        let more = schemas.iter().filter_map(|s| s.get("additionalProperties")).filter(|s| s.is_object());
        // Maps by name say what a name looks like; what stands under one that is none is a secret as well.
        let named = schemas.iter().filter_map(|s| s.get("patternProperties")?.as_object());
        let more: Vec<&Value> = more.chain(named.flat_map(serde_json::Map::values)).collect();
        if !more.is_empty() {
            return self.expand(more);
        }
        let known = schemas.iter().filter_map(properties).flat_map(|p| p.keys().map(String::as_str));
        let Some(meant) = nearest(key, known) else {
            // Beside a secret: the word may be another one for it, such as `password`.
            if !WORDS.iter().any(|word| key.to_ascii_lowercase().contains(word)) {
                return Vec::new();
            }
            let beside = schemas.iter().filter_map(properties).flat_map(|properties| properties.values());
            return self.expand(beside.filter(|schema| is_secret(&self.expand(vec![*schema]))).collect());
        };
        self.expand(schemas.iter().filter_map(|s| properties(s)?.get(meant)).collect())
    }
}

/// What stands in place of a secret.
const HIDDEN: &str = "***";

fn is_secret(schemas: &[&Value]) -> bool {
    schemas.iter().any(|schema| schema.get("writeOnly") == Some(&Value::Bool(true)))
}

fn hide(node: &mut Node<'_>, schemas: &[&Value], secrets: &Secrets) {
    let secret = is_secret(schemas);
    match &mut node.kind {
        Kind::Scalar(scalar) if secret => {
            scalar.text = HIDDEN.into();
            scalar.plain = false;
            scalar.written = Some(HIDDEN.into());
        }
        Kind::Scalar(_) | Kind::Gone => {}
        Kind::List(items) => {
            let inner: Vec<&Value> = schemas.iter().filter_map(|schema| schema.get("items")).collect();
            // A list in place of a secret is a mistake, and its items may still be the secret.
            let inner = if secret { schemas.to_vec() } else { secrets.expand(inner) };
            items.iter_mut().for_each(|item| hide(item, &inner, secrets));
        }
        Kind::Map(entries) => {
            for (Key { text, .. }, value) in entries {
                let inner = match &**text {
                    "file" if secret => Vec::new(),
                    _ if secret => schemas.to_vec(),
                    key => secrets.under(schemas, key),
                };
                hide(value, &inner, secrets);
            }
        }
    }
}

fn hidden(node: &Node<'_>, places: &mut Vec<Place>) {
    match &node.kind {
        Kind::Scalar(scalar) if scalar.written.as_deref() == Some(HIDDEN) => places.push(node.place),
        Kind::Scalar(_) | Kind::Gone => {}
        Kind::List(items) => items.iter().for_each(|item| hidden(item, places)),
        Kind::Map(entries) => entries.iter().for_each(|(_, value)| hidden(value, places)),
    }
}

/// Where the addresses in a line have a user or a password, in characters: where it begins, and how long it
/// is. No address in a configuration may have one; who writes it all the same shall not read it in a log.
pub(super) fn in_urls(line: &[char]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = line[from..].windows(3).position(|three| *three == [':', '/', '/']) {
        let (scheme, start) = (from + at, from + at + 3);
        let before = line[..scheme].iter().rfind(|c| !c.is_ascii_alphanumeric() && !"+-.".contains(**c));
        let quote = before.copied().filter(|c| matches!(c, '\'' | '"'));
        let ends = |c: &char| quote.map_or(c.is_whitespace(), |quote| *c == quote);
        let end = line[start..].iter().position(ends).map_or(line.len(), |length| start + length);
        // The last one: a password that is not encoded may have one in it.
        let length = line[start..end].iter().rposition(|c| *c == '@').unwrap_or_default();
        if length > 0 {
            found.push((start, length));
        }
        from = start + length;
    }
    found
}

/// The same line without them.
pub(super) fn hide_in_urls(line: &str) -> String {
    let chars: Vec<char> = line.chars().collect();
    let (mut text, mut at) = (String::new(), 0);
    for (start, length) in in_urls(&chars) {
        text.extend(&chars[at..start]);
        text.push_str(HIDDEN);
        at = start + length;
    }
    text.extend(&chars[at..]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_named_in_an_address_is_hidden() {
        for (line, shown) in [
            ("url: https://id.example/a", "url: https://id.example/a"),
            ("url: https://ann:hunter2@id.example/a # x", "url: https://***@id.example/a # x"),
            ("url: 'redis://:hunter2@127.0.0.1:6379'", "url: 'redis://***@127.0.0.1:6379'"),
            ("a: { url: \"https://a:b@c:d@e\", b: 'x@y' }", "a: { url: \"https://***@e\", b: 'x@y' }"),
            ("[ 'http://a b/c@d', http://e:f@g, x ]", "[ 'http://***@d', http://***@g, x ]"),
            ("://@ ://", "://@ ://"),
            ("", ""),
        ] {
            assert_eq!(hide_in_urls(line), shown);
        }
    }
}
