//! Values at run time. They borrow from the request, the caller's claims and the expression.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

/// A value. A copy of one copies no text that it borrows.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Cow<'a, str>),
    List(List<'a>),
    Map(&'a serde_json::Map<String, serde_json::Value>),
}

/// A list, from wherever it comes.
#[derive(Clone, Debug)]
pub(super) enum List<'a> {
    /// Names of the caller's: groups, scopes.
    Names(&'a [Box<str>]),
    /// A list in the claims.
    Json(&'a [serde_json::Value]),
    /// Written in the expression.
    Written(&'a [Value<'a>]),
    /// Made by the expression.
    Made(Arc<[Value<'a>]>),
}

impl<'a> Value<'a> {
    pub(super) fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    /// What stands in claims. A number is an int if it is whole and fits, then a uint, else a
    /// double; they compare by what they are worth.
    pub(super) fn json(value: &'a serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(truth) => Self::Bool(*truth),
            serde_json::Value::Number(number) => number
                .as_i64()
                .map(Self::Int)
                .or_else(|| number.as_u64().map(Self::Uint))
                .or_else(|| number.as_f64().map(Self::Double))
                .unwrap_or(Self::Null),
            serde_json::Value::String(text) => Self::text(text),
            serde_json::Value::Array(list) => Self::List(List::Json(list)),
            serde_json::Value::Object(map) => Self::Map(map),
        }
    }

    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an int",
            Self::Uint(_) => "a uint",
            Self::Double(_) => "a double",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }

    /// About how much work it is to look through it, for the budget.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Text(text) => text.len() / 64,
            Self::List(list) => list.len(),
            Self::Map(map) => map.len(),
            _ => 0,
        }
    }

    /// The same for a copy of it: only text that the expression made is copied.
    pub(super) fn copied(&self) -> usize {
        match self {
            Self::Text(Cow::Owned(text)) => text.len() / 64,
            _ => 0,
        }
    }

    /// CEL's `==`: numbers by what they are worth, whatever their types; values of different kinds
    /// are not equal.
    pub(super) fn equals(&self, other: &Value<'_>) -> bool {
        match (self, other) {
            (Self::Null, Value::Null) => true,
            (Self::Bool(one), Value::Bool(two)) => one == two,
            (Self::Text(one), Value::Text(two)) => one == two,
            (Self::List(one), Value::List(two)) => {
                one.len() == two.len() && one.iter().zip(two.iter()).all(|(one, two)| one.equals(&two))
            }
            (Self::Map(one), Value::Map(two)) => {
                one.len() == two.len()
                    && one.iter().all(|(key, value)| {
                        two.get(key).is_some_and(|other| Value::json(value).equals(&Value::json(other)))
                    })
            }
            _ => self.compare_numbers(other) == Some(Ordering::Equal),
        }
    }

    /// CEL's order: of numbers, strings and bools; none between anything else, or with NaN.
    pub(super) fn compare(&self, other: &Value<'_>) -> Option<Ordering> {
        match (self, other) {
            (Self::Text(one), Value::Text(two)) => Some(one.cmp(two)),
            (Self::Bool(one), Value::Bool(two)) => Some(one.cmp(two)),
            _ => self.compare_numbers(other),
        }
    }

    fn compare_numbers(&self, other: &Value<'_>) -> Option<Ordering> {
        match (self, other) {
            (Self::Double(one), Value::Double(two)) => one.partial_cmp(two),
            (Self::Double(one), two) => two.integer().and_then(|two| compare_mixed(*one, two)),
            (one, Value::Double(two)) => {
                one.integer().and_then(|one| compare_mixed(*two, one)).map(Ordering::reverse)
            }
            (one, two) => Some(one.integer()?.cmp(&two.integer()?)),
        }
    }

    fn integer(&self) -> Option<i128> {
        match self {
            Self::Int(number) => Some(i128::from(*number)),
            Self::Uint(number) => Some(i128::from(*number)),
            _ => None,
        }
    }
}

/// A double beside a whole number, exactly: a conversion to double would make neighbours equal.
fn compare_mixed(double: f64, whole: i128) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // Saturates at the ends, which no 64-bit number reaches.
    let floor = double.floor() as i128;
    Some(floor.cmp(&whole).then(if double > double.floor() { Ordering::Greater } else { Ordering::Equal }))
}

impl<'a> List<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Names(names) => names.len(),
            Self::Json(list) => list.len(),
            Self::Written(list) => list.len(),
            Self::Made(list) => list.len(),
        }
    }

    pub(super) fn get(&self, at: usize) -> Option<Value<'a>> {
        match self {
            Self::Names(names) => names.get(at).map(|name| Value::text(name)),
            Self::Json(list) => list.get(at).map(Value::json),
            Self::Written(list) => list.get(at).cloned(),
            Self::Made(list) => list.get(at).cloned(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Value<'a>> + '_ {
        (0..self.len()).filter_map(|at| self.get(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_compare_by_what_they_are_worth() {
        let less = [
            Value::Double(f64::NEG_INFINITY),
            Value::Int(i64::MIN),
            Value::Int(-1),
            Value::Double(-0.5),
            Value::Uint(0),
            Value::Double(0.5),
            Value::Int(9_007_199_254_740_992),
            Value::Int(9_007_199_254_740_993),
            Value::Double(9_007_199_254_740_994.0),
            Value::Uint(u64::MAX),
            Value::Double(18_446_744_073_709_551_616.0),
            Value::Double(f64::INFINITY),
        ];
        for (at, one) in less.iter().enumerate() {
            for (other_at, other) in less.iter().enumerate() {
                assert_eq!(one.compare(other), Some(at.cmp(&other_at)), "{one:?} {other:?}");
                assert_eq!(one.equals(other), at == other_at, "{one:?} {other:?}");
            }
        }
        let nan = Value::Double(f64::NAN);
        assert!(!nan.equals(&nan) && nan.compare(&Value::Int(0)).is_none());
    }

    proptest! {
        #[test]
        fn the_order_is_the_same_from_both_sides(whole in any::<i64>(), double in any::<f64>()) {
            let (one, two) = (Value::Int(whole), Value::Double(double));
            prop_assert_eq!(one.compare(&two), two.compare(&one).map(Ordering::reverse));
        }
    }
}
