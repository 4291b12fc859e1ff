//! Conditions in the Common Expression Language (CEL), as far as a gateway asks for them.
//!
//! The crate `cel` parses. What it parsed is checked here once, at load: every variable, field,
//! function and type is known, regular expressions are compiled, and only claims are left to the
//! request. Evaluation is ours, because a gateway's has to keep promises that a general interpreter
//! does not make: a budget of steps whatever lists a client sends, no allocation for what is only
//! compared, no regular expression compiled for a request, one meaning of `==` for values that are
//! borrowed from the request and for those that are written in the expression.
//!
//! Differences from CEL: maps, bytes, times and `type` cannot be written; what the request has more
//! than once, or not as text, is an error to look at; `a % b` and arithmetic are CEL's. An error
//! denies: [`Condition::holds`] says why.

mod evaluate;
mod facts;
mod kind;
mod lower;
mod node;
mod value;

#[cfg(test)]
mod tests;

pub use evaluate::Fault;
pub use facts::Facts;

use super::template::Scope;
use crate::values::Problem;
use kind::Kind;
use node::Node;

/// The longest expression, bytes.
const MAX_LENGTH: usize = 4096;

/// How deep an expression may be nested.
const MAX_DEPTH: u16 = 48;

/// An expression whose value is true or false.
#[derive(Clone, Debug)]
pub struct Condition {
    text: Box<str>,
    node: Node,
}

impl Condition {
    /// Reads and checks an expression.
    ///
    /// # Errors
    /// It is no CEL, names what does not exist, can never work, or its value is no bool.
    pub fn compile(text: &str, scope: &Scope<'_>) -> Result<Self, Problem> {
        let (node, kind) = check(text, scope)?;
        if !matches!(kind, Kind::Bool | Kind::Dynamic) {
            return Err(Problem::new(format!("the value of the expression is {}", kind.name()))
                .remedy("a condition is true or false, such as `request.method == \"GET\"`"));
        }
        Ok(Self { text: text.into(), node })
    }

    /// Whether it holds for this request.
    ///
    /// # Errors
    /// It has no value here: something is not there, or not of the type that it has to be.
    pub fn holds<'a>(&'a self, facts: &'a Facts<'a>) -> Result<bool, Fault<'a>> {
        evaluate::Evaluation::new(facts).truth(&self.node)
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// An expression whose value is a number.
#[derive(Clone, Debug)]
pub struct Amount {
    text: Box<str>,
    node: Node,
}

impl Amount {
    /// Reads and checks an expression.
    ///
    /// # Errors
    /// As [`Condition::compile`]; its value is no number.
    pub fn compile(text: &str, scope: &Scope<'_>) -> Result<Self, Problem> {
        let (node, kind) = check(text, scope)?;
        if !kind.is_number() && kind != Kind::Dynamic {
            return Err(Problem::new(format!("the value of the expression is {}", kind.name()))
                .remedy("an amount is a number, such as `request.method == \"GET\" ? 1 : 5`"));
        }
        Ok(Self { text: text.into(), node })
    }

    /// How many it is for this request, rounded up.
    ///
    /// # Errors
    /// It has no value here, or one below zero.
    pub fn of<'a>(&'a self, facts: &'a Facts<'a>) -> Result<u64, Fault<'a>> {
        evaluate::Evaluation::new(facts).amount(&self.node)
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn check(text: &str, scope: &Scope<'_>) -> Result<(Node, Kind), Problem> {
    if text.len() > MAX_LENGTH {
        let what = format!("the expression is {} bytes long, and {MAX_LENGTH} are the most", text.len());
        return Err(Problem::new(what));
    }
    lower::Check::new(scope).value(&parse(text)?)
}

fn parse(text: &str) -> Result<cel::IdedExpr, Problem> {
    // Without macros: the check reads `has`, `all` and the like itself.
    let parser = cel::Env::default().with_optional_support(false).parser();
    parser.max_recursion_depth(MAX_DEPTH).parse(text).map_err(|errors| {
        let Some(first) = errors.errors.first() else { return Problem::new("the expression is not CEL") };
        // What it expected instead is a list of all there is.
        let message = first.msg.lines().next().unwrap_or("").split(" expecting ").next().unwrap_or("");
        let message: String = message.trim_start_matches("Syntax error: ").chars().take(120).collect();
        let column = first.pos.1.max(1);
        Problem::new(format!("the expression is not CEL at column {column}: {message}"))
            .remedy("write a condition such as `principal.claims.tier == \"gold\"`")
    })
}
