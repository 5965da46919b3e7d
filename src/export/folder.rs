//! The folder of a load point: identifies the point and recovers what the run knew when it wrote the records.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use fs_err as fs;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::records::{ExportError, RECORDS};
use crate::document::InputError;
use crate::metrics::{Phase, Summary};
use crate::plan::{Arrival, Extension, Length, Level, Limit, LoadPoint, Plan, Slo, Spacing, Stop};

#[derive(Debug, Clone)]
pub struct PointFolder {
    pub dir: PathBuf,
    pub name: String,
    pub point: LoadPoint,
    /// Wall-clock time of instant 0 of the records.
    pub started_at: Timestamp,
    /// Model name as sent to the server.
    pub model: String,
    /// Addresses of the servers, without credentials.
    pub url: String,
    pub simulated: bool,
    pub benchmark_id: String,
    pub cut: bool,
    /// Measured requests that the summary counts; `None` without a summary.
    pub counted: Option<u64>,
    /// Whether this run has just written the records, so that nothing in the folder can be more complete.
    pub is_fresh: bool,
}

/// Records lie at most this deep below an experiment: `benchmark_logs/POINT/records.jsonl`.
const DEPTH: usize = 3;

/// Finds every load point in `dir`: an experiment, a folder written by `bench`, or the folder of one point. Skips attempts that
/// were set aside, unless `dir` is one.
///
/// # Errors
/// No load point; a point that neither a plan nor a summary describes.
pub fn find(dir: &Path) -> Result<Vec<PointFolder>, ExportError> {
    let set_aside = |entry: &walkdir::DirEntry| {
        entry.depth() > 0 && entry.file_name().to_string_lossy().contains(".interrupted-")
    };
    let entries = walkdir::WalkDir::new(dir).max_depth(DEPTH).sort_by_file_name();
    let entries = entries.into_iter().filter_entry(|entry| !set_aside(entry)).filter_map(Result::ok);
    let records = entries.filter(|entry| entry.file_name() == RECORDS);
    let folders: Vec<PathBuf> = records.filter_map(|entry| Some(entry.path().parent()?.to_owned())).collect();
    if folders.is_empty() {
        return Err(InputError::new(dir.display().to_string(), format!("no {RECORDS} in it or below it"))
            .expected("an experiment, the folder of a load point, or a folder that `bench` wrote")
            .next("`tokmark jobs list` shows the experiments")
            .into());
    }
    folders.iter().map(|folder| PointFolder::of(folder)).collect()
}

