use super::Query;
use super::expression::Expression;
use super::params::{Captures, Params};
use super::predicate::Predicate;
use crate::message::method::{Method, MethodSet};
use crate::values::{ListenerId, RouteId};
use std::cmp::Reverse;
use std::sync::Arc;

/// One set of conditions of one route, compiled. Host and path are where it stands in the router;
/// the rest is here.
#[derive(Debug)]
pub(super) struct Alternative {
    pub(super) route: RouteId,
    /// Its place in the route's `match`.
    pub(super) index: u32,
    pub(super) priority: i32,
    /// Sorted; none stands for all.
    pub(super) listeners: Option<Arc<[ListenerId]>>,
    /// None stands for all.
    pub(super) methods: Option<MethodSet>,
    /// From the cheapest on.
    pub(super) predicates: Box<[Predicate]>,
    /// What `path_regex` asks for.
    pub(super) expression: Option<Box<Expression>>,
    /// For each of the route's parameters: which capture of the walk, or which group of the regular
    /// expression, it is.
    pub(super) slots: Box<[u16]>,
}

/// Why an alternative on the way did not hold.
pub(super) enum Miss<'a> {
    Listener,
    Predicate(&'a Predicate),
    Expression,
    /// All else did: these are the methods it takes.
    Method(&'a MethodSet),
}

impl Alternative {
    /// What decides where host and path are equal; the smaller one is first.
    pub(super) fn precedence(&self) -> impl Ord + use<> {
        (Reverse(self.priority), Reverse(self.conditions()))
    }

    /// Where it stands among those with equal host and path. HEAD by name comes before HEAD by GET;
    /// the rest only keeps the order of the lines from deciding anything.
    pub(super) fn order(&self) -> impl Ord + use<> {
        let head_by_name = self.methods.as_ref().is_some_and(MethodSet::names_head);
        (self.precedence(), !head_by_name, self.route, self.index)
    }

    fn conditions(&self) -> usize {
        self.predicates.len() + usize::from(self.methods.is_some())
    }

    pub(super) fn check(&self, query: &Query, method: Method) -> Result<(), Miss<'_>> {
        if !self.is_on(query.listener) {
            return Err(Miss::Listener);
        }
        if let Some(failed) = self.predicates.iter().find(|predicate| !predicate.holds(query)) {
            return Err(Miss::Predicate(failed));
        }
        if let Some(expression) = &self.expression
            && !expression.matches(query.path.as_bytes())
        {
            return Err(Miss::Expression);
        }
        match &self.methods {
            Some(methods) if !methods.contains(method) => Err(Miss::Method(methods)),
            _ => Ok(()),
        }
    }

    /// The parameters, for a path that it holds for.
    pub(super) fn params(&self, path: &str, captures: &Captures) -> Params {
        let mut params = Params::NONE;
        if self.slots.is_empty() {
            return params;
        }
        let Some(expression) = &self.expression else {
            self.slots.iter().for_each(|slot| params.push(captures.get(*slot)));
            return params;
        };
        let groups = expression.captures(path.as_bytes());
        for slot in &self.slots {
            let group = groups.as_ref().and_then(|groups| groups.get(usize::from(*slot)));
            params.push(group.map_or((0, 0), |group| (group.start() as u32, group.end() as u32)));
        }
        params
    }

    fn is_on(&self, listener: ListenerId) -> bool {
        self.listeners.as_ref().is_none_or(|on| on.contains(&listener))
    }

    /// True if some request may fulfil both, as far as can be told; both stand at the same place.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let listeners = match (&self.listeners, &other.listeners) {
            (Some(these), Some(others)) => these.iter().any(|listener| others.contains(listener)),
            _ => true,
        };
        let methods = match (&self.methods, &other.methods) {
            (Some(these), Some(others)) => these.overlaps(others),
            _ => true,
        };
        let expressions = || match (&self.expression, &other.expression) {
            (Some(this), Some(other)) => !this.excludes(other),
            _ => true,
        };
        let excluded = |a: &Predicate| other.predicates.iter().any(|b| a.excludes(b));
        listeners && methods && !self.predicates.iter().any(excluded) && expressions()
    }

    /// True if every request that fulfils `other` fulfils this, as far as can be told; both stand at
    /// the same place.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let listeners = match (&self.listeners, &other.listeners) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(these), Some(others)) => others.iter().all(|listener| these.contains(listener)),
        };
        let methods = match (&self.methods, &other.methods) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(these), Some(others)) => these.covers(others),
        };
        let text = |of: &Self| of.expression.as_ref().map(|expression| expression.as_str().to_owned());
        let implied = |wanted: &Predicate| other.predicates.iter().any(|given| given.implies(wanted));
        listeners && methods && self.predicates.iter().all(implied) && text(self) == text(other)
    }
}
