//! Columns of a table by their heads, and the numbers in their cells: other tools' names, units, thousands and percentages.

use super::level::Level;

/// A figure of a level.
type Figure = fn(&mut Level) -> &mut Option<f64>;

/// What a column holds.
#[derive(Debug, Clone)]
pub(super) enum Column {
    /// A figure without a unit.
    Plain(Figure),
    /// A share from 0 to 1, or a percentage.
    Share(Figure),
    /// A latency by its name in [`Level::figures`], and ms per unit of its numbers.
    Latency(String, f64),
    /// A share by its name in [`Level::figures`].
    Named(&'static str),
}

const PLAIN: [(&[&str], Figure); 6] = [
    (&["requests_per_s", "req/s", "req/sec", "request_throughput"], |level| &mut level.requests_per_s),
    (
        &["output_tokens_per_s", "tok/s", "tokens/sec", "output_throughput", "output_token_throughput"],
        |level| &mut level.output_tokens_per_s,
    ),
    (&["total_tokens_per_s", "total_token_throughput"], |level| &mut level.total_tokens_per_s),
    (&["output_tokens_per_s_per_user", "tok/s/user", "output_token_throughput_per_user"], |level| {
        &mut level.per_user
    }),
    (&["gpus", "num_gpus"], |level| &mut level.gpus),
    (&["waiting", "waiting_avg", "requests_waiting"], |level| &mut level.waiting),
];

const SHARES: [(&[&str], Figure); 2] = [
    (&["kv_cache", "kv_cache_usage", "gpu_cache_usage"], |level| &mut level.kv_cache),
    (&["error_rate"], |level| &mut level.error_rate),
];

/// The heads of throughput that a table needs one of.
pub(super) fn is_throughput(head: &str) -> bool {
    PLAIN.iter().take(2).any(|(names, _)| names.contains(&head))
}

/// The column with this head, in lower case with `_` for blanks; `None` if no rule reads it.
pub(super) fn column(head: &str) -> Option<Column> {
    if let Some((_, figure)) = PLAIN.iter().find(|(names, _)| names.contains(&head)) {
        return Some(Column::Plain(*figure));
    }
    if let Some((_, figure)) = SHARES.iter().find(|(names, _)| names.contains(&head)) {
        return Some(Column::Share(*figure));
    }
    if head == "goodput_share" {
        return Some(Column::Named("goodput"));
    }
    latency(head)
}

/// `mean_ttft_ms`, `p99_latency`, `ttft_p50_(ms)`, `time_to_first_token_(s)`: a metric, a statistic (the average without one) and
/// a unit (ms without one), in any order and nothing else.
fn latency(head: &str) -> Option<Column> {
    const METRICS: [(&[&str], &str); 9] = [
        (&["e2e", "per", "token"], "e2e_per_token"),
        (&["time", "to", "first", "token"], "ttft"),
        (&["inter", "token", "latency"], "itl"),
        (&["request", "latency"], "e2e"),
        (&["ttft"], "ttft"),
        (&["itl"], "itl"),
        (&["tpot"], "itl"),
        (&["e2el"], "e2e"),
        (&["e2e"], "e2e"),
    ];
    let mut words: Vec<&str> =
        head.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let mut metric = None;
    for (name, known) in METRICS.iter().chain(&[(&["latency"][..], "e2e")]) {
        if let Some(at) = words.windows(name.len()).position(|window| window == *name) {
            words.drain(at..at + name.len());
            metric = Some(*known);
            break;
        }
    }
    let metric = metric?;
    // `e2e_latency` names it twice.
    words.retain(|word| *word != "latency");
    let (mut statistic, mut unit) = ("avg", 1.0);
    for word in words {
        match word {
            "avg" | "mean" | "average" => statistic = "avg",
            "median" | "p50" => statistic = "p50",
            "p90" | "p95" | "p99" | "p75" | "p25" | "min" | "max" | "std" => statistic = word,
            "ms" => unit = 1.0,
            "s" | "sec" | "seconds" => unit = 1e3,
            "us" => unit = 1e-3,
            _ => return None,
        }
    }
    Some(Column::Latency(format!("{metric}.{statistic}"), unit))
}

impl Column {
    /// Reads a cell into a level; the error says what was expected. `decimal_comma`: a comma is no thousands mark.
    pub(super) fn read(
        &self,
        cell: &str,
        decimal_comma: bool,
        level: &mut Level,
    ) -> Result<(), &'static str> {
        match self {
            Self::Plain(figure) => *figure(level) = number(cell, decimal_comma)?,
            Self::Share(figure) => *figure(level) = share(cell, decimal_comma)?,
            Self::Named(name) => {
                level.figures.extend(share(cell, decimal_comma)?.map(|share| ((*name).to_owned(), share)));
            }
            Self::Latency(name, unit) => {
                level.figures.extend(time(cell, *unit, decimal_comma)?.map(|ms| (name.clone(), ms)));
            }
        }
        Ok(())
    }
}

/// A number of a cell; `None` where nothing was measured.
pub(super) fn number(cell: &str, decimal_comma: bool) -> Result<Option<f64>, &'static str> {
    const EXPECTED: &str = "a number from 0 on, without a unit";
    let nothing = ["", "-", "–", "n/a", "na", "nan", "null", "none", "inf", "+inf"];
    let cell = cell.trim().trim_matches('*').trim();
    if nothing.contains(&cell.to_ascii_lowercase().as_str()) {
        return Ok(None);
    }
    let digits = if decimal_comma { cell.replace('.', "").replace(',', ".") } else { cell.replace(',', "") };
    // A point is a decimal point where there is no comma.
    let digits = if decimal_comma && !cell.contains(',') { cell.to_owned() } else { digits };
    match digits.parse::<f64>().map_err(|_| EXPECTED)? {
        value if !value.is_finite() => Ok(None),
        value if value < 0.0 => Err(EXPECTED),
        value => Ok(Some(value)),
    }
}

fn share(cell: &str, decimal_comma: bool) -> Result<Option<f64>, &'static str> {
    const EXPECTED: &str = "a share from 0 to 1, or a percentage such as 2%";
    let (digits, factor) = match cell.trim().strip_suffix('%') {
        Some(digits) => (digits, 0.01),
        None => (cell, 1.0),
    };
    match number(digits, decimal_comma).map_err(|_| EXPECTED)?.map(|value| value * factor) {
        Some(share) if share > 1.0 => Err(EXPECTED),
        share => Ok(share),
    }
}

/// A time in ms; 0 is no latency.
fn time(cell: &str, unit: f64, decimal_comma: bool) -> Result<Option<f64>, &'static str> {
    let cell = cell.trim().trim_matches('*').trim();
    let units = [("ms", 1.0), ("us", 1e-3), ("µs", 1e-3), ("s", 1e3)];
    let named = units.iter().find_map(|(name, ms)| Some((cell.strip_suffix(name)?, *ms)));
    let (digits, ms) = named.unwrap_or((cell, unit));
    let value = number(digits, decimal_comma).map_err(|_| "a time from 0 on, such as 431, 431ms or 4.31s")?;
    Ok(value.map(|value| value * ms).filter(|ms| *ms > 0.0))
}
