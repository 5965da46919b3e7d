//! An objective: a bound on one figure of a load, such as `ttft.p99 < 500ms`. `[search]`, `--search` and `zones --slo` read this one
//! language.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use super::units::Span;
use crate::document::{InputError, nearest};

/// A bound on a figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Objective {
    pub figure: Figure,
    /// The figure must stay below the bound, not above.
    pub is_upper: bool,
    /// The bound itself is kept.
    includes: bool,
    /// ms, a share, or the unit of the figure.
    pub bound: f64,
    /// As the user wrote it.
    text: String,
}

/// What an objective bounds.
#[derive(Debug, Clone, PartialEq)]
pub enum Figure {
    /// A latency in ms by its name, `ttft.p99`.
    Latency(String),
    /// Failed requests as a share of all.
    ErrorRate,
    /// Requests that meet `load.slo` as a share of all.
    Goodput,
    OutputTokensPerS,
    RequestsPerS,
    /// The mean over requests of 1 / ITL.
    TokensPerSPerUser,
    /// Another number of `summary.json`, by its path.
    Path(String),
}

/// What the value of a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Ms,
    Share,
    /// Tokens or requests per second, or any other number.
    Plain,
}

const LATENCIES: [&str; 5] = ["ttft", "itl", "icl", "e2e", "e2e_per_token"];
/// Other names of latencies.
const ALIASES: [(&str, &str); 3] = [("tpot", "itl"), ("latency", "e2e"), ("e2el", "e2e")];
const STATISTICS: [&str; 13] =
    ["avg", "min", "max", "std", "p1", "p5", "p10", "p25", "p50", "p75", "p90", "p95", "p99"];
/// Figures by their names, the first of which is the usual one.
const NAMED: [(&[&str], Figure); 5] = [
    (&["error_rate", "errors"], Figure::ErrorRate),
    (&["goodput"], Figure::Goodput),
    (&["output_tokens_per_s", "throughput.output_tokens_per_s"], Figure::OutputTokensPerS),
    (&["requests_per_s", "throughput.requests_per_s"], Figure::RequestsPerS),
    (
        &["tokens_per_s_per_user", "output_tokens_per_s_per_user", "throughput.output_tokens_per_s_per_user"],
        Figure::TokensPerSPerUser,
    ),
];
const EXPECTED: &str = "ttft, itl, tpot, icl, e2e or e2e_per_token with avg, p50, p90, p95 or p99, as in ttft.p99; errors, goodput, \
                        output_tokens_per_s, requests_per_s or tokens_per_s_per_user";

/// The latency of this name or alias, with or without its unit: `tpot_ms` is `itl`.
pub fn latency(name: &str) -> Option<&'static str> {
    let name = name.strip_suffix("_ms").unwrap_or(name);
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, known)| *known);
    alias.or_else(|| LATENCIES.into_iter().find(|known| *known == name))
}

impl Figure {
    /// The figure of this name; a path with a dot in it may be any number of `summary.json`.
    fn named(name: &str) -> Option<Self> {
        if let Some((_, figure)) = NAMED.iter().find(|(names, _)| names.contains(&name)) {
            return Some(figure.clone());
        }
        let (metric, statistic) = name.rsplit_once('.')?;
        if let Some(metric) = latency(metric).filter(|_| STATISTICS.contains(&statistic)) {
            return Some(Self::Latency(format!("{metric}.{statistic}")));
        }
        let is_word = |part: &str| !part.is_empty() && !part.contains(char::is_whitespace);
        name.split('.').all(is_word).then(|| Self::Path(name.to_owned()))
    }

    pub fn unit(&self) -> Unit {
        match self {
            Self::Latency(_) => Unit::Ms,
            Self::ErrorRate | Self::Goodput => Unit::Share,
            Self::Path(path) if path.contains("_ms.") => Unit::Ms,
            _ => Unit::Plain,
        }
    }

    /// Its path in `summary.json`, if it stands there.
    pub fn path(&self) -> Option<String> {
        Some(match self {
            Self::Latency(name) => name.replacen('.', "_ms.", 1),
            Self::ErrorRate | Self::Goodput => return None,
            Self::OutputTokensPerS => "throughput.output_tokens_per_s".into(),
            Self::RequestsPerS => "throughput.requests_per_s".into(),
            Self::TokensPerSPerUser => "throughput.output_tokens_per_s_per_user".into(),
            Self::Path(path) => path.clone(),
        })
    }

