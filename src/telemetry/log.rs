//! The program's own log: set-up of the subscriber that writes JSON lines or text, to stderr in production.

use std::io;

use tracing::{Subscriber, level_filters::LevelFilter, subscriber::SetGlobalDefaultError};
use tracing_subscriber::{
    Layer as _, Registry,
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    reload,
};

use crate::config::{Log, LogFormat, LogLevel};

/// Changes the level of a log that is in use.
#[derive(Clone, Debug)]
pub struct LevelHandle(reload::Handle<LevelFilter, Registry>);

impl LevelHandle {
    /// Sets the least severe level that is written.
    pub fn set(&self, to: LogLevel) {
        // It fails only when the log is gone, and then there is nothing to set.
        let _ = self.0.reload(level(to));
    }
}

/// Makes the log of this process. Called once, by the program and not by the library's users.
///
/// # Errors
/// When a log was made before.
pub fn init(config: &Log) -> Result<LevelHandle, SetGlobalDefaultError> {
    let (subscriber, handle) = subscriber(config, io::stderr);
    tracing::subscriber::set_global_default(subscriber)?;
    Ok(handle)
}

/// A subscriber that writes as configured to `writer`, and the handle for its level.
pub fn subscriber<W>(config: &Log, writer: W) -> (Box<dyn Subscriber + Send + Sync>, LevelHandle)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(level(config.level));
    let lines = match config.format {
        LogFormat::Json => {
            fmt::layer().with_writer(writer).json().flatten_event(true).with_current_span(false).boxed()
        }
        LogFormat::Text => fmt::layer().with_writer(writer).with_ansi(false).boxed(),
    };
    (Box::new(Registry::default().with(filter).with(lines)), LevelHandle(handle))
}

const fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use tracing::{info, subscriber::with_default, warn};

    use super::{Log, LogFormat, LogLevel, subscriber};
    use crate::telemetry::Capture;

    fn written(level: LogLevel, format: LogFormat) -> String {
        let capture = Capture::default();
        with_default(subscriber(&Log { level, format }, capture.clone()).0, || {
            info!("a lifecycle event");
            warn!(route = "/a\u{1b}[31m", "something is \"degraded\"");
        });
        capture.text()
    }

    #[test]
    fn json_lines_carry_level_message_and_fields() {
        let text = written(LogLevel::Info, LogFormat::Json);

        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1]["level"], "WARN");
        assert_eq!(lines[1]["message"], "something is \"degraded\"");
        assert_eq!(lines[1]["route"], "/a\u{1b}[31m");
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn text_lines_have_no_escape_sequences_and_respect_the_level() {
        let text = written(LogLevel::Warn, LogFormat::Text);

        assert_eq!(text.lines().count(), 1);
        assert!(text.contains("WARN") && text.contains("degraded") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn the_level_changes_while_the_log_is_in_use() {
        let capture = Capture::default();
        let config = Log { level: LogLevel::Warn, format: LogFormat::Text };
        let (subscriber, handle) = subscriber(&config, capture.clone());

        with_default(subscriber, || {
            info!("before");
            handle.set(LogLevel::Info);
            info!("after");
        });

        assert!(!capture.text().contains("before") && capture.text().contains("after"), "{}", capture.text());
    }
}
