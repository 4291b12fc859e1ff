//! Dates of HTTP (RFC 9110 section 5.6.7), as time since the Unix epoch.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A date in any of the three forms that a recipient has to accept. Dates before 1970 are 1970.
pub fn parse(value: &HeaderValue) -> Option<Duration> {
    let date = httpdate::parse_http_date(value.to_str().ok()?.trim()).ok()?;
    Some(date.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// The date in a field that has one value. Of several the first counts.
pub fn field(headers: &HeaderMap, name: &HeaderName) -> Option<Duration> {
    parse(headers.get(name)?)
}

/// A date as a field's value, in whole seconds.
pub fn value(instant: Duration) -> Option<HeaderValue> {
    // Beyond the year 9999 there is no date.
    const LAST: u64 = 253_402_300_799;
    let instant = UNIX_EPOCH + Duration::from_secs(instant.as_secs().min(LAST));
    HeaderValue::from_str(&httpdate::fmt_http_date(instant)).ok()
}

/// This moment.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
