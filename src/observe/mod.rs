//! Samples the servers' metrics and the client itself once a second during a load point.
//!
//! Sampling must neither disturb nor end the measurement: a failed scrape writes its error as a line.

mod client;
pub mod prefix_cache;
pub mod prometheus;
mod server;

use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::experiment::files;
use crate::load::LiveCounters;

/// Time between two samples.
const PERIOD: Duration = Duration::from_secs(1);

/// Observers of one load point; dropping them stops them.
#[derive(Debug)]
pub struct Observers {
    stop: CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<()>>,
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
        let mut tasks = vec![tokio::spawn(client::sample(file, point.to_owned(), progress, stop.clone()))];
        for url in metrics_urls {
            let file = files::append(&folder.join("server_metrics.jsonl"))?;
            tasks.push(tokio::spawn(server::sample(file, point.to_owned(), url.clone(), stop.clone())));
        }
        Ok(Self { stop, tasks })
    }

    /// Takes the last sample and stops.
    pub async fn finish(self) {
        self.stop.cancel();
        for task in self.tasks {
            let _ = task.await;
        }
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
