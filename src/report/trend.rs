//! All runs of load points over time: table, CSV, JSON, JUnit XML.

use itertools::Itertools;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::PointResult;
use super::chart::escape;
use super::comparison::{called, percent};
use super::csv::quoted;
use super::table::{Table, number};
use crate::analyze::compare::Gate;
use crate::analyze::trend::{Place, places};
use crate::metrics::Summary;

/// A load point of an experiment.
#[derive(Debug, Clone)]
pub struct Dated {
    pub at: Timestamp,
    /// Name of the experiment.
    pub experiment: String,
    pub recipe: String,
    pub gpu: String,
    /// The mean of its repeats.
    pub row: PointResult,
}

impl Dated {
    /// Runs with the same key are runs of one load point.
    fn key(&self) -> (&str, &str, &str, &str, bool) {
        (&self.recipe, &self.row.model, &self.gpu, self.row.load_name(), self.row.summary.simulated)
    }

    fn name(&self) -> String {
        let simulated = if self.row.summary.simulated { " (simulated)" } else { "" };
        format!("{} {} {}{simulated}", self.recipe, self.gpu, self.row.load_name())
    }
}

/// A run with its figures.
#[derive(Debug, Clone)]
struct Run {
    of: Dated,
    figures: Vec<(Option<f64>, Option<Place>)>,
}

/// The runs of one load point, in order of time.
#[derive(Debug, Clone)]
struct Line {
    name: String,
    runs: Vec<Run>,
}

/// All load points.
#[derive(Debug, Clone)]
pub struct Trends {
    figures: Vec<String>,
    lines: Vec<Line>,
}

/// What fails a gate: the newest run of a load point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regression {
    pub name: String,
    pub told: String,
}

