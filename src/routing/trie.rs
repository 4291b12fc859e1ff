//! The segment trie: one root for each host, all nodes in one arena.
//!
//! A lookup goes down segment by segment, literal before parameter before prefix, and backtracks.
//! It sees each node at most once, and what it sees depends on the segments of the path and on how
//! often a literal and a parameter stand side by side on its way, not on the number of routes.
//!
//! Priorities stand in the leaves, not in a trie for each: a node knows the highest priority below
//! it, and a walk that has found something skips all that cannot be higher. With one priority that
//! is the plain first match; with many, a lookup does not pay for each of them.

use super::params::Captures;
use super::text::Text;
use crate::message::pattern::{PathPattern, Segment};
use ahash::RandomState;
use std::collections::HashMap;

/// A node, by its place in the arena.
pub(super) type NodeId = u32;

/// Alternatives that hold for the same paths: a part of [`Trie::order`] or, if it is one alone, that one itself. Most
/// are: a lookup among many routes then looks at one place in memory less.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Leaf {
    from: u32,
    to: u32,
}

impl Leaf {
    /// Stands in `to` where `from` is the only alternative.
    const ALONE: u32 = u32::MAX;
}

#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    /// The alternatives of all leaves, each leaf's in the order of precedence.
    order: Vec<u32>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Node {
    /// The highest priority here and below.
    top: i32,
    /// The child for a segment of any text; the first node is a root and nobody's child.
    parameter: NodeId,
    exact: Leaf,
    below: Leaf,
    literals: Literals,
}

/// Most nodes have one child or none: only the others pay for a table.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "a table in place would make every node twice as large")]
enum Literals {
    None,
    One(Text, NodeId),
    Many(Box<HashMap<Text, NodeId, RandomState>>),
}

/// Where an alternative is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// The path ends at this node.
    Exact(NodeId),
    /// The path ends at this node or below it.
    Below(NodeId),
    /// Among the regular expressions of this host.
    Expression(u32),
}

/// What a walk is for.
pub(super) trait Visit {
    /// False to skip all whose priority is at most `top`.
    fn wants(&self, top: i32) -> bool;
    /// These alternatives, best first, hold for the path.
    fn leaf(&mut self, alternatives: &[u32], captures: &Captures);
}

impl Literals {
    fn get(&self, segment: &str) -> Option<NodeId> {
        match self {
            Self::None => None,
            Self::One(only, child) => (only.bytes() == segment.as_bytes()).then_some(*child),
            Self::Many(table) => table.get(segment.as_bytes()).copied(),
        }
    }

    fn insert(&mut self, segment: &str, child: NodeId, hasher: &RandomState) {
        match std::mem::replace(self, Self::None) {
            Self::None => *self = Self::One(segment.into(), child),
            Self::One(first, first_child) => {
                let mut table = HashMap::with_hasher(hasher.clone());
                table.insert(first, first_child);
                table.insert(segment.into(), child);
                *self = Self::Many(Box::new(table));
            }
            Self::Many(mut table) => {
                table.insert(segment.into(), child);
                *self = Self::Many(table);
            }
        }
    }
}