impl PointFolder {
    fn of(dir: &Path) -> Result<Self, ExportError> {
        let dir = fs::canonicalize(dir)?;
        let (finished, cut) = (summary(&dir, "summary.json"), summary(&dir, "summary.interrupted.json"));
        let (is_finished, summary) = (finished.is_some(), finished.or(cut));
        let exported = own_export(&dir);
        let text = |path: &str| exported.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let (root, plan) = plan(&dir).unzip();
        let folder = file_name(&dir);
        let planned = plan.as_ref().and_then(|plan: &Plan| {
            planned(plan, &folder).or_else(|| searched(plan, &folder, summary.as_ref()?))
        });
        let point = match (planned, &summary) {
            (Some(point), _) => point,
            (None, Some(summary)) => described(summary, &exported),
            (None, None) => {
                return Err(InputError::new(
                    dir.display().to_string(),
                    "nothing describes the load point of these records",
                )
                .expected("a plan.json above the folder, or a summary.json in it")
                .into());
            }
        };
        let left_out = summary.iter().flat_map(|summary| &summary.dropped_extensions);
        let left_out = left_out.filter_map(|dropped| Extension::of_path(&dropped.field)).collect();
        let access = summary.as_ref().and_then(|summary| summary.connection.as_ref());
        let started_at = summary.as_ref().and_then(|summary| summary.started_at);
        let started_at = match started_at.or_else(|| exported_start(&dir, &exported)) {
            Some(started_at) => started_at,
            None => estimated_start(&dir)?,
        };
        let urls = exported.pointer("/input_config/endpoint/urls").and_then(Value::as_array);
        let urls = urls.map(|urls| urls.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "));
        Ok(Self {
            name: if folder == "benchmark_logs" { point.id.clone() } else { folder },
            point: LoadPoint { left_out, ..point },
            started_at,
            model: access
                .and_then(|access| access.model.clone())
                .or_else(|| text("/input_config/models/items/0/name"))
                .or_else(|| plan.as_ref().map(|plan| plan.model.served_name.clone()))
                .unwrap_or_default(),
            url: access.and_then(|access| access.address.clone()).or(urls).unwrap_or_default(),
            simulated: summary
                .as_ref()
                .map_or(plan.is_some_and(|plan| plan.simulated), |summary| summary.simulated),
            benchmark_id: text("/benchmark_id").unwrap_or_else(|| file_name(root.as_deref().unwrap_or(&dir))),
            cut: !is_finished,
            counted: summary.map(|summary| summary.requests.total),
            is_fresh: false,
            dir,
        })
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn summary(dir: &Path, name: &str) -> Option<Summary> {
    json(&dir.join(name))
}

/// The JSON that a run exported in AIPerf's format; `null` without one written by tokmark.
fn own_export(dir: &Path) -> Value {
    let export: Option<Value> = json(&dir.join("profile_export_aiperf.json"));
    let is_own = |export: &Value| {
        export.get("generator").and_then(Value::as_str).is_some_and(|by| by.starts_with("tokmark"))
    };
    export.filter(is_own).unwrap_or_default()
}

/// The nearest readable plan, at most [`DEPTH`] folders up, and its folder.
fn plan(dir: &Path) -> Option<(PathBuf, Plan)> {
    dir.ancestors().take(DEPTH).find_map(|root| Some((root.to_owned(), json(&root.join("plan.json"))?)))
}

/// The plan's load point for this folder; the folder of a set-aside attempt has a suffix.
fn planned(plan: &Plan, folder: &str) -> Option<LoadPoint> {
    let folder = folder.split(".interrupted-").next().unwrap_or(folder);
    let mut points = plan.points();
    let found = points.find(|(deployment, point)| {
        plan.point_folder(deployment, point).is_none_or(|planned| planned == folder)
    });
    found.map(|(_, point)| point.clone())
}

/// The load point that a search measured in this folder, by the load in its summary.
fn searched(plan: &Plan, folder: &str, summary: &Summary) -> Option<LoadPoint> {
    let (search, measured) = (plan.search.as_ref()?, &summary.point);
    let load = measured.request_rate.or(measured.concurrency.map(f64::from))?;
    let mut points = plan.points().map(|(deployment, template)| {
        let point = search.point(template, load, measured.repeat.unwrap_or(1));
        (plan.point_folder(deployment, &point), point)
    });
    let folder = folder.split(".interrupted-").next().unwrap_or(folder);
    points.find(|(planned, _)| planned.as_deref() == Some(folder)).map(|(_, point)| point)
}

/// The load point rebuilt from its summary and the `exported` JSON: enough for every figure.
fn described(summary: &Summary, exported: &Value) -> LoadPoint {
    let point = &summary.point;
    let limit = Limit { max_concurrency: point.concurrency, ..Limit::default() };
    let arrival = match point.request_rate {
        None => Arrival::closed(point.concurrency.unwrap_or(1)),
        Some(rate) => Arrival::Open { rate: Level::Constant(rate), spacing: Spacing::Poisson, limit },
    };
    let slo = |tag: &str| exported.pointer(&format!("/input_config/slos/{tag}")).and_then(Value::as_f64);
    LoadPoint {
        id: point.id.clone(),
        isl: Length::fixed(point.isl),
        osl: Length::fixed(point.osl),
        arrival,
        endpoint: point.endpoint,
        streaming: point.streaming,
        seed: exported.pointer("/run_info/random_seed").and_then(Value::as_u64).unwrap_or(0),
        slo: Slo {
            ttft_ms: slo("time_to_first_token"),
            itl_ms: slo("inter_token_latency"),
            e2e_ms: slo("request_latency"),
        },
        stop: Stop::Requests(summary.requests.total),
        ignore_eos: true,
        ..LoadPoint::default()
    }
}

/// The start according to our own AIPerf export, whose `start_time` is that of the first measured request, in UTC.
fn exported_start(dir: &Path, exported: &Value) -> Option<Timestamp> {
    let start: Timestamp = format!("{}Z", exported.get("start_time")?.as_str()?).parse().ok()?;
    let mut first_us: Option<u64> = None;
    let read = super::records::read(&dir.join(RECORDS), |record| {
        if record.phase == Phase::Measure {
            first_us = Some(first_us.map_or(record.sent_us, |first| first.min(record.sent_us)));
        }
        Ok(())
    });
    read.ok()?;
    start.checked_sub(SignedDuration::from_micros(i64::try_from(first_us?).ok()?)).ok()
}

/// The start to within about a second, if nothing records it: the records were last written within a second of the last request's
/// end.
fn estimated_start(dir: &Path) -> std::io::Result<Timestamp> {
    const TAIL: u64 = 1 << 20;
    let mut file = fs::File::open(dir.join(RECORDS))?;
    let (metadata, mut tail) = (file.metadata()?, Vec::new());
    file.seek(SeekFrom::Start(metadata.len().saturating_sub(TAIL)))?;
    file.read_to_end(&mut tail)?;
    let written = Timestamp::try_from(metadata.modified()?).map_err(std::io::Error::other)?;
    let last =
        tail.split(|byte| *byte == b'\n').rev().find_map(|line| serde_json::from_slice::<Value>(line).ok());
    let end_us = last.and_then(|record| record.get("end_us")?.as_i64()).unwrap_or(0);
    Ok(written.checked_sub(SignedDuration::from_micros(end_us)).unwrap_or(written))
}
