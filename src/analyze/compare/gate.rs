//! `--fail-if 'output_tokens_per_s < -5%'`: differences that end a comparison with exit code 5.

use serde::Serialize;

use super::{FigurePair, PointPair, Verdict};
use crate::analyze::metric;
use crate::document::InputError;

/// A bound for the difference of a figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// As written.
    pub text: String,
    /// Path in `summary.json`.
    pub figure: String,
    /// Fails above the bound; else below it.
    above: bool,
    /// The difference, as a share of A.
    bound: f64,
}

/// A point that fails a gate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failed {
    pub gate: String,
    pub point: String,
    pub figure: String,
    /// As a share of A.
    pub difference: f64,
}

impl Gate {
    /// Reads `ttft_ms.p99 > 10%` or `output_tokens_per_s < -5%`; the last part of a path is enough where it says which.
    pub fn parse(text: &str) -> Result<Self, InputError> {
        let wrong = |problem: String| InputError::new(format!("--fail-if {text:?}"), problem);
        const EXAMPLE: &str =
            "a figure, < or >, and its difference in percent, e.g. output_tokens_per_s < -5%";
        let at = text.find(['<', '>']).ok_or_else(|| wrong("no `<` or `>`".into()).expected(EXAMPLE))?;
        let (name, rest) = (text[..at].trim(), &text[at + 1..]);
        let percent = rest.trim().strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        let bound = percent.filter(|percent| percent.is_finite());
        let bound = bound.ok_or_else(|| wrong(format!("found {:?}", rest.trim())).expected(EXAMPLE))?;
        let figure = figure(name).map_err(|error| wrong(error.0).expected(EXAMPLE).next(error.1))?;
        Ok(Self {
            text: text.trim().to_owned(),
            figure,
            above: text[at..].starts_with('>'),
            bound: bound / 100.0,
        })
    }

    /// Whether a difference, as a share, is beyond the bound.
    pub fn is_beyond(&self, difference: f64) -> bool {
        if self.above { difference > self.bound } else { difference < self.bound }
    }

    /// The points whose difference is beyond the bound, and more than noise. A difference without an interval counts.
    pub fn failed(&self, points: &[PointPair]) -> Vec<Failed> {
        let is_beyond = |pair: &&FigurePair| {
            pair.figure == self.figure
                && pair.difference.is_some_and(|difference| self.is_beyond(difference))
                && pair.verdict != Verdict::WithinNoise
        };
        let of_point = |point: &PointPair| {
            let of = |pair: &FigurePair| Failed {
                gate: self.text.clone(),
                point: point.point.clone(),
                figure: self.figure.clone(),
                difference: pair.difference.unwrap_or_default(),
            };
            point.figures.iter().find(is_beyond).map(of)
        };
        points.iter().filter_map(of_point).collect()
    }
}

/// The path that a name stands for; else what is wrong, and what to do.
pub(super) fn figure(name: &str) -> Result<String, (String, String)> {
    let known = metric::paths();
    if metric::is_known(name, &known) {
        return Ok(name.to_owned());
    }
    let ends: Vec<&String> = known.iter().filter(|path| path.ends_with(&format!(".{name}"))).collect();
    let throughput = format!("throughput.{name}");
    match ends.as_slice() {
        _ if known.contains(&throughput) => Ok(throughput),
        [only] => Ok((*only).clone()),
        _ => Err((
            format!("no figure {name:?}"),
            match metric::meant(name, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`tokmark schema summary` shows all of them".into(),
            },
        )),
    }
}

impl Gate {
    /// The path of a figure that the user named.
    ///
    /// # Errors
    /// `summary.json` has no such number.
    pub fn figure(flag: &str, name: &str) -> Result<String, InputError> {
        figure(name).map_err(|(problem, next)| {
            InputError::new(format!("{flag} {name:?}"), problem)
                .expected("a path such as throughput.output_tokens_per_s or ttft_ms.p99")
                .next(next)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_name_a_figure_a_side_and_percent() {
        let gate = Gate::parse(" output_tokens_per_s < -5% ").unwrap();
        assert_eq!(
            (gate.figure.as_str(), gate.above, gate.bound),
            ("throughput.output_tokens_per_s", false, -0.05)
        );
        let gate = Gate::parse("ttft_ms.p99>10 %").unwrap();
        assert_eq!((gate.figure.as_str(), gate.above, gate.bound), ("ttft_ms.p99", true, 0.1));
        for (text, problem) in [
            ("ttft_ms.p99", "no `<` or `>`"),
            ("ttft_ms.p99 > 10", "found \"10\""),
            ("ttft_ms.p99 > NaN%", "found \"NaN%\""),
            ("ttft_ms.p98 > 1%", "no figure \"ttft_ms.p98\""),
            ("> 1%", "no figure \"\""),
        ] {
            let error = Gate::parse(text).unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn noise_fails_no_gate_and_a_difference_without_interval_does() {
        let pair = |difference, verdict| PointPair {
            point: format!("{difference}"),
            runs: (1, 1),
            not_comparable: None,
            figures: vec![FigurePair {
                figure: "ttft_ms.p99".into(),
                a: 100.0,
                b: 100.0 * (1.0 + difference),
                difference: Some(difference),
                interval: None,
                verdict,
            }],
        };
        let points = [
            pair(0.1, Verdict::Worse),
            pair(0.2, Verdict::WithinNoise),
            pair(0.3, Verdict::Worse),
            pair(0.4, Verdict::NotKnown),
            pair(-0.5, Verdict::Better),
        ];
        let failed = Gate::parse("ttft_ms.p99 > 10%").unwrap().failed(&points);
        let names: Vec<&str> = failed.iter().map(|failed| failed.point.as_str()).collect();
        assert_eq!(names, ["0.3", "0.4"]);
    }
}
