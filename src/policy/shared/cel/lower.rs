//! The check: what the parser read becomes [`Node`]s, and every variable, field, function and type is
//! known, or a problem says what is not.

use super::facts::{Fact, Lookup, VARIABLES, Variable};
use super::kind::Kind;
use super::node::{Arithmetic, Compare, Function, Loop, LoopKind, Node};
use super::value::{List, Value};
use crate::policy::shared::template::Scope;
use crate::values::{Network, Problem, nearest};
use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators};
use regex::{Regex, RegexBuilder};

/// The most nodes of an expression.
const MAX_NODES: usize = 500;

/// Of a compiled regular expression, bytes.
const REGEX_SIZE: usize = 256 << 10;

/// A method or function by name: how many arguments it has besides what it is called on, on what it
/// may be called, what comes out.
const FUNCTIONS: &[(&str, Function, usize, Kind)] = &[
    ("startsWith", Function::StartsWith, 1, Kind::Bool),
    ("endsWith", Function::EndsWith, 1, Kind::Bool),
    ("contains", Function::Contains, 1, Kind::Bool),
    ("lowerAscii", Function::Lower, 0, Kind::Text),
    ("size", Function::Size, 0, Kind::Int),
    ("string", Function::ToText, 0, Kind::Text),
    ("int", Function::ToInt, 0, Kind::Int),
    ("double", Function::ToDouble, 0, Kind::Double),
];

const LOOPS: &[(&str, LoopKind)] = &[
    ("all", LoopKind::All),
    ("exists", LoopKind::Exists),
    ("exists_one", LoopKind::ExistsOne),
    ("map", LoopKind::Map),
    ("filter", LoopKind::Filter),
];

type Typed = (Node, Kind);

/// What a name leads to on the way to a value.
enum Place {
    Value(Node, Kind),
    Lookup(Lookup),
    Params,
    /// `request`, `principal`: names below it, no value.
    Object(String),
}

pub(super) struct Check<'s> {
    scope: &'s Scope<'s>,
    /// The variables of the loops around, from the outermost.
    locals: Vec<(String, Kind)>,
    nodes: usize,
}

impl<'s> Check<'s> {
    pub(super) const fn new(scope: &'s Scope<'s>) -> Self {
        Self { scope, locals: Vec::new(), nodes: 0 }
    }

    pub(super) fn value(&mut self, expr: &IdedExpr) -> Result<Typed, Problem> {
        match self.place(expr)? {
            Place::Value(node, kind) => Ok((node, kind)),
            Place::Lookup(lookup) => {
                Err(Problem::new(format!("`{0}` is no value of its own", lookup.name()))
                    .remedy(format!("look one up: `{}[\"name\"]`", lookup.name())))
            }
            Place::Params => Err(Problem::new("`request.params` is no value of its own")
                .remedy("name one: `request.params.id`")),
            Place::Object(name) => Err(Problem::new(format!("`{name}` is no value of its own"))
                .remedy(format!("name one of {}", below(&name).join(", ")))),
        }
    }

    fn of_kind(&mut self, expr: &IdedExpr, wanted: &Kind, role: &str) -> Result<Node, Problem> {
        let (node, kind) = self.value(expr)?;
        if kind.may_be(wanted) {
            return Ok(node);
        }
        Err(Problem::new(format!("{role} must be {}, and this is {}", wanted.name(), kind.name())))
    }

