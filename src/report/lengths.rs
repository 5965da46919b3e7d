//! Lengths of prompts and of the answers they ask for: figures, a histogram as text and as a chart.

use std::fmt::Write;

use serde::Serialize;

use super::chart::{Axis, Chart, Draw, Point, Series};
use super::table::{Table, number};
use crate::metrics::Distribution;

/// Bars of a histogram.
const BARS: u32 = 12;

/// Columns of the longest bar.
const WIDTH: usize = 40;

/// Tokens of each prompt and of its answer.
#[derive(Debug)]
pub struct Lengths {
    isl: Vec<u32>,
    osl: Vec<u32>,
}

/// A range of prompt lengths, both ends included.
#[derive(Debug, Serialize)]
pub struct Bar {
    from: u32,
    to: u32,
    prompts: usize,
}

impl Lengths {
    /// The pairs of ISL and OSL.
    pub fn of(lengths: impl Iterator<Item = (u32, u32)>) -> Self {
        let (isl, osl) = lengths.unzip();
        Self { isl, osl }
    }

    /// `100 prompts, 12800 prompt tokens, 12800 output tokens asked for`
    pub fn totals(&self) -> String {
        let sum = |lengths: &[u32]| lengths.iter().map(|length| u64::from(*length)).sum::<u64>();
        let (prompts, isl, osl) = (self.isl.len(), sum(&self.isl), sum(&self.osl));
        format!("{prompts} prompts, {isl} prompt tokens, {osl} output tokens asked for")
    }

    /// Figures of ISL and OSL; `None` without prompts.
    pub fn figures(&self) -> [Option<Distribution>; 2] {
        [&self.isl, &self.osl]
            .map(|lengths| Distribution::of(&mut lengths.iter().map(|length| f64::from(*length)).collect()))
    }

    /// Up to [`BARS`] ranges of equal width.
    pub fn histogram(&self) -> Vec<Bar> {
        let (Some(least), Some(most)) = (self.isl.iter().min(), self.isl.iter().max()) else {
            return Vec::new();
        };
        let width = (most - least + 1).div_ceil(BARS);
        let bar = |from: u32| {
            let to = from.saturating_add(width - 1).min(*most);
            Bar { from, to, prompts: self.isl.iter().filter(|isl| (from..=to).contains(*isl)).count() }
        };
        (*least..=*most).step_by(width as usize).map(bar).collect()
    }

    /// The figures as a table, and the histogram.
    pub fn text(&self) -> String {
        let figures = self.figures().map(Option::unwrap_or_default);
        let mut table = Table::new(["TOKENS", "PROMPT", "OUTPUT"]);
        for name in ["mean", "stddev", "min", "p25", "p50", "p75", "p99", "max"] {
            let statistic = match name {
                "mean" => "avg",
                "stddev" => "std",
                name => name,
            };
            let cell = |lengths: &Distribution| format!("{:.1}", lengths.get(statistic).unwrap_or_default());
            let [isl, osl] = figures.each_ref().map(cell);
            table.push(vec![name.to_owned(), isl, osl]);
        }
        let mut text = format!("{}\nprompts by length\n", table.text(&[0]));
        let bars = self.histogram();
        let most = bars.iter().map(|bar| bar.prompts).max().unwrap_or(1);
        for Bar { from, to, prompts } in bars {
            let range = if from == to { from.to_string() } else { format!("{from}-{to}") };
            let _ =
                writeln!(text, "{range:>13} {prompts:>7} {}", "#".repeat((prompts * WIDTH).div_ceil(most)));
        }
        text
    }

    /// The histogram of the prompts of a load point.
    pub fn chart(&self, point: &str) -> Chart {
        let bars = self.histogram();
        let width = bars.first().map_or(1.0, |bar| f64::from(bar.to - bar.from) + 1.0);
        let middle = |bar: Bar| Point::new(f64::midpoint(bar.from.into(), bar.to.into()), bar.prompts as f64);
        let points: Vec<Point> = bars.into_iter().map(middle).collect();
        let (low, high) =
            (points.first().map_or(0.0, |point| point.x), points.last().map_or(1.0, |point| point.x));
        let figures = self.figures().map(Option::unwrap_or_default);
        let series = Series { draw: Draw::Bars(width), ..Series::bare(points) };
        Chart {
            name: "prompt-lengths".into(),
            title: format!("Prompt lengths of {point}"),
            about: String::new(),
            warnings: Vec::new(),
            x: Axis::span("prompt tokens", low - width, high + width),
            y: Axis::from_zero("prompts", Chart::values(std::slice::from_ref(&series))),
            series: vec![series],
            bands: Vec::new(),
            lines: Vec::new(),
            clock: None,
            sentence: format!(
                "{} prompts have {} tokens on average, from {} to {}.",
                self.isl.len(),
                number(figures[0].avg),
                number(figures[0].min),
                number(figures[0].max)
            ),
        }
    }
}
