//! `cognitofs publish`: sends all of a pool to its stream, and follows that to its end.
//!
//! Invariant: it succeeds only if the service says that the publish did.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant, SystemTime};

use indicatif::{ProgressBar, ProgressStyle};
use time::OffsetDateTime;
use time::macros::format_description;

use super::args::PublishArgs;
use super::connection::{self, Connection};
use super::options::MountOptions;
use super::source::Source;
use super::{ExitCode, Failure, log_to_stderr};
use crate::api::{Client, Error};
use crate::wire::bulk_publish::{
    BulkPublish, BulkPublishDetails, BulkPublishStatus, GetBulkPublishDetails,
};
use crate::wire::configuration::{GetIdentityPoolConfiguration, StreamingStatus};
use crate::wire::fault::Code;
use crate::wire::names::{PoolId, Scope};
use crate::wire::timestamp::Timestamp;

/// How long the service wants to be left alone after a success.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Between two questions how far it is; the pause doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Runs until the publish has ended.
pub(super) fn run(args: &PublishArgs) -> Result<ExitCode, Failure> {
    log_to_stderr("warn", true);
    let (source, options) = connection::read(&args.source, &args.options, false)?;
    let Scope::Pool(pool) = source.scope.clone() else {
        return Err(Failure::usage(format!(
            "{source}: a bulk publish is of a whole pool: name POOL, by root= if need be"
        )));
    };
    if options.is_user() {
        return Err(Failure::usage(
            "a bulk publish is the developer's, not a user's: leave identity= and login= out",
        ));
    }
    super::runtime()?.block_on(async {
        let connection = Connection::open_existing(&source, &options).await?;
        let publish = Publish {
            source: &source,
            options: &options,
            client: &connection.client,
            pool,
        };
        let ended = tokio::select! {
            ended = publish.run() => ended,
            Ok(()) = tokio::signal::ctrl_c() => Err(interrupted(connection.local.is_some())),
        };
        connection.close().await;
        ended
    })
}

fn interrupted(local: bool) -> Failure {
    let what = match local {
        true => "interrupted: the local service ends now, and a bulk publish with it",
        false => {
            "interrupted: the bulk publish goes on at the service; to see how far it is, run this \
             again or read .cognito/bulk-publish.json in the mounted pool"
        }
    };
    Failure::new(ExitCode::Interrupted, what)
}

struct Publish<'a> {
    source: &'a Source,
    options: &'a MountOptions,
    client: &'a Client,
    pool: PoolId,
}

