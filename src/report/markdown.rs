//! `summary.md` and `latency-ttft-summary.md`, and their parts for the table printed at the end of a run.

use itertools::Itertools;

use super::columns::KeyColumns;
use super::failures::Failures;
use super::headline::Answer;
use super::parts::{self, Block, Part};
use super::repeats::means;
use super::table::{Table, maybe, number, plus_minus};
use super::{Figure, Header, PointResult, ranges, repeats, speculation, unmeasured};
use crate::metrics::Summary;
use crate::metrics::added_error::AddedError;
use crate::metrics::prefix_cache::CacheSource;
use crate::metrics::stages::StageFigures;
use crate::metrics::stats::{Distribution, SHOWN, needed, stands};
use crate::metrics::turns::{MOST_TURNS, TurnFigures};

/// The first line of every page about simulated results.
pub const SIMULATED: &str = "SIMULATED: these figures come from a simulated engine, not from a GPU.";

/// Where a column of the headline table is shown: always, in the wide table, or where a point has the figure.
#[derive(Clone, Copy, PartialEq)]
enum Shown {
    Everywhere,
    Wide,
    WhereKnown,
}

/// A column of the headline table: its head, where it is shown, the figure, and the figure's path in `summary.json`.
type Column = (&'static str, Shown, Figure, &'static str);

const FIGURES: [Column; 15] = [
    ("success%", Shown::Wide, success, "requests.completed"),
    ("req/s", Shown::Everywhere, |s| Some(s.throughput.requests_per_s), "throughput.requests_per_s"),
    ("good/s", Shown::WhereKnown, |s| s.throughput.goodput_per_s, "throughput.goodput_per_s"),
    (
        "tok/s",
        Shown::Everywhere,
        |s| Some(s.throughput.output_tokens_per_s),
        "throughput.output_tokens_per_s",
    ),
    (
        "tok/s/gpu",
        Shown::WhereKnown,
        |s| s.throughput.output_tokens_per_s_per_gpu,
        "throughput.output_tokens_per_s_per_gpu",
    ),
    ("TTFT p50", Shown::Everywhere, |s| Some(s.ttft_ms?.p50), "ttft_ms.p50"),
    ("p95", Shown::Wide, |s| Some(s.ttft_ms?.p95), "ttft_ms.p95"),
    ("p99", Shown::Everywhere, |s| Some(s.ttft_ms?.p99), "ttft_ms.p99"),
    ("ITL p50", Shown::Everywhere, |s| Some(s.itl_ms?.p50), "itl_ms.p50"),
    ("p95", Shown::Wide, |s| Some(s.itl_ms?.p95), "itl_ms.p95"),
    ("p99", Shown::Everywhere, |s| Some(s.itl_ms?.p99), "itl_ms.p99"),
    ("E2E avg", Shown::Wide, |s| Some(s.e2e_ms?.avg), "e2e_ms.avg"),
    ("E2E p50", Shown::Everywhere, |s| Some(s.e2e_ms?.p50), "e2e_ms.p50"),
    ("p95", Shown::Wide, |s| Some(s.e2e_ms?.p95), "e2e_ms.p95"),
    ("p99", Shown::Wide, |s| Some(s.e2e_ms?.p99), "e2e_ms.p99"),
];

/// Share of the measured requests that completed, percent; those that tokmark cut itself do not count.
fn success(summary: &Summary) -> Option<f64> {
    let counted = summary.requests.completed + summary.requests.failed;
    (counted > 0).then(|| 100.0 * summary.requests.completed as f64 / counted as f64)
}

