//! The GPUs of the deployment in the load points: power, energy per token, and what each GPU did where they differ.

use itertools::Itertools;

use super::PointResult;
use super::columns::KeyColumns;
use super::parts::{Block, Part};
use super::table::{Table, maybe};
use crate::metrics::gpus::{GpuView, OneGpu};

/// GPUs that differ by more than this much utilization, % points, get a row each.
const UTIL_APART: f64 = 20.0;
/// So do those whose power differs by more than this share.
const POWER_APART: f64 = 0.2;
/// Rows for single GPUs of a load point: the summary has all of them.
const MOST_GPUS: usize = 8;

type Column = (&'static str, fn(&GpuView) -> Option<f64>, fn(&OneGpu) -> Option<f64>);

const COLUMNS: [Column; 9] = [
    ("W", |view| view.power_avg_w, |gpu| gpu.power_avg_w),
    ("peak", |view| view.power_peak_w, |gpu| gpu.power_peak_w),
    ("idle", |view| view.power_idle_w, |_| None),
    ("J/tok", |view| view.j_per_output_token, |_| None),
    ("tok/J", |view| view.output_tokens_per_j, |_| None),
    ("util %", |view| view.util_avg_pct, |gpu| gpu.util_avg_pct),
    ("°C", |view| highest(view, |gpu| gpu.temp_max_c), |gpu| gpu.temp_max_c),
    ("SM MHz", |view| lowest(view, |gpu| gpu.sm_avg_mhz), |gpu| gpu.sm_avg_mhz),
    ("GiB", |view| highest(view, |gpu| gpu.mem_max_mib).map(gib), |gpu| gpu.mem_max_mib.map(gib)),
];

/// What the columns of the table are.
pub const ABOUT: &str = "Of the measured window: power of all GPUs together, on average, at its peak, and idle before the load; energy \
                         per output token, and output tokens per joule, which are tok/s per W; the hottest, slowest and fullest GPU.";

fn highest(view: &GpuView, figure: fn(&OneGpu) -> Option<f64>) -> Option<f64> {
    view.each.iter().filter_map(figure).reduce(f64::max)
}

fn lowest(view: &GpuView, figure: fn(&OneGpu) -> Option<f64>) -> Option<f64> {
    view.each.iter().filter_map(figure).reduce(f64::min)
}

fn gib(mib: f64) -> f64 {
    mib / 1024.0
}

/// A row of the table: what it is of, and its figures.
type Row = (Vec<String>, Vec<Option<f64>>);

/// A row per point, and below it one for each GPU where they differ; `None` without telemetry.
pub fn table(rows: &[PointResult]) -> Option<Table> {
    let keys = KeyColumns::of(rows);
    let of_point = |(row, name): (&PointResult, Vec<String>)| -> Vec<Row> {
        let Some(view) = &row.summary.gpus else { return Vec::new() };
        let several = view.nodes.len() > 1;
        let each = if differ(&view.each) { view.each.as_slice() } else { &[] };
        let of_gpu = |gpu: &OneGpu| {
            let mut name = vec![String::new(); name.len().saturating_sub(1)];
            name.push(gpu.called(several));
            (name, COLUMNS.iter().map(|(_, _, of_one)| of_one(gpu)).collect())
        };
        let of_all = (name.clone(), COLUMNS.iter().map(|(_, of_all, _)| of_all(view)).collect());
        std::iter::once(of_all).chain(each.iter().take(MOST_GPUS).map(of_gpu)).collect()
    };
    let all: Vec<Row> = rows.iter().zip(keys.cells).flat_map(of_point).collect();
    let is_known = |at: usize| all.iter().any(|(_, cells)| cells.get(at).is_some_and(Option::is_some));
    let known: Vec<usize> = (0..COLUMNS.len()).filter(|at| is_known(*at)).collect();
    if known.is_empty() {
        return None;
    }
    let mut table = Table::keyed(keys.heads);
    table.head.extend(known.iter().filter_map(|at| COLUMNS.get(*at)).map(|(head, ..)| (*head).to_owned()));
    for (name, cells) in all {
        let is_one = name.last().is_some_and(|name| name.starts_with("GPU "));
        let cell = |at: &usize| match cells.get(*at).copied().flatten() {
            None if is_one => String::new(),
            figure => maybe(figure),
        };
        let cells: Vec<String> = known.iter().map(cell).collect();
        table.push(name.into_iter().chain(cells).collect());
    }
    Some(table)
}

/// The table and its notes.
pub(super) fn part(rows: &[PointResult]) -> Part {
    let part = Part::table("GPUs", table(rows), ABOUT);
    let notes = notes(rows);
    if notes.is_empty() { part } else { part.with(Block::List(notes)) }
}

/// Whether the GPUs of a point did different things.
fn differ(each: &[OneGpu]) -> bool {
    let range = |figure: fn(&OneGpu) -> Option<f64>| {
        each.iter().filter_map(figure).minmax_by(f64::total_cmp).into_option()
    };
    let apart = range(|gpu| gpu.util_avg_pct).is_some_and(|(least, most)| most - least > UTIL_APART);
    apart || range(|gpu| gpu.power_avg_w).is_some_and(|(least, most)| most > least * (1.0 + POWER_APART))
}

/// Where the figures come from, and what is wrong with them: a line for each that points do not share.
pub fn notes(rows: &[PointResult]) -> Vec<String> {
    let of = |row: &PointResult| -> Vec<String> {
        let Some(view) = &row.summary.gpus else { return Vec::new() };
        let (idle, count) = (throttled(view), view.gpus);
        let source = format!("{count} {} by {}", if count == 1 { "GPU" } else { "GPUs" }, view.source);
        let bad =
            view.power_reasons.iter().map(|reason| format!("{}: power is not valid: {reason}", row.point));
        std::iter::once(source).chain(idle.map(|line| format!("{}: {line}", row.point))).chain(bad).collect()
    };
    rows.iter().flat_map(of).unique().collect()
}

/// How much of the time the GPUs were held back at all, by their power limit too.
fn throttled(view: &GpuView) -> Option<String> {
    let reasons = view.each.iter().flat_map(|gpu| &gpu.throttled).filter(|(name, _)| *name != "idle");
    let most = reasons.max_by(|a, b| a.1.total_cmp(b.1))?;
    (*most.1 >= 0.01).then(|| {
        format!("clocks held back by {} in up to {:.0} % of a GPU's samples", most.0, 100.0 * most.1)
    })
}

/// The names of the columns in `summary.csv`.
pub const CSV_HEAD: &str = "gpu_source,gpu_power_valid,gpu_power_avg_w,gpu_power_peak_w,gpu_power_idle_w,gpu_energy_j,j_per_output_token,\
     j_per_total_token,output_tokens_per_j,gpu_util_avg_pct";

/// A row's cells of those columns.
pub fn csv_cells(row: &PointResult) -> String {
    let Some(view) = &row.summary.gpus else { return ",".repeat(CSV_HEAD.matches(',').count()) };
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.3}"));
    // Energy per token may be far below 1 J.
    let exact = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.6}"));
    let cells = [
        super::csv::quoted(&view.source),
        view.power_valid.to_string(),
        number(view.power_avg_w),
        number(view.power_peak_w),
        number(view.power_idle_w),
        number(view.energy_j),
        exact(view.j_per_output_token),
        exact(view.j_per_total_token),
        exact(view.output_tokens_per_j),
        number(view.util_avg_pct),
    ];
    cells.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::{point, run, sound};
    use crate::metrics::summary::{Context, summarize};
    use crate::plan::{Arrival, LoadPoint};

    fn gpu(gpu: &str, util: f64, power: f64) -> OneGpu {
        OneGpu {
            node: "n1".into(),
            gpu: gpu.into(),
            util_avg_pct: Some(util),
            power_avg_w: Some(power),
            power_peak_w: Some(power + 50.0),
            temp_max_c: Some(66.0),
            ..OneGpu::default()
        }
    }

    fn row(each: Vec<OneGpu>) -> PointResult {
        let ran = run(sound());
        let point = LoadPoint { arrival: Arrival::closed(1), ..point() };
        let mut summary = summarize(&point, &ran, &ran.fold(), &Context::default());
        summary.gpus = Some(GpuView {
            source: "NVML".into(),
            gpus: each.len(),
            power_valid: true,
            power_avg_w: Some(500.0),
            energy_j: Some(2000.0),
            j_per_output_token: Some(0.25),
            each,
            ..GpuView::default()
        });
        PointResult {
            point: "isl100_osl10_con1".into(),
            series: "isl100_osl10".into(),
            deployment: String::new(),
            workload: "isl100_osl10".into(),
            model: String::new(),
            configuration: String::new(),
            axes: Vec::new(),
            gpus: 2,
            price: None,
            summary,
        }
    }

    #[test]
    fn gpus_that_differ_have_a_row_each() {
        let alike = table(&[row(vec![gpu("0", 90.0, 250.0), gpu("1", 88.0, 250.0)])]).unwrap();
        assert_eq!(alike.rows.len(), 1);
        assert_eq!(alike.head[1..], ["W", "J/tok", "°C"]);
        let apart = table(&[row(vec![gpu("0", 90.0, 420.0), gpu("1", 0.0, 80.0)])]).unwrap();
        let names: Vec<&str> = apart.rows.iter().map(|row| row[0].as_str()).collect();
        assert_eq!(names[1..], ["GPU 0", "GPU 1"]);
        assert!(apart.fitted(&[0], 80).lines().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn without_telemetry_there_is_nothing() {
        let mut bare = row(Vec::new());
        bare.summary.gpus = None;
        assert!(
            table(std::slice::from_ref(&bare)).is_none() && notes(std::slice::from_ref(&bare)).is_empty()
        );
        assert_eq!(csv_cells(&bare).matches(',').count(), CSV_HEAD.matches(',').count());
        assert_eq!(csv_cells(&row(Vec::new())).matches(',').count(), CSV_HEAD.matches(',').count());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let mut bad = row(vec![gpu("0", 90.0, 250.0)]);
        let view = bad.summary.gpus.as_mut().unwrap();
        view.power_reasons = vec!["GPU 1 of n1 was not found".into()];
        view.each[0].throttled.insert("sw_power_cap".into(), 0.8);
        let expected = [
            "1 GPU by NVML",
            "isl100_osl10_con1: clocks held back by sw_power_cap in up to 80 % of a GPU's samples",
            "isl100_osl10_con1: power is not valid: GPU 1 of n1 was not found",
        ];
        assert_eq!(notes(&[bad]), expected);
    }
}