    fn place(&mut self, expr: &IdedExpr) -> Result<Place, Problem> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Problem::new(format!("the expression has more than {MAX_NODES} parts"))
                .remedy("split it, or let a role say it"));
        }
        match &expr.expr {
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call).map(|(node, kind)| Place::Value(node, kind)),
            Expr::Literal(literal) => constant(literal),
            Expr::List(list) => {
                let elements: Vec<Typed> =
                    list.elements.iter().map(|element| self.value(element)).collect::<Result<_, _>>()?;
                Ok(written_list(elements))
            }
            Expr::Map(_) | Expr::Struct(_) => Err(Problem::new("a map cannot be written here")
                .remedy("compare with each case: `x == \"a\" || x == \"b\"`")),
            Expr::Comprehension(_) | Expr::Unspecified => Err(Problem::new("the expression is not complete")),
        }
    }

    fn name(&mut self, name: &str) -> Result<Place, Problem> {
        if let Some(at) = self.locals.iter().rposition(|(local, _)| local == name) {
            return Ok(Place::Value(Node::Local(at), self.locals[at].1.clone()));
        }
        self.step_to(name)
    }

    /// From the root or an object to the variable or object of this full name.
    fn step_to(&self, full: &str) -> Result<Place, Problem> {
        if let Some((_, variable)) = VARIABLES.iter().find(|(known, _)| *known == full) {
            return Ok(match variable {
                Variable::Fact(fact) => Place::Value(Node::Fact(*fact), fact.kind()),
                Variable::Lookup(lookup) => Place::Lookup(*lookup),
                Variable::Params => Place::Params,
            });
        }
        if !below(full).is_empty() {
            return Ok(Place::Object(full.to_owned()));
        }
        let locals = self.locals.iter().map(|(name, _)| name.as_str());
        let known = VARIABLES.iter().map(|(name, _)| *name).chain(["request", "principal", "client", "tls"]);
        let problem = Problem::new(format!("unknown variable `{full}`"));
        if let Some(near) = nearest(full, known.chain(locals)) {
            return Err(problem.remedy(format!("did you mean `{near}`?")));
        }
        let parent = full.rsplit_once('.').map_or("", |(parent, _)| parent);
        let names = if parent.is_empty() { below("") } else { below(parent) };
        Err(problem.remedy(format!("known: {}", names.join(", "))))
    }

    fn select(&mut self, select: &SelectExpr) -> Result<Place, Problem> {
        let field = select.field.as_str();
        match self.place(&select.operand)? {
            Place::Object(name) => self.step_to(&format!("{name}.{field}")),
            Place::Lookup(lookup) => {
                let name = self.lookup_name(lookup, Node::Constant(Value::Text(field.to_owned().into())))?;
                Ok(Place::Value(Node::Lookup(lookup, Box::new(name)), Kind::Text))
            }
            Place::Params => self.param(field),
            Place::Value(node, Kind::Map | Kind::Dynamic) => {
                Ok(Place::Value(Node::Field(Box::new(node), field.into()), Kind::Dynamic))
            }
            Place::Value(_, kind) => {
                Err(Problem::new(format!("`.{field}` is asked of {}, which has no fields", kind.name())))
            }
        }
    }

    fn param(&self, name: &str) -> Result<Place, Problem> {
        self.scope.of_this_route.set(true);
        let slot = self.scope.params.iter().position(|param| param == name).ok_or_else(|| {
            Problem::unknown("path parameter", name, self.scope.params.iter().map(String::as_str))
        })?;
        Ok(Place::Value(Node::Fact(Fact::Param(slot)), Kind::Text))
    }

    /// Names of header fields have no case; that of the others counts.
    fn lookup_name(&self, lookup: Lookup, name: Node) -> Result<Node, Problem> {
        let Node::Constant(Value::Text(text)) = &name else { return Ok(name) };
        if lookup != Lookup::Headers {
            return Ok(name);
        }
        let field: http::HeaderName =
            text.parse().map_err(|_| Problem::new(format!("`{text}` is not a header field's name")))?;
        Ok(Node::Constant(Value::Text(field.as_str().to_owned().into())))
    }

    fn call(&mut self, call: &CallExpr) -> Result<Typed, Problem> {
        let name = call.func_name.as_str();
        match (&call.target, &*call.args) {
            (None, [one]) if name == operators::LOGICAL_NOT => {
                Ok((Node::Not(Box::new(self.of_kind(one, &Kind::Bool, "what `!` negates")?)), Kind::Bool))
            }
            (None, [one]) if name == operators::NEGATE => self.negate(one),
            (None, [one]) if name == operators::HAS => self.has(one),
            (None, [one, two]) => match self.operator(name, one, two)? {
                Some(typed) => Ok(typed),
                None => self.function(name, &[one, two]),
            },
            (None, [condition, yes, no]) if name == operators::CONDITIONAL => {
                let condition = self.of_kind(condition, &Kind::Bool, "what stands before `?`")?;
                let ((yes, one), (no, two)) = (self.value(yes)?, self.value(no)?);
                Ok((Node::Choice(Box::new([condition, yes, no])), one.or(&two)))
            }
            (Some(target), arguments) => {
                if let Some((_, kind)) = LOOPS.iter().find(|(known, _)| *known == name) {
                    return self.turn(*kind, name, target, arguments);
                }
                let all: Vec<&IdedExpr> = std::iter::once(&**target).chain(arguments).collect();
                self.function(name, &all)
            }
            (None, arguments) => self.function(name, &arguments.iter().collect::<Vec<_>>()),
        }
    }

    fn negate(&mut self, one: &IdedExpr) -> Result<Typed, Problem> {
        let (node, kind) = self.value(one)?;
        if !matches!(kind, Kind::Int | Kind::Double | Kind::Dynamic) {
            return Err(Problem::new(format!("`-` before {}", kind.name())));
        }
        Ok((Node::Negate(Box::new(node)), kind))
    }

    fn has(&mut self, argument: &IdedExpr) -> Result<Typed, Problem> {
        let Expr::Select(select) = &argument.expr else {
            return Err(Problem::new("`has` asks for a field")
                .remedy("write `has(principal.claims.tier)`, or `\"x-tier\" in request.headers`"));
        };
        let field = select.field.as_str();
        let node = match self.place(&select.operand)? {
            Place::Object(name) => match self.step_to(&format!("{name}.{field}"))? {
                Place::Value(Node::Fact(fact), _) => Node::HasFact(fact),
                // An object is there if what it always has is.
                Place::Object(object) => {
                    first_fact(&object).map_or(Node::Constant(Value::Bool(true)), Node::HasFact)
                }
                _ => Node::Constant(Value::Bool(true)),
            },
            Place::Lookup(lookup) => {
                let name = self.lookup_name(lookup, Node::Constant(Value::Text(field.to_owned().into())))?;
                Node::HasLookup(lookup, Box::new(name))
            }
            Place::Params => self.param(field).map(|_| Node::Constant(Value::Bool(true)))?,
            Place::Value(node, Kind::Map | Kind::Dynamic) => Node::HasField(Box::new(node), field.into()),
            Place::Value(_, kind) => {
                return Err(Problem::new(format!(
                    "`has` asks for `.{field}` of {}, which has no fields",
                    kind.name()
                )));
            }
        };
        Ok((node, Kind::Bool))
    }

    /// None if the name is no operator of two sides.
    fn operator(&mut self, name: &str, one: &IdedExpr, two: &IdedExpr) -> Result<Option<Typed>, Problem> {
        let arithmetic = |how| (how, name.trim_matches('_'));
        let typed = match name {
            operators::LOGICAL_AND | operators::LOGICAL_OR => {
                let one = Box::new(self.of_kind(one, &Kind::Bool, "each side of `&&` and `||`")?);
                let two = Box::new(self.of_kind(two, &Kind::Bool, "each side of `&&` and `||`")?);
                let node =
                    if name == operators::LOGICAL_AND { Node::And(one, two) } else { Node::Or(one, two) };
                (node, Kind::Bool)
            }
            operators::EQUALS => (self.equal(one, two)?, Kind::Bool),
            operators::NOT_EQUALS => (Node::Not(Box::new(self.equal(one, two)?)), Kind::Bool),
            operators::LESS => self.compare(Compare::Less, one, two)?,
            operators::LESS_EQUALS => self.compare(Compare::LessOrEqual, one, two)?,
            operators::GREATER => self.compare(Compare::Greater, one, two)?,
            operators::GREATER_EQUALS => self.compare(Compare::GreaterOrEqual, one, two)?,
            operators::IN => self.contained(one, two)?,
            operators::INDEX => self.index(one, two)?,
            operators::ADD => self.arithmetic(arithmetic(Arithmetic::Add), one, two)?,
            operators::SUBSTRACT => self.arithmetic(arithmetic(Arithmetic::Subtract), one, two)?,
            operators::MULTIPLY => self.arithmetic(arithmetic(Arithmetic::Multiply), one, two)?,
            operators::DIVIDE => self.arithmetic(arithmetic(Arithmetic::Divide), one, two)?,
            operators::MODULO => self.arithmetic(arithmetic(Arithmetic::Remainder), one, two)?,
            _ => return Ok(None),
        };
        Ok(Some(typed))
    }

    fn equal(&mut self, one: &IdedExpr, two: &IdedExpr) -> Result<Node, Problem> {
        let ((one, first), (two, second)) = (self.value(one)?, self.value(two)?);
        if !first.may_equal(&second) {
            let what = format!("{} is never equal to {}", first.name(), second.name());
            return Err(Problem::new(what).remedy("convert one of them, as in `int(x) == 7`"));
        }
        Ok(Node::Equal(Box::new(one), Box::new(two)))
    }

    fn compare(&mut self, how: Compare, one: &IdedExpr, two: &IdedExpr) -> Result<Typed, Problem> {
        let ((one, first), (two, second)) = (self.value(one)?, self.value(two)?);
        if !first.may_compare(&second) {
            let what = format!("{} and {} have no order", first.name(), second.name());
            return Err(Problem::new(what).remedy("convert one of them, as in `int(x) >= 7`"));
        }
        Ok((Node::Compare(how, Box::new(one), Box::new(two)), Kind::Bool))
    }

    fn contained(&mut self, one: &IdedExpr, many: &IdedExpr) -> Result<Typed, Problem> {
        let (one, kind) = self.value(one)?;
        let node = match self.place(many)? {
            Place::Lookup(lookup) if kind.may_be(&Kind::Text) => {
                Node::HasLookup(lookup, Box::new(self.lookup_name(lookup, one)?))
            }
            Place::Value(many, Kind::List(element)) if kind.may_equal(&element) => {
                Node::In(Box::new(one), Box::new(many))
            }
            Place::Value(many, Kind::Map) if kind.may_be(&Kind::Text) => {
                Node::In(Box::new(one), Box::new(many))
            }
            Place::Value(many, Kind::Dynamic) => Node::In(Box::new(one), Box::new(many)),
            Place::Value(_, other) => {
                return Err(Problem::new(format!("{} is never in {}", kind.name(), other.name())));
            }
            _ => return Err(Problem::new(format!("{} cannot be looked for here", kind.name()))),
        };
        Ok((node, Kind::Bool))
    }

    fn index(&mut self, of: &IdedExpr, at: &IdedExpr) -> Result<Typed, Problem> {
        let of = self.place(of)?;
        let (at, kind) = self.value(at)?;
        let text = kind.may_be(&Kind::Text);
        let whole = matches!(kind, Kind::Int | Kind::Uint | Kind::Dynamic);
        match of {
            Place::Lookup(lookup) if text => {
                let name = self.lookup_name(lookup, at)?;
                Ok((Node::Lookup(lookup, Box::new(name)), Kind::Text))
            }
            Place::Params => match &at {
                Node::Constant(Value::Text(name)) => match self.param(name)? {
                    Place::Value(node, kind) => Ok((node, kind)),
                    _ => Err(Problem::new("`request.params` needs a name")),
                },
                _ => Err(Problem::new("the name of a path parameter must be written out")),
            },
            Place::Value(of, Kind::List(element)) if whole => {
                Ok((Node::Index(Box::new(of), Box::new(at)), *element))
            }
            Place::Value(of, Kind::Map) if text => {
                Ok((Node::Index(Box::new(of), Box::new(at)), Kind::Dynamic))
            }
            Place::Value(of, Kind::Dynamic) if text || whole => {
                Ok((Node::Index(Box::new(of), Box::new(at)), Kind::Dynamic))
            }
            Place::Value(_, of) => {
                Err(Problem::new(format!("{} is no index into {}", kind.name(), of.name())))
            }
            _ => Err(Problem::new(format!("{} is no index here", kind.name()))),
        }
    }

    fn arithmetic(
        &mut self,
        (how, sign): (Arithmetic, &str),
        one: &IdedExpr,
        two: &IdedExpr,
    ) -> Result<Typed, Problem> {
        let ((one, first), (two, second)) = (self.value(one)?, self.value(two)?);
        let fits = |kind: &Kind| match kind {
            Kind::Int | Kind::Uint | Kind::Dynamic => true,
            Kind::Double => how != Arithmetic::Remainder,
            Kind::Text | Kind::List(_) => how == Arithmetic::Add,
            _ => false,
        };
        let kind = match (&first, &second) {
            (one, two) if !fits(one) || !fits(two) || !one.may_be(two) => {
                let what = format!("`{sign}` between {} and {}", first.name(), second.name());
                return Err(Problem::new(what).remedy("both sides must be of one type that has this sign"));
            }
            (Kind::Dynamic, other) | (other, Kind::Dynamic) => other.clone(),
            (Kind::List(one), Kind::List(two)) => Kind::list((**one).clone().or(two)),
            (one, _) => one.clone(),
        };
        Ok((Node::Arithmetic(how, Box::new(one), Box::new(two)), kind))
    }

    fn function(&mut self, name: &str, arguments: &[&IdedExpr]) -> Result<Typed, Problem> {
        if let ("matches" | "inNetwork", [text, constant]) = (name, arguments) {
            return self.with_constant(name, text, constant);
        }
        let Some((_, function, extra, kind)) = FUNCTIONS.iter().find(|(known, ..)| *known == name) else {
            let known =
                FUNCTIONS.iter().map(|(known, ..)| *known).chain(LOOPS.iter().map(|(known, _)| *known));
            let more = ["matches", "inNetwork", "has"];
            return Err(Problem::unknown("function", name, known.chain(more)));
        };
        let [on, rest @ ..] = arguments else {
            return Err(Problem::new(format!("`{name}` has nothing to work on")));
        };
        if rest.len() != *extra {
            let what = format!("`{name}` takes {extra} arguments in its brackets, and has {}", rest.len());
            return Err(Problem::new(what).remedy("write it as a method: `x.startsWith(\"a\")`, `x.size()`"));
        }
        let (node, on) = self.value(on)?;
        if !takes(*function, &on) {
            return Err(Problem::new(format!("`{name}` cannot be asked of {}", on.name())));
        }
        let mut nodes = vec![node];
        for argument in rest {
            nodes.push(self.of_kind(argument, &Kind::Text, &format!("what `{name}` is given"))?);
        }
        Ok((Node::Call(*function, nodes.into()), kind.clone()))
    }

    /// What is compiled from a constant once, and never for a request.
    fn with_constant(&mut self, name: &str, text: &IdedExpr, constant: &IdedExpr) -> Result<Typed, Problem> {
        let text = Box::new(self.of_kind(text, &Kind::Text, &format!("what `{name}` is asked of"))?);
        let (Node::Constant(Value::Text(constant)), _) = self.value(constant)? else {
            return Err(Problem::new(format!("what `{name}` is given must be written out"))
                .remedy("a request must not decide what is compiled; write a string"));
        };
        let node = match name {
            "matches" => Node::Matches(text, Box::new(regular(&constant)?)),
            _ => Node::InNetwork(text, constant.parse::<Network>()?),
        };
        Ok((node, Kind::Bool))
    }

    fn turn(
        &mut self,
        kind: LoopKind,
        name: &str,
        over: &IdedExpr,
        arguments: &[IdedExpr],
    ) -> Result<Typed, Problem> {
        let (variable, condition, body) = match (kind, arguments) {
            (LoopKind::Map, [variable, condition, body]) => (variable, Some(condition), body),
            (_, [variable, body]) => (variable, None, body),
            _ => {
                return Err(Problem::new(format!("`{name}` needs a variable and what to ask of it"))
                    .remedy(format!("write `list.{name}(x, …)`")));
            }
        };
        let Expr::Ident(variable) = &variable.expr else {
            return Err(Problem::new(format!("the first argument of `{name}` is the name of a variable")));
        };
        let (over, kind_of_list) = self.value(over)?;
        let element = match kind_of_list {
            Kind::List(element) => *element,
            Kind::Map => Kind::Text,
            Kind::Dynamic => Kind::Dynamic,
            other => {
                return Err(Problem::new(format!(
                    "`{name}` walks through a list, and this is {}",
                    other.name()
                )));
            }
        };
        self.locals.push((variable.clone(), element.clone()));
        let parts = self.parts(kind, name, condition, body);
        self.locals.pop();
        let (condition, body, made) = parts?;
        let result = match kind {
            LoopKind::Map => Kind::list(made),
            LoopKind::Filter => Kind::list(element),
            LoopKind::All | LoopKind::Exists | LoopKind::ExistsOne => Kind::Bool,
        };
        Ok((Node::Loop(Box::new(Loop { kind, over, body, condition })), result))
    }

    fn parts(
        &mut self,
        kind: LoopKind,
        name: &str,
        condition: Option<&IdedExpr>,
        body: &IdedExpr,
    ) -> Result<(Option<Node>, Node, Kind), Problem> {
        let role = format!("what `{name}` asks");
        let condition = condition.map(|condition| self.of_kind(condition, &Kind::Bool, &role)).transpose()?;
        if kind == LoopKind::Map {
            let (body, made) = self.value(body)?;
            return Ok((condition, body, made));
        }
        Ok((condition, self.of_kind(body, &Kind::Bool, &role)?, Kind::Bool))
    }
}

