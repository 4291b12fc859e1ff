//! What RFC 9111 permits, written down as plainly as it can be: every answer that ever came is remembered,
//! and one that a cache gives without asking is held against all that the standard says of it. Nothing here
//! reads a field, and nothing is shared with the rules under test.

/// An answer of the origin, as it is meant.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    /// Seconds until its head is there.
    pub delay: u64,
    /// How many seconds before it came it was made; none if it has no Date.
    pub date_back: Option<u64>,
    pub age: u64,
    pub max_age: Option<u64>,
    pub s_maxage: Option<u64>,
    /// Seconds after the Date, or after it came; the inner none is no date.
    pub expires: Option<Option<i64>>,
    /// Seconds before it came that it was last modified.
    pub modified: Option<u64>,
    pub no_store: bool,
    pub no_cache: bool,
    pub private: bool,
    pub public: bool,
    pub must_revalidate: bool,
    pub proxy_revalidate: bool,
    pub while_revalidate: Option<u64>,
    pub if_error: Option<u64>,
    pub vary: Vary,
    /// A strong entity tag.
    pub etag: Option<u8>,
}

impl Answer {
    /// Its Date, Expires and Last-Modified, if it comes at `answered`.
    fn instants(&self, answered: u64) -> (Option<u64>, Option<Option<u64>>, Option<u64>) {
        let made = answered - self.date_back.unwrap_or(0);
        let expires = self.expires.map(|after| after.map(|after| made.checked_add_signed(after).unwrap()));
        (self.date_back.map(|_| made), expires, self.modified.map(|back| answered - back))
    }

    fn has_cache_control(&self) -> bool {
        let times = [self.max_age, self.s_maxage, self.while_revalidate, self.if_error];
        let flags = [self.no_store, self.no_cache, self.private, self.public];
        times.iter().any(Option::is_some)
            || flags.contains(&true)
            || self.must_revalidate
            || self.proxy_revalidate
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Vary {
    #[default]
    Nothing,
    Language,
    Everything,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
}

/// A request, as it is meant.
#[derive(Clone, Debug)]
pub struct Request {
    pub url: u8,
    pub method: Method,
    pub language: Option<&'static str>,
    pub authorization: bool,
    pub no_cache: bool,
    pub no_store: bool,
    pub pragma: bool,
    pub only_if_cached: bool,
    pub max_age: Option<u64>,
    pub min_fresh: Option<u64>,
    /// The inner none is any time.
    pub max_stale: Option<Option<u64>>,
    pub if_error: Option<u64>,
}

impl Request {
    fn has_cache_control(&self) -> bool {
        self.no_cache
            || self.no_store
            || self.only_if_cached
            || self.max_age.is_some()
            || self.min_fresh.is_some()
            || self.max_stale.is_some()
            || self.if_error.is_some()
    }

    /// Section 5.2.1.4, and section 5.4 where there is no Cache-Control.
    fn wants_it_validated(&self) -> bool {
        self.no_cache || self.pragma && !self.has_cache_control()
    }
}

/// What is configured besides.
#[derive(Clone, Copy, Debug)]
pub struct Contract {
    pub grace: u64,
    pub if_error: u64,
}

/// An answer that came.
#[derive(Clone, Debug)]
struct Came {
    id: u64,
    url: u8,
    language: Option<&'static str>,
    answer: Answer,
    asked: u64,
    answered: u64,
    /// When it was made: its Date, or when it came (RFC 9110 section 6.6.1).
    date: u64,
    /// Its Expires; the inner none is no date.
    expires: Option<Option<u64>>,
    modified: Option<u64>,
    may_be_stored: bool,
    is_gone: bool,
    is_aged: bool,
}

/// How an answer comes to be given that the origin did not just send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The origin was not asked.
    Unasked,
    /// It was asked, and failed.
    InsteadOfError,
}

/// All that came.
#[derive(Debug)]
pub struct Model {
    contract: Contract,
    came: Vec<Came>,
}

impl Model {
    pub fn new(contract: Contract) -> Self {
        Self { contract, came: Vec::new() }
    }

