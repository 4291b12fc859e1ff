//! What does not count any more before its time is over: credentials, tokens, all tokens of a subject.
//!
//! They are looked up outside of configurations and after the caller is known, whatever it was known by:
//! a token that was verified before and a session that began before are refused at the next request. What
//! came by the admin listener or from other gateways is kept over reloads and upgrades, on disk where the
//! configuration says so, and is told to other gateways by a store. What stands in a file counts as long
//! as it stands there.

mod carried;
mod config;
mod entry;
mod files;
mod shared;
mod table;
#[cfg(test)]
mod tests;

pub use config::RevocationsConfig;
pub use entry::{Revocation, RevocationId};

use super::{Principal, Upkeep};
use crate::outbound::redis::{Store, Stores};
use crate::retained::{Retained, StableId};
use crate::values::{ConfigPath, Finding, Problem, Sha256};
use arc_swap::ArcSwap;
use config::LONGEST_KEEP;
use entry::{Defaults, Target, Written};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value, json};
use shared::Sharing;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use table::Table;
use tokio::sync::watch;

/// The most that one page of a list shows.
pub const PAGE: usize = 1000;

/// What is revoked. It outlives configurations.
pub struct Revocations {
    own: Table,
    /// Those of the file.
    listed: ArcSwap<Table>,
    ledger: Mutex<Ledger>,
    /// The ledger's generation.
    changed: watch::Sender<u64>,
    /// The generation that is on disk.
    saved: watch::Sender<u64>,
    /// Whether the store was asked at least once, where there is one.
    settled: watch::Sender<bool>,
    /// Another process has taken over what is known, and writes the file from now on.
    handed_over: AtomicBool,
}

/// All of them, those that were taken back included, for who changes them.
#[derive(Default)]
struct Ledger {
    by_id: BTreeMap<RevocationId, Arc<Revocation>>,
    generation: u64,
    /// What the store has not been told.
    untold: BTreeSet<RevocationId>,
    /// What has changed since the others began to go to the next process, if they have.
    since_ahead: Option<BTreeSet<RevocationId>>,
    /// Whether there are settings.
    begun: bool,
    /// The state that was read.
    read: Option<PathBuf>,
    settings: Arc<Settings>,
}

/// What a configuration says of them.
#[derive(Clone, Debug, Default)]
struct Settings {
    file: Option<PathBuf>,
    state: Option<PathBuf>,
    store: Option<Store>,
    refresh: Duration,
    keep: u64,
    most: usize,
}

/// Why a revocation is not taken.
#[derive(Debug)]
pub enum NotTaken {
    /// It is none.
    Wrong(Problem),
    /// There are as many as there may be.
    Full(usize),
}

/// What became of a revocation.
#[derive(Debug)]
pub struct Taken {
    /// As it is written.
    pub written: Value,
    generation: u64,
}