    /// The side on which its bound makes sense; `None` for both.
    fn is_upper(&self) -> Option<bool> {
        match self {
            Self::Latency(_) | Self::ErrorRate => Some(true),
            Self::Goodput => Some(false),
            _ => None,
        }
    }

    /// The bound in its unit; the error says what was expected.
    fn bound(&self, value: &str) -> Result<f64, &'static str> {
        let number = |digits: &str| {
            digits.trim().parse::<f64>().ok().filter(|number| *number >= 0.0 && number.is_finite())
        };
        let time = || Span::with_unit(value).map(Span::millis);
        match (self, self.unit()) {
            (Self::Path(_), Unit::Ms) => {
                number(value).map_or_else(time, Ok).map_err(|_| "a time such as 500ms")
            }
            (_, Unit::Ms) => time()
                .map_err(|_| "a time with its unit, such as 500ms: other tools mean ms by a bare number"),
            (_, Unit::Share) => {
                let share = value
                    .strip_suffix('%')
                    .map_or_else(|| number(value), |digits| Some(number(digits)? / 100.0));
                share.filter(|share| *share <= 1.0).ok_or("a share such as 1% or 0.01")
            }
            (_, Unit::Plain) => number(value).ok_or("a number without a unit"),
        }
    }
}

/// Every figure by its usual name.
fn names() -> impl Iterator<Item = String> {
    let metrics = LATENCIES.iter().copied().chain(ALIASES.map(|(alias, _)| alias));
    let latencies = metrics.flat_map(|metric| STATISTICS.map(|statistic| format!("{metric}.{statistic}")));
    latencies.chain(NAMED.iter().flat_map(|(names, _)| names.iter().map(|name| (*name).to_owned())))
}

/// What is wrong with an objective.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    problem: String,
    expected: String,
    meant: Option<String>,
}

impl Mistake {
    /// No figure has this name.
    pub fn unknown(name: &str) -> Self {
        let known: Vec<String> = names().collect();
        let meant = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
        Self { problem: format!("no figure {name:?}"), expected: EXPECTED.into(), meant }
    }

    /// As the error of a flag.
    pub fn at(self, flag: &str) -> InputError {
        let error = InputError::new(flag, self.problem).expected(self.expected);
        match self.meant {
            Some(meant) => error.next(format!("did you mean `{meant}`?")),
            None => error,
        }
    }
}

