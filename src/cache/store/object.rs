//! An answer that is kept: its head, its body, and how it is found again.

use super::body::{Filling, Whole};
use crate::cache::rules::status::CACHE_STATUS;
use crate::cache::rules::storing::{Storable, Terms};
use crate::cache::rules::update;
use crate::cache::rules::vary::Vary;
use http::header::{AGE, CONTENT_LENGTH};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The most tags of one answer; those beyond are not looked at.
pub const MOST_TAGS: usize = 128;

/// An answer. Its head does not change: what a 304 says makes another one around the same body.
#[derive(Debug)]
pub struct Object {
    /// Status and fields.
    pub head: Head,
    /// What of the request it was fetched for its Vary looks at.
    pub variant: Box<[u8]>,
    /// The body.
    pub body: Body,
    /// Hashes of its tags.
    pub tags: Box<[u64]>,
    /// When its request was sent, on the clock of purges.
    pub born: u64,
    /// Up to when purges have been held against it, and whether one has made it stale.
    pub(super) checked: AtomicU64,
    pub(in crate::cache) aged: AtomicBool,
}

/// Status and fields of an answer, with what decides about its use.
#[derive(Clone, Debug)]
pub struct Head {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: Arc<HeaderMap>,
    /// What it varies on.
    pub vary: Vary,
    /// How it ages.
    pub terms: Terms,
}

/// A body, there or on its way.
#[derive(Clone, Debug)]
pub enum Body {
    /// It is there.
    Whole(Arc<Whole>),
    /// It comes.
    Filling(Arc<Filling>),
}

impl Body {
    /// Its length, once it is known.
    fn length(&self) -> Option<u64> {
        match self {
            Self::Whole(whole) => Some(whole.length()),
            Self::Filling(filling) => filling.declared(),
        }
    }
}

impl Object {
    /// An answer to a request whose varying fields are `request`'s.
    pub fn new(storable: Storable, request: &HeaderMap, body: Body, (tags, born): (Box<[u64]>, u64)) -> Self {
        let Storable { status, headers, vary, terms } = storable;
        let variant = if vary.is_empty() { Box::default() } else { vary.of_request(request) };
        let mut head = Head { status, headers: Arc::new(headers), vary, terms };
        make_ready(&mut head, &body);
        Self { head, variant, body, tags, born, checked: AtomicU64::new(born), aged: AtomicBool::new(false) }
    }

    /// One that was kept elsewhere, where purges have been held against it up to `checked`.
    pub(in crate::cache) fn restored(
        (mut head, variant): (Head, Box<[u8]>),
        body: Body,
        (tags, born): (Box<[u64]>, u64),
        (checked, aged): (u64, bool),
    ) -> Self {
        make_ready(&mut head, &body);
        let (checked, aged) = (AtomicU64::new(checked), AtomicBool::new(aged));
        Self { head, variant, body, tags, born, checked, aged }
    }

    /// The same with another body: the one that has come whole.
    pub fn with_body(&self, body: Body) -> Self {
        let mut head = self.head.clone();
        make_ready(&mut head, &body);
        Self {
            head,
            variant: self.variant.clone(),
            body,
            tags: self.tags.clone(),
            born: self.born,
            checked: AtomicU64::new(self.born),
            aged: AtomicBool::new(false),
        }
    }

    /// The same with its body, and with all that purges have left of it.
    pub(in crate::cache) fn completed(&self, body: Body) -> Self {
        let (checked, aged) = (self.checked(), self.aged.load(Ordering::Acquire));
        let (checked, aged) = (AtomicU64::new(checked), AtomicBool::new(aged));
        Self { checked, aged, ..self.with_body(body) }
    }

    /// The same with another head, as fresh as `born`.
    pub fn renewed(&self, headers: HeaderMap, terms: Terms, born: u64) -> Self {
        let mut head = Head { headers: Arc::new(headers), terms, ..self.head.clone() };
        make_ready(&mut head, &self.body);
        Self { head, born, checked: AtomicU64::new(born), ..self.with_body(self.body.clone()) }
    }

