//! The best configurations of a sweep over server axes: sentences, tables, and JSON.

use itertools::Itertools;
use serde_json::{Value, json};

use super::parts::{Block, Part};
use super::table::{Table, number, plus_minus};
use super::{PointResult, load_of};
use crate::analyze::best::{Best, Configuration, Criterion, LoadRuns, Noise, Ranking, Run, Score};
use crate::analyze::effects::AxisEffects;
use crate::metrics::Summary;
use crate::metrics::student::LEVEL;

/// The grid of one workload.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    /// What was sent; empty if it is the only workload.
    pub workload: String,
    pub best: Best,
    /// `tok/s`, or `tok/s/gpu` where the configurations differ in GPUs.
    unit: &'static str,
    open: bool,
}

/// The grids of all workloads that were measured on several configurations.
pub fn grids(rows: &[PointResult]) -> Vec<Grid> {
    let workloads: Vec<&String> = rows.iter().map(|row| &row.workload).unique().collect();
    let of = |workload: &&String| {
        let own: Vec<&PointResult> = rows.iter().filter(|row| row.workload == **workload).collect();
        let gpus: Vec<u32> = own.iter().map(|row| row.gpus).unique().collect();
        let per_gpu = gpus.len() > 1 && !gpus.contains(&0);
        let deployments = own.iter().filter(|row| !row.axes.is_empty()).map(|row| &row.deployment).unique();
        let configurations = deployments.map(|deployment| configuration(&own, deployment, per_gpu)).collect();
        Some(Grid {
            workload: if workloads.len() > 1 { (*workload).clone() } else { String::new() },
            best: Best::of(configurations)?,
            unit: if per_gpu { "tok/s/gpu" } else { "tok/s" },
            open: own.iter().any(|row| row.summary.point.request_rate.is_some()),
        })
    };
    workloads.iter().filter_map(of).collect()
}

/// A deployment with its runs by load; invalid ones do not count.
fn configuration(rows: &[&PointResult], deployment: &str, per_gpu: bool) -> Configuration {
    let own = || rows.iter().filter(|row| row.deployment == deployment);
    let mut loads: Vec<LoadRuns> = Vec::new();
    for row in own() {
        let load = load_of(&row.summary);
        if !loads.iter().any(|known| known.load == load) {
            loads.push(LoadRuns { load, runs: Vec::new() });
        }
        let runs = loads.iter_mut().find(|known| known.load == load).map(|known| &mut known.runs);
        let run = run(&row.summary, if per_gpu { row.gpus } else { 1 });
        if let (Some(runs), Some(run)) = (runs, run) {
            runs.push(run);
        }
    }
    Configuration { axes: own().next().map(|row| row.axes.clone()).unwrap_or_default(), loads }
}

/// The figures of a run that is not invalid, and not cut short.
fn run(summary: &Summary, gpus: u32) -> Option<Run> {
    let is_usable = summary.is_whole();
    let latency = summary.e2e_ms.filter(|_| is_usable)?;
    let n = summary.requests.completed as f64;
    Some(Run {
        throughput: summary.throughput.output_tokens_per_s / f64::from(gpus),
        latency_ms: latency.avg,
        // s of the sample, by Bessel's correction, over √n.
        latency_error: (n > 1.0 && latency.avg > 0.0).then(|| latency.std / (n - 1.0).sqrt() / latency.avg),
        is_closed: summary.point.request_rate.is_none(),
    })
}

impl Criterion {
    fn words(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Latency => "low latency",
            Self::Balance => "balance",
        }
    }
}

impl Grid {
    fn load(&self, score: &Score) -> String {
        let axis = if self.open { "request rate" } else { "concurrency" };
        score.load.map_or_else(|| "the ramp".to_owned(), |load| format!("{axis} {load}"))
    }

    /// `max_num_seqs 16, kv_cache_dtype fp8`
    fn named(&self, cell: usize) -> String {
        let axes = self.best.configurations.get(cell).map(|cell| cell.axes.as_slice()).unwrap_or_default();
        axes.iter().map(|(name, value)| format!("{name} {value}")).join(", ")
    }

    /// What the grid tells, a sentence each.
    fn sentences(&self) -> Vec<String> {
        let best = &self.best;
        let head = if self.workload.is_empty() { String::new() } else { format!("{}: ", self.workload) };
        let mut sentences: Vec<String> =
            best.rankings.iter().filter_map(|ranking| self.winner(ranking)).collect();
        let missing = best.size().saturating_sub(best.usable());
        if missing > 0 {
            sentences
                .push(format!("{missing} of the {} combinations of the axes have no figures.", best.size()));
        }
        sentences.extend(best.rankings.iter().take(2).filter_map(|ranking| self.effects(ranking)));
        sentences.extend(best.rankings.first().map(|ranking| noise(&ranking.noise)));
        sentences.into_iter().map(|sentence| format!("{head}{sentence}")).collect()
    }

