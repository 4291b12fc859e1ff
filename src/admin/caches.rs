//! What operators purge of answers that are kept.

use super::{Answer, as_json, problem};
use crate::cache::rules::key;
use crate::cache::store::object;
use crate::cache::store::purge::{Purge, Target};
use crate::runtime::Snapshot;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use url::Url;

/// What is asked for: exactly one of `url`, `prefix`, `host`, `tag` and `all`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wanted {
    /// The cache; all of them if none is named.
    cache: Option<String>,
    url: Option<String>,
    prefix: Option<String>,
    host: Option<String>,
    tag: Option<String>,
    all: bool,
    /// Whether what is purged may still be served in its grace.
    soft: bool,
}

/// Purges; in force for the next request, and after a restart but for the caches that it names as `unwritten`:
/// there it is tried again until it is. Other gateways can hear of it, but for the caches that are `untold`: there
/// as well.
pub(super) async fn purge(snapshot: &Snapshot, body: &[u8]) -> Answer {
    let wanted: Wanted = match serde_json::from_slice(body) {
        Ok(wanted) => wanted,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("this is no purge: {error}")),
    };
    let target = match target(&wanted) {
        Ok(target) => target,
        Err(why) => return problem(StatusCode::BAD_REQUEST, why),
    };
    let named = |name: &str| wanted.cache.as_deref().is_none_or(|wanted| wanted == name);
    let purge = Purge { target, soft: wanted.soft };
    let (mut purged, mut unwritten, mut untold) = (Vec::new(), Vec::new(), Vec::new());
    for (name, store) in snapshot.caches.iter().filter(|(name, _)| named(name)) {
        let (recorded, passed_on) = (store.purge(&purge), store.pass_on(&purge));
        if let Err(error) = recorded.done().await {
            log::warn!("cache_disk: a purge is not written yet cache={name} error={error}");
            unwritten.push(name.to_string());
        }
        if !passed_on.done().await {
            untold.push(name.to_string());
        }
        purged.push(name.to_string());
    }
    if purged.is_empty() {
        return problem(StatusCode::NOT_FOUND, "there is no such cache");
    }
    log::warn!(
        "purged by an admin target={:?} soft={} caches={}",
        purge.target,
        purge.soft,
        purged.join(",")
    );
    let answer = json!({ "caches": purged, "soft": wanted.soft, "unwritten": unwritten, "untold": untold });
    as_json(StatusCode::OK, &answer)
}

fn target(wanted: &Wanted) -> Result<Target, &'static str> {
    let Wanted { url, prefix, host, tag, all, .. } = wanted;
    match (url, prefix, host, tag, *all) {
        (Some(url), None, None, None, false) => normal(url).map(|url| Target::Url(url.into())),
        (None, Some(prefix), None, None, false) => normal(prefix).map(|url| Target::Prefix(url.into())),
        (None, None, Some(host), None, false) => {
            let url = key::url("http", host, "", None);
            let is_host = !host.is_empty() && !host.contains(['/', '?', ' ']);
            let host = url.strip_prefix("http://").filter(|_| is_host);
            host.map(|host| Target::Host(host.into()))
                .ok_or("`host` is a host, such as shop.example or a.example:8443")
        }
        (None, None, None, Some(tag), false) if !tag.is_empty() => {
            Ok(Target::Tag(object::tag(tag.as_bytes())))
        }
        (None, None, None, None, true) => Ok(Target::All),
        _ => Err("say one of `url`, `prefix`, `host`, `tag`, and `all: true`"),
    }
}

/// A URL, or the beginning of one, as keys have it.
fn normal(text: &str) -> Result<String, &'static str> {
    let bad = "a URL begins with http:// or https:// and names a host";
    let parsed = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https")).ok_or(bad)?;
    let host = parsed.host_str().ok_or(bad)?;
    let authority = parsed.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    Ok(key::url(parsed.scheme(), &authority, parsed.path(), parsed.query()))
}
