//! Times as text, the seconds of which are formatted once a second.

use std::time::{SystemTime, UNIX_EPOCH};

/// The last second, formatted.
#[derive(Default)]
pub(super) struct Clock {
    second: u64,
    /// `2026-11-24T13:18:37`, or empty at first.
    text: String,
}

impl Clock {
    /// Writes a time as RFC 3339 has it, in UTC, with milliseconds. Times before 1970 print as 1970.
    pub(super) fn write(&mut self, line: &mut Vec<u8>, time: SystemTime) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if since.as_secs() != self.second || self.text.is_empty() {
            self.second = since.as_secs();
            let second = i64::try_from(self.second).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
            self.text = second.unwrap_or(jiff::Timestamp::MAX).strftime("%Y-%m-%dT%H:%M:%S").to_string();
        }
        line.extend_from_slice(self.text.as_bytes());
        let millis = since.subsec_millis();
        let digit = |value: u32| b'0' + (value % 10) as u8;
        line.extend_from_slice(&[b'.', digit(millis / 100), digit(millis / 10), digit(millis), b'Z']);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_written_as_rfc_3339_has_them() {
        let table = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_007, "2000-02-29T00:00:00.007Z"),
            (951_782_400_999, "2000-02-29T00:00:00.999Z"),
            (1_795_526_317_050, "2026-11-24T13:18:37.050Z"),
            (951_782_400_007, "2000-02-29T00:00:00.007Z"),
        ];
        let mut clock = Clock::default();
        for (millis, expected) in table {
            let mut line = Vec::new();
            clock.write(&mut line, UNIX_EPOCH + Duration::from_millis(millis));
            assert_eq!(String::from_utf8(line).unwrap(), expected);
        }
    }
}