    /// What it takes, in bytes; what its body was counted as does not count again.
    pub fn weight(&self) -> u64 {
        /// What the parts of an object and of its place take.
        const OVERHEAD: u64 = 384;
        /// What a map has for each field that it has room for, besides its text (a slot and a third of 104 and 4 bytes).
        const FIELD: u64 = 110;
        let text: usize =
            self.head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let fields = self.head.headers.capacity() as u64 * FIELD + text as u64;
        let tags = self.tags.len() as u64 * 8 + self.variant.len() as u64;
        let body = match &self.body {
            Body::Whole(whole) => whole.weight(),
            Body::Filling(_) => 0,
        };
        OVERHEAD + fields + tags + body
    }

    /// True if a purge has made it stale before its time.
    pub fn is_aged(&self) -> bool {
        self.aged.load(Ordering::Acquire)
    }

    /// True if it can be asked about.
    pub fn has_validator(&self) -> bool {
        update::has_validator(&self.head.headers)
    }

    /// True if it is too old for any use.
    pub fn is_useless(&self, now: Duration) -> bool {
        let useful = self.head.terms.useful_for(self.has_validator());
        now.saturating_sub(self.head.terms.answered) > useful
    }

    /// The length of its body, once it is known.
    pub fn length(&self) -> Option<u64> {
        self.body.length()
    }

    pub(super) fn checked(&self) -> u64 {
        self.checked.load(Ordering::Acquire)
    }
}

/// What stands in the place of our own member of `Cache-Status`, where there is no other.
const OURS: HeaderValue = HeaderValue::from_static("");

/// Makes room for what each hit says anew, so that a copy of the fields only has to be filled in; and says how
/// long the body is, where that is known.
fn make_ready(head: &mut Head, body: &Body) {
    let headers = Arc::make_mut(&mut head.headers);
    // One line, however many came.
    headers.insert(AGE, HeaderValue::from_static("0"));
    headers.entry(CACHE_STATUS).or_insert(OURS);
    match (head.status, body.length()) {
        // RFC 9110 section 8.6.
        (StatusCode::NO_CONTENT, _) => drop(headers.remove(CONTENT_LENGTH)),
        (_, Some(length)) => drop(headers.insert(CONTENT_LENGTH, length.into())),
        (_, None) => {}
    }
}

/// Fills in what a hit says anew: its age, and what the cache did.
pub fn fill_in(headers: &mut HeaderMap, age: Duration, status: Option<HeaderValue>) {
    let age = age.as_secs().into();
    match headers.get_mut(AGE) {
        Some(place) => *place = age,
        None => drop(headers.insert(AGE, age)),
    }
    match (headers.get_mut(CACHE_STATUS), status) {
        (Some(place), Some(ours)) if *place == OURS => *place = ours,
        (Some(place), None) if *place == OURS => drop(headers.remove(CACHE_STATUS)),
        // Each cache appends its own (RFC 9211 section 2).
        (_, ours) => headers.extend(ours.map(|ours| (CACHE_STATUS, ours))),
    }
}

/// The tags in a field: words apart by blanks or commas, hashed.
pub fn tags(headers: &HeaderMap, field: Option<&HeaderName>) -> Box<[u64]> {
    let Some(field) = field else { return Box::default() };
    let lines = headers.get_all(field).iter().map(HeaderValue::as_bytes);
    let words = lines.flat_map(|line| line.split(|c| matches!(c, b' ' | b',' | b'\t')));
    let mut tags: Vec<u64> = words.filter(|word| !word.is_empty()).map(tag).take(MOST_TAGS).collect();
    tags.sort_unstable();
    tags.dedup();
    tags.into()
}

/// A tag as it is kept. Two tags with one hash are purged together, which costs a fetch and no more.
pub fn tag(word: &[u8]) -> u64 {
    // FNV-1a, 64 bits (RFC 9923): the same in every process, since tags go to disk.
    word.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
