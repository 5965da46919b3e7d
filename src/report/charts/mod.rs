//! The charts of an experiment, by what was run: figures over load, distributions of one point, a ramp over time, a grid of servers.

mod clock;
mod grid;
mod levels;
mod pareto;
mod power;
mod spread;
mod sweep;

use super::chart::{Axis, Chart, png, svg};
use super::material::Run;
use super::{Header, PointResult};
use crate::metrics::Rating;

/// What charts are made of.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    pub header: &'a Header,
    pub rows: &'a [PointResult],
    /// Points that are shown request by request.
    pub runs: &'a [Run],
}

/// Every chart that this experiment can fill.
pub fn charts(source: Source<'_>) -> Vec<Chart> {
    let mut charts = sweep::charts(source);
    charts.extend(pareto::charts(source));
    charts.extend(grid::charts(source));
    for run in source.runs {
        let is_ramp = source.rows.iter().any(|row| row.point == run.point && row.summary.stages.is_some());
        let mut own = clock::charts(source, run);
        if is_ramp {
            own.extend(spread::over_time(source, run));
        } else {
            own.splice(0..0, spread::charts(source, run));
        }
        if source.runs.len() > 1 {
            own.iter_mut().for_each(|chart| chart.is_of(&run.point));
        }
        charts.extend(own);
    }
    charts
}

/// The files of charts: name and content. PNG takes a second or two in all, SVG nothing to speak of.
///
/// # Errors
/// A chart cannot be drawn.
pub fn files(charts: &[Chart], with_png: bool) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for chart in charts {
        let text = svg(chart)?;
        if with_png {
            files.push((format!("{}.png", chart.name), png(&text)?));
        }
        files.push((format!("{}.svg", chart.name), text.into_bytes()));
    }
    Ok(files)
}

/// What a rehearsal left out; `None` for any other run.
pub(super) fn rehearsal(header: &Header) -> Option<String> {
    let fact = header.facts.iter().find(|(name, _)| *name == "rehearsal");
    fact.map(|(_, fact)| format!("REHEARSAL: {fact}"))
}

impl Source<'_> {
    /// A chart with what all charts of this experiment share.
    fn blank(&self) -> Chart {
        Chart {
            name: String::new(),
            title: String::new(),
            about: self.about(),
            warnings: self.warnings(),
            x: Axis::from_zero("", []),
            y: Axis::from_zero("", []),
            series: Vec::new(),
            bands: Vec::new(),
            lines: Vec::new(),
            sentence: String::new(),
            clock: None,
        }
    }

    /// Recipe and model.
    fn about(&self) -> String {
        let fact = |name| self.header.facts.iter().find(|(known, _)| *known == name);
        let of = |name, before| fact(name).map(|(_, value)| format!("{before}{value}")).unwrap_or_default();
        format!("{}{}{}", self.header.name, of("model", ", "), of("GPUs", "; GPUs: "))
    }

    /// What a reader of any picture must know first.
    fn warnings(&self) -> Vec<String> {
        let count = |rating| self.rows.iter().filter(|row| row.summary.verdict.result == rating).count();
        let of = |count: usize, what: &str| {
            (count > 0).then(|| format!("{count} of {} load points {what}", self.rows.len()))
        };
        let is_synthetic =
            |row: &PointResult| row.summary.speculation.as_ref().is_some_and(|known| known.synthetic);
        let synthetic = self.rows.iter().any(is_synthetic);
        let simulated = self.rows.iter().any(|row| row.summary.simulated);
        [
            simulated.then(|| "SIMULATED: not from a GPU".to_owned()),
            synthetic.then(|| "SYNTHETIC ACCEPTANCE of drafts".to_owned()),
            rehearsal(self.header),
            of(count(Rating::Suspect), "suspect (○)"),
            of(count(Rating::Invalid), "invalid (×)"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