    /// The best configuration by a criterion, and how many are as good.
    fn winner(&self, ranking: &Ranking) -> Option<String> {
        let score = ranking.scores.get(ranking.best)?.as_ref()?;
        let (unit, load) = (self.unit, self.load(score));
        let (throughput, latency) = (number(score.throughput), number(score.latency_ms));
        let spread = plus_minus(score.value, Some(score.half_width).filter(|half| *half > 0.0));
        let figures = match ranking.criterion {
            Criterion::Throughput => format!("{throughput}{spread} {unit} at {load}"),
            Criterion::Latency => format!("{latency}{spread} ms E2E on average at {load}"),
            Criterion::Balance => format!("{throughput} {unit} at {latency} ms, {load}"),
        };
        let others = ranking.scores.iter().flatten().count() - 1;
        let ties = match ranking.ties.len() {
            0 => "no other is within noise".to_owned(),
            all if all == others => {
                let what = ranking.criterion.words();
                return Some(format!(
                    "Best for {what}: none, all {} are within noise ({figures} at best).",
                    all + 1
                ));
            }
            some => format!("{some} of {others} others are within noise"),
        };
        Some(format!(
            "Best for {}: {} ({figures}); {ties}.",
            ranking.criterion.words(),
            self.named(ranking.best)
        ))
    }

    /// Which axes matter by a criterion.
    fn effects(&self, ranking: &Ranking) -> Option<String> {
        let lower = ranking.criterion == Criterion::Latency;
        let axes = || {
            self.best.axes.iter().zip(&ranking.effects).filter_map(|(axis, of)| Some((axis, of.as_ref()?)))
        };
        let told = |((name, values), of): (&(String, Vec<String>), &AxisEffects)| {
            let (from, to) = (values.get(of.lowest)?, values.get(of.highest)?);
            let (percent, half) = (of.difference.percent, of.difference.half_width);
            Some(format!("{name} (from {from} to {to} {percent:+.1} ±{half:.1} %)"))
        };
        let matter = axes().filter(|(_, of)| of.matters);
        let matter: Vec<String> = matter
            .sorted_by(|a, b| b.1.difference.percent.total_cmp(&a.1.difference.percent))
            .filter_map(told)
            .collect();
        let silent: Vec<&str> =
            axes().filter(|(_, of)| !of.matters).map(|((name, _), _)| name.as_str()).collect();
        let what = if lower { "The lowest latency" } else { "The highest throughput" };
        let not = |verb: &str| format!("{} {verb} beyond noise", silent.iter().join(" and "));
        let do_not = if silent.len() > 1 { "do not change it" } else { "does not change it" };
        match (matter.is_empty(), silent.is_empty()) {
            (true, true) => None,
            (true, false) => Some(format!("{what} depends on no axis beyond noise.")),
            (false, true) => Some(format!("{what} depends on {}.", matter.join(", "))),
            (false, false) => Some(format!("{what} depends on {}; {}.", matter.join(", "), not(do_not))),
        }
    }

    /// A row per configuration: `*` marks the best, `=` those within noise of it.
    fn table(&self) -> Table {
        let mut table = Table::keyed(self.best.axes.iter().map(|(name, _)| name.clone()).collect());
        let at = if self.open { "at rate" } else { "at conc" };
        let heads = [self.unit, at, "E2E ms", at, "tok/s per ms", at];
        table.head.extend(heads.map(str::to_owned));
        for (place, cell) in self.best.configurations.iter().enumerate() {
            let mut cells: Vec<String> = self
                .best
                .axes
                .iter()
                .map(|(name, _)| {
                    cell.axes
                        .iter()
                        .find(|(known, _)| known == name)
                        .map_or("-", |(_, value)| value)
                        .to_owned()
                })
                .collect();
            for ranking in &self.best.rankings {
                let mark = if ranking.best == place {
                    " *"
                } else if ranking.ties.contains(&place) {
                    " ="
                } else {
                    ""
                };
                match ranking.scores.get(place).and_then(Option::as_ref) {
                    Some(score) => {
                        let load = score.load.map_or_else(|| "ramp".to_owned(), |load| load.to_string());
                        cells.extend([format!("{}{mark}", number(score.value)), load]);
                    }
                    None => cells.extend(["failed", "-"].map(str::to_owned)),
                }
            }
            table.push(cells);
        }
        table
    }

