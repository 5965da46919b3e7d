//! Turns summaries into pages for people: tables, CSV, SVG charts, one self-contained HTML file.
//!
//! Reports are a pure function of the plan and the summaries, so they need no cluster and can be rewritten at any time.

mod analysis;
pub mod best;
pub mod chart;
pub mod charts;
pub mod closing;
mod columns;
pub mod comparison;
pub mod cost;
pub mod csv;
pub mod failures;
pub mod gpus;
pub mod headline;
pub mod html;
pub mod lengths;
pub mod limitations;
pub mod markdown;
pub mod material;
pub mod pareto;
pub mod parts;
pub mod processes;
mod provenance;
pub mod ranges;
pub mod reasons;
pub mod repeats;
pub mod search;
pub mod servers;
pub mod speculation;
pub mod suite;
pub mod table;
pub mod trend;
pub mod unmeasured;
pub mod verification;
mod whole;
mod words;
pub mod zones;

use std::path::Path;

use crate::experiment::{Experiment, files};
use crate::metrics::summary::Summary;
use crate::metrics::verdict::too_few_for;
use crate::plan::{Deployment, LoadPoint, Plan, Price};
use whole::Whole;

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
    /// Price of a GPU-hour, when the site file has it.
    pub price: Option<Price>,
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
            price: plan.gpu.price.clone(),
            summary,
        }
    }

    /// The reasons of the verdict that the tables do not tell: these mark the percentiles that do not stand.
    pub fn reasons(&self) -> impl Iterator<Item = &String> {
        let told = too_few_for(self.summary.requests.completed);
        self.summary.verdict.reasons.iter().filter(move |reason| Some(*reason) != told.as_ref())
    }
}

/// What a report says of the telemetry of servers that tokmark did not start.
const ELSEWHERE: &str = "not sampled: tokmark samples those of servers that it starts, with one of its launchers in place of `attach`";

/// Rows of the load points that an experiment has finished, in the order of its plan; those of a search by load.
pub fn finished(experiment: &Experiment) -> Vec<PointResult> {
    let Ok(plan) = experiment.plan() else { return Vec::new() };
    rows_of(&plan, |deployment, point| {
        summary_in(&experiment.point_dir(plan.point_folder(deployment, point).as_deref()))
    })
}

/// The rows of the points that have a summary. A search is carried on as far as they go.
fn rows_of(plan: &Plan, summary: impl Fn(&Deployment, &LoadPoint) -> Option<Summary>) -> Vec<PointResult> {
    let mut rows = Vec::new();
    for (deployment, point) in plan.points() {
        let mut push = |point: &LoadPoint, found| rows.push(PointResult::of(plan, deployment, point, found));
        match &plan.search {
            Some(search) => {
                search::replay(search, deployment, point, |point| summary(deployment, point), push);
            }
            None => summary(deployment, point).into_iter().for_each(|found| push(point, found)),
        }
    }
    repeats::in_plan_order(plan, &rows)
}

/// The summary of the finished load point in a folder.
pub fn summary_in(dir: &Path) -> Option<Summary> {
    read_summary(&dir.join("summary.json"))
}

fn read_summary(file: &Path) -> Option<Summary> {
    let text = std::fs::read_to_string(file).ok()?;
    serde_json::from_str(&text).ok()
}

/// The head of a report.
#[derive(Debug, Clone, Default)]
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
    /// Command lines of the servers.
    pub commands: Option<String>,
    /// How the figures compare with published ones.
    pub reproduced: Option<String>,
    /// What the searches found: a sentence each, and for programs.
    pub search: (Vec<String>, Option<serde_json::Value>),
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
            let elsewhere = plan.deployments.iter().all(|deployment| deployment.processes.is_empty());
            facts.extend(elsewhere.then(|| ("GPUs and processes", ELSEWHERE.to_owned())));
            facts.extend(deployment.speculation.as_ref().map(|known| ("speculation", known.words())));
            facts.push(("load", format!("{}{}", load_fact(point), loads(plan))));
            facts.extend(plan.search_words().map(|search| ("search", search)));
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
            commands: None,
            reproduced: None,
            search: (Vec::new(), None),
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
    let share = match (least, most) {
        (1.0, _) => "all".to_owned(),
        (least, most) if least < most => format!("{least} to {most}"),
        (least, _) => least.to_string(),
    };
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

/// Whether pictures are written as PNG, too, which takes longer than the rest of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pictures {
    /// A report that will be written again.
    SvgAlone,
    All,
}

/// An experiment with what it has measured so far.
#[derive(Debug, Clone)]
pub struct Measured {
    pub experiment: Experiment,
    pub plan: Plan,
    /// Rows of its load points, in the order of the plan.
    pub rows: Vec<PointResult>,
}

impl Measured {
    /// What lies in the directory of an experiment: finished points, and those that were cut short.
    ///
    /// # Errors
    /// Its plan cannot be read.
    pub fn of(experiment: Experiment) -> std::io::Result<Self> {
        let plan = experiment.plan()?;
        let rows = rows_of(&plan, |deployment, point| {
            let dir = experiment.point_dir(plan.point_folder(deployment, point).as_deref());
            summary_in(&dir).or_else(|| read_summary(&dir.join("summary.interrupted.json")))
        });
        Ok(Self { rows, plan, experiment })
    }
}

/// Writes one report of experiments into a folder; a `live` page loads itself again. From the same files come the same bytes.
///
/// # Errors
/// A file cannot be written, or a chart not be drawn.
pub fn write(out: &Path, measured: &[Measured], pictures: Pictures, live: bool) -> std::io::Result<()> {
    let Whole { header, rows, runs } = Whole::of(measured);
    let (header, rows) = (&header, rows.as_slice());
    let put = |name: &str, text: &str| files::replace(&out.join(name), text.as_bytes());
    put("summary.csv", &format!("{}{}", csv::summary(rows), unmeasured::csv_lines(header)))?;
    put("summary.md", &markdown::summary(header, rows))?;
    put("latency-ttft-summary.md", &markdown::latency(header, rows))?;
    put("limitations.md", &limitations::page(header, rows))?;
    put("analysis.json", &format!("{:#}\n", analysis::json(header, rows)))?;
    if let Some(page) = zones::page(header, rows) {
        put("capacity-zones.md", &page)?;
    }
    let charts = charts::charts(charts::Source { header, rows, runs: &runs });
    fs_err::create_dir_all(out.join("plots"))?;
    for (name, bytes) in charts::files(&charts, pictures == Pictures::All)? {
        files::replace(&out.join("plots").join(name), &bytes)?;
    }
    let page = html::page(header, rows, &charts, live).map_err(std::io::Error::other)?;
    put("report.html", &page)
}

/// Reads a figure of a summary; `None` if it does not apply.
type Figure = fn(&Summary) -> Option<f64>;

/// The constant load of a point: the request rate of an open loop, else the concurrency.
pub(crate) fn load_of(summary: &Summary) -> Option<f64> {
    let load = summary.point.request_rate.or(summary.point.concurrency.map(f64::from));
    load.filter(|_| summary.stages.is_none())
}
