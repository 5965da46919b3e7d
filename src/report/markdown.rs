//! `summary.md` and `latency-ttft-summary.md`, and their parts for the table printed at the end of a run.

use super::table::{Table, maybe, number};
use super::{Figure, Header, PointResult, load_of};
use crate::metrics::Summary;
use crate::metrics::prefix_cache::CacheSource;
use crate::metrics::stages::StageFigures;
use crate::metrics::stats::Distribution;
use crate::metrics::turns::{MOST_TURNS, TurnFigures};

/// The first line of every page about simulated results.
pub const SIMULATED: &str = "SIMULATED: these figures come from a simulated engine, not from a GPU.";

/// The columns of the headline table.
const FIGURES: [(&str, Figure); 8] = [
    ("req/s", |s| Some(s.throughput.requests_per_s)),
    ("tok/s", |s| Some(s.throughput.output_tokens_per_s)),
    ("tok/s/gpu", |s| s.throughput.output_tokens_per_s_per_gpu),
    ("TTFT p50", |s| Some(s.ttft_ms?.p50)),
    ("p99", |s| Some(s.ttft_ms?.p99)),
    ("ITL p50", |s| Some(s.itl_ms?.p50)),
    ("p99", |s| Some(s.itl_ms?.p99)),
    ("E2E p50", |s| Some(s.e2e_ms?.p50)),
];

/// The headline table: one row per point.
pub fn headline(rows: &[PointResult]) -> Table {
    let plain = differ_in_load_alone(rows);
    let open = rows.iter().any(|row| row.summary.point.request_rate.is_some());
    let first = match (plain, open) {
        (true, true) => "rate",
        (true, false) => "conc",
        (false, _) => "point",
    };
    let mut table = Table::new([first]);
    table.head.extend(FIGURES.iter().map(|(head, _)| (*head).to_owned()));
    table.head.push("verdict".to_owned());
    for row in rows {
        let s = &row.summary;
        let name = match load_of(s) {
            Some(load) if plain => load.to_string(),
            _ => row.point.clone(),
        };
        let figures = FIGURES.iter().map(|(_, figure)| maybe(figure(s)));
        table.push(std::iter::once(name).chain(figures).chain([s.verdict.result.to_string()]).collect());
    }
    table
}

/// The stages of every point with a ramp: the point, and a table with one row per stage.
pub fn stages(rows: &[PointResult]) -> Vec<(String, Table)> {
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
        let (from, to) = (stage.from, stage.to);
        let mut row = vec![
            stage.name.clone(),
            if from == to { to.to_string() } else { format!("{from} → {to}") },
            number(stage.end_s - stage.start_s),
            stage.requests.to_string(),
            stage.failed.to_string(),
            number(stage.requests_per_s),
            number(stage.output_tokens_per_s),
        ];
        row.extend(latency_cells([&stage.ttft_ms, &stage.itl_ms, &stage.e2e_ms]));
        row.extend(goodput.then(|| maybe(stage.goodput_per_s)));
        table.push(row);
    }
    table
}

/// p50 and p99 of each.
fn latency_cells(latencies: [&Option<Distribution>; 3]) -> impl Iterator<Item = String> {
    let cells = |d: &Option<Distribution>| [maybe(d.map(|d| d.p50)), maybe(d.map(|d| d.p99))];
    latencies.map(cells).into_iter().flatten()
}

/// The turns of every point with conversations: the point, and a table with one row per turn.
pub fn turns(rows: &[PointResult]) -> Vec<(String, Table)> {
    let talked = rows.iter().filter(|row| !row.summary.turns.is_empty());
    talked.map(|row| (row.point.clone(), turn_table(&row.summary.turns))).collect()
}

