//! `summary.md` and `latency-ttft-summary.md`, and the table that ends a run on the terminal.
//!
//! Arrow: `metrics`, `table` → here → `report`, `commands`.

use super::table::{Table, maybe, number};
use super::{Row, Subject, load_of};
use crate::metrics::stages::StageFigures;
use crate::metrics::stats::Distribution;

/// What every page says first about simulated results.
pub const SIMULATED: &str = "SIMULATED: these figures come from tokmark's simulated engine, not from a GPU.";

/// The headline table: one row a point.
pub fn headline(rows: &[Row]) -> Table {
    let staged = rows.iter().any(|row| row.summary.stages.is_some());
    let plain = !staged && rows.iter().all(|row| row.point.starts_with("isl")) && distinct_load(rows);
    let open = rows.iter().any(|row| row.summary.point.request_rate.is_some());
    let first = match (plain, open) {
        (true, true) => "rate",
        (true, false) => "conc",
        (false, _) => "point",
    };
    let mut table = Table::new([
        first,
        "req/s",
        "tok/s",
        "tok/s/gpu",
        "TTFT p50",
        "p99",
        "ITL p50",
        "p99",
        "E2E p50",
        "verdict",
    ]);
    for row in rows {
        let s = &row.summary;
        let figure = |d: &Option<Distribution>, of: fn(&Distribution) -> f64| maybe(d.as_ref().map(of));
        let name = match load_of(s) {
            Some(load) if plain => load.to_string(),
            _ => row.point.clone(),
        };
        table.push(vec![
            name,
            number(s.throughput.requests_per_s),
            number(s.throughput.output_tokens_per_s),
            maybe(s.throughput.output_tokens_per_s_per_gpu),
            figure(&s.ttft_ms, |d| d.p50),
            figure(&s.ttft_ms, |d| d.p99),
            figure(&s.itl_ms, |d| d.p50),
            figure(&s.itl_ms, |d| d.p99),
            figure(&s.e2e_ms, |d| d.p50),
            s.verdict.result.to_string(),
        ]);
    }
    table
}

/// The stages of every point that has a ramp: the point, and a row a stage.
pub fn stages(rows: &[Row]) -> Vec<(String, Table)> {
    let staged = rows.iter().filter_map(|row| Some((row, row.summary.stages.as_ref()?)));
    staged.map(|(row, stages)| (row.point.clone(), stage_table(stages))).collect()
}

fn stage_table(stages: &[StageFigures]) -> Table {
    let goodput = stages.iter().any(|stage| stage.goodput_per_s.is_some());
    let mut table = Table::new([
        "stage", "load", "seconds", "requests", "failed", "req/s", "tok/s", "TTFT p50", "p99", "ITL p50",
        "p99", "E2E p50", "p99",
    ]);
    if goodput {
        table.head.push("good/s".to_owned());
    }
    for stage in stages {
        let figure = |d: &Option<Distribution>, of: fn(&Distribution) -> f64| maybe(d.as_ref().map(of));
        let (from, to) = (stage.from, stage.to);
        let mut row = vec![
            stage.name.clone(),
            if from == to { to.to_string() } else { format!("{from} → {to}") },
            number(stage.end_s - stage.start_s),
            stage.requests.to_string(),
            stage.failed.to_string(),
            number(stage.requests_per_s),
            number(stage.output_tokens_per_s),
            figure(&stage.ttft_ms, |d| d.p50),
            figure(&stage.ttft_ms, |d| d.p99),
            figure(&stage.itl_ms, |d| d.p50),
            figure(&stage.itl_ms, |d| d.p99),
            figure(&stage.e2e_ms, |d| d.p50),
            figure(&stage.e2e_ms, |d| d.p99),
        ];
        row.extend(goodput.then(|| maybe(stage.goodput_per_s)));
        table.push(row);
    }
    table
}

/// What the rows of a stage table count.
pub const STAGES: &str =
    "Latencies of the requests sent in a stage; req/s and tok/s of what came out while it lasted.";

