//! JSON pointers (RFC 6901) into claims.

use crate::values::Problem;
use serde_json::Value;

/// A JSON pointer, taken apart once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer(Box<[Box<str>]>);

impl Pointer {
    /// Takes a text apart.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let wrong = |remedy: &str| {
            let shown: String = text.chars().take(80).collect();
            Problem::new(format!("`{shown}` is not a JSON pointer")).remedy(remedy.to_owned())
        };
        let rest = text.strip_prefix('/').ok_or_else(|| wrong("it begins with `/`, as in `/groups`"))?;
        let step = |step: &str| -> Result<Box<str>, Problem> {
            let escaped = step.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
            if !escaped {
                return Err(wrong("write `~0` for `~`, and `~1` for `/` in a name"));
            }
            Ok(step.replace("~1", "/").replace("~0", "~").into())
        };
        Ok(Self(rest.split('/').map(step).collect::<Result<_, _>>()?))
    }

    /// The texts where it points to: those of a list, or the one that stands there.
    pub fn texts<'v>(&self, value: &'v Value) -> impl Iterator<Item = &'v str> + Clone + use<'v> {
        let found = self.0.iter().try_fold(value, |value, step| match value {
            Value::Object(map) => map.get(&**step),
            Value::Array(list) => step.parse::<usize>().ok().and_then(|at| list.get(at)),
            _ => None,
        });
        let texts: &[Value] = match found {
            Some(Value::Array(list)) => list,
            Some(one) => std::slice::from_ref(one),
            None => &[],
        };
        texts.iter().filter_map(Value::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn where_pointers_lead_to() {
        let claims = json!({
            "groups": ["a", 7, "b"], "one": "x", "realm": { "roles": ["r"] }, "a/b~c": ["e"], "": ["n"], "no": null,
        });
        for (pointer, expected) in [
            ("/groups", "a b"),
            ("/groups/2", "b"),
            ("/one", "x"),
            ("/realm/roles", "r"),
            ("/a~1b~0c", "e"),
            ("/", "n"),
            ("/none/of/it", ""),
            ("/one/deeper", ""),
            ("/no", ""),
        ] {
            let texts: Vec<&str> = Pointer::parse(pointer).unwrap().texts(&claims).collect();
            assert_eq!(texts.join(" "), expected, "{pointer}");
        }
        for wrong in ["", "groups", "/a~", "/a~2"] {
            assert!(Pointer::parse(wrong).is_err(), "{wrong}");
        }
    }
}
