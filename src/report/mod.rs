//! Turns summaries into pages for people: tables, CSV, SVG charts, one self-contained HTML file.
//!
//! Reports are a pure function of the plan and the summaries, so they need no cluster and can be rewritten at any time.

mod analysis;
pub mod chart;
pub mod closing;
mod columns;
pub mod csv;
pub mod failures;
pub mod html;
pub mod lengths;
pub mod limitations;
pub mod markdown;
pub mod pareto;
pub mod reasons;
pub mod repeats;
pub mod servers;
pub mod suite;
pub mod table;
pub mod unmeasured;
pub mod verification;
pub mod zones;

use std::path::Path;

use crate::experiment::{Experiment, files};
use crate::metrics::summary::Summary;
use crate::metrics::verdict::too_few_for;
use crate::plan::{Deployment, LoadPoint, Plan};
use chart::{Chart, Series};

/// One measured load point.
#[derive(Debug, Clone)]
pub struct PointResult {
    /// Its folder or id.
    pub point: String,
    /// Its name without the load; shared by points that differ only in load.
    pub series: String,
    /// Its deployment; empty if it is the only one.
    pub deployment: String,
    /// Its name without deployment and load: lengths, prompts, other axes of the load.
    pub workload: String,
    /// Model that was asked for.
    pub model: String,
    /// What tells its experiment from others that are shown with it; empty if there are none.
    pub configuration: String,
    /// Name and value of each server axis of the sweep.
    pub axes: Vec<(String, String)>,
    /// GPUs of the deployment.
    pub gpus: u32,
    /// Its figures.
    pub summary: Summary,
}

impl PointResult {
    /// The row of a load point of a plan.
    pub fn of(plan: &Plan, deployment: &Deployment, point: &LoadPoint, summary: Summary) -> Self {
        Self {
            point: plan.point_name(deployment, point),
            series: deployment.named(&point.series()),
            deployment: deployment.id.clone(),
            workload: point.series(),
            model: plan.model.name.clone(),
            configuration: String::new(),
            axes: deployment.axes.iter().map(|axis| (axis.name(), axis.text())).collect(),
            gpus: deployment.gpus,
            summary,
        }
    }

    /// The reasons of the verdict that the tables do not tell: these mark the percentiles that do not stand.
    pub fn reasons(&self) -> impl Iterator<Item = &String> {
        let told = too_few_for(self.summary.requests.completed);
        self.summary.verdict.reasons.iter().filter(move |reason| Some(*reason) != told.as_ref())
    }
}

/// Rows of the load points that an experiment has finished, in the order of its plan.
pub fn finished(experiment: &Experiment) -> Vec<PointResult> {
    let Ok(plan) = experiment.plan() else { return Vec::new() };
    let row = |(deployment, point)| {
        let folder = plan.point_folder(deployment, point);
        let summary = summary_in(&experiment.point_dir(folder.as_deref()))?;
        Some(PointResult::of(&plan, deployment, point, summary))
    };
    plan.points().filter_map(row).collect()
}

/// The summary of the finished load point in a folder.
pub fn summary_in(dir: &Path) -> Option<Summary> {
    let text = std::fs::read_to_string(dir.join("summary.json")).ok()?;
    serde_json::from_str(&text).ok()
}