impl Trie {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self { nodes: Vec::new(), order: Vec::new(), hasher }
    }

    /// A new node without a parent.
    pub(super) fn root(&mut self) -> NodeId {
        let id = self.nodes.len() as NodeId;
        self.nodes.push(Node {
            top: i32::MIN,
            parameter: 0,
            exact: Leaf::default(),
            below: Leaf::default(),
            literals: Literals::None,
        });
        id
    }

    /// The place for a pattern below `root`; nodes that are missing are made.
    pub(super) fn place(&mut self, root: NodeId, pattern: &PathPattern) -> Place {
        let mut at = root;
        for segment in &pattern.segments {
            at = match *segment {
                Segment::Literal(text) => self.literal(at, text),
                Segment::Parameter => self.parameter(at),
            };
        }
        if pattern.below { Place::Below(at) } else { Place::Exact(at) }
    }

    fn literal(&mut self, parent: NodeId, text: &str) -> NodeId {
        if let Some(child) = self.nodes[parent as usize].literals.get(text) {
            return child;
        }
        let child = self.root();
        self.nodes[parent as usize].literals.insert(text, child, &self.hasher);
        child
    }

    fn parameter(&mut self, parent: NodeId) -> NodeId {
        if self.nodes[parent as usize].parameter == 0 {
            self.nodes[parent as usize].parameter = self.root();
        }
        self.nodes[parent as usize].parameter
    }

    /// Puts the alternatives, best first, into a place. Each place is filled once.
    pub(super) fn fill(&mut self, place: Place, alternatives: impl Iterator<Item = u32>) -> Leaf {
        let from = self.order.len();
        self.order.extend(alternatives);
        let leaf = match self.order[from..] {
            [alone] => {
                self.order.truncate(from);
                Leaf { from: alone, to: Leaf::ALONE }
            }
            _ => Leaf { from: from as u32, to: self.order.len() as u32 },
        };
        match place {
            Place::Exact(node) => self.nodes[node as usize].exact = leaf,
            Place::Below(node) => self.nodes[node as usize].below = leaf,
            Place::Expression(_) => {}
        }
        leaf
    }

    /// Works out each node's highest priority, when all places are filled.
    pub(super) fn finish(&mut self, priority: impl Fn(u32) -> i32) {
        // A child is made after its parent, so from the end each child comes first.
        for at in (0..self.nodes.len()).rev() {
            let node = &self.nodes[at];
            let leaves = [node.exact, node.below];
            let own = leaves.iter().filter_map(|leaf| self.get(leaf).first()).map(|best| priority(*best));
            let below = node.children().map(|child| self.nodes[child as usize].top);
            self.nodes[at].top = own.chain(below).max().unwrap_or(i32::MIN);
        }
    }

    /// The alternatives of a leaf, best first.
    pub(super) fn get<'a>(&'a self, leaf: &'a Leaf) -> &'a [u32] {
        match leaf.to {
            Leaf::ALONE => std::slice::from_ref(&leaf.from),
            to => &self.order[leaf.from as usize..to as usize],
        }
    }

    /// Visits all places that hold for the path, in the order of precedence.
    pub(super) fn walk(&self, root: NodeId, path: &str, visit: &mut impl Visit) {
        // What is not a path, such as `*`, is on no route.
        if path.starts_with('/') {
            self.step(root, path, Some(1), &mut Captures::new(), visit);
        }
    }

    /// `at` is where the next segment begins; none if the path has ended. The depth of the calls is
    /// bounded by that of the trie.
    fn step(
        &self,
        node: NodeId,
        path: &str,
        at: Option<usize>,
        captures: &mut Captures,
        visit: &mut impl Visit,
    ) {
        let node = &self.nodes[node as usize];
        if !visit.wants(node.top) {
            return;
        }
        if let Some(from) = at {
            let rest = &path[from..];
            let slash = rest.bytes().position(|byte| byte == b'/');
            let segment = &rest[..slash.unwrap_or(rest.len())];
            let next = slash.map(|slash| from + slash + 1);
            if let Some(child) = node.literals.get(segment) {
                self.step(child, path, next, captures, visit);
            }
            if node.parameter != 0 && !segment.is_empty() {
                captures.push(from, from + segment.len());
                self.step(node.parameter, path, next, captures, visit);
                captures.pop();
            }
        } else {
            visit.leaf(self.get(&node.exact), captures);
        }
        captures.push(at.unwrap_or(path.len()), path.len());
        visit.leaf(self.get(&node.below), captures);
        captures.pop();
    }
}

impl Node {
    fn children(&self) -> impl Iterator<Item = NodeId> {
        let (one, many) = match &self.literals {
            Literals::None => (None, None),
            Literals::One(_, child) => (Some(*child), None),
            Literals::Many(table) => (None, Some(table.values().copied())),
        };
        let parameter = (self.parameter != 0).then_some(self.parameter);
        one.into_iter().chain(many.into_iter().flatten()).chain(parameter)
    }
}
