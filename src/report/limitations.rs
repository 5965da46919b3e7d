//! `limitations.md`: what the figures of an experiment say nothing about.

use itertools::Itertools;

use super::markdown::push_simulated;
use super::{Header, PointResult, repeats};
use crate::metrics::{Rating, Summary};

const ONCE: &str = "Each load point was measured once, so that the differences between runs are not known.";
const REPEATED: &str = "Load points were repeated on the same servers: the intervals tell how such repeats differ, not what another \
    start of the servers, another node or another day gives.";

const REPEATED_BY_JOBS: &str = "Load points were repeated by jobs with servers of their own: the intervals tell how such jobs differ, not \
    what another day gives.";

/// The page. Every sentence follows from the plan and the summaries.
pub fn page(header: &Header, rows: &[PointResult]) -> String {
    let mut text = format!("# {}: limitations\n\n", header.name);
    push_simulated(&mut text, rows);
    lines(header, rows).iter().for_each(|line| text.push_str(&format!("- {line}\n")));
    text
}

/// Its sentences.
pub(super) fn lines(header: &Header, rows: &[PointResult]) -> Vec<String> {
    let repeats = match () {
        () if rows.iter().any(|row| row.summary.point.job.is_some()) => REPEATED_BY_JOBS,
        () if repeats::means(rows)
            .iter()
            .any(|row| row.summary.repeats.as_ref().is_some_and(|repeats| repeats.n > 1)) =>
        {
            REPEATED
        }
        () => ONCE,
    };
    let lines =
        [hardware(header, rows), lengths(rows), load(rows), client(rows), varied(rows), repeats.to_owned()];
    lines.into_iter().chain(verdicts(rows)).collect()
}

fn fact<'a>(header: &'a Header, name: &str) -> Option<&'a str> {
    header.facts.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
}

fn hardware(header: &Header, rows: &[PointResult]) -> String {
    let gpus = fact(header, "GPUs").unwrap_or("not known");
    let engine = rows.iter().find_map(|row| row.summary.engine_version.as_deref());
    let engine =
        engine.map_or_else(|| "of unknown version".to_owned(), |version| format!("version {version}"));
    format!(
        "Hardware and software: GPUs {gpus}; model {}; engine {} {engine}. Other GPUs, models, engines and versions were not measured.",
        fact(header, "model").unwrap_or("not known"),
        fact(header, "launcher").unwrap_or("not known"),
    )
}

/// The distinct values of a figure, in order of appearance.
fn values(rows: &[PointResult], of: impl Fn(&Summary) -> String) -> Vec<String> {
    rows.iter().map(|row| of(&row.summary)).unique().collect()
}

fn lengths(rows: &[PointResult]) -> String {
    let pairs = values(rows, |s| format!("{} / {}", s.point.isl, s.point.osl)).join(", ");
    let caches = rows.iter().any(|row| row.summary.prefix_cache.is_some_and(|cache| cache.hit > 0));
    let cache = if caches { " A prefix cache answered a part of the prompts." } else { "" };
    format!("Lengths: ISL / OSL {pairs}. Latency and throughput at other lengths differ.{cache}")
}

fn load(rows: &[PointResult]) -> String {
    let streaming = values(rows, |s| if s.point.streaming { "on" } else { "off" }.to_owned()).join(" and ");
    let endpoint = values(rows, |s| s.point.endpoint.as_str().to_owned()).join(" and ");
    let points = || rows.iter().map(|row| &row.summary.point);
    let kind = match () {
        () if points().any(|point| point.request_rate.is_some()) => "requests arrive at a given rate",
        () if points().all(|point| point.concurrency.is_some()) => {
            "each user sends the next request when the last one is answered"
        }
        () => "requests arrive as in a trace",
    };
    format!(
        "Load: {kind}; streaming {streaming}; endpoint {endpoint}. Real traffic mixes lengths and comes in bursts."
    )
}

fn client(rows: &[PointResult]) -> String {
    let worst = rows
        .iter()
        .filter_map(|row| row.summary.client.added_error_ms)
        .map(|error| error.p99)
        .fold(0.0, f64::max);
    let error = if worst > 0.0 {
        format!(" It added up to {worst:.2} ms (p99) to its time stamps.")
    } else {
        String::new()
    };
    format!(
        "Load generator: tokmark's own, on one machine; the way from it to the servers is part of every latency.{error}"
    )
}

fn varied(rows: &[PointResult]) -> String {
    type Axis = (&'static str, fn(&Summary) -> String);
    const AXES: [Axis; 5] = [
        ("concurrency", |s| format!("{:?}", s.point.concurrency)),
        ("request rate", |s| format!("{:?}", s.point.request_rate)),
        ("ISL", |s| s.point.isl.to_string()),
        ("OSL", |s| s.point.osl.to_string()),
        ("streaming", |s| s.point.streaming.to_string()),
    ];
    let deployments = rows.iter().map(|row| &row.deployment).unique().count() > 1;
    let (varied, fixed): (Vec<Axis>, Vec<Axis>) =
        AXES.into_iter().partition(|(_, of)| values(rows, of).len() > 1);
    let name = |axes: &[Axis]| axes.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    let (mut varied, mut fixed) = (name(&varied), name(&fixed));
    if deployments { &mut varied } else { &mut fixed }.push("the deployment");
    fixed.retain(|axis| *axis != "request rate");
    if rows.iter().any(|row| row.summary.stages.is_some()) {
        varied.push("load over time");
    }
    let varied = if varied.is_empty() { "nothing".to_owned() } else { varied.join(", ") };
    format!("Varied: {varied}. Not varied: {}.", fixed.join(", "))
}

fn verdicts(rows: &[PointResult]) -> Option<String> {
    let count = |rating| rows.iter().filter(|row| row.summary.verdict.result == rating).count();
    let (suspect, invalid) = (count(Rating::Suspect), count(Rating::Invalid));
    (suspect + invalid > 0).then(|| {
        format!("Verdicts: {suspect} of {} load points are suspect, {invalid} invalid; summary.md has the reasons.", rows.len())
    })
}