/// The headline table: one row per point, of repeats with the interval of each mean. The wide one has more percentiles and the number of requests.
pub fn headline(rows: &[PointResult], wide: bool) -> Table {
    let keys = KeyColumns::of(rows);
    let is_shown = |(_, shown, figure, _): &&Column| match shown {
        Shown::Everywhere => true,
        Shown::Wide => wide,
        Shown::WhereKnown => rows.iter().any(|row| figure(&row.summary).is_some()),
    };
    let figures: Vec<_> = FIGURES.iter().filter(is_shown).collect();
    let heads = ["requests", "failed"].into_iter().filter(|head| wide || *head == "failed");
    let drafted: Vec<Option<String>> = rows.iter().map(speculation::cell).collect();
    let speculates = drafted.iter().any(Option::is_some);
    let heads = heads.chain(figures.iter().map(|(head, ..)| *head));
    let heads = heads.chain(speculates.then_some("tok/step")).chain(["verdict"]);
    let mut table = Table::keyed(keys.heads);
    table.head.extend(heads.map(str::to_owned));
    for ((row, mut cells), drafted) in rows.iter().zip(keys.cells).zip(drafted) {
        let s = &row.summary;
        cells.extend(wide.then(|| s.requests.total.to_string()));
        cells.push(s.requests.failed.to_string());
        cells.extend(figures.iter().map(|(head, _, figure, path)| {
            let value = figure(s);
            let spread = value.map(|value| plus_minus(value, s.half_width(path))).unwrap_or_default();
            marked(head, value, s.completed_each()) + &spread
        }));
        cells.extend(speculates.then(|| drafted.unwrap_or_else(|| "-".to_owned())));
        cells.push(s.verdict.result.to_string());
        table.push(cells);
    }
    table
}

/// A figure; with `~` in front when its column is a percentile that so many requests are too few for.
fn marked(head: &str, figure: Option<f64>, completed: u64) -> String {
    let percent = head.rsplit('p').next().and_then(|percent| percent.parse().ok());
    let few = figure.is_some() && percent.is_some_and(|percent| !stands(percent, completed));
    format!("{}{}", if few { "~" } else { "" }, maybe(figure))
}

/// What `~` in the tables of these points means, when a shown percentile has one.
pub fn few(rows: &[PointResult]) -> Option<String> {
    let parts = stages(rows).into_iter().chain(turns(rows)).map(|(_, table)| table);
    let mut tables = [headline(&means(rows), true), headline(rows, true)].into_iter().chain(parts);
    let few = tables.any(|table| table.rows.iter().flatten().any(|cell| cell.starts_with('~')));
    let wanted = SHOWN.map(|percent| format!("p{percent} {}", needed(percent))).join(", ");
    few.then(|| format!("~ fewer requests than the percentile needs at 99 % confidence: {wanted}"))
}

/// The stages of every point with a ramp: the point, and a table with one row per stage.
pub fn stages(rows: &[PointResult]) -> Vec<(String, Table)> {
    let staged = rows.iter().filter_map(|row| Some((row, row.summary.stages.as_ref()?)));
    staged.map(|(row, stages)| (row.point.clone(), stage_table(stages))).collect()
}

fn stage_table(stages: &[StageFigures]) -> Table {
    let goodput = stages.iter().any(|stage| stage.goodput_per_s.is_some());
    let cut = stages.iter().any(|stage| stage.cancelled > 0);
    let mut table = Table::new(["stage", "load", "seconds", "requests", "failed"]);
    table.head.extend(cut.then(|| "cut".to_owned()));
    table.head.extend(["req/s", "tok/s"].into_iter().chain(LATENCIES).map(str::to_owned));
    table.head.extend(goodput.then(|| "good/s".to_owned()));
    for stage in stages {
        let (from, to) = (stage.from, stage.to);
        let mut row = vec![
            stage.name.clone(),
            if from == to { to.to_string() } else { format!("{from} → {to}") },
            number(stage.end_s - stage.start_s),
            stage.requests.to_string(),
            stage.failed.to_string(),
        ];
        row.extend(cut.then(|| stage.cancelled.to_string()));
        row.extend([stage.requests_per_s, stage.output_tokens_per_s].map(number));
        let latencies = [&stage.ttft_ms, &stage.itl_ms, &stage.e2e_ms];
        row.extend(latency_cells(latencies, stage.requests, stage.completed, stage.cancelled));
        row.extend(goodput.then(|| maybe(stage.goodput_per_s)));
        table.push(row);
    }
    table
}

const LATENCIES: [&str; 6] = ["TTFT p50", "p99", "ITL p50", "p99", "E2E p50", "p99"];

/// p50 and p99 of each; `cut` when tokmark cut every request.
fn latency_cells(
    latencies: [&Option<Distribution>; 3],
    requests: u64,
    completed: u64,
    cancelled: u64,
) -> impl Iterator<Item = String> {
    let figures = latencies.into_iter().flat_map(|of| [of.map(|d| d.p50), of.map(|d| d.p99)]);
    let all_cut = cancelled > 0 && cancelled == requests;
    LATENCIES
        .into_iter()
        .zip(figures)
        .map(move |(head, figure)| if all_cut { "cut".to_owned() } else { marked(head, figure, completed) })
}

