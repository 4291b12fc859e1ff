//! A configuration file as a tree whose nodes know their places.
//!
//! The tree is built from the parser's events, so that the rules of this language hold wherever a
//! value stands: plain keys, no tags, no merge keys, no key twice, bounded nesting and aliases.

use super::syntax::syntax;
use crate::values::{ConfigPath, Problem, Step};
use serde_saphyr::granit_parser::{self as parser, Event, ScalarStyle};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// How deep a file may nest. The language itself needs about ten.
pub(super) const DEEPEST: usize = 64;
/// How many nodes the anchors and aliases of a file may stand for, all together.
const ALIASED: usize = 100_000;
/// From how many keys on a map looks for duplicates by hash.
const MANY_KEYS: usize = 16;

/// Where a node is written. Lines and columns count from 1, columns in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub line: u32,
    pub column: u32,
    /// How many characters it has on its first line; 0 if that is not known.
    pub length: u32,
    /// How many lines it goes on for after its first.
    pub more_lines: u32,
}

/// A value with its place.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    pub place: Place,
    pub kind: Kind<'a>,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum Kind<'a> {
    Scalar(Scalar<'a>),
    List(Vec<Node<'a>>),
    Map(Vec<(Key<'a>, Node<'a>)>),
    /// It was wrong, was reported, and is read over.
    Gone,
}

/// Text that is not yet a number, a boolean or a name.
#[derive(Clone, Debug)]
pub(super) struct Scalar<'a> {
    pub text: Cow<'a, str>,
    /// Only a plain scalar can be a number or a boolean, or nothing.
    pub plain: bool,
    /// The text as it is written, if parts of `text` come from the environment.
    pub written: Option<Cow<'a, str>>,
}

impl Scalar<'_> {
    /// True for text that was put in quotes so that it is nothing but text. A variable is text that
    /// a number may be read from, and inside of `{ }` it cannot be written without quotes.
    pub fn is_quoted(&self) -> bool {
        !self.plain && self.written.is_none()
    }
}

/// A key of a map.
#[derive(Clone, Debug)]
pub(super) struct Key<'a> {
    pub text: Cow<'a, str>,
    pub place: Place,
}

/// A problem at a place of one file.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub place: Place,
    pub other: Option<Place>,
    pub path: ConfigPath,
    pub problem: Problem,
}

/// What became of a text: a tree as far as one could be built, and what was wrong.
pub(super) struct Parsed<'a> {
    pub root: Option<Node<'a>>,
    pub faults: Vec<Fault>,
}

impl<'a> Node<'a> {
    /// The value of `key`, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Node<'a>> {
        self.entry(key).map(|(_, value)| value)
    }

    /// The key and value of `key`, if this is a map that has it.
    pub fn entry(&self, key: &str) -> Option<&(Key<'a>, Node<'a>)> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|(k, _)| k.text == key),
            _ => None,
        }
    }

    /// True for text without quotes that means nothing: an empty value, `null` or `~`.
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(s) if s.plain && s.written.is_none()
            && matches!(&*s.text, "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The node at `path`, to be changed. `None` if there is none.
    pub fn at_mut(&mut self, path: &ConfigPath) -> Option<&mut Node<'a>> {
        let mut node = self;
        for step in path.steps() {
            node = match (&mut node.kind, step) {
                (Kind::Map(entries), Step::Key(key)) => {
                    &mut entries.iter_mut().find(|(k, _)| k.text == *key)?.1
                }
                (Kind::List(items), Step::Index(index)) => items.get_mut(*index)?,
                _ => return None,
            };
        }
        Some(node)
    }

    /// The place of what `path` names: of a scalar itself, of a map or list its key. Where the path
    /// leads on into nothing, the nearest node above it.
    pub fn place_of(&self, path: &ConfigPath, at_key: bool) -> Place {
        let mut node = self;
        let mut place = self.place;
        let steps = path.steps();
        for (at, step) in steps.iter().enumerate() {
            let last = at + 1 == steps.len();
            match (&node.kind, step) {
                (Kind::Map(_), Step::Key(key)) => {
                    let Some((key, value)) = node.entry(key) else { break };
                    node = value;
                    let of_value = matches!(value.kind, Kind::Scalar(_)) && !value.is_null();
                    place = if of_value && !(last && at_key) { value.place } else { key.place };
                }
                (Kind::List(items), Step::Index(index)) => {
                    let Some(item) = items.get(*index) else { break };
                    node = item;
                    place = item.place;
                }
                // One value may stand where a list of them is meant.
                (_, Step::Index(0)) => {}
                _ => break,
            }
        }
        place
    }

    /// True if there is a value at `path`.
    pub fn has(&self, path: &ConfigPath) -> bool {
        let mut node = self;
        for step in path.steps() {
            let next = match (&node.kind, step) {
                (Kind::Map(_), Step::Key(key)) => node.get(key),
                (Kind::List(items), Step::Index(index)) => items.get(*index),
                (Kind::Map(_) | Kind::Scalar(_), Step::Index(0)) => Some(node),
                _ => None,
            };
            let Some(next) = next else { return false };
            node = next;
        }
        true
    }

    fn size_and_depth(&self) -> (usize, usize) {
        let (size, depth) = match &self.kind {
            Kind::Scalar(_) | Kind::Gone => (0, 0),
            Kind::List(items) => deepest(items.iter()),
            Kind::Map(entries) => deepest(entries.iter().map(|(_, value)| value)),
        };
        (size + 1, depth + 1)
    }
}

