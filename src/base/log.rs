//! Log setup: readable lines on a terminal, plain ones in a file or journal, or JSON; levels per room.

use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{DefaultFields, Format};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How a line is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// What is logged, and how.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogOptions {
    pub format: LogFormat,
    /// 0 is INFO; 1 is DEBUG of our own rooms; 2 TRACE of our own rooms and DEBUG of libraries; more is TRACE of all.
    pub verbosity: u8,
    /// `RUST_LOG` syntax without spans: `warn,apiserver=debug`; a room's name stands for its crate. Adds to `verbosity`.
    pub filter: String,
}

/// A filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("log filter {filter:?}: {reason} (expected LEVEL or ROOM=LEVEL, separated by commas)")]
pub struct FilterError {
    filter: String,
    reason: String,
}

/// Makes logging to standard error work for the whole process; to be called once, first thing.
pub fn setup(options: &LogOptions) -> Result<(), FilterError> {
    let filter = targets(options)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    // An error says that a subscriber was set before, which only tests do.
    let _ = match options.format {
        LogFormat::Json => registry.with(lines.json().flatten_event(true).with_current_span(false)).try_init(),
        LogFormat::Text if journal => registry.with(lines.with_ansi(false).without_time()).try_init(),
        LogFormat::Text => {
            let format: Format = Format::default();
            let terminal = std::io::stderr().is_terminal();
            registry.with(lines.event_format(format).fmt_fields(DefaultFields::new()).with_ansi(terminal)).try_init()
        }
    };
    Ok(())
}

/// Later directives win over the ones that verbosity stands for.
fn targets(options: &LogOptions) -> Result<Targets, FilterError> {
    let (own, others) = match options.verbosity {
        0 => (LevelFilter::INFO, LevelFilter::WARN),
        1 => (LevelFilter::DEBUG, LevelFilter::WARN),
        2 => (LevelFilter::TRACE, LevelFilter::DEBUG),
        _ => (LevelFilter::TRACE, LevelFilter::TRACE),
    };
    let mut targets = Targets::new().with_default(others).with_target("coracle", own);
    for directive in options.filter.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
        let error = |reason: &str| FilterError { filter: options.filter.clone(), reason: reason.to_owned() };
        let (target, level) = directive.split_once('=').map_or((None, directive), |(t, level)| (Some(t.trim()), level));
        let level: LevelFilter =
            level.trim().parse().map_err(|_| error(&format!("{directive:?} has no such level")))?;
        targets = match target {
            None => targets.with_default(level).with_target("coracle", level),
            Some(target) if ROOMS.contains(&target) => targets.with_target(format!("coracle_{target}"), level),
            Some(target) => targets.with_target(target.to_owned(), level),
        };
    }
    Ok(targets)
}

/// Crates of ours, which a filter names without their prefix.
const ROOMS: [&str; 12] = [
    "agent",
    "api",
    "apiserver",
    "base",
    "cli",
    "client",
    "controllers",
    "network",
    "scheduler",
    "server",
    "store",
    "streams",
];

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    fn filter(verbosity: u8, filter: &str) -> Targets {
        targets(&LogOptions { verbosity, filter: filter.to_owned(), ..LogOptions::default() }).unwrap()
    }

    #[test]
    fn own_rooms_say_more_than_libraries() {
        let targets = filter(0, "");
        assert!(targets.would_enable("coracle_agent", &Level::INFO));
        assert!(!targets.would_enable("coracle_agent", &Level::DEBUG));
        assert!(!targets.would_enable("hyper", &Level::INFO));
        assert!(filter(1, "").would_enable("coracle_agent", &Level::DEBUG));
    }

    #[test]
    fn a_filter_names_rooms_and_wins_over_verbosity() {
        let targets = filter(1, "warn, store=trace,hyper=debug");
        assert!(targets.would_enable("coracle_store", &Level::TRACE));
        assert!(!targets.would_enable("coracle_agent", &Level::INFO));
        assert!(targets.would_enable("hyper", &Level::DEBUG));
    }

    #[test]
    fn an_unknown_level_is_an_error() {
        let options = LogOptions { filter: "store=loud".to_owned(), ..LogOptions::default() };
        let message = targets(&options).unwrap_err().to_string();
        assert!(message.starts_with("log filter \"store=loud\": \"store=loud\" has no such level"), "{message}");
    }
}