/// The head of a report.
#[derive(Debug, Clone)]
pub struct Header {
    /// Title.
    pub name: String,
    /// One line below it.
    pub summary: String,
    /// What was measured, as name and value.
    pub facts: Vec<(&'static str, String)>,
    /// The recipe as written.
    pub recipe: Option<String>,
    /// Load points without figures.
    pub unmeasured: Vec<unmeasured::Unmeasured>,
}

impl Header {
    /// The head for a plan.
    pub fn of(plan: &Plan) -> Self {
        let mut gpus: Vec<String> =
            plan.deployments.iter().map(|deployment| deployment.gpus.to_string()).collect();
        gpus.dedup();
        let mut facts = vec![
            ("recipe", plan.name.clone()),
            ("model", plan.model.name.clone()),
            ("launcher", plan.launcher().name.clone()),
            ("GPUs", gpu_fact(&gpus, plan)),
        ];
        if let Some((deployment, point)) = plan.points().next() {
            let urls: Vec<&str> =
                deployment.url.iter().chain(&deployment.more_urls).map(String::as_str).collect();
            facts.extend((!urls.is_empty()).then(|| ("URL", urls.join(", "))));
            for pool in &deployment.pools {
                let p = pool.parallel;
                let name = if deployment.is_disaggregated() { pool.name.as_str() } else { "parallel" };
                facts.push((
                    name,
                    format!("tp {} pp {} dp {} ep {} replicas {}", p.tp, p.pp, p.dp, p.ep, p.replicas),
                ));
            }
            facts.push(("load", format!("{}{}", load_fact(point), loads(plan))));
        }
        let overridden: Vec<String> = plan
            .overridden()
            .into_iter()
            .map(|(key, value, origin)| format!("{key} = {value} ({origin})"))
            .collect();
        let overridden = overridden.join(", ");
        let mut summary = plan.summary.clone();
        if !overridden.is_empty() {
            summary = format!("{summary} (the recipe; here {overridden})");
            facts.push(("overridden", overridden));
        }
        facts.extend(rehearsal_fact(plan).map(|fact| ("rehearsal", fact)));
        facts.push(("tokmark", plan.input.version.clone()));
        Self {
            name: if plan.is_rehearsal() { format!("{} (rehearsal)", plan.name) } else { plan.name.clone() },
            summary,
            facts,
            recipe: Some(plan.input.recipe.text.clone()),
            unmeasured: Vec::new(),
        }
    }
}

/// Number and type of the GPUs, as far as known.
fn gpu_fact(counts: &[String], plan: &Plan) -> String {
    let counts = counts.join(" / ");
    match (counts.as_str(), plan.gpu.kind.as_str()) {
        ("0", "none") => "not known".into(),
        ("0", kind) => format!("{kind}, number not known"),
        (_, "none") if plan.simulated => format!("{counts}, simulated"),
        (_, "none") => format!("{counts} of a type nobody named"),
        (_, kind) => format!("{counts} × {kind}"),
    }
}

/// What of the recipe a rehearsal drives; `None` for any other run.
fn rehearsal_fact(plan: &Plan) -> Option<String> {
    let shares: Vec<f64> = plan.points().map(|(_, point)| point.scaled.unwrap_or(1.0)).collect();
    let (least, most) =
        (shares.iter().copied().fold(1.0, f64::min), shares.iter().copied().fold(0.0, f64::max));
    let share = if least < most { format!("{least} to {most}") } else { least.to_string() };
    plan.is_rehearsal().then(|| format!("not a result: {share} of the recipe's load was driven"))
}

/// `, concurrency 8, 16, 32`: the loads of all points; nothing for a ramp, whose stages are a fact of their own.
fn loads(plan: &Plan) -> String {
    let mut loads: Vec<String> = Vec::new();
    for (_, point) in plan.points().filter(|(_, point)| point.arrival.ramp().is_none()) {
        let load = point.load_words();
        if !loads.contains(&load) {
            loads.push(load);
        }
    }
    let what =
        if plan.points().any(|(_, point)| point.request_rate().is_some()) { "" } else { "concurrency " };
    if loads.is_empty() { String::new() } else { format!(", {what}{}", loads.join(", ")) }
}

/// Lengths, endpoint and streaming of a load point, in a few words.
pub fn load_fact(point: &LoadPoint) -> String {
    let streaming = if point.streaming { "on" } else { "off" };
    let ramp = point.arrival.ramp().map(|_| format!(", {}", point.load_words())).unwrap_or_default();
    format!(
        "ISL {} OSL {}, {}, streaming {streaming}{ramp}",
        point.isl.mean,
        point.osl.mean,
        point.endpoint.as_str()
    )
}

/// Writes every report into an experiment directory.
pub fn write(dir: &Path, header: &Header, rows: &[PointResult]) -> std::io::Result<()> {
    let put = |name: &str, text: &str| files::replace(&dir.join(name), text.as_bytes());
    put("summary.csv", &format!("{}{}", csv::summary(rows), unmeasured::csv_lines(header)))?;
    put("summary.md", &markdown::summary(header, rows))?;
    put("latency-ttft-summary.md", &markdown::latency(header, rows))?;
    put("limitations.md", &limitations::page(header, rows))?;
    put("analysis.json", &format!("{:#}\n", analysis::json(rows)))?;
    if let Some(page) = zones::page(header, rows) {
        put("capacity-zones.md", &page)?;
    }
    let charts = charts(header, rows);
    fs_err::create_dir_all(dir.join("plots"))?;
    for (name, chart) in &charts {
        put(&format!("plots/{name}.svg"), &chart.svg())?;
    }
    let page = html::page(header, rows, &charts).map_err(std::io::Error::other)?;
    put("report.html", &page)
}

/// A chart: file name, title, unit of the y axis, and its lines by their label.
type ChartFigures = (&'static str, &'static str, &'static str, &'static [(&'static str, Figure)]);

const CHARTS: [ChartFigures; 4] = [
    ("throughput", "Output throughput", "tokens/s", &[("", |s| Some(s.throughput.output_tokens_per_s))]),
    (
        "ttft",
        "Time to first token",
        "ms",
        &[
            ("p50", |s| Some(s.ttft_ms?.p50)),
            ("p95", |s| Some(s.ttft_ms?.p95)),
            ("p99", |s| Some(s.ttft_ms?.p99)),
        ],
    ),
    (
        "itl",
        "Inter-token latency",
        "ms",
        &[
            ("p50", |s| Some(s.itl_ms?.p50)),
            ("p95", |s| Some(s.itl_ms?.p95)),
            ("p99", |s| Some(s.itl_ms?.p99)),
        ],
    ),
    (
        "e2e",
        "End-to-end latency",
        "ms",
        &[
            ("p50", |s| Some(s.e2e_ms?.p50)),
            ("p95", |s| Some(s.e2e_ms?.p95)),
            ("p99", |s| Some(s.e2e_ms?.p99)),
        ],
    ),
];

/// Every chart that these rows can fill, by file name. A lone point becomes a dot; a ramp has no single load, so it is left out.
pub fn charts(header: &Header, rows: &[PointResult]) -> Vec<(&'static str, Chart)> {
    let open = rows.iter().any(|row| row.summary.point.request_rate.is_some());
    let x_label = if open { "requests/s" } else { "concurrency" };
    let rows = &repeats::means(rows);
    let chart = |(name, title, unit, figures): ChartFigures| {
        let series: Vec<Series> =
            figures.iter().flat_map(|(label, figure)| series(rows, label, *figure)).collect();
        let note = note(header, rows);
        let chart =
            Chart { title: title.into(), note, x_label: x_label.into(), y_label: unit.into(), series };
        (!chart.series.is_empty()).then_some((name, chart))
    };
    CHARTS.into_iter().filter_map(chart).collect()
}

/// What a chart is about, because it is shown without its page: recipe, model, and whether the figures are simulated.
fn note(header: &Header, rows: &[PointResult]) -> String {
    let model = header.facts.iter().find(|(name, _)| *name == "model").map(|(_, model)| format!(", {model}"));
    let simulated = if rows.iter().any(|row| row.summary.simulated) { "SIMULATED: " } else { "" };
    format!("{simulated}{}{}", header.name, model.unwrap_or_default())
}

/// Reads a figure of a summary; `None` if it does not apply.
type Figure = fn(&Summary) -> Option<f64>;

/// The constant load of a point: the request rate of an open loop, else the concurrency.
pub(crate) fn load_of(summary: &Summary) -> Option<f64> {
    let load = summary.point.request_rate.or(summary.point.concurrency.map(f64::from));
    load.filter(|_| summary.stages.is_none())
}

/// One line per set of rows that differ only in load.
fn series(rows: &[PointResult], label: &str, figure: Figure) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::new();
    let is_alone = rows.iter().all(|row| row.series == rows[0].series);
    for row in rows {
        let (Some(x), Some(y)) = (load_of(&row.summary), figure(&row.summary)) else { continue };
        let group = if is_alone { "" } else { &row.series };
        let name = [group, label].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        match series.iter_mut().find(|series| series.name == name) {
            Some(series) => series.points.push((x, y)),
            None => series.push(Series { name, points: vec![(x, y)] }),
        }
    }
    for series in &mut series {
        series.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    series
}