fn turn_table(turns: &[TurnFigures]) -> Table {
    let mut table = Table::new([
        "turn", "requests", "failed", "ISL", "OSL", "TTFT p50", "p99", "ITL p50", "p99", "E2E p50", "p99",
    ]);
    for turn in turns {
        let last = turn.turn as usize + 1 == MOST_TURNS;
        let mut row = vec![
            format!("{}{}", turn.turn, if last { "+" } else { "" }),
            turn.requests.to_string(),
            (turn.requests - turn.completed).to_string(),
            maybe(turn.isl),
            maybe(turn.osl),
        ];
        row.extend(latency_cells([&turn.ttft_ms, &turn.itl_ms, &turn.e2e_ms]));
        table.push(row);
    }
    table
}

/// What prefix caches answered, and the server's token count against the client's: a line per point and figure.
pub fn tokens(rows: &[PointResult]) -> Vec<String> {
    let of = |row: &PointResult| {
        let cache = row.summary.prefix_cache.map(|cache| {
            let by = match cache.source {
                CacheSource::Counters => "servers' counters",
                CacheSource::Usage => "`usage`",
            };
            format!("{}: the {cache} ({by})", row.point)
        });
        let check = row.summary.token_check.map(|check| format!("{}: the {check}", row.point));
        [cache, check]
    };
    rows.iter().flat_map(of).flatten().collect()
}

/// What the rows of a stage table count.
pub const STAGES: &str =
    "Latencies of the requests sent in a stage; req/s and tok/s of what came out while it lasted.";

/// Whether points differ only in their constant load.
fn differ_in_load_alone(rows: &[PointResult]) -> bool {
    let mut loads: Vec<f64> = rows.iter().filter_map(|row| load_of(&row.summary)).collect();
    loads.sort_unstable_by(f64::total_cmp);
    loads.dedup();
    loads.len() == rows.len() && rows.iter().all(|row| row.series == rows[0].series)
}

/// The verdict reasons of every point that is not valid, one per line; a reason that several points share appears once.
pub fn reasons(rows: &[PointResult]) -> Vec<String> {
    let has = |row: &PointResult, reason: &String| row.summary.verdict.reasons.contains(reason);
    let is_common = |reason: &&String| rows.len() > 1 && rows.iter().all(|row| has(row, reason));
    let first = rows.first().into_iter().flat_map(|row| &row.summary.verdict.reasons);
    let every = first.filter(is_common).map(|reason| format!("all {} load points: {reason}", rows.len()));
    let own = rows.iter().flat_map(|row| {
        let reasons = row.summary.verdict.reasons.iter().filter(|reason| !is_common(reason));
        reasons.map(|reason| format!("{}: {reason}", row.point))
    });
    every.chain(own).collect()
}

/// What the client added to its time stamps, at the worst point.
pub fn added_error(rows: &[PointResult]) -> Option<String> {
    let errors = rows.iter().filter_map(|row| row.summary.client.added_error_ms);
    errors.max_by(|a, b| a.p99.total_cmp(&b.p99)).map(|error| error.to_string())
}

