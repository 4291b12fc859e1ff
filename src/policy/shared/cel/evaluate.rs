//! Runs a checked expression. Nothing here allocates unless the expression makes a new text or list.

use super::facts::Facts;
use super::node::{Arithmetic, Function, Loop, LoopKind, Node};
use super::value::{List, Value};
use std::borrow::Cow;
use std::sync::Arc;

/// The most steps of one evaluation; looking through a text counts as a step for each 64 bytes, through
/// a list as one for each element.
pub(super) const BUDGET: usize = 10_000;

/// Why an expression has no value. What asked for it denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault<'a> {
    /// What is wrong, such as `is not there`.
    pub what: &'static str,
    /// Which part of the expression or the request it is about; may be empty.
    pub name: &'a str,
}

type Outcome<'a> = Result<Value<'a>, Fault<'a>>;

pub(super) const fn fault(what: &'static str) -> Fault<'static> {
    Fault { what, name: "" }
}

pub(super) struct Evaluation<'a> {
    facts: &'a Facts<'a>,
    locals: Vec<Value<'a>>,
    left: usize,
}

impl<'a> Evaluation<'a> {
    pub(super) const fn new(facts: &'a Facts<'a>) -> Self {
        Self { facts, locals: Vec::new(), left: BUDGET }
    }

