//! What a route says about the path beyond [`PathPattern`](crate::message::pattern::PathPattern): a
//! regular expression.

use super::expression::{self, Expression};
use super::params::MAX_PARAMETERS;
use crate::message::pattern::is_parameter_name;
use crate::values::Problem;

/// A segment such as `:id`, which other gateways take for a parameter and we take as it is.
pub(super) fn foreign_parameter(text: &str) -> Option<&str> {
    text.split('/').find(|segment| segment.strip_prefix(':').is_some_and(is_parameter_name))
}

/// A regular expression on the path with the names of its groups.
pub(super) struct PathExpression {
    pub(super) expression: Expression,
    /// Name and number of each named group.
    pub(super) names: Vec<(String, u16)>,
}

impl PathExpression {
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let expression = Expression::new(text)?;
        let names = expression::group_names(text)?;
        if names.len() > MAX_PARAMETERS {
            return Err(Problem::new("the regular expression has too many named groups")
                .remedy(format!("{MAX_PARAMETERS} are the most; write `(?:…)` for a group without a name")));
        }
        if let Some((name, _)) = names.iter().find(|(name, _)| !is_parameter_name(name)) {
            return Err(Problem::new(format!("`{name}` is not a parameter's name"))
                .remedy("name a group with letters, digits and `_`"));
        }
        Ok(Self { expression, names })
    }
}