/// The turns of every point with conversations: the point, and a table with one row per turn.
pub fn turns(rows: &[PointResult]) -> Vec<(String, Table)> {
    let talked = rows.iter().filter(|row| !row.summary.turns.is_empty());
    talked.map(|row| (row.point.clone(), turn_table(&row.summary.turns))).collect()
}

fn turn_table(turns: &[TurnFigures]) -> Table {
    let mut table = Table::new(["turn", "requests", "failed", "ISL", "OSL"]);
    table.head.extend(LATENCIES.map(str::to_owned));
    for turn in turns {
        let last = turn.turn as usize + 1 == MOST_TURNS;
        let mut row = vec![
            format!("{}{}", turn.turn, if last { "+" } else { "" }),
            turn.requests.to_string(),
            turn.requests.saturating_sub(turn.completed + turn.cancelled).to_string(),
            maybe(turn.isl),
            maybe(turn.osl),
        ];
        let latencies = [&turn.ttft_ms, &turn.itl_ms, &turn.e2e_ms];
        row.extend(latency_cells(latencies, turn.requests, turn.completed, turn.cancelled));
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

/// The verdict reasons of every point that is not valid, one per line; a reason that several points share appears once.
pub fn reasons(rows: &[PointResult]) -> Vec<String> {
    let has = |row: &PointResult, reason: &String| row.summary.verdict.reasons.contains(reason);
    let is_common = |reason: &&String| rows.len() > 1 && rows.iter().all(|row| has(row, reason));
    let first = rows.first().into_iter().flat_map(PointResult::reasons);
    let every = first.filter(is_common).map(|reason| format!("all {} load points: {reason}", rows.len()));
    let own = rows.iter().flat_map(|row| {
        let reasons = row.reasons().filter(|reason| !is_common(reason));
        reasons.map(|reason| format!("{}: {reason}", row.point))
    });
    every.chain(own).collect()
}

/// What the prompts of all points have that their file has not, or the other way round; each once.
pub fn prompt_notes(rows: &[PointResult]) -> Vec<String> {
    let notes = rows.iter().flat_map(|row| row.summary.prompts.iter().flat_map(|facts| &facts.notes));
    notes.unique().cloned().collect()
}

/// What the client added to its time stamps, at the worst point with figures.
pub fn added_error(rows: &[PointResult]) -> Option<AddedError> {
    let with_figures = rows.iter().filter(|row| row.summary.requests.completed > 0);
    let errors = with_figures.filter_map(|row| row.summary.client.added_error_ms);
    errors.max_by(|a, b| a.p99.total_cmp(&b.p99))
}

/// The headline table with what its marks mean; of repeats one row a load.
pub(super) fn results(header: &Header, rows: &[PointResult]) -> Part {
    let mut table = headline(&means(rows), true);
    unmeasured::add_to(&mut table, &header.unmeasured);
    let mut notes = "Latencies in ms; tok/s counts output tokens.".to_owned();
    let more = [
        repeats::about(rows).map(|about| format!("Figures are the {about}.")),
        few(rows).map(|few| format!("{few}.")),
        added_error(rows).map(|added| format!("The {added}.")),
    ];
    more.into_iter().flatten().for_each(|note| notes.push_str(&format!(" {note}")));
    let part = Part::table("Results", Some(table), &notes);
    let why = not_applicable(rows);
    if why.is_empty() { part } else { part.with(Block::List(why)) }
}

/// Each repeat in a row of its own.
pub(super) fn each_repeat(rows: &[PointResult]) -> Part {
    let part = Part::new("Repeats");
    if !repeats::are_in(rows) {
        return part;
    }
    let notes = repeats::notes(rows).into_iter().map(|note| Block::Text(format!("{note}.")));
    notes.fold(part.with(Block::Table(headline(rows, true))), Part::with)
}

/// Why figures of the tables are `N/A`.
fn not_applicable(rows: &[PointResult]) -> Vec<String> {
    let any = |of: fn(&Summary) -> bool| rows.iter().any(|row| of(&row.summary));
    let reasons = [
        (any(|s| s.requests.completed == 0), "no request was answered"),
        (
            any(|s| s.requests.completed > 0 && !s.point.streaming),
            "without streaming an answer comes whole, so that it has no TTFT and no ITL",
        ),
        (
            any(|s| s.requests.completed > 0 && s.point.streaming && s.itl_ms.is_none()),
            "ITL needs answers of at least two tokens that were streamed as they were generated",
        ),
    ];
    let told = reasons.into_iter().filter(|(applies, _)| *applies);
    told.map(|(_, reason)| format!("N/A: {reason}.")).collect()
}

/// The stages of each ramp.
pub(super) fn stage_parts(rows: &[PointResult]) -> Vec<Part> {
    let part = |(point, table)| Part::table(&format!("Stages of {point}"), Some(table), STAGES);
    stages(rows).into_iter().map(part).collect()
}

/// The turns of the conversations of each point.
pub(super) fn turn_parts(rows: &[PointResult]) -> Vec<Part> {
    let part = |(point, table)| Part::new(format!("Turns of {point}")).with(Block::Table(table));
    turns(rows).into_iter().map(part).collect()
}

/// `summary.md`
pub fn summary(header: &Header, rows: &[PointResult]) -> String {
    let mut text = format!("# {}\n\n{}\n\n", header.name, header.summary);
    push_simulated(&mut text, rows);
    let answer = Answer::of(rows, header.reproduced.as_deref());
    text.push_str(&format!("**{}**\n\n", answer.headline));
    answer.lines.iter().for_each(|line| text.push_str(&format!("- {line}\n")));
    text.extend(Failures::of_rows(rows).map(|failures| format!("\n{}", failures.markdown())));
    text.extend(parts::all(header, rows).iter().map(Part::markdown));
    text
}

/// Every percentile of the latencies, by load.
pub(super) fn latencies(rows: &[PointResult]) -> Part {
    latency_tables(rows).into_iter().fold(Part::new("Latencies"), |part, (title, table)| {
        part.with(Block::Head(title.to_owned())).with(Block::Table(table))
    })
}

/// `latency-ttft-summary.md`: latency and TTFT by range of load, then every percentile by load.
pub fn latency(header: &Header, rows: &[PointResult]) -> String {
    let mut text = format!("# {}: latencies\n\n", header.name);
    push_simulated(&mut text, rows);
    text.push_str(&ranges::section(rows));
    for (title, table) in latency_tables(rows) {
        text.push_str(&format!("## {title}\n\n{}\n", table.markdown()));
    }
    text
}

/// A table for each latency that some point has, a row per point.
fn latency_tables(rows: &[PointResult]) -> Vec<(&'static str, Table)> {
    type Pick = fn(&Summary) -> Option<Distribution>;
    const STATISTICS: [&str; 9] = ["avg", "min", "max", "p50", "p75", "p90", "p95", "p99", "std"];
    const FIGURES: [(&str, Pick); 6] = [
        ("TTFT (ms)", |summary| summary.ttft_ms),
        ("TTFT from the intended arrival (ms)", |summary| summary.ttft_scheduled_ms),
        ("ITL (ms)", |summary| summary.itl_ms),
        ("ICL (ms)", |summary| summary.icl_ms),
        ("E2E latency (ms)", |summary| summary.e2e_ms),
        ("E2E latency from the intended arrival (ms)", |summary| summary.e2e_scheduled_ms),
    ];
    let applies = |(_, pick): &(&str, Pick)| rows.iter().any(|row| pick(&row.summary).is_some());
    let table = |(title, pick): (&'static str, Pick)| {
        let mut table = Table::new(["point"]);
        table.head.extend(STATISTICS.map(str::to_owned));
        let means = if repeats::are_in(rows) { means(rows) } else { Vec::new() };
        for row in rows.iter().chain(&means) {
            let cell = |name| maybe(pick(&row.summary).and_then(|figures| figures.get(name)));
            table.push(std::iter::once(row.point.clone()).chain(STATISTICS.map(cell)).collect());
        }
        (title, table)
    };
    FIGURES.into_iter().filter(applies).map(table).collect()
}

pub(super) fn push_simulated(text: &mut String, rows: &[PointResult]) {
    if rows.iter().any(|row| row.summary.simulated) {
        text.push_str(&format!("**{SIMULATED}**\n\n"));
    }
    text.extend(speculation::banner(rows).map(|banner| format!("**{banner}**\n\n")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::{Ran, failed, point, record, run, sound};
    use crate::metrics::record::{CacheCount, Outcome, TurnMark};
    use crate::metrics::summary::{Context, summarize};
    use crate::plan::{Arrival, LoadPoint};

    fn row(name: &str, ran: &Ran) -> PointResult {
        // The requests of these runs follow one another.
        let point = LoadPoint { arrival: Arrival::closed(1), ..point() };
        let summary = summarize(&point, ran, &ran.fold(), &Context::default());
        PointResult {
            point: name.into(),
            series: "isl100_osl10".into(),
            deployment: String::new(),
            workload: String::new(),
            model: String::new(),
            configuration: String::new(),
            axes: Vec::new(),
            gpus: 0,
            price: None,
            summary,
        }
    }

    fn page(rows: &[PointResult]) -> String {
        let header = Header { name: "name".into(), summary: "one line".into(), ..Header::default() };
        summary(&header, rows)
    }

    #[test]
    fn a_page_without_turns_caches_and_counts_says_nothing_of_them() {
        let text = page(&[row("isl100_osl10_con2", &run(sound()))]);
        assert!(text.starts_with("# name\n\none line\n"), "{text}");
        let titles: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(titles, ["Results", "Latencies", "What was run", "Limitations", "Words"], "{text}");
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

    /// 250 requests one after the other, the second failed.
    fn one_failed() -> Ran {
        let mut records: Vec<_> = (0..250).map(|id| record(id, 200_000 * id)).collect();
        records[1] = failed(1, records[1].sent_us, Outcome::Http(500));
        run(records)
    }

    #[test]
    fn one_failed_request_of_250_is_in_every_table() {
        let mut rows = [row("isl100_osl10_con2", &one_failed())];
        let cells = |table: Table, head: &str| {
            let at = table.head.iter().position(|known| known == head).expect("the column");
            table.rows[0][at].clone()
        };
        assert_eq!(cells(headline(&rows, false), "failed"), "1");
        assert_eq!(
            (cells(headline(&rows, true), "requests"), cells(headline(&rows, true), "failed")),
            ("250".into(), "1".into())
        );
        // p50, p95 and p99 of TTFT.
        let wide = headline(&rows, true);
        let first = wide.head.iter().position(|head| head == "TTFT p50").expect("TTFT");
        assert_eq!(wide.rows[0][first..first + 3], ["50.0", "50.0", "~50.0"]);
        assert!(page(&rows).contains("p90 64, p95 130, p99 662"));
        assert!(!headline(&rows, false).head.contains(&"good/s".to_owned()));
        rows[0].summary.throughput.goodput_per_s = Some(0.0);
        assert_eq!(cells(headline(&rows, false), "good/s"), "0");
        let csv = crate::report::csv::summary(&rows);
        let (head, line) = csv.split_once('\n').expect("two lines");
        let at = |name: &str| head.split(',').position(|known| known == name).expect("the column");
        let cells: Vec<&str> = line.split(',').collect();
        assert_eq!(
            (cells[at("failed")], cells[at("cancelled")], cells[at("ttft_p95_ms")]),
            ("1", "0", "50.000")
        );
    }

    #[test]
    fn a_stage_of_cut_requests_says_so() {
        let mut stage: StageFigures = serde_json::from_value(serde_json::json!({
            "name": "up", "start_s": 0.0, "end_s": 1.0, "from": 1.0, "to": 4.0, "requests": 4, "completed": 0, "failed": 0,
            "cancelled": 4, "good": null, "requests_per_s": 0.0, "output_tokens_per_s": 0.0, "goodput_per_s": null,
            "ttft_ms": null, "itl_ms": null, "e2e_ms": null,
        }))
        .expect("figures");
        let row = |stage: &StageFigures| stage_table(std::slice::from_ref(stage)).rows[0].join(" ");
        assert_eq!(row(&stage), "up 1 → 4 1.00 4 0 4 0 0 cut cut cut cut cut cut");
        (stage.cancelled, stage.failed) = (0, 4);
        assert_eq!(row(&stage), "up 1 → 4 1.00 4 4 0 0 N/A N/A N/A N/A N/A N/A");
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
        let mut parts = turn_parts(&rows);
        parts.push(Part::list("Tokens", tokens(&rows)));
        insta::assert_snapshot!(parts.iter().map(Part::markdown).collect::<String>());
    }
}
