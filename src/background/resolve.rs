//! Keeps what is known of a source of endpoints up to date.

use super::settle;
use super::watch::Watcher;
use crate::config::model::dns::Dns;
use crate::upstream::discovery::{Discovery, Source, read_file};
use crate::upstream::resolve::{Answer, Asker};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The first wait after a question that nobody answered; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Files are looked at so often where the operating system does not tell of changes.
const LOOK: Duration = Duration::from_secs(30);

/// Asks a source again and again, until it is aborted.
pub(super) async fn keep(discovery: Arc<Discovery>) {
    match &discovery.source {
        Source::File(path) => follow(&discovery, path).await,
        Source::Dns { dns, .. } | Source::Srv { dns, .. } => ask(&discovery, dns).await,
    }
}

async fn ask(discovery: &Discovery, dns: &Dns) {
    let mut asker = None;
    let mut wait = FIRST_WAIT;
    loop {
        let answer = question(discovery, dns, &mut asker).await;
        let pause = match answer {
            Ok((found, left)) => {
                discovery.found(found);
                wait = FIRST_WAIT;
                left.clamp(dns.min_ttl.get(), dns.max_ttl.get().max(dns.min_ttl.get()))
            }
            Err(failure) => {
                discovery.failed(failure);
                // Whoever is asked may have changed.
                asker = None;
                let now = wait;
                wait = (wait * 2).min(LONGEST_WAIT);
                now
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn question(discovery: &Discovery, dns: &Dns, asker: &mut Option<Asker>) -> Result<Answer, String> {
    let asker = match asker {
        Some(asker) => asker,
        none => none.insert(Asker::new(dns)?),
    };
    asker.ask(&discovery.source).await
}

async fn follow(discovery: &Discovery, path: &Path) {
    let mut watcher = Watcher::start();
    watcher.follow(&[path.to_owned()]);
    loop {
        let reading = path.to_owned();
        match tokio::task::spawn_blocking(move || read_file(&reading)).await {
            Ok(Ok(found)) => discovery.found(found),
            Ok(Err(problem)) => discovery.failed(problem.to_string()),
            Err(error) => discovery.failed(error.to_string()),
        }
        if tokio::time::timeout(LOOK, watcher.changed()).await.is_ok() {
            settle(&mut watcher).await;
        }
    }
}
