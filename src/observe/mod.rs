//! Samples the servers' metrics and the client itself once a second during a load point.
//!
//! Sampling must neither disturb nor end the measurement: a failed scrape writes its error as a line.

mod client;
pub mod pages;
pub mod prefix_cache;
mod server;

use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::experiment::files;
use crate::load::LiveCounters;
pub use server::Pages;

/// Time between two samples.
const PERIOD: Duration = Duration::from_secs(1);

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
        metrics_urls: &[String],
        progress: LiveCounters,
    ) -> std::io::Result<Self> {
        fs_err::create_dir_all(folder)?;
        let stop = CancellationToken::new();
        let file = files::append(&folder.join("client.jsonl"))?;
        let client = tokio::spawn(client::sample(file, point.to_owned(), progress, stop.clone()));
        let mut servers = Vec::new();
        for url in metrics_urls {
            let file = files::append(&folder.join("server_metrics.jsonl"))?;
            servers.push(tokio::spawn(server::sample(file, point.to_owned(), url.clone(), stop.clone())));
        }
        Ok(Self { stop, client, servers })
    }

    /// Takes the last sample and stops. Returns what each server's pages said, in the order of the URLs.
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

/// Waits for the next sample; `false` if it is the last one.
async fn next(stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(PERIOD) => true,
    }
}

/// Appends one JSON line. A full disk must not end the run.
fn append(mut file: &std::fs::File, value: &serde_json::Value) {
    use std::io::Write;
    let _ = file.write_all(format!("{value}\n").as_bytes());
}