    /// The origin has answered.
    pub fn answered(&mut self, id: u64, request: &Request, answer: &Answer, asked: u64) {
        let answered = asked + answer.delay;
        if request.method == Method::Post && (200..400).contains(&answer.status) {
            // Section 4.4.
            self.each(request.url, |came| came.is_gone = true);
        }
        let (date, expires, modified) = answer.instants(answered);
        self.came.push(Came {
            id,
            url: request.url,
            language: request.language,
            answer: answer.clone(),
            asked,
            answered,
            date: date.unwrap_or(answered),
            expires,
            modified,
            may_be_stored: may_be_stored(request, answer),
            is_gone: false,
            is_aged: false,
        });
    }

    /// The origin has said that the answer `id` is still good.
    pub fn confirmed(&mut self, id: u64, request: &Request, by: &Answer, asked: u64) -> Result<(), String> {
        let Some(came) = self.came.iter_mut().find(|came| came.id == id) else {
            return Err(format!("{id} never came"));
        };
        if by.etag != came.answer.etag {
            // Section 4.3.4; the origin here always names the tag.
            return Err(format!("{id} was taken to be confirmed by a 304 about another one"));
        }
        if !came.may_be_stored || came.url != request.url {
            return Err(format!("{id} was asked about and given, and must not be"));
        }
        if came.answer.vary == Vary::Language && came.language != request.language {
            return Err(format!("{id} was asked about for a request in another language"));
        }
        // Section 3.2: each field that the 304 has replaces the stored one.
        let answered = asked + by.delay;
        let (date, expires, modified) = by.instants(answered);
        came.date = date.unwrap_or(came.date);
        came.expires = expires.or(came.expires);
        came.modified = modified.or(came.modified);
        let old = came.answer.clone();
        came.answer = if by.has_cache_control() { by.clone() } else { old.clone() };
        (came.answer.age, came.answer.expires) = (by.age, by.expires.or(old.expires));
        (came.answer.status, came.answer.vary, came.answer.etag) = (old.status, old.vary, old.etag);
        came.may_be_stored = may_be_stored(request, &came.answer);
        (came.asked, came.answered) = (asked, answered);
        (came.is_aged, came.is_gone) = (false, false);
        Ok(())
    }

    /// Something was purged; none for everything.
    pub fn purged(&mut self, url: Option<u8>, soft: bool) {
        let act = |came: &mut Came| if soft { came.is_aged = true } else { came.is_gone = true };
        match url {
            Some(url) => self.each(url, act),
            None => self.came.iter_mut().for_each(act),
        }
    }

    fn each(&mut self, url: u8, act: impl Fn(&mut Came)) {
        self.came.iter_mut().filter(|came| came.url == url).for_each(act);
    }

    /// Whether the answer `id` may be given to this request, with this age on it.
    pub fn judge(&self, id: u64, request: &Request, now: u64, (how, age): (How, u64)) -> Result<(), String> {
        let Some(came) = self.came.iter().find(|came| came.id == id) else {
            return Err(format!("{id} never came"));
        };
        let no = |why: &str| Err(format!("{id} at {now}: {why}; it is {came:?}, asked for by {request:?}"));
        if came.url != request.url || request.method == Method::Post {
            return no("it answers another request (section 4)");
        }
        if !came.may_be_stored {
            return no("it must not have been stored (section 3)");
        }
        if came.is_gone {
            return no("it was purged or made invalid (section 4.4)");
        }
        if came.answer.vary == Vary::Language && came.language != request.language {
            return no("it varies (section 4.1)");
        }
        let mine = came.age(now);
        if age != mine {
            return no(&format!("its age is {mine}, not {age} (section 5.1)"));
        }
        if how == How::Unasked && came.answer.no_cache {
            return no("it must be validated before each use (section 5.2.2.4)");
        }
        if how == How::Unasked && request.wants_it_validated() {
            return no("the client wants it validated (section 5.2.1.4)");
        }
        came.fresh_enough(request, now, how, self.contract).or_else(no)
    }
}

impl Came {
    /// Section 4.2.3.
    fn age(&self, now: u64) -> u64 {
        let apparent = self.answered.saturating_sub(self.date);
        let corrected = self.answer.age + (self.answered - self.asked);
        apparent.max(corrected) + (now - self.answered)
    }