fn distinct_load(rows: &[Row]) -> bool {
    let mut seen: Vec<Option<f64>> = rows.iter().map(|row| load_of(&row.summary)).collect();
    seen.sort_unstable_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    seen.windows(2).all(|pair| pair[0] != pair[1])
}

/// Reasons of every point that is not plainly valid, one a line.
pub fn reasons(rows: &[Row]) -> Vec<String> {
    let of = |row: &Row| -> Vec<String> {
        row.summary.verdict.reasons.iter().map(|reason| format!("{}: {reason}", row.point)).collect()
    };
    rows.iter().flat_map(of).collect()
}

/// What the client added to its time stamps, at the point where it added most.
pub fn added_error(rows: &[Row]) -> Option<String> {
    let errors = rows.iter().filter_map(|row| row.summary.client.added_error_ms);
    errors.max_by(|a, b| a.p99.total_cmp(&b.p99)).map(|error| error.to_string())
}

/// `summary.md`
pub fn summary(subject: &Subject, rows: &[Row]) -> String {
    let mut text = format!("# {}\n\n{}\n\n", subject.name, subject.summary);
    push_simulated(&mut text, rows);
    for (name, value) in &subject.facts {
        text.push_str(&format!("- {name}: {value}\n"));
    }
    text.push_str(&format!(
        "\n{}\nLatencies in ms; tok/s counts output tokens.\n",
        headline(rows).markdown()
    ));
    if let Some(added) = added_error(rows) {
        text.push_str(&format!("The {added}.\n"));
    }
    for (point, table) in stages(rows) {
        text.push_str(&format!("\n## Stages of {point}\n\n{}\n{STAGES}\n", table.markdown()));
    }
    let reasons = reasons(rows);
    if !reasons.is_empty() {
        text.push_str("\n## Verdicts\n\n");
        for reason in reasons {
            text.push_str(&format!("- {reason}\n"));
        }
    }
    text
}

/// `latency-ttft-summary.md`: every percentile of the latencies, by load.
pub fn latency(subject: &Subject, rows: &[Row]) -> String {
    let mut text = format!("# {}: latencies\n\n", subject.name);
    push_simulated(&mut text, rows);
    type Pick = fn(&Row) -> &Option<Distribution>;
    let figures: [(&str, Pick); 6] = [
        ("TTFT (ms)", |row| &row.summary.ttft_ms),
        ("TTFT from the intended arrival (ms)", |row| &row.summary.ttft_scheduled_ms),
        ("ITL (ms)", |row| &row.summary.itl_ms),
        ("ICL (ms)", |row| &row.summary.icl_ms),
        ("E2E latency (ms)", |row| &row.summary.e2e_ms),
        ("E2E latency from the intended arrival (ms)", |row| &row.summary.e2e_scheduled_ms),
    ];
    for (title, pick) in figures {
        // Nothing is scheduled in a closed loop.
        if title.contains("intended") && rows.iter().all(|row| pick(row).is_none()) {
            continue;
        }
        let mut table = Table::new(["point", "avg", "min", "p50", "p90", "p95", "p99", "max", "std"]);
        for row in rows {
            let d = pick(row).as_ref();
            let figure = |of: fn(&Distribution) -> f64| maybe(d.map(of));
            table.push(vec![
                row.point.clone(),
                figure(|d| d.avg),
                figure(|d| d.min),
                figure(|d| d.p50),
                figure(|d| d.p90),
                figure(|d| d.p95),
                figure(|d| d.p99),
                figure(|d| d.max),
                figure(|d| d.std),
            ]);
        }
        text.push_str(&format!("## {title}\n\n{}\n", table.markdown()));
    }
    text
}

fn push_simulated(text: &mut String, rows: &[Row]) {
    if rows.iter().any(|row| row.summary.simulated) {
        text.push_str(&format!("**{SIMULATED}**\n\n"));
    }
}