/// On one line, as serde and clap show it.
impl Display for Mistake {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}, expected {}", self.problem, self.expected)?;
        match &self.meant {
            Some(meant) => write!(f, "; did you mean `{meant}`?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Mistake {}

impl FromStr for Objective {
    type Err = Mistake;

    /// Reads `ttft.p99 < 500ms`, `errors <= 1%`, `goodput >= 95%`, `tokens_per_s_per_user > 20`.
    fn from_str(text: &str) -> Result<Self, Mistake> {
        let text = text.trim();
        let wrong =
            |problem: String, expected: &str| Mistake { problem, expected: expected.into(), meant: None };
        let at = text.find(['<', '>']).ok_or_else(|| {
            wrong(format!("no `<`, `<=`, `>` or `>=` in {text:?}"), "a bound such as ttft.p99 < 500ms")
        })?;
        let (name, rest) = text.split_at(at);
        let (name, is_upper) = (name.trim(), rest.starts_with('<'));
        let rest = rest.get(1..).unwrap_or_default();
        let (includes, value) = rest.strip_prefix('=').map_or((false, rest), |value| (true, value));
        let value = value.trim();
        let figure = Figure::named(name).ok_or_else(|| Mistake::unknown(name))?;
        // The bound of a latency, and no latency of this name.
        if figure.unit() == Unit::Plain && Span::with_unit(value).is_ok() && matches!(figure, Figure::Path(_))
        {
            return Err(Mistake::unknown(name));
        }
        if figure.is_upper().is_some_and(|upper| upper != is_upper) {
            let (found, sign) = if is_upper { ('<', '>') } else { ('>', '<') };
            return Err(wrong(format!("`{found}` in {text:?}"), &format!("{name} {sign} {value}")));
        }
        let bound = figure
            .bound(value)
            .map_err(|expected| wrong(format!("found {value:?} in {text:?}"), expected))?;
        Ok(Self { figure, is_upper, includes, bound, text: text.to_owned() })
    }
}

impl Objective {
    /// The objective of a recipe with `load.slo`: 99 % of the requests meet its bounds.
    pub fn of_goodput() -> Self {
        Self {
            figure: Figure::Goodput,
            is_upper: false,
            includes: true,
            bound: 0.99,
            text: "goodput >= 99%".into(),
        }
    }

    /// The name of its figure as written: `ttft.p99`.
    pub fn name(&self) -> &str {
        self.text.split(['<', '>']).next().unwrap_or_default().trim()
    }

    pub fn is_kept(&self, value: f64) -> bool {
        match self.is_upper {
            _ if value == self.bound => self.includes,
            true => value < self.bound,
            false => value > self.bound,
        }
    }
}

impl Display for Objective {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objectives_as_people_write_them() {
        let latency = |name: &str| Figure::Latency(name.to_owned());
        for (text, figure, is_upper, bound) in [
            ("ttft.p99 < 500ms", latency("ttft.p99"), true, 500.0),
            ("itl.p95<25ms", latency("itl.p95"), true, 25.0),
            ("tpot.avg < 25ms", latency("itl.avg"), true, 25.0),
            ("e2e_ms.avg <= 2s", latency("e2e.avg"), true, 2000.0),
            ("latency.p99 < 2s", latency("e2e.p99"), true, 2000.0),
            ("e2e_per_token.p90 < 30ms", latency("e2e_per_token.p90"), true, 30.0),
            ("errors < 1%", Figure::ErrorRate, true, 0.01),
            ("error_rate <= 0.01", Figure::ErrorRate, true, 0.01),
            ("goodput > 95%", Figure::Goodput, false, 0.95),
            ("requests_per_s >= 3.5", Figure::RequestsPerS, false, 3.5),
            ("throughput.output_tokens_per_s > 900", Figure::OutputTokensPerS, false, 900.0),
            ("throughput.output_tokens_per_s_per_user > 30", Figure::TokensPerSPerUser, false, 30.0),
            ("client.loop_lag_ms.p99 < 5ms", Figure::Path("client.loop_lag_ms.p99".to_owned()), true, 5.0),
            ("energy.joules < 5", Figure::Path("energy.joules".to_owned()), true, 5.0),
        ] {
            let read: Objective = text.parse().unwrap();
            assert_eq!((&read.figure, read.is_upper, read.bound), (&figure, is_upper, bound), "{text}");
            assert_eq!(read.to_string(), text);
        }
    }

    #[test]
    fn what_is_wrong_with_an_objective_is_named() {
        for (text, words) in [
            ("ttft.p99", "no `<`, `<=`, `>` or `>=` in \"ttft.p99\", expected a bound such as"),
            ("tfft.p99 < 50ms", "no figure \"tfft.p99\", expected ttft, itl"),
            ("tfft.p99 < 50ms", "did you mean `ttft.p99`?"),
            ("ttft.p9 < 1s", "did you mean `ttft.p"),
            ("error < 1%", "did you mean `errors`?"),
            ("ttft < 1s", "expected ttft, itl"),
            ("ttft.p99 < 500", "found \"500\" in \"ttft.p99 < 500\", expected a time with its unit"),
            ("ttft.p99 > 5ms", "`>` in \"ttft.p99 > 5ms\", expected ttft.p99 < 5ms"),
            ("goodput < 5%", "expected goodput > 5%"),
            ("errors < x", "a share such as 1%"),
            ("error_rate < 5", "a share such as 1%"),
            ("requests_per_s > fast", "a number without a unit"),
            ("a.b > NaN", "a number without a unit"),
        ] {
            let error = text.parse::<Objective>().unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn a_bound_is_kept_on_its_own_side_and_with_an_equals_sign_at_the_bound() {
        for (text, kept) in [
            ("errors < 1%", [true, false, false]),
            ("errors <= 1%", [true, true, false]),
            ("goodput > 1%", [false, false, true]),
            ("goodput >= 1%", [false, true, true]),
        ] {
            let objective: Objective = text.parse().unwrap();
            assert_eq!([0.009, 0.01, 0.011].map(|value| objective.is_kept(value)), kept, "{text}");
        }
    }
}
