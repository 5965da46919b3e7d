//! Samples the servers' metrics and the client itself at an interval during a load point.
//!
//! Sampling must neither disturb nor end the measurement: a failed scrape writes its error as a line.

mod client;
pub mod gpus;
pub mod pages;
pub mod processes;
mod server;

use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::experiment::files;
use crate::load::probe::PageReader;
use crate::load::{LiveCounters, Target};
use crate::plan::MetricsPage;
pub use server::Pages;

/// Time limit for connections to metrics pages.
const CONNECT: Duration = Duration::from_secs(5);

/// The instants of the samples: the same for every sampler of a load point, so that what they saw can be added up.
#[derive(Debug, Clone)]
struct Ticks {
    next: tokio::time::Instant,
    interval: Duration,
    stop: CancellationToken,
}

impl Ticks {
    /// Waits for the next instant that is not past; `false` if the sample after it is the last one.
    async fn next(&mut self) -> bool {
        let now = tokio::time::Instant::now();
        while self.next <= now {
            self.next += self.interval;
        }
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep_until(self.next) => true,
        }
    }
}

/// What is watched, and how.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// The servers as the load reaches them.
    pub target: &'a Target,
    pub pages: &'a [MetricsPage],
    /// Time between two samples.
    pub interval: Duration,
}

/// Observers of one load point; dropping them stops them.
#[derive(Debug)]
pub struct Observers {
    stop: CancellationToken,
    client: tokio::task::JoinHandle<()>,
    servers: Vec<tokio::task::JoinHandle<Pages>>,
}

impl Observers {
    /// Starts sampling into `folder`: `client.jsonl`, and `server_metrics.jsonl` if there are metrics pages.
    pub fn start(
        folder: &Path,
        point: &str,
        observed: Observed<'_>,
        progress: LiveCounters,
    ) -> std::io::Result<Self> {
        fs_err::create_dir_all(folder)?;
        let stop = CancellationToken::new();
        let Observed { target, pages, interval } = observed;
        let ticks = Ticks { next: tokio::time::Instant::now() + interval, interval, stop: stop.clone() };
        let file = files::append(&folder.join("client.jsonl"))?;
        let client = tokio::spawn(client::sample(file, point.to_owned(), progress, ticks.clone()));
        let mut servers = Vec::new();
        for page in pages {
            let file = files::append(&folder.join("server_metrics.jsonl"))?;
            let reader = PageReader::new(target, &page.url, CONNECT);
            let sampling = server::sample(file, point.to_owned(), page.clone(), reader, ticks.clone());
            servers.push(tokio::spawn(sampling));
        }
        Ok(Self { stop, client, servers })
    }

    /// Takes the last sample and stops. Returns what each server's pages said, in their order.
    pub async fn finish(self) -> Vec<Pages> {
        self.stop.cancel();
        let _ = self.client.await;
        let mut pages = Vec::new();
        for server in self.servers {
            pages.push(server.await.unwrap_or_default());
        }
        pages
    }
}

/// Appends one JSON line. A full disk must not end the run.
fn append(mut file: &std::fs::File, value: &serde_json::Value) {
    use std::io::Write;
    let _ = file.write_all(format!("{value}\n").as_bytes());
}
