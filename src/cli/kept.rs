//! What `tollgate explain` says of an answer: whether the cache would keep it, how long, and why not.

use crate::cache::rules::date;
use crate::cache::rules::directives::RequestDirectives;
use crate::cache::rules::freshness::Exchange;
use crate::cache::rules::storing::{self, Asked, Refusal, Terms, storable};
use crate::policy::cache::Cache;
use crate::policy::context::PolicyContext;
use crate::values::Problem;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora_http::RequestHeader;
use std::fmt::Write as _;
use std::time::Duration;

/// An answer that is asked about.
#[derive(Clone, Debug, Default)]
pub struct Answered {
    /// Its status.
    pub status: Option<u16>,
    /// Its fields as `name: value`.
    pub headers: Vec<String>,
}

/// Says what becomes of an answer to this request.
///
/// # Errors
/// The answer is none.
pub(super) fn describe(
    out: &mut String,
    cache: &Cache,
    (head, cx): (&RequestHeader, &PolicyContext),
    answered: &Answered,
) -> Result<(), Problem> {
    let _ = writeln!(out, "\nKept in the cache `{}`:", cache.store());
    let Some(status) = answered.status else {
        let hint = "--answer 200 --answer-header 'cache-control: max-age=60'";
        let _ = writeln!(out, "  what answers say decides: ask with {hint}");
        return Ok(());
    };
    let status = StatusCode::from_u16(status)
        .map_err(|_| Problem::new(format!("`{status}` is no status of an answer")))?;
    let headers = fields(&answered.headers)?;
    let now = date::now();
    let asked = Asked {
        method: &head.method,
        directives: &RequestDirectives::of(&head.headers),
        is_personal: storing::has_credentials(&head.headers) || cx.principal.is_some(),
    };
    let exchange = Exchange { asked: now, answered: now };
    let _ = match storable(asked, (status, &headers), exchange, &cache.settings) {
        Err(refusal) => writeln!(out, "  no: {}", why_not(refusal)),
        Ok((kept, source)) => match kept.terms.left(now) {
            _ if kept.terms.no_cache => writeln!(out, "  yes, and the upstream is asked before each use"),
            Ok(left) => {
                let then = then(&kept.terms);
                writeln!(out, "  yes, fresh for {}s by {}{then}", left.as_secs(), source.as_str())
            }
            Err(_) => writeln!(out, "  yes, stale from the beginning{}", then(&kept.terms)),
        },
    };
    Ok(())
}

/// What may be done with it once it is stale.
fn then(terms: &Terms) -> String {
    let mut text = String::new();
    if terms.grace > Duration::ZERO {
        let _ = write!(text, "; then served for {}s while another one is fetched", terms.grace.as_secs());
    }
    if terms.stale_if_error > Duration::ZERO {
        let _ = write!(text, "; and for {}s instead of an error", terms.stale_if_error.as_secs());
    }
    text
}

fn fields(lines: &[String]) -> Result<HeaderMap, Problem> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let field = line.split_once(':').and_then(|(name, value)| {
            let name: HeaderName = name.trim().parse().ok()?;
            Some((name, HeaderValue::from_str(value.trim()).ok()?))
        });
        let Some((name, value)) = field else {
            return Err(Problem::new(format!("`{line}` is no header field"))
                .remedy("write it as 'cache-control: max-age=60'"));
        };
        headers.append(name, value);
    }
    Ok(headers)
}

const fn why_not(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Method => "only answers to GET are kept",
        Refusal::RequestNoStore => "the client says `no-store`",
        Refusal::NoStore => "the answer says `no-store`",
        Refusal::Private => "the answer says `private`",
        Refusal::Authorization => {
            "it answers a caller, and says neither `public` nor `s-maxage` nor `must-revalidate`"
        }
        Refusal::Status => "nothing says that an answer with this status may be: name it in `ttl`",
        Refusal::Partial => "it is a part of something",
        Refusal::Vary => "it varies on everything, or on too much",
        Refusal::SetCookie => "it sets a cookie: `set_cookie: strip` keeps it without",
        Refusal::NotFresh => "nothing says how long it is fresh: it says so itself, or `default_ttl` does",
        Refusal::TooLarge => "its body is larger than `largest`",
        Refusal::HeadTooLarge => "its head is too large",
    }
}
