//! What charts need beside summaries: every request of a load point, and what its servers said over time.

use std::collections::BTreeMap;
use std::io::BufRead;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::PointResult;
use crate::experiment::Experiment;
use crate::export::records::{self, RECORDS};
use crate::metrics::dialects::read;
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
    /// What each GPU of the deployment did, in order of time.
    pub gpus: Vec<Vec<GpuSample>>,
}

/// A GPU at one instant. What its source does not tell is absent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GpuSample {
    /// Seconds since instant 0 of the records.
    pub at: f64,
    pub util_pct: Option<f64>,
    pub power_w: Option<f64>,
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
    let start = row.summary.started_at;
    Some(Run {
        point: row.point.clone(),
        requests,
        servers: start.map(|start| servers(experiment, &row.point, start)).unwrap_or_default(),
        gpus: start.map(|start| gpus(experiment, start)).unwrap_or_default(),
    })
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

/// The samples of each GPU in `gpu.csv`, with their seconds since `start`. Rows that cannot be read are left out.
fn gpus(experiment: &Experiment, start: Timestamp) -> Vec<Vec<GpuSample>> {
    let file = experiment.path("telemetry").join("gpu.csv");
    let Ok(text) = fs_err::read_to_string(&file) else { return Vec::new() };
    gpu_samples(&read::rows_by(&file, &text, ',').unwrap_or_default(), start)
}

fn gpu_samples(rows: &[read::Row], start: Timestamp) -> Vec<Vec<GpuSample>> {
    let Some((head, rows)) = rows.split_first() else { return Vec::new() };
    let column = |name: &str| head.cells.iter().position(|known| known == name);
    let mut gpus: BTreeMap<(&str, &str), Vec<GpuSample>> = BTreeMap::new();
    for row in rows {
        let cell = |name| row.cells.get(column(name)?).map(String::as_str);
        let number = |name| cell(name).and_then(|text| text.parse().ok());
        let at = cell("at").and_then(|text| text.parse::<Timestamp>().ok());
        let (Some(at), Some(node), Some(gpu)) = (at, cell("node"), cell("gpu")) else { continue };
        gpus.entry((node, gpu)).or_default().push(GpuSample {
            at: at.duration_since(start).as_secs_f64(),
            util_pct: number("util_pct"),
            power_w: number("power_w"),
        });
    }
    gpus.into_values().collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn gpu_csv_is_read_by_gpu_and_what_is_not_known_stays_so() {
        let text = "at,node,gpu,uuid,util_pct,power_w\n\
                    2026-01-01T00:00:01.500Z,n1,0,u,90,300.5\n\
                    2026-01-01T00:00:01.500Z,n1,1,u,,\n\
                    2026-01-01T00:00:02.500Z,n1,0,u,80,310\n\
                    2026-01-01T00:0";
        let rows = read::rows_by(Path::new("gpu.csv"), text, ',').unwrap();
        let sample = |at, util_pct, power_w| GpuSample { at, util_pct, power_w };
        let expected = [
            vec![sample(1.5, Some(90.0), Some(300.5)), sample(2.5, Some(80.0), Some(310.0))],
            vec![sample(1.5, None, None)],
        ];
        assert_eq!(gpu_samples(&rows, "2026-01-01T00:00:00Z".parse().unwrap()), expected);
    }
}