    /// A row per value of each axis; `None` if the results do not tell the axes apart.
    fn effect_table(&self) -> Option<Table> {
        let mut table = Table::new(["axis", "value"]);
        table.head.extend(Criterion::ALL.map(|criterion| format!("{} %", criterion.words())));
        for (place, (name, values)) in self.best.axes.iter().enumerate() {
            for (level, value) in values.iter().enumerate() {
                let cell = |ranking: &Ranking| {
                    let of = ranking.effects.get(place)?.as_ref()?;
                    let effect = (*of.effects.get(level)?)?;
                    let noise = if of.matters { "" } else { " (noise)" };
                    // Without the sign of what rounds to 0.
                    let percent = (effect.percent * 10.0).round() / 10.0 + 0.0;
                    Some(format!("{percent:+.1} ±{:.1}{noise}", effect.half_width))
                };
                let cells: Vec<Option<String>> = self.best.rankings.iter().map(cell).collect();
                if cells.iter().any(Option::is_some) {
                    let cells = cells.into_iter().map(|cell| cell.unwrap_or_else(|| "-".to_owned()));
                    table.push([name.clone(), value.clone()].into_iter().chain(cells).collect());
                }
            }
        }
        (!table.rows.is_empty()).then_some(table)
    }

    fn json(&self) -> Value {
        let axes = |cell: usize| {
            let axes = self.best.configurations.get(cell).map(|cell| cell.axes.clone()).unwrap_or_default();
            axes.into_iter()
                .map(|(name, value)| (name, Value::from(value)))
                .collect::<serde_json::Map<_, _>>()
        };
        let ranking = |ranking: &Ranking| {
            let of_axis = |((name, values), of): (&(String, Vec<String>), &Option<AxisEffects>)| {
                let of = of.as_ref()?;
                let values = values
                    .iter()
                    .zip(&of.effects)
                    .map(|(value, effect)| json!({"value": value, "effect": effect}));
                Some(json!({"axis": name, "matters": of.matters, "values": values.collect::<Vec<_>>()}))
            };
            let configurations = ranking.scores.iter().enumerate().map(|(place, score)| {
                json!({
                    "axes": axes(place),
                    "load": score.as_ref().and_then(|score| score.load),
                    "value": score.as_ref().map(|score| score.value),
                    "half_width": score.as_ref().map(|score| score.half_width),
                    "n": score.as_ref().map_or(0, |score| score.n),
                    "is_best": ranking.best == place,
                    "within_noise": ranking.best == place || ranking.ties.contains(&place),
                })
            });
            json!({
                "objective": ranking.criterion,
                "best": axes(ranking.best),
                "noise": ranking.noise,
                "level": LEVEL,
                "configurations": configurations.collect::<Vec<_>>(),
                "effects": self.best.axes.iter().zip(&ranking.effects).filter_map(of_axis).collect::<Vec<_>>(),
            })
        };
        json!({
            "workload": self.workload,
            "unit": self.unit,
            "combinations": self.best.size(),
            "with_figures": self.best.usable(),
            "objectives": self.best.rankings.iter().map(ranking).collect::<Vec<_>>(),
        })
    }
}

/// Where the noise is from, as a sentence.
fn noise(noise: &Noise) -> String {
    match noise {
        Noise::Student { deviation, degrees_of_freedom } => format!(
            "The noise is that of the repeats: {:.2} % of throughput between them ({degrees_of_freedom} degrees of freedom).",
            100.0 * deviation
        ),
        Noise::WithinRun => "Nothing was repeated: the noise is that of the requests within a run, or 2 % where that is less, and runs may \
                             differ by more; repeat the points (load.repeats) to learn by how much."
            .to_owned(),
    }
}

/// What the marks and columns of the tables are.
pub const ABOUT: &str = "Each configuration at the load that suits it best; `*` is the best, `=` within noise of it. E2E is the mean \
                         latency; the last column is throughput over latency.";

/// What the second table has.
pub const ABOUT_EFFECTS: &str =
    "What each value of an axis does against the mean of the axis, the others the same, with 95 % intervals.";

/// Sentences of all grids.
pub fn lines(rows: &[PointResult]) -> Vec<String> {
    grids(rows).iter().flat_map(Grid::sentences).collect()
}

/// The tables of all grids: title, table, and what it shows.
pub fn tables(rows: &[PointResult]) -> Vec<(String, Table, &'static str)> {
    let titled = |grid: &Grid, what: &str| match grid.workload.as_str() {
        "" => what.to_owned(),
        workload => format!("{what}: {workload}"),
    };
    let of = |grid: &Grid| {
        let effects =
            grid.effect_table().map(|table| (titled(grid, "Effects of the axes"), table, ABOUT_EFFECTS));
        std::iter::once((titled(grid, "Configurations"), grid.table(), ABOUT))
            .chain(effects)
            .collect::<Vec<_>>()
    };
    grids(rows).iter().flat_map(of).collect()
}

/// The part of a report; empty without a grid.
pub fn part(rows: &[PointResult]) -> Part {
    let part = Part::list("Best configuration", lines(rows));
    tables(rows).into_iter().fold(part, |part, (title, table, about)| {
        part.with(Block::Head(title)).with(Block::Table(table)).with(Block::Text(about.to_owned()))
    })
}

/// For `analysis.json`.
pub(super) fn json(rows: &[PointResult]) -> Vec<Value> {
    grids(rows).iter().map(Grid::json).collect()
}
