//! The log of what happens besides requests, on standard error.
//!
//! A line is `time LEVEL target: message`; control characters are escaped, so that what a client
//! sent can neither begin a line of its own nor reach a terminal.

use crate::values::Problem;
use arc_swap::ArcSwap;
use log::{LevelFilter, Log, Metadata, Record};
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::Arc;

/// Libraries that at `info` tell of every connection, or of what they do for themselves. They say
/// no more than warnings unless the level is `debug` or `trace`.
/// Pingora's proxy calls every client that breaks off an error; the access log and the metrics tell
/// of those, and what is wrong in the gateway is logged by `proxy` itself.
const MISLEADING: &str = "pingora_proxy";

const CHATTY: &[&str] = &["pingora", "rustls", "h2", "hyper", "notify", "tokio"];

/// The installed error log, to change its level.
#[derive(Clone)]
pub struct ErrorLog(Arc<Switch>);

struct Switch(ArcSwap<env_logger::Logger>);

impl ErrorLog {
    /// Makes this the process' logger.
    ///
    /// `filters`, the value of `RUST_LOG` if it is set, has precedence over `level` until
    /// [`Self::set_level`] is called.
    ///
    /// # Errors
    /// If the process has a logger.
    pub fn install(level: LevelFilter, filters: Option<&str>) -> Result<Self, Problem> {
        let logger = build(level, filters);
        let max = logger.filter();
        let switch = Arc::new(Switch(ArcSwap::from_pointee(logger)));
        log::set_boxed_logger(Box::new(Self(switch.clone())))
            .map_err(|_| Problem::new("the process has a logger already"))?;
        log::set_max_level(max);
        Ok(Self(switch))
    }

    /// Says more or less from now on.
    pub fn set_level(&self, level: LevelFilter) {
        let logger = build(level, None);
        let max = logger.filter();
        self.0.0.store(Arc::new(logger));
        log::set_max_level(max);
    }
}

impl Log for ErrorLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.0.load().enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        self.0.0.load().log(record);
    }

    fn flush(&self) {
        self.0.0.load().flush();
    }
}

fn build(level: LevelFilter, filters: Option<&str>) -> env_logger::Logger {
    let mut builder = env_logger::Builder::new();
    builder.target(env_logger::Target::Stderr).format(|to, record| {
        let time = to.timestamp_millis();
        write_line(to, &time, record)
    });
    match filters {
        Some(filters) => builder.parse_filters(filters),
        None => {
            builder.filter_level(level);
            if level < LevelFilter::Debug {
                builder.filter_module(MISLEADING, LevelFilter::Off);
                for module in CHATTY {
                    builder.filter_module(module, level.min(LevelFilter::Warn));
                }
            }
            &mut builder
        }
    };
    builder.build()
}

fn write_line(to: &mut impl Write, time: &impl fmt::Display, record: &Record<'_>) -> io::Result<()> {
    let mut line = String::with_capacity(160);
    let _ = write!(line, "{time} {:5} {}: ", record.level(), record.target());
    let _ = write!(Escaped(&mut line), "{}", record.args());
    line.push('\n');
    to.write_all(line.as_bytes())
}

/// Writes control characters as escapes, `\n` or `\u{1b}`.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(char::is_control) {
            let plain = part.trim_end_matches(char::is_control);
            self.0.push_str(plain);
            self.0.extend(part[plain.len()..].escape_default());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::Level;

    fn enabled(logger: &env_logger::Logger, level: Level, target: &str) -> bool {
        logger.enabled(&Metadata::builder().level(level).target(target).build())
    }

    #[test]
    fn libraries_are_quiet_unless_one_looks_closer() {
        let table = [
            (LevelFilter::Info, Level::Info, "tollgate::server", true),
            (LevelFilter::Info, Level::Debug, "tollgate::server", false),
            (LevelFilter::Info, Level::Info, "pingora_proxy", false),
            (LevelFilter::Info, Level::Warn, "pingora_core::server", true),
            (LevelFilter::Error, Level::Warn, "pingora_core::server", false),
            (LevelFilter::Debug, Level::Debug, "pingora_core::server", true),
            (LevelFilter::Trace, Level::Trace, "h2::codec", true),
        ];
        for (set, level, target, expected) in table {
            assert_eq!(enabled(&build(set, None), level, target), expected, "{set} {level} {target}");
        }
    }

    #[test]
    fn the_environment_has_precedence() {
        let logger = build(LevelFilter::Info, Some("warn,pingora_core=trace"));
        assert!(enabled(&logger, Level::Trace, "pingora_core::server"));
        assert!(!enabled(&logger, Level::Info, "tollgate"));
    }

    #[test]
    fn a_message_cannot_break_out_of_its_line() {
        let mut line = Vec::new();
        let hostile = "GET /\r\n2026 ERROR forged: \u{1b}[2J\u{9b}é";
        let arguments = format_args!("{hostile}");
        let record = Record::builder().level(Level::Warn).target("t").args(arguments).build();
        write_line(&mut line, &"now", &record).unwrap();
        let expected = "now WARN  t: GET /\\r\\n2026 ERROR forged: \\u{1b}[2J\\u{9b}é\n";
        assert_eq!(String::from_utf8(line).unwrap(), expected);
    }

    #[test]
    fn the_level_changes_while_it_runs() {
        let log = ErrorLog(Arc::new(Switch(ArcSwap::from_pointee(build(LevelFilter::Warn, None)))));
        let info = Metadata::builder().level(Level::Info).target("tollgate").build();
        assert!(!log.enabled(&info));
        log.0.0.store(Arc::new(build(LevelFilter::Info, None)));
        assert!(log.enabled(&info));
    }
}
