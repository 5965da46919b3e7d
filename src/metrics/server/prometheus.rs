//! Parses the samples of the Prometheus text format: `name{label="value"} 1.5`.
//!
//! Source: "Exposition formats" of the Prometheus documentation, text format 0.0.4.

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Metric name.
    pub name: String,
    /// Labels, in page order.
    pub labels: Vec<(String, String)>,
    /// Value; may be infinite or NaN.
    pub value: f64,
}

impl Sample {
    /// `name{label="value",…}`, without the labels that every series of a server shares.
    pub fn key(&self) -> String {
        let labels: Vec<String> = self
            .labels
            .iter()
            .filter(|(name, _)| name != "model_name" && name != "model")
            .map(|(name, value)| format!("{name}={value:?}"))
            .collect();
        if labels.is_empty() { self.name.clone() } else { format!("{}{{{}}}", self.name, labels.join(",")) }
    }
}

/// Parses the samples of a page, and skips all other lines. Every line ends with a line feed: a last one without it is cut off, and
/// its value may be.
pub fn parse(page: &str) -> Vec<Sample> {
    let whole = page.rfind('\n').and_then(|end| page.get(..end)).unwrap_or_default();
    whole.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
}

fn sample(line: &str) -> Option<Sample> {
    let name_end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, rest) = line.split_at(name_end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (Vec::new(), rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    (!name.is_empty()).then(|| Sample { name: name.to_owned(), labels, value })
}

/// Parses labels up to the closing brace; also returns the rest of the text.
fn labels(mut text: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        text = text.trim_start_matches([',', ' ']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = rest.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.push((name.trim().to_owned(), value));
        text = rest.get(end + 1..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn samples_with_and_without_labels() {
        let page = "# HELP x\nvllm:num_requests_running{engine=\"0\",model_name=\"m\"} 3.0\n\
                    process_cpu_seconds_total 15.98 1700000000\nbroken{\nodd{a=\"x\\\"},{y\\n\"} +Inf\n";
        let samples = parse(page);
        let keys: Vec<String> = samples.iter().map(Sample::key).collect();
        assert_eq!(
            keys,
            [
                "vllm:num_requests_running{engine=\"0\"}",
                "process_cpu_seconds_total",
                "odd{a=\"x\\\"},{y\\n\"}"
            ]
        );
        assert_eq!((samples[0].value, samples[1].value), (3.0, 15.98));
        assert!(samples[2].value.is_infinite());
    }

    #[test]
    fn a_page_that_ends_in_the_middle_has_no_last_line() {
        let values = |page: &str| parse(page).iter().map(|sample| sample.value).collect::<Vec<_>>();
        assert_eq!(values("a 1234\nb 5678\n"), [1234.0, 5678.0]);
        assert_eq!(values("a 1234\nb 56"), [1234.0]);
        assert_eq!(values("a 12"), [0.0; 0]);
        assert_eq!(values(""), [0.0; 0]);
    }

    /// OpenMetrics adds exemplars, timestamps and an end; Prometheus writes numbers in several ways.
    #[test]
    fn values_in_every_notation() {
        let page = "a_total 17.0 # {trace_id=\"x\"} 0.67 1520879607.789\na_created 1.5e9 1520879607\nb NaN\nc -Inf\nd +1e3\n\
                    e{le=\"+Inf\"} 0x1\n  f 3\n# EOF\n";
        let samples = parse(page);
        let named: Vec<(&str, f64)> =
            samples.iter().filter(|s| !s.value.is_nan()).map(|s| (s.name.as_str(), s.value)).collect();
        let expected = [("a_total", 17.0), ("a_created", 1.5e9), ("c", f64::NEG_INFINITY), ("d", 1000.0)];
        assert_eq!(named, expected);
    }

    #[test]
    fn labels_with_escaped_characters() {
        let page = "a{path=\"C:\\\\x\",text=\"a \\\"b\\\", c}\",lines=\"1\\n2\", empty=\"\" ,} 4\n";
        let samples = parse(page);
        let values: Vec<&str> = samples[0].labels.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, ["C:\\x", "a \"b\", c}", "1\n2", ""]);
        assert_eq!(samples[0].value, 4.0);
    }

    proptest! {
        #[test]
        fn no_page_panics(page in ".{0,200}") {
            let _samples = parse(&page);
        }
    }
}