impl Default for Revocations {
    fn default() -> Self {
        Self {
            own: Table::default(),
            listed: ArcSwap::default(),
            ledger: Mutex::default(),
            changed: watch::Sender::new(0),
            saved: watch::Sender::new(0),
            settled: watch::Sender::new(false),
            handed_over: AtomicBool::new(false),
        }
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn now_in_seconds() -> u64 {
    now() / 1000
}

impl Revocations {
    /// Those of the process, with what a configuration says of them, and the work to be done beside
    /// requests. Paths of findings count from `revocations`.
    ///
    /// # Errors
    /// What is wrong with the configuration or its files. Nothing has changed then.
    pub(super) fn compile(
        config: &RevocationsConfig,
        retained: &Retained,
        stores: &Stores,
    ) -> Result<(Arc<Self>, Upkeep), Vec<Finding>> {
        let root = ConfigPath::root();
        let mut found = config.check();
        let mut store = None;
        if let Some(name) = &config.store {
            match stores.get(name) {
                Ok(known) => store = Some(known.clone()),
                Err(problem) => {
                    found.extend(problem.map(|problem| Finding::error(root.key("store"), problem)));
                }
            }
        }
        let settings = Settings {
            file: config.file.clone(),
            state: config.state.clone(),
            store,
            refresh: config.refresh.get(),
            keep: config.keep.get().as_secs(),
            most: config.most as usize,
        };
        let revocations = retained.get_or_carried(StableId::new("revocations", ""), Self::default);
        let listed = match &settings.file {
            None => Ok(Table::default()),
            Some(file) => files::listed(file, settings.most, now()),
        };
        let kept = match &settings.state {
            Some(state) if revocations.ledger.lock().read.as_ref() != Some(state) => {
                files::kept(state, settings.most, now())
            }
            _ => Ok(Vec::new()),
        };
        let (listed, kept) = match (listed, kept) {
            (Ok(listed), Ok(kept)) if found.is_empty() => (listed, kept),
            (listed, kept) => {
                found.extend(listed.err().map(|problem| Finding::error(root.key("file"), problem)));
                found.extend(kept.err().map(|problem| Finding::error(root.key("state"), problem)));
                return Err(found);
            }
        };
        let settings = Arc::new(settings);
        if !revocations.ledger.lock().begun {
            revocations.listed.store(Arc::new(listed));
            revocations.begin(&settings, kept);
        }
        let id = settings.store.as_ref().map(|store| store.keeping().id());
        let (what, work) = (format!("{settings:?} {id:?}"), Arc::clone(&revocations));
        let upkeep = Upkeep::new("revocations".to_owned(), what, move || {
            Box::pin(keep(Arc::clone(&work), Arc::clone(&settings)))
        });
        let waited = Arc::clone(&revocations);
        let ready = move || -> BoxFuture<'static, ()> {
            let revocations = Arc::clone(&waited);
            Box::pin(async move { revocations.settled().await })
        };
        Ok((revocations, upkeep.until(ready)))
    }

    /// Goes on with other settings, and with what the state holds where it is another one. At a start
    /// that is before anything is served, at a reload when the configuration is in force.
    fn begin(&self, settings: &Arc<Settings>, kept: Vec<Revocation>) {
        let mut ledger = self.ledger.lock();
        let is_first = !std::mem::replace(&mut ledger.begun, true);
        ledger.settings = Arc::clone(settings);
        if ledger.read != settings.state {
            ledger.read.clone_from(&settings.state);
            // What is on disk there is not what is known.
            ledger.generation += 1;
        }
        for one in kept {
            self.merge(&mut ledger, &one, true);
        }
        if is_first {
            // It is on disk already. At an upgrade the process that serves may still write there.
            self.saved.send_replace(ledger.generation);
        }
        if settings.store.is_none() {
            self.settled.send_replace(true);
        }
        self.changed.send_replace(ledger.generation);
    }

    /// Takes one in; false if it says nothing new.
    fn merge(&self, ledger: &mut Ledger, one: &Revocation, to_tell: bool) -> bool {
        let id = one.id();
        let known = ledger.by_id.get(&id);
        let merged = known.map_or_else(|| one.clone(), |known| known.merged(one));
        let (is_news, was_told) = (known.is_none_or(|known| **known != merged), merged == *one);
        if is_news {
            let merged = Arc::new(merged);
            if merged.withdrawn {
                self.own.remove(&merged);
            } else {
                self.own.put(&merged);
            }
            ledger.by_id.insert(id, merged);
            ledger.generation += 1;
            if let Some(changed) = &mut ledger.since_ahead {
                changed.insert(id);
            }
        }
        // What others said and what is known here may come to more than either.
        if (is_news && to_tell) || !was_told {
            ledger.untold.insert(id);
        }
        is_news
    }

    /// Revokes what this text says, as the admin listener gets it.
    ///
    /// # Errors
    /// Why not.
    pub fn revoke(&self, text: &[u8]) -> Result<Taken, NotTaken> {
        let now = now();
        let mut ledger = self.ledger.lock();
        let text = Written::parse(text).map_err(NotTaken::Wrong)?;
        // A key that was stolen must not count again because nobody took it out meanwhile.
        let keep = if text.is_endless() { LONGEST_KEEP.get().as_secs() } else { ledger.settings.keep };
        let until = (now / 1000).saturating_add(keep);
        let mut one = text.read(Defaults { now, until, before_now: true }).map_err(NotTaken::Wrong)?;
        let id = one.id();
        let known = ledger.by_id.get(&id);
        // Later than what it may take the place of, whatever the clock does.
        let made = known.map_or(now, |known| now.max(known.made.saturating_add(1)));
        (one.made, one.withdrawn) = (made, false);
        let most = ledger.settings.most;
        if !self.has_room(&mut ledger, &one, most, now / 1000) {
            return Err(NotTaken::Full(most));
        }
        self.merge(&mut ledger, &one, true);
        Ok(self.told(&ledger, id))
    }

    /// Revokes a login session that its person has ended, until it would end by itself, in seconds since
    /// 1970. False if there is no room: half of it is left to operators, since whoever can log in can log
    /// out again and again. It is saved and told by the next round, not at once.
    pub fn end_session(&self, provider: &str, id: &str, until: u64) -> bool {
        let now = now();
        let mut ledger = self.ledger.lock();
        let target = Target::Token { id: id.into(), provider: Some(provider.into()) };
        let reason = Some("logout".into());
        let one = Revocation { target, until, made: now, withdrawn: false, reason };
        let most = ledger.settings.most.div_ceil(2);
        if !self.has_room(&mut ledger, &one, most, now / 1000) {
            return false;
        }
        self.merge(&mut ledger, &one, true);
        if ledger.settings.state.is_none() {
            self.changed.send_replace(ledger.generation);
        }
        true
    }

    /// Takes a revocation back; `None` if there is none of this id.
    pub fn withdraw(&self, id: RevocationId) -> Option<Taken> {
        let mut ledger = self.ledger.lock();
        let known = ledger.by_id.get(&id).filter(|known| !known.withdrawn)?;
        // Later than the one that it takes back, whatever the clock does.
        let made = now().max(known.made.saturating_add(1));
        let one = Revocation { made, withdrawn: true, ..Revocation::clone(known) };
        self.merge(&mut ledger, &one, true);
        Some(self.told(&ledger, id))
    }

    fn told(&self, ledger: &Ledger, id: RevocationId) -> Taken {
        self.handed_over.store(false, Ordering::Release);
        self.changed.send_replace(ledger.generation);
        let written = ledger.by_id.get(&id).map(|one| json!(one.written())).unwrap_or_default();
        Taken { written, generation: ledger.generation }
    }

    /// Waits until a change is on disk; false if it is not by then, or if no file is kept.
    pub async fn saved(&self, taken: &Taken, patience: Duration) -> bool {
        if self.ledger.lock().settings.state.is_none() {
            return false;
        }
        let mut saved = self.saved.subscribe();
        let wait = saved.wait_for(|saved| *saved >= taken.generation);
        tokio::time::timeout(patience, wait).await.is_ok_and(|waited| waited.is_ok())
    }

    /// Up to [`PAGE`] of those that hold, in the order of their ids, from the one after `after` on.
    pub fn list(&self, after: Option<RevocationId>) -> Value {
        use std::ops::Bound;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let ledger = self.ledger.lock();
        let holding = ledger.by_id.range((from, Bound::Unbounded)).filter(|(_, one)| !one.withdrawn);
        let page: Vec<_> = holding.take(PAGE).collect();
        let next = page.last().filter(|_| page.len() == PAGE).map(|(id, _)| id.to_string());
        let all: Vec<Value> = page.iter().map(|(_, one)| json!(one.written())).collect();
        json!({ "count": self.own.len(), "in_file": self.listed.load().len(), "revocations": all, "next": next })
    }

    /// True if this caller does not count any more.
    pub fn refuses(&self, caller: &Principal) -> bool {
        let of = |table: &Table| !table.is_empty() && table.refuses(caller, now_in_seconds);
        of(&self.own) || of(&self.listed.load())
    }

    /// True if the credential of this digest does not count any more.
    pub fn refuses_key(&self, key: &Sha256) -> bool {
        let of = |table: &Table| !table.is_empty() && table.refuses_key(key, now_in_seconds);
        of(&self.own) || of(&self.listed.load())
    }

    /// How many there are, those of the file not included.
    pub fn len(&self) -> usize {
        self.own.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty()
    }

    /// Waits until the store was asked once, where there is one.
    pub async fn settled(&self) {
        let _ = self.settled.subscribe().wait_for(|settled| *settled).await;
    }

    /// Forgets those whose time is over.
    fn prune(&self, ledger: &mut Ledger, now: u64) {
        let before = ledger.by_id.len();
        ledger.by_id.retain(|_, one| {
            let stays = now < one.until;
            if !stays {
                self.own.remove(one);
            }
            stays
        });
        if ledger.by_id.len() < before {
            let Ledger { by_id, untold, .. } = ledger;
            untold.retain(|id| by_id.contains_key(id));
            ledger.generation += 1;
        }
    }
}

/// Those whose time is over are looked for so often.
const PRUNE: Duration = Duration::from_secs(60);

/// How long the first question waits for the store to be connected.
const FIRST_CONNECTION: Duration = Duration::from_secs(2);

/// Follows the file, writes the state, and tells other gateways, until it is dropped.
async fn keep(revocations: Arc<Revocations>, settings: Arc<Settings>) {
    let kept = match &settings.state {
        Some(state) => files::other(&revocations, state, settings.most).await,
        None => Vec::new(),
    };
    revocations.begin(&settings, kept);
    if let Some(store) = &settings.store {
        // What others revoked should be known before anybody is served.
        let _ = tokio::time::timeout(FIRST_CONNECTION, store.keeping().settled()).await;
    }
    if settings.file.is_none() {
        revocations.listed.store(Arc::default());
    }
    let mut changes = revocations.changed.subscribe();
    changes.mark_changed();
    let mut follower = settings.file.clone().map(|file| files::Follower::new(file, settings.most));
    let mut sharing = settings.store.clone().map(|store| Sharing::new(&store));
    let mut pruned = tokio::time::Instant::now();
    loop {
        // Nobody changes the sender's end: it is held here.
        let _ = tokio::time::timeout(settings.refresh, changes.changed()).await;
        changes.borrow_and_update();
        if pruned.elapsed() >= PRUNE {
            pruned = tokio::time::Instant::now();
            revocations.prune(&mut revocations.ledger.lock(), now_in_seconds());
        }
        if let Some(follower) = &mut follower
            && let Some(table) = follower.look().await
        {
            revocations.listed.store(Arc::new(table));
        }
        if let Some(state) = &settings.state {
            files::save(&revocations, state).await;
        }
        if let Some(sharing) = &mut sharing {
            sharing.round(&revocations).await;
            revocations.settled.send_replace(true);
            if let Some(state) = &settings.state {
                files::save(&revocations, state).await;
            }
        }
    }
}