fn deepest<'n, 'a: 'n>(nodes: impl Iterator<Item = &'n Node<'a>>) -> (usize, usize) {
    nodes.fold((0, 0), |(size, depth), node| {
        let (s, d) = node.size_and_depth();
        (size + s, depth.max(d))
    })
}

/// Reads a text. The first mistake in YAML's own grammar ends it; all others are collected.
pub(super) fn parse(text: &str) -> Parsed<'_> {
    let mut options = parser::Options::default();
    options.set_emit_comments(false);
    options.block_nesting_limit = DEEPEST;
    options.flow_nesting_limit = DEEPEST;
    let mut builder = Builder::default();
    for next in parser::Parser::new_from_str_with_options(text, options) {
        let outcome = match next {
            Ok((event, span)) => builder.take(event, place(&span)),
            Err(error) => Err(syntax(&error, text)),
        };
        if let Err(fault) = outcome {
            builder.faults.push(fault);
            return Parsed { root: None, faults: builder.faults };
        }
    }
    Parsed { root: builder.root, faults: builder.faults }
}

fn place(span: &parser::Span) -> Place {
    let (start, end) = (span.start, span.end);
    let more_lines = end.line().saturating_sub(start.line()) as u32;
    Place {
        line: start.line() as u32,
        column: start.col() as u32 + 1,
        length: if more_lines == 0 { end.col().saturating_sub(start.col()) as u32 } else { 0 },
        more_lines,
    }
}

#[derive(Default)]
struct Builder<'a> {
    open: Vec<Open<'a>>,
    anchors: HashMap<usize, Node<'a>>,
    aliased: usize,
    documents: usize,
    root: Option<Node<'a>>,
    faults: Vec<Fault>,
}

/// A list or map that has begun.
struct Open<'a> {
    node: Node<'a>,
    anchor: usize,
    /// The key whose value comes next.
    key: Option<Key<'a>>,
    keys: HashSet<String>,
}