fn takes(function: Function, kind: &Kind) -> bool {
    match function {
        Function::StartsWith | Function::EndsWith | Function::Contains | Function::Lower => {
            kind.may_be(&Kind::Text)
        }
        Function::Size => matches!(kind, Kind::Text | Kind::List(_) | Kind::Map | Kind::Dynamic),
        Function::ToText => matches!(kind, Kind::Text | Kind::Bool | Kind::Int | Kind::Uint | Kind::Dynamic),
        Function::ToInt | Function::ToDouble => {
            kind.is_number() || matches!(kind, Kind::Text | Kind::Dynamic)
        }
    }
}

/// The first variable below an object.
fn first_fact(object: &str) -> Option<Fact> {
    VARIABLES.iter().find_map(|(name, variable)| match variable {
        Variable::Fact(fact) if name.strip_prefix(object)?.starts_with('.') => Some(*fact),
        _ => None,
    })
}

/// The full names one step below an object; of all for the root.
fn below(object: &str) -> Vec<&'static str> {
    let is_below = |name: &&str| {
        object.is_empty() || name.strip_prefix(object).is_some_and(|rest| rest.starts_with('.'))
    };
    VARIABLES.iter().map(|(name, _)| *name).filter(is_below).collect()
}

fn constant(literal: &LiteralValue) -> Result<Place, Problem> {
    let (value, kind) = match literal {
        LiteralValue::Boolean(truth) => (Value::Bool(*truth.inner()), Kind::Bool),
        LiteralValue::Double(number) => (Value::Double(*number.inner()), Kind::Double),
        LiteralValue::Int(number) => (Value::Int(*number.inner()), Kind::Int),
        LiteralValue::UInt(number) => (Value::Uint(*number.inner()), Kind::Uint),
        LiteralValue::Null => (Value::Null, Kind::Null),
        LiteralValue::String(text) => (Value::Text(text.inner().to_owned().into()), Kind::Text),
        LiteralValue::Bytes(_) => {
            return Err(Problem::new("bytes have no use here").remedy("write a string"));
        }
    };
    Ok(Place::Value(Node::Constant(value), kind))
}

fn written_list(elements: Vec<Typed>) -> Place {
    let kind = elements
        .iter()
        .map(|(_, kind)| kind.clone())
        .reduce(|one, two| one.or(&two))
        .unwrap_or(Kind::Dynamic);
    let constants: Option<Vec<Value<'static>>> = elements
        .iter()
        .map(|(node, _)| match node {
            Node::Constant(value) => Some(value.clone()),
            _ => None,
        })
        .collect();
    let node = match constants {
        Some(values) => Node::Constant(Value::List(List::Made(values.into()))),
        None => Node::List(elements.into_iter().map(|(node, _)| node).collect()),
    };
    Place::Value(node, Kind::list(kind))
}

fn regular(text: &str) -> Result<Regex, Problem> {
    let build = RegexBuilder::new(text).size_limit(REGEX_SIZE).dfa_size_limit(REGEX_SIZE).build();
    build.map_err(|error| {
        let shown = error.to_string();
        let last = shown.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned();
        Problem::new(format!("`{text}` is not a regular expression: {last}"))
    })
}