    /// Section 4.2.1, and section 4.2.2 with the tenth that it names and an hour at most; in tenths of a
    /// second.
    fn lifetime(&self) -> u64 {
        let answer = &self.answer;
        if let Some(said) = answer.s_maxage.or(answer.max_age) {
            return said * 10;
        }
        if let Some(expires) = self.expires {
            return expires.map_or(0, |expires| expires.saturating_sub(self.date) * 10);
        }
        if !is_heuristically_cacheable(answer.status) && !answer.public {
            return 0;
        }
        self.modified.map_or(0, |modified| self.date.saturating_sub(modified).min(36_000))
    }

    fn fresh_enough(
        &self,
        request: &Request,
        now: u64,
        how: How,
        contract: Contract,
    ) -> Result<(), &'static str> {
        let (age, lifetime, answer) = (self.age(now) * 10, self.lifetime(), &self.answer);
        let within = |tenths: u64, seconds: u64| tenths <= seconds * 10;
        let is_stale = self.is_aged || age >= lifetime;
        let stale_for = age.saturating_sub(lifetime);
        let is_strict = answer.must_revalidate || answer.proxy_revalidate;
        // Section 4.2.4: none of these may be served stale.
        let is_never_stale = is_strict || answer.s_maxage.is_some() || answer.no_cache;
        if how == How::InsteadOfError {
            // RFC 5861 section 4: the origin's word, else the contract's or the client's.
            let configured = if is_never_stale { 0 } else { contract.if_error };
            let said = if is_strict || answer.no_cache { 0 } else { answer.if_error.unwrap_or(configured) };
            let asked = if is_never_stale { 0 } else { request.if_error.unwrap_or(0) };
            let bound = said.max(asked);
            return if bound > 0 && within(stale_for, bound) {
                Ok(())
            } else {
                Err("nothing lets it stand in for an error")
            };
        }
        let accepts_stale = request.max_stale.is_some();
        if request.max_age.is_some_and(|most| !within(age, most)) && !accepts_stale {
            return Err("it is older than the client wants (section 5.2.1.1)");
        }
        if request.min_fresh.is_some_and(|least| is_stale || lifetime - age < least * 10) {
            return Err("it is not fresh for as long as the client wants (section 5.2.1.3)");
        }
        if !is_stale {
            return Ok(());
        }
        if let Some(most) = request.max_stale
            && !is_never_stale
            && most.is_none_or(|most| within(stale_for, most))
        {
            return Ok(());
        }
        let configured = if is_never_stale { 0 } else { contract.grace };
        let grace = if is_strict { 0 } else { answer.while_revalidate.unwrap_or(configured) };
        if request.max_age.is_none() && grace > 0 && within(stale_for, grace) {
            return Ok(());
        }
        Err("it is stale (section 4.2.4)")
    }
}

/// Section 3, for a shared cache.
fn may_be_stored(request: &Request, answer: &Answer) -> bool {
    let for_others = answer.public || answer.must_revalidate || answer.s_maxage.is_some();
    let has_lifetime = answer.max_age.is_some() || answer.s_maxage.is_some() || answer.expires.is_some();
    request.method == Method::Get
        && !request.no_store
        && !answer.no_store
        && !answer.private
        && answer.status != 206
        && answer.vary != Vary::Everything
        && (!request.authorization || for_others)
        && (has_lifetime || answer.public || is_heuristically_cacheable(answer.status))
}

/// RFC 9110 section 15.1.
fn is_heuristically_cacheable(status: u16) -> bool {
    [200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501].contains(&status)
}