/// `summary.md`
pub fn summary(header: &Header, rows: &[PointResult]) -> String {
    let mut text = format!("# {}\n\n{}\n\n", header.name, header.summary);
    push_simulated(&mut text, rows);
    for (name, value) in &header.facts {
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
    for (point, table) in turns(rows) {
        text.push_str(&format!("\n## Turns of {point}\n\n{}", table.markdown()));
    }
    push_list(&mut text, "Tokens", &tokens(rows));
    push_list(&mut text, "Verdicts", &reasons(rows));
    text
}

fn push_list(text: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    text.push_str(&format!("\n## {title}\n\n"));
    lines.iter().for_each(|line| text.push_str(&format!("- {line}\n")));
}

/// `latency-ttft-summary.md`: every percentile of the latencies, by load.
pub fn latency(header: &Header, rows: &[PointResult]) -> String {
    let mut text = format!("# {}: latencies\n\n", header.name);
    push_simulated(&mut text, rows);
    type Pick = fn(&Summary) -> Option<Distribution>;
    // A closed loop schedules nothing.
    let scheduled = rows.iter().any(|row| row.summary.e2e_scheduled_ms.is_some());
    let figures: [(&str, bool, Pick); 6] = [
        ("TTFT (ms)", true, |summary| summary.ttft_ms),
        ("TTFT from the intended arrival (ms)", scheduled, |summary| summary.ttft_scheduled_ms),
        ("ITL (ms)", true, |summary| summary.itl_ms),
        ("ICL (ms)", true, |summary| summary.icl_ms),
        ("E2E latency (ms)", true, |summary| summary.e2e_ms),
        ("E2E latency from the intended arrival (ms)", scheduled, |summary| summary.e2e_scheduled_ms),
    ];
    for (title, _, pick) in figures.into_iter().filter(|(_, applies, _)| *applies) {
        const STATISTICS: [&str; 8] = ["avg", "min", "p50", "p90", "p95", "p99", "max", "std"];
        let mut table = Table::new(["point"]);
        table.head.extend(STATISTICS.map(str::to_owned));
        for row in rows {
            let cell = |name| maybe(pick(&row.summary).and_then(|figures| figures.get(name)));
            table.push(std::iter::once(row.point.clone()).chain(STATISTICS.map(cell)).collect());
        }
        text.push_str(&format!("## {title}\n\n{}\n", table.markdown()));
    }
    text
}

fn push_simulated(text: &mut String, rows: &[PointResult]) {
    if rows.iter().any(|row| row.summary.simulated) {
        text.push_str(&format!("**{SIMULATED}**\n\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::{Ran, failed, point, run, sound};
    use crate::metrics::record::{CacheCount, Outcome, TurnMark};
    use crate::metrics::summary::{Context, summarize};

    fn row(name: &str, ran: &Ran) -> PointResult {
        let summary = summarize(&point(), ran, &ran.fold(), &Context::default());
        PointResult {
            point: name.into(),
            series: "isl100_osl10".into(),
            deployment: String::new(),
            gpus: 0,
            summary,
        }
    }

    fn page(rows: &[PointResult]) -> String {
        let header =
            Header { name: "name".into(), summary: "one line".into(), facts: Vec::new(), recipe: None };
        summary(&header, rows)
    }

    #[test]
    fn a_page_without_turns_caches_and_counts_says_nothing_of_them() {
        let text = page(&[row("isl100_osl10_con2", &run(sound()))]);
        assert!(text.starts_with("# name\n\none line\n"), "{text}");
        assert_eq!(text.matches("\n## ").count(), 0, "{text}");
    }

    #[test]
    fn a_reason_that_all_points_have_is_said_once() {
        let mut rows = [row("a", &run(sound())), row("b", &run(sound()))];
        for row in &mut rows {
            row.summary.verdict.reasons = vec!["scaled".into()];
        }
        rows[1].summary.verdict.reasons.push("slow".into());
        assert_eq!(reasons(&rows), ["all 2 load points: scaled", "b: slow"]);
        assert_eq!(reasons(&rows[1..]), ["b: scaled", "b: slow"]);
    }

    #[test]
    fn turns_caches_and_counts() {
        let mut records = sound();
        records[3] = failed(3, records[3].sent_us, Outcome::Timeout);
        for (record, at) in records.iter_mut().zip(0..) {
            // Conversations of two turns; the second turns have high numbers.
            record.turn = Some(TurnMark { conversation: at / 2, turn: if at % 2 == 0 { 0 } else { 120 } });
            (record.isl, record.isl_shared) = if at % 2 == 0 { (100, 0) } else { (1_250, 60) };
            record.osl_counted = Some(11);
        }
        let mut ran = run(records);
        ran.prefix_cache = Some(CacheCount { queried: 12_000, hit: 480 });
        let mut by_usage = run(sound());
        by_usage.records[0].usage.as_mut().unwrap().cached_tokens = Some(20);
        let rows = [row("isl100_osl10_con2", &ran), row("isl100_osl10_con4", &by_usage)];
        let text = page(&rows);
        let start = text.find("\n## Turns").expect("turns");
        insta::assert_snapshot!(&text[start..text.find("\n## Verdicts").expect("verdicts")]);
    }
}
