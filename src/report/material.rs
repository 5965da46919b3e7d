//! What charts need beside summaries: every request of a load point, and what its servers said over time.

use std::io::BufRead;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::PointResult;
use crate::experiment::Experiment;
use crate::export::records::{self, RECORDS};
use crate::metrics::request_figures::RequestFigures;
use crate::metrics::server::Page;
use crate::plan::Plan;

/// One load point in full.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// Its name in the rows.
    pub point: String,
    /// Its requests of every phase, in order of sending.
    pub requests: Vec<RequestFigures>,
    /// What each metrics page said, one list per page, in order of time.
    pub servers: Vec<Vec<(f64, Page)>>,
}

/// Reads the points that are shown request by request: the only one of an experiment, and ramps. A point without records, or with some
/// that cannot be read, is left out: its figures stand in its summary.
pub fn read(experiment: &Experiment, plan: &Plan, rows: &[PointResult]) -> Vec<Run> {
    let shown = |row: &&PointResult| !plan.is_sweep() || row.summary.stages.is_some();
    rows.iter().filter(shown).filter_map(|row| run(experiment, plan, row)).collect()
}

fn run(experiment: &Experiment, plan: &Plan, row: &PointResult) -> Option<Run> {
    let (deployment, point) =
        plan.points().find(|(deployment, point)| plan.point_name(deployment, point) == row.point)?;
    let folder = plan.point_folder(deployment, point);
    let mut requests = Vec::new();
    let file = experiment.point_dir(folder.as_deref()).join(RECORDS);
    records::read(&file, |record| {
        requests.push(RequestFigures::of(&record));
        Ok(())
    })
    .ok()?;
    requests.sort_by_key(|request| (request.sent_us, request.id));
    let servers = row.summary.started_at.map(|start| servers(experiment, &row.point, start));
    Some(Run { point: row.point.clone(), requests, servers: servers.unwrap_or_default() })
}

/// A line of `server_metrics.jsonl`, as far as it is needed.
#[derive(Deserialize)]
struct Line {
    at: Timestamp,
    point: String,
    url: String,
    #[serde(default)]
    metrics: Map<String, Value>,
}

/// The pages of a point, each with its seconds since `start`.
fn servers(experiment: &Experiment, point: &str, start: Timestamp) -> Vec<Vec<(f64, Page)>> {
    let Ok(file) = fs_err::File::open(experiment.path("telemetry").join("server_metrics.jsonl")) else {
        return Vec::new();
    };
    let mut pages: Vec<(String, Vec<(f64, Page)>)> = Vec::new();
    for line in std::io::BufReader::new(file).lines().map_while(Result::ok) {
        let Ok(line) = serde_json::from_str::<Line>(&line) else { continue };
        if line.point != point || line.metrics.is_empty() {
            continue;
        }
        let text: String = line.metrics.iter().map(|(key, value)| format!("{key} {value}\n")).collect();
        let said = (line.at.duration_since(start).as_secs_f64(), Page::of(&text));
        match pages.iter_mut().find(|(url, _)| *url == line.url) {
            Some((_, pages)) => pages.push(said),
            None => pages.push((line.url, vec![said])),
        }
    }
    pages.into_iter().map(|(_, pages)| pages).collect()
}
