//! Events as text: lines for the terminal, `bench.log` and `workers_start.log`.

use std::fs::File;
use std::io::Write;

use super::event::{Event, Stamped};
use super::{Experiment, files};

impl Event {
    /// As a line, and whether it is shown without `-v`.
    pub fn line(&self) -> Option<(String, bool)> {
        Some(match self {
            Self::Started { job: Some(job), host, restarts, .. } if *restarts > 0 => {
                (format!("job {job} on {host}, started again (restart {restarts})"), true)
            }
            Self::Started { job: Some(job), host, .. } => (format!("job {job} on {host}"), true),
            Self::Started { .. } => return None,
            Self::AttemptLost { cause } => (format!("the attempt before: {cause}"), true),
            Self::Deploying { deployment, number, of: all } => {
                let which = if *all > 1 { format!(" ({number}/{all})") } else { String::new() };
                (format!("starting servers{}{which}", of_deployment(deployment)), true)
            }
            Self::WeightsExamined { found, seconds, remarks, .. } => {
                let more: String = remarks.iter().map(|remark| format!("\n  {remark}")).collect();
                (format!("weights: {found} ({seconds:.1} s){more}"), true)
            }
            Self::WeightsSkipped { folder, reason } => {
                (format!("weights: {folder} not checked: {reason}"), true)
            }
            Self::ImageImporting { image, file } => (format!("importing {image} to {file}"), true),
            Self::ContainerPreparing { image, nodes } => {
                (format!("unpacking {image} on {nodes} node(s)"), true)
            }
            Self::PortsTaken { problem } => {
                let first = first_line(problem);
                (format!("a port was taken in the meantime, starting again with others: {first}"), true)
            }
            Self::GpusSampled { sources } => (format!("sampling {sources}"), false),
            Self::GpusNotSampled { reason } => (format!("no telemetry of GPUs: {reason}"), true),
            Self::ProcessStarted { process, host, pid, log, .. } => {
                (format!("started {process} on {host} (pid {pid}, server_logs/{log})"), false)
            }
            Self::Suspected { process, line, .. } => {
                (format!("{process} may have failed, watching whether it goes on: {line}"), true)
            }
            Self::ProcessEnded { process, status, expected } => (
                format!("{process} ended ({status}{})", if *expected { "" } else { ", by itself" }),
                !expected,
            ),
            Self::Waiting { what, seconds, at_most } => {
                (format!("waiting, {seconds:.0} s of at most {at_most:.0} s: {what}"), true)
            }
            Self::LeftBehind { port, pid, command, experiment } => (
                format!(
                    "port {port} is held by a server that {experiment} left behind (pid {pid}: {command}); \
                     `tokmark jobs cancel {experiment}` ends it"
                ),
                true,
            ),
            Self::Ready { url, seconds } => (format!("ready after {seconds:.1} s: {url}"), true),
            Self::PointStarted { point, number, of } => (format!("[{number}/{of}] {point}"), false),
            Self::PointSkipped { point, reason } => (format!("{point}: not measured, {reason}"), true),
            Self::PointKept { point } => (format!("{point}: kept from an earlier attempt"), true),
            Self::RequestFailed { point, number, what } => {
                (format!("{point}: a request failed: {what}"), *number == 1)
            }
            Self::PointFinished { point, verdict, completed, total, output_tokens_per_s } => (
                format!("{point}: {verdict}, {completed}/{total} requests, {output_tokens_per_s:.0} tok/s"),
                true,
            ),
            Self::PointCut { point, completed, total } => {
                (format!("{point}: cut short after {completed}/{total} requests"), true)
            }
            Self::PointFailed { .. } | Self::Restarting { .. } | Self::GivenUp { .. } => {
                return self.failure();
            }
            Self::Stopping { deployment } => {
                (format!("stopping servers{}", of_deployment(deployment)), false)
            }
            Self::Stopped { killed, .. } if !killed.is_empty() => {
                (format!("had to kill {}", killed.join(", ")), true)
            }
            Self::Stopped { seconds, .. } => (format!("servers stopped in {seconds:.1} s"), false),
            Self::Interrupted { signal } => {
                (format!("{signal}: wrapping up; once more to stop at once"), true)
            }
            Self::Failed { .. } | Self::Finished { .. } => return None,
        })
    }

    /// The line of a failure after which the run goes on.
    fn failure(&self) -> Option<(String, bool)> {
        let (head, reason, is_shown) = match self {
            Self::PointFailed { point, reason } => (format!("{point}: not measured"), reason, true),
            Self::Restarting { deployment, reason } => {
                (format!("starting the servers{} once more", of_deployment(deployment)), reason, true)
            }
            // The only deployment is the run, which says why it ends.
            Self::GivenUp { deployment, reason, points } => (
                format!("giving up {deployment} with {} load point(s)", points.len()),
                reason,
                !deployment.is_empty(),
            ),
            _ => return None,
        };
        Some((format!("{head}: {}", first_line(reason)), is_shown))
    }

    fn is_about_servers(&self) -> bool {
        matches!(
            self,
            Self::Deploying { .. }
                | Self::ProcessStarted { .. }
                | Self::ProcessEnded { .. }
                | Self::Suspected { .. }
                | Self::Ready { .. }
                | Self::Waiting { .. }
                | Self::Stopped { .. }
                | Self::Restarting { .. }
                | Self::GivenUp { .. }
        )
    }
}

/// ` of NAME`; nothing for the only deployment.
fn of_deployment(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(" of {name}") }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// The logs in `server_logs`: `bench.log` with every event, `workers_start.log` with those about servers.
#[derive(Debug)]
pub struct TextLogs {
    bench: File,
    start: File,
}

impl TextLogs {
    /// Opens the logs of an experiment.
    pub fn open(experiment: &Experiment) -> std::io::Result<Self> {
        let open = |name| files::append(&experiment.server_logs().join(name));
        Ok(Self { bench: open("bench.log")?, start: open("workers_start.log")? })
    }

    /// Adds an event. A full disk must not end the run.
    pub fn write(&self, Stamped { at, event }: &Stamped) {
        let text = match event {
            Event::Started { job: None, host, pid, .. } => format!("started on {host} (pid {pid})"),
            Event::Failed { message } => format!("failed: {message}"),
            Event::Finished { exit_code } => format!("finished with exit code {exit_code}"),
            event => event.line().map_or_else(|| format!("{event:?}"), |(line, _)| line),
        };
        let line = format!("{at} {text}\n");
        let _ = (&self.bench).write_all(line.as_bytes());
        if event.is_about_servers() {
            let _ = (&self.start).write_all(line.as_bytes());
        }
    }
}