    fn spend(&mut self, steps: usize) -> Result<(), Fault<'a>> {
        self.left = self.left.checked_sub(steps).ok_or(fault("takes too many steps"))?;
        Ok(())
    }

    pub(super) fn truth(&mut self, node: &'a Node) -> Result<bool, Fault<'a>> {
        match self.run(node)? {
            Value::Bool(truth) => Ok(truth),
            other => Err(Fault { what: "is not a bool", name: other.kind() }),
        }
    }

    pub(super) fn amount(&mut self, node: &'a Node) -> Result<u64, Fault<'a>> {
        match self.run(node)? {
            Value::Int(number) => u64::try_from(number).map_err(|_| fault("is below zero")),
            Value::Uint(number) => Ok(number),
            Value::Double(number) if number >= 0.0 => Ok(number.ceil() as u64),
            Value::Double(_) => Err(fault("is below zero")),
            other => Err(Fault { what: "is not a number", name: other.kind() }),
        }
    }

    /// The depth of the calls is that of the expression, which the parser bounds.
    fn run(&mut self, node: &'a Node) -> Outcome<'a> {
        self.spend(1)?;
        match node {
            Node::Constant(value) => Ok(borrowed(value)),
            Node::Fact(fact) => self.facts.get(*fact),
            Node::Local(at) => {
                let value = self.locals.get(*at).cloned().ok_or(fault("is out of its loop"))?;
                self.spend(value.copied())?;
                Ok(value)
            }
            Node::Field(map, name) => self.run(map).and_then(|map| field(&map, name)),
            Node::Index(of, at) => {
                let of = self.run(of)?;
                let at = self.run(at)?;
                index(&of, &at)
            }
            Node::Lookup(lookup, name) => {
                let name = self.text(name)?;
                self.spend(self.facts.weight(*lookup))?;
                self.facts.look_up(*lookup, &name)?.ok_or(Fault { what: "is not there", name: lookup.name() })
            }
            Node::HasField(map, name) => match self.run(map)? {
                Value::Map(map) => Ok(Value::Bool(map.contains_key(&**name))),
                other => Err(Fault { what: "is not a map", name: other.kind() }),
            },
            Node::HasFact(fact) => Ok(Value::Bool(self.facts.get(*fact).is_ok())),
            Node::HasLookup(lookup, name) => {
                let name = self.text(name)?;
                self.spend(self.facts.weight(*lookup))?;
                self.facts.is_there(*lookup, &name).map(Value::Bool)
            }
            Node::Not(of) => self.truth(of).map(|truth| Value::Bool(!truth)),
            Node::And(one, two) => self.decide(one, two, false),
            Node::Or(one, two) => self.decide(one, two, true),
            Node::Choice(parts) => {
                let [condition, yes, no] = &**parts;
                if self.truth(condition)? { self.run(yes) } else { self.run(no) }
            }
            Node::Equal(one, two) => {
                let (one, two) = self.both(one, two)?;
                self.spend(one.weight().min(two.weight()))?;
                Ok(Value::Bool(one.equals(&two)))
            }
            Node::Compare(how, one, two) => {
                let (one, two) = self.both(one, two)?;
                self.spend(one.weight().min(two.weight()))?;
                one.compare(&two)
                    .map(|order| Value::Bool(how.holds(order)))
                    .ok_or(Fault { what: "has no order", name: one.kind() })
            }
            Node::In(one, many) => {
                let (one, many) = self.both(one, many)?;
                self.contains(&one, &many)
            }
            _ => self.work(node),
        }
    }

    /// What is rarer, apart to keep the frames of [`Self::run`] small.
    fn work(&mut self, node: &'a Node) -> Outcome<'a> {
        match node {
            Node::Negate(of) => match self.run(of)? {
                Value::Int(number) => number.checked_neg().map(Value::Int).ok_or(fault("overflows")),
                Value::Double(number) => Ok(Value::Double(-number)),
                other => Err(Fault { what: "is not a number", name: other.kind() }),
            },
            Node::Arithmetic(how, one, two) => {
                let (one, two) = self.both(one, two)?;
                self.spend(one.weight() + two.weight())?;
                arithmetic(*how, one, two)
            }
            Node::Call(function, arguments) => self.call(*function, arguments),
            Node::Matches(text, expression) => {
                let text = self.text(text)?;
                self.spend(text.len() / 16)?;
                Ok(Value::Bool(expression.is_match(&text)))
            }
            Node::InNetwork(address, network) => {
                let text = self.text(address)?;
                let address = text.parse().map_err(|_| fault("is not an address"))?;
                Ok(Value::Bool(network.contains(address)))
            }
            Node::List(elements) => {
                let made: Result<Vec<_>, _> = elements.iter().map(|element| self.run(element)).collect();
                Ok(Value::List(List::Made(made?.into())))
            }
            Node::Loop(turn) => self.turn(turn),
            _ => Err(fault("cannot be run")),
        }
    }

    fn both(&mut self, one: &'a Node, two: &'a Node) -> Result<(Value<'a>, Value<'a>), Fault<'a>> {
        Ok((self.run(one)?, self.run(two)?))
    }

    fn text(&mut self, node: &'a Node) -> Result<Cow<'a, str>, Fault<'a>> {
        match self.run(node)? {
            Value::Text(text) => Ok(text),
            other => Err(Fault { what: "is not a string", name: other.kind() }),
        }
    }

    fn decide(&mut self, one: &'a Node, two: &'a Node, deciding: bool) -> Outcome<'a> {
        let first = self.truth(one);
        if first == Ok(deciding) {
            return Ok(Value::Bool(deciding));
        }
        match (first, self.truth(two)) {
            (_, Ok(second)) if second == deciding => Ok(Value::Bool(deciding)),
            (Err(fault), _) | (_, Err(fault)) => Err(fault),
            _ => Ok(Value::Bool(!deciding)),
        }
    }

    fn contains(&mut self, one: &Value<'a>, many: &Value<'a>) -> Outcome<'a> {
        match many {
            Value::List(list) => {
                self.spend(list.len() * (1 + one.weight()))?;
                Ok(Value::Bool(list.iter().any(|element| element.equals(one))))
            }
            Value::Map(map) => match one {
                Value::Text(key) => Ok(Value::Bool(map.contains_key(&**key))),
                other => Err(Fault { what: "is not a key", name: other.kind() }),
            },
            other => Err(Fault { what: "holds nothing", name: other.kind() }),
        }
    }

    fn call(&mut self, function: Function, arguments: &'a [Node]) -> Outcome<'a> {
        let [first, rest @ ..] = arguments else { return Err(fault("lacks an argument")) };
        let on = self.run(first)?;
        self.spend(on.weight())?;
        let second = rest.first().map(|node| self.text(node)).transpose()?;
        match (function, on, second) {
            (Function::Size, Value::Text(text), None) => Ok(Value::Int(text.chars().count() as i64)),
            (Function::Size, Value::List(list), None) => Ok(Value::Int(list.len() as i64)),
            (Function::Size, Value::Map(map), None) => Ok(Value::Int(map.len() as i64)),
            (Function::StartsWith, Value::Text(text), Some(part)) => {
                Ok(Value::Bool(text.starts_with(&*part)))
            }
            (Function::EndsWith, Value::Text(text), Some(part)) => Ok(Value::Bool(text.ends_with(&*part))),
            (Function::Contains, Value::Text(text), Some(part)) => Ok(Value::Bool(text.contains(&*part))),
            (Function::Lower, Value::Text(text), None) => Ok(Value::Text(lower(text))),
            (Function::ToText, Value::Text(text), None) => Ok(Value::Text(text)),
            (Function::ToText, Value::Bool(truth), None) => Ok(Value::Text(truth.to_string().into())),
            (Function::ToText, Value::Int(number), None) => Ok(Value::Text(number.to_string().into())),
            (Function::ToText, Value::Uint(number), None) => Ok(Value::Text(number.to_string().into())),
            (Function::ToInt, value, None) => to_int(&value),
            (Function::ToDouble, Value::Int(number), None) => Ok(Value::Double(number as f64)),
            (Function::ToDouble, Value::Uint(number), None) => Ok(Value::Double(number as f64)),
            (Function::ToDouble, Value::Double(number), None) => Ok(Value::Double(number)),
            (Function::ToDouble, Value::Text(text), None) => {
                text.parse().map(Value::Double).map_err(|_| fault("is not a number"))
            }
            (_, on, _) => Err(Fault { what: "cannot be given to this function", name: on.kind() }),
        }
    }

    fn turn(&mut self, turn: &'a Loop) -> Outcome<'a> {
        let over = match self.run(&turn.over)? {
            Value::List(list) => list,
            Value::Map(map) => {
                self.spend(map.len())?;
                List::Made(map.keys().map(|key| Value::text(key)).collect())
            }
            other => return Err(Fault { what: "is not a list", name: other.kind() }),
        };
        // A loop that stops early leaves its variable for this one to take away.
        let depth = self.locals.len();
        let outcome = self.walk(turn, &over);
        self.locals.truncate(depth);
        outcome
    }

    fn walk(&mut self, turn: &'a Loop, over: &List<'a>) -> Outcome<'a> {
        let depth = self.locals.len();
        let (mut count, mut made, mut pending) = (0_usize, Vec::new(), None);
        for element in over.iter() {
            self.spend(1 + element.copied())?;
            self.locals.truncate(depth);
            self.locals.push(element.clone());
            if let Some(condition) = &turn.condition
                && !self.truth(condition)?
            {
                continue;
            }
            match (turn.kind, turn.kind == LoopKind::Map) {
                (_, true) => made.push(self.run(&turn.body)?),
                (LoopKind::Filter, _) => {
                    if self.truth(&turn.body)? {
                        made.push(element);
                    }
                }
                (LoopKind::ExistsOne, _) => count += usize::from(self.truth(&turn.body)?),
                (kind, _) => match self.truth(&turn.body) {
                    Ok(truth) if truth == (kind == LoopKind::Exists) => return Ok(Value::Bool(truth)),
                    Ok(_) => {}
                    Err(fault) => pending = Some(fault),
                },
            }
        }
        match (turn.kind, pending) {
            (_, Some(fault)) => Err(fault),
            (LoopKind::All, _) => Ok(Value::Bool(true)),
            (LoopKind::Exists, _) => Ok(Value::Bool(false)),
            (LoopKind::ExistsOne, _) => Ok(Value::Bool(count == 1)),
            (LoopKind::Map | LoopKind::Filter, _) => Ok(Value::List(List::Made(made.into()))),
        }
    }
}

/// A constant as it is used: its text and its elements are not copied.
fn borrowed<'a>(value: &'a Value<'static>) -> Value<'a> {
    match value {
        Value::Text(text) => Value::text(text),
        Value::List(List::Made(list)) => Value::List(List::Written(list)),
        other => other.clone(),
    }
}

fn field<'a>(map: &Value<'a>, name: &'a str) -> Outcome<'a> {
    match map {
        Value::Map(map) => map.get(name).map(Value::json).ok_or(Fault { what: "is not there", name }),
        other => Err(Fault { what: "is not a map", name: other.kind() }),
    }
}

fn index<'a>(of: &Value<'a>, at: &Value<'a>) -> Outcome<'a> {
    match (of, at) {
        (Value::Map(map), Value::Text(key)) => map.get(&**key).map(Value::json).ok_or(fault("is not there")),
        (Value::List(list), Value::Int(at)) => {
            usize::try_from(*at).ok().and_then(|at| list.get(at)).ok_or(fault("is beyond the list"))
        }
        (Value::List(list), Value::Uint(at)) => {
            usize::try_from(*at).ok().and_then(|at| list.get(at)).ok_or(fault("is beyond the list"))
        }
        (_, at) => Err(Fault { what: "is no index here", name: at.kind() }),
    }
}

fn arithmetic<'a>(how: Arithmetic, one: Value<'a>, two: Value<'a>) -> Outcome<'a> {
    let whole = match (&one, &two) {
        (Value::Int(one), Value::Int(two)) => match how {
            Arithmetic::Add => one.checked_add(*two),
            Arithmetic::Subtract => one.checked_sub(*two),
            Arithmetic::Multiply => one.checked_mul(*two),
            Arithmetic::Divide => one.checked_div(*two),
            Arithmetic::Remainder => one.checked_rem(*two),
        }
        .map(Value::Int),
        (Value::Uint(one), Value::Uint(two)) => match how {
            Arithmetic::Add => one.checked_add(*two),
            Arithmetic::Subtract => one.checked_sub(*two),
            Arithmetic::Multiply => one.checked_mul(*two),
            Arithmetic::Divide => one.checked_div(*two),
            Arithmetic::Remainder => one.checked_rem(*two),
        }
        .map(Value::Uint),
        (Value::Double(one), Value::Double(two)) => match how {
            Arithmetic::Add => Some(Value::Double(one + two)),
            Arithmetic::Subtract => Some(Value::Double(one - two)),
            Arithmetic::Multiply => Some(Value::Double(one * two)),
            Arithmetic::Divide => Some(Value::Double(one / two)),
            Arithmetic::Remainder => return Err(fault("has no remainder")),
        },
        _ => return join(how, one, two),
    };
    whole.ok_or(fault("overflows, or divides by zero"))
}

fn join<'a>(how: Arithmetic, one: Value<'a>, two: Value<'a>) -> Outcome<'a> {
    match (how, one, two) {
        (Arithmetic::Add, Value::Text(one), Value::Text(two)) => Ok(Value::Text(one + two)),
        (Arithmetic::Add, Value::List(one), Value::List(two)) => {
            let made: Arc<[Value<'a>]> = one.iter().chain(two.iter()).collect();
            Ok(Value::List(List::Made(made)))
        }
        (_, one, _) => Err(Fault { what: "does not go with the other side of the sign", name: one.kind() }),
    }
}

/// ASCII letters, as CEL's `lowerAscii`.
fn lower(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) { text.to_ascii_lowercase().into() } else { text }
}

fn to_int<'a>(value: &Value<'a>) -> Outcome<'a> {
    let number = match value {
        Value::Int(number) => Some(*number),
        Value::Uint(number) => i64::try_from(*number).ok(),
        // The ends themselves are not exact as doubles.
        Value::Double(number) if number.abs() < 9.2e18 => Some(*number as i64),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    };
    number.map(Value::Int).ok_or(fault("is not an int"))
}
