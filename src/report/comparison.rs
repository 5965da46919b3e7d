//! What `tokmark compare` says: what differs in the configuration, then the figures, for a terminal or a pull request.

use itertools::Itertools;
use serde_json::{Value, json};

use super::PointResult;
use super::table::{Table, number, wrapped};
use crate::analyze::compare::{Change, Failed, FigurePair, Interval, Measured, PointPair, Verdict};
use crate::metrics::Summary;
use crate::plan::without_repeat;

/// One side against the other.
#[derive(Debug, Clone)]
pub struct Comparison {
    pub a: String,
    pub b: String,
    pub changes: Vec<Change>,
    pub points: Vec<PointPair>,
    /// What failed a gate.
    pub failed: Vec<Failed>,
}

/// The load points of one side; repeats of a load, also those of several jobs, belong together.
pub fn measured(rows: &[PointResult]) -> Vec<Measured> {
    let is_single = rows.iter().map(|row| &row.deployment).all_equal();
    let mut points: Vec<Measured> = Vec::new();
    for row in rows {
        let point = &row.summary.point;
        let id = point.repeat.map_or(point.id.as_str(), |number| without_repeat(&point.id, number));
        let deployment = if is_single { "" } else { row.deployment.as_str() };
        match points.iter_mut().find(|known| known.id == id && known.deployment == deployment) {
            Some(known) => known.runs.push(row.summary.clone()),
            None => points.push(Measured {
                deployment: deployment.to_owned(),
                id: id.to_owned(),
                model: row.model.clone(),
                gpus: row.gpus,
                runs: vec![row.summary.clone()],
            }),
        }
    }
    for point in &mut points {
        if point.runs.iter().any(Summary::is_whole) {
            point.runs.retain(Summary::is_whole);
        }
    }
    points
}

impl Comparison {
    /// Whether any point could be compared.
    pub fn compared(&self) -> bool {
        self.points.iter().any(|point| point.not_comparable.is_none())
    }

    /// For a terminal of this width.
    pub fn text(&self, width: usize) -> String {
        let mut text = wrapped(
            &format!("B: {}\nagainst A: {}\n\n{}\n", self.b, self.a, self.changed().join("\n")),
            width,
        );
        if let Some(table) = self.table() {
            text.push_str(&format!("\n{}latencies in ms\n", table.fitted(&[0, 1, 6], width)));
        }
        let lines = self.lines();
        text + &wrapped(&format!("\n{}\n", lines.join("\n")), width)
    }

    /// For a pull request.
    pub fn markdown(&self) -> String {
        let item = |line: &String| format!("- {line}\n");
        let mut text = format!("### {} against {}\n\n", self.b, self.a);
        text.extend(self.changed().iter().map(item));
        if let Some(table) = self.table() {
            text.push_str(&format!(
                "\n{}\nA: {}; B: {}; latencies in ms.\n",
                table.markdown(),
                self.a,
                self.b
            ));
        }
        text.push('\n');
        text.extend(self.lines().iter().map(item));
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({"a": self.a, "b": self.b, "changes": self.changes, "points": self.points, "failed": self.failed, "summary": self.lines()})
    }

    /// What differs in the configuration.
    fn changed(&self) -> Vec<String> {
        match self.changes.as_slice() {
            [] => vec!["The configuration is the same.".into()],
            [one] => vec![format!("One variable: {}", one.words())],
            several => {
                let head = format!("{} settings differ:", several.len());
                std::iter::once(head)
                    .chain(several.iter().map(|change| format!("  {}", change.words())))
                    .collect()
            }
        }
    }

    fn table(&self) -> Option<Table> {
        let mut table = Table::new(["point", "figure", "A", "B", "B − A", "95 % interval", "verdict"]);
        for point in &self.points {
            for (at, pair) in point.figures.iter().enumerate() {
                let name = if at == 0 { point.point.clone() } else { String::new() };
                table.push(row(name, pair).to_vec());
            }
        }
        (!table.rows.is_empty()).then_some(table)
    }

    /// What the figures come to, what is not compared, and what failed.
    fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.headline().into_iter().collect();
        let why = |point: &PointPair| {
            Some(format!("Not compared: {}: {}.", point.point, point.not_comparable.as_ref()?))
        };
        lines.extend(self.points.iter().filter_map(why));
        let single =
            |point: &PointPair| point.not_comparable.is_none() && (point.runs.0 < 2 || point.runs.1 < 2);
        lines.extend(self.points.iter().any(single).then(|| SINGLE.to_owned()));
        let failed = |failed: &Failed| {
            format!("FAILED {}: {} at {}", failed.gate, percent(failed.difference), failed.point)
        };
        lines.extend(self.failed.iter().map(failed));
        lines
    }

    fn headline(&self) -> Option<String> {
        let pairs: Vec<&FigurePair> = self.points.iter().flat_map(|point| &point.figures).collect();
        let counts = pairs.iter().counts_by(|pair| pair.verdict);
        let told =
            counts.iter().sorted().map(|(verdict, count)| format!("{count} {}", verdict.words())).join(", ");
        let is_worst = |verdict| pairs.iter().filter(move |pair| pair.verdict == verdict);
        let (better, worse) = (is_worst(Verdict::Better).count(), is_worst(Verdict::Worse).count());
        let is_one = pairs.len() == 1;
        let all = format!("{} {}", pairs.len(), if is_one { "figure" } else { "figures" });
        let judged = match (better, worse) {
            (0, 0) => "B is not different from A beyond noise",
            (_, 0) => "B is better than A",
            (0, _) => "B is worse than A",
            _ => "B is better than A in some figures and worse in others",
        };
        let judged = if counts.contains_key(&Verdict::NotKnown) && better + worse == 0 {
            "Whether B differs from A is not known"
        } else {
            judged
        };
        (!pairs.is_empty()).then(|| format!("{judged}: of {all} {told}."))
    }
}