impl Publish<'_> {
    async fn run(&self) -> Result<ExitCode, Failure> {
        let pool = self.pool.clone();
        let begin = BulkPublish { pool };
        match self.client.call(&begin, self.deadline()).await {
            Ok(_) => {}
            Err(Error::Fault(fault)) if fault.code == Code::DuplicateRequest => {
                say(format!("{}: one is under way already", self.source))?;
            }
            Err(Error::Fault(fault)) if fault.code == Code::AlreadyStreamed => {
                let last = self.details().await;
                let last = last.map_err(|error| connection::refused(self.source, error))?;
                if last.bulk_publish_status != Some(BulkPublishStatus::InProgress) {
                    return Err(self.too_early(&last, SystemTime::now()));
                }
            }
            Err(error) => return Err(self.not_begun(error).await),
        }
        let progress = Progress::new(self.source);
        let details = self.follow(&progress).await;
        drop(progress);
        let details = details?;
        let when = match (
            details.bulk_publish_start_time,
            details.bulk_publish_complete_time,
        ) {
            (Some(begun), Some(ended)) => format!(" ({} to {})", iso(begun), iso(ended)),
            _ => String::new(),
        };
        if details.bulk_publish_status == Some(BulkPublishStatus::Failed) {
            let why = details.failure_message.as_deref().unwrap_or("no reason");
            return Err(Failure::refused(format!(
                "{}: the bulk publish failed{when}: {why}",
                self.source
            )));
        }
        say(format!("{}: published{when}", self.source))?;
        Ok(ExitCode::Success)
    }

    /// Asks until it has ended. The network may be gone for as long as an operation may take.
    async fn follow(&self, progress: &Progress<'_>) -> Result<BulkPublishDetails, Failure> {
        let mut pause = FIRST_PAUSE;
        let mut heard = Instant::now();
        loop {
            match self.details().await {
                Ok(details) => {
                    heard = Instant::now();
                    match details.bulk_publish_status {
                        Some(BulkPublishStatus::Succeeded | BulkPublishStatus::Failed) => {
                            return Ok(details);
                        }
                        Some(BulkPublishStatus::NotStarted) | None => {
                            progress.show("not started")?
                        }
                        Some(BulkPublishStatus::InProgress) => progress.show("in progress")?,
                    }
                }
                Err(Error::Unreachable { .. }) if heard.elapsed() < self.options.timeout => {}
                Err(error) => {
                    let failure = connection::refused(self.source, error);
                    return Err(Failure::refused(format!(
                        "{}; the bulk publish has begun: run this again to follow it",
                        failure.cause
                    )));
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn details(&self) -> Result<BulkPublishDetails, Error> {
        let pool = self.pool.clone();
        let get = GetBulkPublishDetails { pool };
        self.client.call(&get, self.deadline()).await
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.options.timeout
    }

    /// Tells when the next one is possible.
    fn too_early(&self, last: &BulkPublishDetails, now: SystemTime) -> Failure {
        let ended = last
            .bulk_publish_complete_time
            .or(last.bulk_publish_start_time);
        let Some(ended) = ended else {
            return Failure::refused(format!(
                "{}: published within the last 24 hours, and the service does it once in 24 hours",
                self.source
            ));
        };
        let next = SystemTime::from(ended) + DAY;
        let wait = next.duration_since(now).unwrap_or_default();
        Failure::refused(format!(
            "{}: published at {}, and the service does it once in 24 hours: the next is possible \
             at {}, in {}",
            self.source,
            iso(ended),
            iso(next.into()),
            minutes(wait)
        ))
    }

    /// Tells why it did not begin. The service has no word of its own for a pool without a stream.
    async fn not_begun(&self, error: Error) -> Failure {
        let unsure = error.is_unsure();
        let odd = matches!(&error, Error::Fault(fault)
            if matches!(fault.code, Code::InvalidConfiguration | Code::InvalidParameter));
        if odd && self.has_no_stream().await {
            return Failure::refused(format!(
                "{}: the pool has no stream: set CognitoStreams (StreamName, RoleArn, \
                 StreamingStatus ENABLED) in its .cognito/configuration.json",
                self.source
            ));
        }
        let failure = connection::refused(self.source, error);
        match unsure {
            true => Failure::refused(format!(
                "{}; it may have begun: run this again to follow it",
                failure.cause
            )),
            false => failure,
        }
    }

    /// Returns whether the pool surely has none that is enabled.
    async fn has_no_stream(&self) -> bool {
        let pool = self.pool.clone();
        let get = GetIdentityPoolConfiguration { pool };
        let Ok(configuration) = self.client.call(&get, self.deadline()).await else {
            return false;
        };
        let streams = configuration.cognito_streams;
        streams.is_none_or(|streams| streams.streaming_status != Some(StreamingStatus::Enabled))
    }
}

/// How far it is: a spinner on a terminal, else a line for each state.
struct Progress<'a> {
    source: &'a Source,
    spinner: Option<ProgressBar>,
    shown: Cell<&'static str>,
}

impl<'a> Progress<'a> {
    fn new(source: &'a Source) -> Self {
        let spinner = io::stderr().is_terminal().then(|| {
            let spinner = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {prefix}: {msg} ({elapsed})");
            if let Ok(style) = style {
                spinner.set_style(style);
            }
            spinner.set_prefix(source.to_string());
            spinner.set_message("begun");
            spinner.enable_steady_tick(Duration::from_millis(100));
            spinner
        });
        Self {
            source,
            spinner,
            shown: Cell::new(""),
        }
    }

    fn show(&self, state: &'static str) -> Result<(), Failure> {
        match &self.spinner {
            Some(spinner) => spinner.set_message(state),
            None if self.shown.replace(state) != state => {
                say(format!("{}: {state}", self.source))?;
            }
            None => {}
        }
        Ok(())
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

fn say(line: String) -> Result<(), Failure> {
    writeln!(io::stdout(), "{line}").map_err(Failure::system)
}

/// Shows an instant in UTC, to the second.
fn iso(time: Timestamp) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    let time = OffsetDateTime::from_unix_timestamp(time.as_millis().div_euclid(1000));
    let text = time.map(|time| time.format(format));
    match text {
        Ok(Ok(text)) => text,
        _ => "a time beyond all calendars".to_owned(),
    }
}

/// Shows a time in hours and minutes, so many that it is over then.
fn minutes(time: Duration) -> String {
    let minutes = time.as_secs().div_ceil(60);
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_to_the_second_and_to_the_minute() {
        assert_eq!(
            iso(Timestamp::from_millis(1_412_974_057_151)),
            "2014-10-10T20:47:37Z"
        );
        for (seconds, told) in [
            (0, "0 min"),
            (1, "1 min"),
            (3_600, "1 h 0 min"),
            (5 * 3_600 + 11 * 60 + 1, "5 h 12 min"),
            (86_400, "24 h 0 min"),
        ] {
            assert_eq!(minutes(Duration::from_secs(seconds)), told);
        }
    }
}
