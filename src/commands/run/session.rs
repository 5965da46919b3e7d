//! What `run` and `exec` share: events to files and the terminal, signals, the session, the exit code.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::commands::planning;
use crate::commands::printer::Printer;
use crate::commands::progress::{Display, describe};
use crate::commands::results;
use crate::deploy::Place;
use crate::error;
use crate::experiment::event::Listener;
use crate::experiment::manifest::hostname;
use crate::experiment::{Event, EventLog, Experiment, files};
use crate::plan::Plan;
use crate::prompts::TokenizerCache;
use crate::report::Row;
use crate::run::{RunError, Session};

/// A run that ended.
pub(crate) struct Conducted {
    plan: Plan,
    experiment: Experiment,
    rows: Vec<Row>,
    /// How it ended. The error, if any, carries the exit code.
    pub(crate) end: anyhow::Result<()>,
}

impl Conducted {
    /// Shows the results.
    pub(crate) fn show(self, printer: Printer) -> anyhow::Result<()> {
        printer.json(&self.rows.iter().map(|row| &row.summary).collect::<Vec<_>>())?;
        if !self.rows.is_empty() {
            results::show(printer, Some(&self.plan), &self.rows, self.experiment.dir())?;
        }
        self.end.map_err(|failure| match failure.downcast_ref::<RunError>() {
            Some(_) => failure.context(format!("experiment {}", self.experiment.dir().display())),
            None => failure,
        })
    }
}

/// Runs a plan in a place.
pub(crate) fn conduct(
    printer: Printer,
    plan: Plan,
    place: Place,
    experiment: Experiment,
) -> anyhow::Result<Conducted> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let display = Display::new(printer);
    let events = Arc::new(EventLog::open(experiment.dir(), listener(&experiment, display.clone())?)?);
    let (current, watching) = watch::channel(None);
    let session = Session {
        plan,
        place,
        experiment,
        tokmark: planning::this_binary()?,
        events: Arc::clone(&events),
        stop: CancellationToken::new(),
        hurry: CancellationToken::new(),
        current,
        tokenizers: TokenizerCache::default(),
    };
    events.emit(started(&session.place));
    let outcome = runtime.block_on(async {
        let followed = tokio::spawn(display.follow(watching));
        let signals = tokio::spawn(obey(Tokens::of(&session), Arc::clone(&events)));
        let outcome = session.run().await;
        signals.abort();
        session.current.send_replace(None);
        followed.abort();
        outcome
    });
    let end = match outcome.failure {
        Some(failure) => Err(failure.into()),
        None => results::gate(&outcome.rows),
    };
    let code = match &end {
        Ok(()) => error::OK,
        Err(failure) => {
            events.emit(Event::Failed { message: format!("{failure:#}") });
            error::exit_code(failure)
        }
    };
    events.emit(Event::Finished { exit_code: code });
    Ok(Conducted { plan: session.plan, experiment: session.experiment, rows: outcome.rows, end })
}

fn started(place: &Place) -> Event {
    let restarts = match place {
        Place::Local => 0,
        Place::Allocation(allocation) => allocation.restarts,
    };
    Event::Started {
        job: place.job().map(ToString::to_string),
        pid: std::process::id(),
        host: hostname(),
        nodes: place.nodes().to_vec(),
        restarts,
    }
}

/// Every event to `bench.log`, those about servers to `workers_start.log`, and to the display.
fn listener(experiment: &Experiment, display: Display) -> std::io::Result<Listener> {
    let bench = files::append(&experiment.server_logs().join("bench.log"))?;
    let start = files::append(&experiment.server_logs().join("workers_start.log"))?;
    Ok(Box::new(move |stamped| {
        display.event(&stamped.event);
        let text = match &stamped.event {
            Event::Failed { message } => format!("failed: {message}"),
            Event::Finished { exit_code } => format!("finished with exit code {exit_code}"),
            event => describe(event).map_or_else(|| format!("{event:?}"), |(line, _)| line),
        };
        let line = format!("{} {text}\n", stamped.at);
        // A full disk must not end the run.
        let _lost = (&bench).write_all(line.as_bytes());
        let about_servers = matches!(
            stamped.event,
            Event::Deploying { .. }
                | Event::ProcessStarted { .. }
                | Event::ProcessEnded { .. }
                | Event::Ready { .. }
                | Event::Stopped { .. }
        );
        if about_servers {
            let _lost = (&start).write_all(line.as_bytes());
        }
    }))
}

/// Grace of the servers once Slurm has told a whole job to end. It kills what is left after KillWait, 30 s by default and
/// shorter on many sites, and the end must be written before.
const GRACE_OF_CANCELLED_JOB: Duration = Duration::from_secs(2);

/// What signals act on.
struct Tokens {
    stop: CancellationToken,
    hurry: CancellationToken,
    in_job: bool,
}

impl Tokens {
    fn of(session: &Session) -> Self {
        let in_job = session.place.job().is_some();
        Self { stop: session.stop.clone(), hurry: session.hurry.clone(), in_job }
    }
}

/// First signal: wrap up. Second: do not wait for anyone.
async fn obey(tokens: Tokens, events: Arc<EventLog>) {
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut warning)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
        signal(SignalKind::user_defined1()),
    ) else {
        return;
    };
    let next = async |a: &mut Signal, b: &mut Signal, c: &mut Signal| {
        tokio::select! {
            _ = a.recv() => "SIGINT",
            _ = b.recv() => "SIGTERM",
            _ = c.recv() => "SIGUSR1 (the time limit is near)",
        }
    };
    loop {
        let name = next(&mut interrupt, &mut terminate, &mut warning).await;
        let again = tokens.stop.is_cancelled();
        events.emit(Event::Interrupted { signal: name.into() });
        tokens.stop.cancel();
        if tokens.in_job && name == "SIGTERM" {
            let hurry = tokens.hurry.clone();
            tokio::spawn(async move {
                tokio::time::sleep(GRACE_OF_CANCELLED_JOB).await;
                hurry.cancel();
            });
        } else if again && !name.starts_with("SIGUSR1") {
            tokens.hurry.cancel();
        }
    }
}