impl<'a> Builder<'a> {
    fn take(&mut self, event: Event<'a>, place: Place) -> Result<(), Fault> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    let problem = Problem::new("a second document begins here")
                        .remedy("a file is one document: take `---` away, or make two files in a folder");
                    return Err(self.fault(place, problem));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                if tag.is_some() {
                    self.refuse_tag(place);
                }
                let scalar = Scalar { text, plain: style == ScalarStyle::Plain, written: None };
                self.finish(Node { place, kind: Kind::Scalar(scalar) }, anchor)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.begin(Kind::List(Vec::new()), place, anchor, tag.is_some())?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.begin(Kind::Map(Vec::new()), place, anchor, tag.is_some())?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    self.finish(open.node, open.anchor)?;
                }
            }
            Event::Alias(anchor) => self.alias(anchor, place)?,
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, kind: Kind<'a>, place: Place, anchor: usize, tagged: bool) -> Result<(), Fault> {
        if tagged {
            self.refuse_tag(place);
        }
        if self.open.len() >= DEEPEST {
            return Err(self.fault(place, too_deep()));
        }
        // A block collection's end is where the next thing begins: its own extent is not of use.
        let place = Place { length: 0, more_lines: 0, ..place };
        self.open.push(Open { node: Node { place, kind }, anchor, key: None, keys: HashSet::new() });
        Ok(())
    }

    fn finish(&mut self, node: Node<'a>, anchor: usize) -> Result<(), Fault> {
        if anchor != 0 {
            let (size, _) = node.size_and_depth();
            self.repeat(size, node.place)?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.node.kind {
            Kind::List(items) => items.push(node),
            Kind::Map(entries) => match open.key.take() {
                Some(key) => match duplicate(entries, &mut open.keys, &key) {
                    Some(first) => {
                        let problem = Problem::new(format!("duplicate key `{}`", shown(&key.text)))
                            .remedy("a key stands once in a map: merge the two, or rename one");
                        let path = self.path().key(&key.text);
                        self.faults.push(Fault { place: key.place, other: Some(first), path, problem });
                    }
                    None => entries.push((key, node)),
                },
                None => {
                    let place = node.place;
                    let Kind::Scalar(scalar) = node.kind else {
                        let problem = Problem::new("a key must be text, not a list or a map")
                            .remedy("put quotes around it if it begins with `{` or `[`");
                        return Err(self.fault(place, problem));
                    };
                    if scalar.plain && scalar.text == "<<" {
                        let problem = Problem::new("merge keys (`<<`) are not part of this language")
                            .remedy("write the keys out, or put shared policies under `policies.defaults`");
                        return Err(self.fault(place, problem));
                    }
                    open.key = Some(Key { text: scalar.text, place });
                }
            },
            Kind::Scalar(_) | Kind::Gone => {}
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<(), Fault> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            let problem = Problem::new("an alias inside of what it stands for")
                .remedy("an alias can only repeat what has ended before it");
            return Err(self.fault(place, problem));
        };
        let (size, depth) = node.size_and_depth();
        self.repeat(size, place)?;
        if self.open.len() + depth > DEEPEST {
            return Err(self.fault(place, too_deep()));
        }
        self.finish(node, 0)
    }

    /// Counts values that anchors keep and aliases copy.
    fn repeat(&mut self, size: usize, place: Place) -> Result<(), Fault> {
        self.aliased += size;
        if self.aliased <= ALIASED {
            return Ok(());
        }
        let what = format!("the anchors and aliases of this file stand for more than {ALIASED} values");
        Err(self.fault(place, Problem::new(what).remedy("repeat less, or write it out")))
    }

    fn refuse_tag(&mut self, place: Place) {
        let problem = Problem::new("tags (`!name`) are not part of this language")
            .remedy("take the tag away; put the value in quotes if it is meant as text");
        let fault = self.fault(place, problem);
        self.faults.push(fault);
    }

    fn fault(&self, place: Place, problem: Problem) -> Fault {
        Fault { place, other: None, path: self.path(), problem }
    }

    /// The path of what comes next.
    fn path(&self) -> ConfigPath {
        self.open.iter().fold(ConfigPath::root(), |path, open| match (&open.node.kind, &open.key) {
            (Kind::List(items), _) => path.index(items.len()),
            (_, Some(key)) => path.key(&key.text),
            _ => path,
        })
    }
}

/// The place of the same key further up, if there is one.
fn duplicate(entries: &[(Key, Node)], keys: &mut HashSet<String>, key: &Key) -> Option<Place> {
    if entries.len() >= MANY_KEYS {
        if keys.is_empty() {
            keys.extend(entries.iter().map(|(k, _)| k.text.to_string()));
        }
        if keys.insert(key.text.to_string()) {
            return None;
        }
    }
    entries.iter().find(|(k, _)| k.text == key.text).map(|(k, _)| k.place)
}

pub(super) fn too_deep() -> Problem {
    Problem::new(format!("nested deeper than {DEEPEST} levels"))
        .remedy("nothing in a configuration needs that")
}

/// A line of a text, from 1. YAML ends a line at a lone carriage return as well; who counted
/// otherwise would show another line than the parser means.
pub(super) fn line(text: &str, number: u32) -> Option<&str> {
    let mut rest = text;
    for _ in 1..number {
        let end = rest.find(['\n', '\r'])?;
        let wide = rest[end..].starts_with("\r\n");
        rest = &rest[end + if wide { 2 } else { 1 }..];
    }
    let end = rest.find(['\n', '\r']).unwrap_or(rest.len());
    (number > 0).then(|| &rest[..end])
}

/// At most 60 characters of a text, for a message.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