impl Trends {
    /// Of runs in any order.
    pub fn of(mut all: Vec<Dated>, figures: &[String]) -> Self {
        all.sort_by(|a, b| a.key().cmp(&b.key()).then(a.at.cmp(&b.at)));
        let line = |runs: &[Dated]| {
            let summaries: Vec<(&Summary, u32)> =
                runs.iter().map(|run| (&run.row.summary, run.row.gpus)).collect();
            let columns: Vec<Vec<_>> = figures.iter().map(|figure| places(&summaries, figure)).collect();
            let run = |(at, of): (usize, &Dated)| Run {
                of: of.clone(),
                figures: columns.iter().map(|column| column[at]).collect(),
            };
            Line {
                name: runs.first().map(Dated::name).unwrap_or_default(),
                runs: runs.iter().enumerate().map(run).collect(),
            }
        };
        let lines = all.chunk_by(|a, b| a.key() == b.key()).map(line).collect();
        Self { figures: figures.to_vec(), lines }
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// A table for each load point.
    pub fn text(&self, width: usize) -> String {
        let page = |line: &Line| {
            let heads = self.figures.iter().flat_map(|figure| [called(figure), "change".to_owned()]);
            let mut table = Table::keyed(vec!["run (UTC)".into()]);
            table.head.extend(heads.chain(["verdict".into(), "engine".into()]));
            for run in &line.runs {
                let mut cells = vec![run.of.at.strftime("%Y-%m-%d %H:%M").to_string()];
                for (value, place) in &run.figures {
                    cells.push(value.map_or_else(|| "N/A".into(), number));
                    cells.push(place.map_or_else(String::new, |place| percent(place.difference)));
                }
                cells.push(run.of.row.summary.verdict.result.to_string());
                cells.push(run.of.row.summary.engine_version.clone().unwrap_or_default());
                table.push(cells);
            }
            let last = table.head.len() - 1;
            format!("{}\n{}", line.name, table.fitted(&[0, last], width))
        };
        self.lines.iter().map(page).join("\n")
    }

    /// A row a run.
    pub fn csv(&self) -> String {
        let figures = self.figures.iter().flat_map(|figure| [figure.clone(), format!("{figure} change")]);
        let head = ["at", "experiment", "recipe", "gpu", "point", "simulated", "verdict", "engine"];
        let mut text =
            head.iter().map(|name| (*name).to_owned()).chain(figures).map(|name| quoted(&name)).join(",");
        text.push('\n');
        for run in self.lines.iter().flat_map(|line| &line.runs) {
            let (of, summary) = (&run.of, &run.of.row.summary);
            let mut cells = vec![
                of.at.to_string(),
                quoted(&of.experiment),
                quoted(&of.recipe),
                quoted(&of.gpu),
                quoted(of.row.load_name()),
                summary.simulated.to_string(),
                summary.verdict.result.to_string(),
                quoted(summary.engine_version.as_deref().unwrap_or_default()),
            ];
            for (value, place) in &run.figures {
                cells.push(value.map_or_else(String::new, |value| format!("{value:.3}")));
                cells.push(place.map_or_else(String::new, |place| format!("{:.4}", place.difference)));
            }
            text.push_str(&format!("{}\n", cells.join(",")));
        }
        text
    }

    /// A list of load points with their runs.
    pub fn json(&self) -> Value {
        let figure = |(name, (value, place)): (&String, &(Option<f64>, Option<Place>))| {
            (name.clone(), json!({"value": value, "earlier": place}))
        };
        let run = |run: &Run| {
            let figures: serde_json::Map<String, Value> =
                self.figures.iter().zip(&run.figures).map(figure).collect();
            json!({
                "at": run.of.at,
                "experiment": run.of.experiment,
                "engine_version": run.of.row.summary.engine_version,
                "verdict": run.of.row.summary.verdict.result,
                "figures": figures,
            })
        };
        let line = |line: &Line| {
            let first = line.runs.first().map(|run| &run.of);
            json!({
                "recipe": first.map(|of| &of.recipe),
                "gpu": first.map(|of| &of.gpu),
                "point": first.map(|of| of.row.load_name()),
                "simulated": first.map(|of| of.row.summary.simulated),
                "runs": line.runs.iter().map(run).collect::<Vec<_>>(),
            })
        };
        self.lines.iter().map(line).collect()
    }

    /// The newest runs that fail a gate.
    pub fn regressions(&self, gates: &[Gate]) -> Vec<Regression> {
        self.lines.iter().filter_map(|line| self.regression(line, gates)).collect()
    }

    fn regression(&self, line: &Line, gates: &[Gate]) -> Option<Regression> {
        let newest = line.runs.last()?;
        let told = |gate: &Gate| {
            let at = self.figures.iter().position(|figure| *figure == gate.figure)?;
            let (value, place) = (newest.figures[at].0?, newest.figures[at].1?);
            place.fails(gate, value).then(|| {
                format!(
                    "{}: {} of {}, {} against the median {} of {} earlier runs ({} to {})",
                    gate.text,
                    number(value),
                    newest.of.experiment,
                    percent(place.difference),
                    number(place.baseline),
                    place.n,
                    number(place.low),
                    number(place.high)
                )
            })
        };
        let told = gates.iter().filter_map(told).join("; ");
        (!told.is_empty()).then(|| Regression { name: line.name.clone(), told })
    }

    /// JUnit XML: a test per load point, which fails with its newest run.
    pub fn junit(&self, gates: &[Gate]) -> String {
        let failed = self.regressions(gates).len();
        let mut text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"tokmark history\" tests=\"{}\" failures=\"{failed}\">\n",
            self.lines.len()
        );
        for line in &self.lines {
            let name = escape(&line.name);
            text.push_str(&match self.regression(line, gates) {
                Some(Regression { told, .. }) => format!(
                    "  <testcase classname=\"tokmark\" name=\"{name}\"><failure message=\"{}\"/></testcase>\n",
                    escape(&told)
                ),
                None => format!("  <testcase classname=\"tokmark\" name=\"{name}\"/>\n"),
            });
        }
        text + "</testsuite>\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::{point, run, sound};
    use crate::metrics::summary::{Context, summarize};

    const TOKENS: &str = "throughput.output_tokens_per_s";

    fn dated(second: i64, tokens: f64) -> Dated {
        let ran = run(sound());
        let mut summary = summarize(&point(), &ran, &ran.fold(), &Context::default());
        summary.throughput.output_tokens_per_s = tokens;
        let row = PointResult {
            point: "isl100_osl10_con1".into(),
            series: "isl100_osl10".into(),
            deployment: String::new(),
            workload: "isl100_osl10".into(),
            model: "m".into(),
            configuration: String::new(),
            axes: Vec::new(),
            gpus: 1,
            price: None,
            summary,
        };
        Dated {
            at: Timestamp::from_second(second).unwrap(),
            experiment: format!("e{second}"),
            recipe: "<r>".into(),
            gpu: "h100".into(),
            row,
        }
    }

    #[test]
    fn the_newest_run_of_a_point_is_held_against_those_before_it() {
        // In any order: 100, 101, 102, then 80.
        let all = vec![dated(4, 80.0), dated(2, 101.0), dated(1, 100.0), dated(3, 102.0)];
        let trends = Trends::of(all, &[TOKENS.to_owned()]);
        let gate = |text: &str| vec![Gate::parse(text).unwrap()];
        let found = trends.regressions(&gate("output_tokens_per_s < -5%"));
        let told = "output_tokens_per_s < -5%: 80.0 of e4, -20.8 % against the median 101 of 3 earlier runs (100 to 102)";
        assert_eq!(found, [Regression { name: "<r> h100 isl100_osl10_con1".into(), told: told.into() }]);
        assert_eq!(trends.regressions(&gate("output_tokens_per_s > 5%")), []);
        let text = trends.text(80);
        assert!(text.starts_with("<r> h100 isl100_osl10_con1\n") && text.contains("-20.8 %"), "{text}");
        assert_eq!(trends.csv().lines().count(), 5);
        let xml = trends.junit(&gate("output_tokens_per_s < -5%"));
        assert!(xml.contains("tests=\"1\" failures=\"1\"") && xml.contains("name=\"&lt;r&gt; h100"), "{xml}");
        assert_eq!(trends.json()[0]["runs"][3]["figures"][TOKENS]["earlier"]["baseline"], 101.0);
    }
}
