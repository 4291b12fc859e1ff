//! What is wrong among alternatives that stand at the same place: same host, same path.

use super::alternative::Alternative;
use super::compile::{Limits, Source};
use super::trie::Place;
use crate::values::{Finding, Problem};
use std::collections::HashSet;

/// Looks at one place after the other. Each place costs the square of its alternatives, of which
/// there are at most [`Limits`]; there is no comparison between places, where precedence always
/// decides.
pub(super) struct Conflicts<'a> {
    alternatives: &'a [Alternative],
    sources: &'a [Source<'a>],
    /// For each alternative, at how many places something can reach it, and what hides it elsewhere.
    reach: Vec<Reach>,
    reported: HashSet<(u32, u32)>,
    findings: Vec<Finding>,
}

#[derive(Clone, Copy, Default)]
struct Reach {
    open: bool,
    hidden_by: Option<u32>,
}

impl<'a> Conflicts<'a> {
    pub(super) fn new(alternatives: &'a [Alternative], sources: &'a [Source<'a>]) -> Self {
        let reach = vec![Reach::default(); alternatives.len()];
        Self { alternatives, sources, reach, reported: HashSet::new(), findings: Vec::new() }
    }

    /// Looks at the alternatives of one place, best first.
    pub(super) fn look(&mut self, members: &[u32], place: Place, limits: Limits) {
        let (limit, what) = match place {
            Place::Expression(_) => (limits.expressions_per_host, "`path_regex` on one host"),
            Place::Exact(_) | Place::Below(_) => (limits.alternatives_per_path, "one host and path"),
        };
        if let Some(surplus) = members.get(limit) {
            let problem = Problem::new(format!("there are {} alternatives for {what}", members.len()))
                .remedy(format!(
                    "{limit} are the most, because they are tried one by one: tell them apart by path"
                ));
            self.findings.push(Finding::error(self.sources[*surplus as usize].path(), problem));
            members.iter().for_each(|member| self.reach[*member as usize].open = true);
            return;
        }
        for (at, later) in members.iter().enumerate() {
            let mut hidden = false;
            for earlier in &members[..at] {
                if self.is_conflict(*earlier, *later) {
                    self.report_conflict(*earlier, *later);
                } else if self.get(*earlier).covers(self.get(*later)) {
                    self.reach[*later as usize].hidden_by = Some(*earlier);
                    hidden = true;
                }
            }
            self.reach[*later as usize].open |= !hidden;
        }
    }

    /// What was found, those that nothing reaches at any place at the end.
    pub(super) fn findings(mut self) -> Vec<Finding> {
        for (at, reach) in self.reach.iter().enumerate() {
            let (false, Some(by)) = (reach.open, reach.hidden_by) else {
                continue;
            };
            let (hidden, by) = (&self.sources[at], &self.sources[by as usize]);
            let what = if hidden.name == by.name {
                "another alternative of this route takes all that this one could".to_owned()
            } else {
                format!("route `{}` takes all that this one could: no request gets here", by.name)
            };
            let remedy = "remove it, or give it a higher priority or more conditions";
            self.findings.push(
                Finding::warning(hidden.path(), Problem::new(what).remedy(remedy)).with_other(by.path()),
            );
        }
        self.findings
    }

    fn get(&self, alternative: u32) -> &'a Alternative {
        &self.alternatives[alternative as usize]
    }

    fn is_conflict(&self, earlier: u32, later: u32) -> bool {
        let (earlier, later) = (self.get(earlier), self.get(later));
        earlier.precedence() == later.precedence() && earlier.overlaps(later)
    }

    /// Two that meet at several hosts are reported once.
    fn report_conflict(&mut self, earlier: u32, later: u32) {
        let pair = (earlier.min(later), earlier.max(later));
        if !self.reported.insert(pair) {
            return;
        }
        let (first, second) = (&self.sources[pair.0 as usize], &self.sources[pair.1 as usize]);
        let finding = if first.name == second.name {
            let problem = Problem::new("two alternatives of this route can hold for the same request");
            Finding::warning(second.path(), problem.remedy("remove one, or add a condition to it"))
        } else {
            let what = format!(
                "routes `{}` and `{}` can hold for the same request, and nothing decides between them",
                first.name, second.name
            );
            let remedy = "give one of them a `priority`, or another condition";
            Finding::error(second.path(), Problem::new(what).remedy(remedy))
        };
        self.findings.push(finding.with_other(first.path()));
    }
}
