//! An expression after its check: names are numbers, regular expressions are compiled.

use super::facts::{Fact, Lookup};
use super::value::Value;
use regex::Regex;
use std::cmp::Ordering;

/// One step of an expression.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Constant(Value<'static>),
    Fact(Fact),
    /// A variable of a loop, by its depth.
    Local(usize),
    /// `map.name`
    Field(Box<Node>, Box<str>),
    /// `list[at]`, `map[key]`
    Index(Box<Node>, Box<Node>),
    /// A named value of the request.
    Lookup(Lookup, Box<Node>),
    /// `has(map.name)`
    HasField(Box<Node>, Box<str>),
    /// `has(principal.plan)`
    HasFact(Fact),
    /// `name in request.headers`
    HasLookup(Lookup, Box<Node>),
    Not(Box<Node>),
    Negate(Box<Node>),
    /// Both. As in CEL, an error on one side does not matter if the other side decides.
    And(Box<Node>, Box<Node>),
    /// One of both, with errors as in [`Node::And`].
    Or(Box<Node>, Box<Node>),
    Choice(Box<[Node; 3]>),
    Equal(Box<Node>, Box<Node>),
    Compare(Compare, Box<Node>, Box<Node>),
    In(Box<Node>, Box<Node>),
    Arithmetic(Arithmetic, Box<Node>, Box<Node>),
    Call(Function, Box<[Node]>),
    Matches(Box<Node>, Box<Regex>),
    InNetwork(Box<Node>, crate::values::Network),
    List(Box<[Node]>),
    Loop(Box<Loop>),
}

/// A walk through a list, or through the keys of a map.
#[derive(Clone, Debug)]
pub(super) struct Loop {
    pub(super) kind: LoopKind,
    pub(super) over: Node,
    pub(super) body: Node,
    /// `map(x, condition, body)`
    pub(super) condition: Option<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoopKind {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Compare {
    pub(super) fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// A function of values; the first argument is what it is called on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    StartsWith,
    EndsWith,
    Contains,
    Lower,
    ToText,
    ToInt,
    ToDouble,
}
