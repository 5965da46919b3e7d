//! Speculative decoding in the pages of a report.

use itertools::Itertools;

use super::PointResult;

/// The first line of every page about results with drafts that were accepted at random.
pub fn banner(rows: &[PointResult]) -> Option<String> {
    let said =
        rows.iter().filter_map(|row| row.summary.speculation.as_ref()?.synthetic_words()).unique().join("; ");
    (!said.is_empty()).then(|| {
        format!("SYNTHETIC ACCEPTANCE: drafts were accepted at random, whatever the text ({said}). Latencies and throughput are those of this acceptance, not of a model.")
    })
}

/// Tokens a step of a point, as the headline shows it: those that the servers counted, else those that were asked for. `None` without
/// speculation.
pub fn cell(row: &PointResult) -> Option<String> {
    let known = row.summary.speculation.as_ref();
    let servers = row.summary.servers.as_ref();
    let counted =
        servers.and_then(|servers| servers.engines().filter_map(|layer| layer.speculation.as_ref()).last());
    let length = counted.and_then(|counted| counted.acceptance_length);
    let length = length.or_else(|| known?.synthetic_acceptance);
    let is_synthetic = known.is_some_and(|speculation| speculation.synthetic);
    match (length, is_synthetic) {
        (Some(length), true) => Some(format!("{length:.2} synthetic")),
        (Some(length), false) => Some(format!("{length:.2}")),
        (None, true) => Some("synthetic".into()),
        (None, false) => None,
    }
}

/// How speculative decoding did, a line per point.
pub fn lines(rows: &[PointResult]) -> Vec<String> {
    let of = |row: &PointResult| {
        let servers = row.summary.servers.as_ref()?;
        let figures = servers.engines().filter_map(|layer| layer.speculation.as_ref()).last()?;
        let rate = figures.acceptance_rate.map(|rate| {
            let drafted = figures.draft_tokens.map(|tokens| format!(" of {tokens}")).unwrap_or_default();
            format!("{:.1} %{drafted} drafted tokens accepted", 100.0 * rate)
        });
        let length = figures.acceptance_length.map(|length| format!("{length:.2} tokens a step"));
        let rates = figures.rate_by_position.iter().map(|rate| format!("{:.0} %", 100.0 * rate)).join(", ");
        let by_position = if rates.is_empty() { String::new() } else { format!("; by position {rates}") };
        let synthetic = row.summary.speculation.as_ref().and_then(|known| known.synthetic_words());
        let said = rate.into_iter().chain(length).chain(synthetic).join(", ");
        Some(format!("{}: {said}{by_position}", row.point))
    };
    rows.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::{point, run, sound};
    use crate::metrics::summary::{Context, summarize};
    use crate::plan::Speculation;

    fn row(speculation: Option<Speculation>) -> PointResult {
        let ran = run(sound());
        let summary = summarize(&point(), &ran, &ran.fold(), &Context { speculation, ..Context::default() });
        PointResult {
            point: "p".into(),
            series: "s".into(),
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

    #[test]
    fn synthetic_acceptance_stands_above_every_table_and_in_every_row() {
        let synthetic =
            Speculation { synthetic: true, synthetic_acceptance: Some(2.5), ..Speculation::default() };
        let (real, forced) = (row(Some(Speculation::default())), row(Some(synthetic)));
        assert_eq!((cell(&real), banner(std::slice::from_ref(&real))), (None, None));
        assert_eq!(cell(&forced).as_deref(), Some("2.50 synthetic"));
        let rows = [real, forced];
        let said = "SYNTHETIC ACCEPTANCE: drafts were accepted at random, whatever the text (synthetic acceptance of 2.5 tokens a step).";
        assert!(banner(&rows).is_some_and(|banner| banner.starts_with(said)));
        assert!(super::super::closing::table(&rows, &[], 80).contains("SYNTHETIC ACCEPTANCE"));
        let table = super::super::markdown::headline(&rows, true);
        let column = table.head.iter().position(|head| head == "tok/step");
        assert_eq!(column.map(|at| table.rows[1][at].as_str()), Some("2.50 synthetic"));
    }
}