/// What intervals of single runs are worth.
const SINGLE: &str = "Single runs: an interval is that of the run's requests and does not contain what differs from run to run, so less than \
                      5 % is noise. Repeats (--repeats) find smaller differences.";

fn row(point: String, pair: &FigurePair) -> [String; 7] {
    let interval = |Interval { low, high }| format!("{} to {}", percent(low), percent(high));
    [
        point,
        called(&pair.figure),
        number(pair.a),
        number(pair.b),
        pair.difference.map_or_else(|| "N/A".into(), percent),
        pair.interval.map_or_else(|| "N/A".into(), interval),
        pair.verdict.words().to_owned(),
    ]
}

/// `-19.8 %`
pub(super) fn percent(share: f64) -> String {
    let value = (share * 1000.0).round() / 10.0;
    format!("{:+.1} %", if value == 0.0 { 0.0 } else { value })
}

/// The name of a figure in tables; others keep their path.
pub(super) fn called(path: &str) -> String {
    const NAMES: [(&str, &str); 5] = [
        ("throughput.output_tokens_per_s", "tok/s"),
        ("throughput.requests_per_s", "req/s"),
        ("throughput.goodput_per_s", "good/s"),
        ("throughput.output_tokens_per_s_per_gpu", "tok/s/gpu"),
        ("throughput.output_tokens_per_s_per_user", "tok/s/user"),
    ];
    let known = NAMES.iter().find(|(known, _)| *known == path).map(|(_, name)| (*name).to_owned());
    known.unwrap_or_else(|| match path.split_once("_ms.") {
        Some((name, statistic)) => format!("{} {statistic}", name.to_uppercase()),
        None => path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(figure: &str, b: f64, verdict: Verdict) -> FigurePair {
        let difference = b / 100.0 - 1.0;
        let interval = Some(Interval { low: difference - 0.01, high: difference + 0.01 });
        FigurePair { figure: figure.into(), a: 100.0, b, difference: Some(difference), interval, verdict }
    }

    fn comparison(figures: Vec<FigurePair>) -> Comparison {
        let other = PointPair {
            point: "con8".into(),
            runs: (0, 0),
            not_comparable: Some("measured in A alone".into()),
            figures: Vec::new(),
        };
        let point = PointPair { point: "con4".into(), runs: (1, 1), not_comparable: None, figures };
        let change = Change {
            what: "deploy.engine.max_num_seqs".into(),
            a: Some("256".into()),
            b: Some("512".into()),
        };
        Comparison {
            a: "old".into(),
            b: "new".into(),
            changes: vec![change],
            points: vec![point, other],
            failed: Vec::new(),
        }
    }

    #[test]
    fn the_page_begins_with_what_differs_and_fits_80_columns() {
        let figures = vec![
            pair("throughput.output_tokens_per_s", 80.0, Verdict::Worse),
            pair("ttft_ms.p99", 101.0, Verdict::WithinNoise),
        ];
        let one = comparison(figures);
        let text = one.text(80);
        assert!(
            text.starts_with(
                "B: new\nagainst A: old\n\nOne variable: deploy.engine.max_num_seqs 256 → 512\n"
            ),
            "{text}"
        );
        assert!(
            text.contains("-20.0 %") && text.contains("-21.0 % to -19.0 %") && text.contains("TTFT p99"),
            "{text}"
        );
        assert!(text.contains("B is worse than A: of 2 figures 1 worse, 1 within noise.\n"), "{text}");
        assert!(
            text.contains("Not compared: con8: measured in A alone.\n") && text.contains("Single runs:"),
            "{text}"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let page = one.markdown();
        assert!(page.starts_with("### new against old\n\n- One variable: deploy"), "{page}");
        assert!(page.contains("| con4 | tok/s | 100 | 80.0 | -20.0 % |"), "{page}");
    }

    #[test]
    fn headlines_say_which_way() {
        let told = |verdicts: &[Verdict]| {
            let figures = verdicts.iter().map(|verdict| pair("itl_ms.p50", 100.0, *verdict)).collect();
            comparison(figures).headline()
        };
        use Verdict::{Better, NotKnown, WithinNoise, Worse};
        for (verdicts, expected) in [
            (vec![], None),
            (vec![WithinNoise], Some("B is not different from A beyond noise: of 1 figure 1 within noise.")),
            (vec![Better, Better], Some("B is better than A: of 2 figures 2 better.")),
            (
                vec![Better, Worse],
                Some(
                    "B is better than A in some figures and worse in others: of 2 figures 1 better, 1 worse.",
                ),
            ),
            (vec![NotKnown], Some("Whether B differs from A is not known: of 1 figure 1 noise not known.")),
        ] {
            assert_eq!(told(&verdicts).as_deref(), expected);
        }
    }
}
