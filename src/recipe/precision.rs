//! `until = "ci 2% of ttft_ms.p50"`: how exact a figure must be.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The figure that is meant when none is named.
const FIGURE: &str = "throughput.output_tokens_per_s";

/// Half the width of a figure's confidence interval as a share of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Precision {
    /// Above 0 and below 1.
    pub share: f64,
    /// Path of the figure in `summary.json`.
    pub figure: String,
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not like \"ci 2%\" or \"ci 5% of ttft_ms.p99\"");
        let words: Vec<&str> = text.split_whitespace().collect();
        let (percent, figure) = match words.as_slice() {
            ["ci", percent] => (percent, FIGURE),
            ["ci", percent, "of", figure] => (percent, *figure),
            _ => return Err(wrong()),
        };
        let percent: f64 =
            percent.strip_suffix('%').and_then(|digits| digits.parse().ok()).ok_or_else(wrong)?;
        if !(percent > 0.0 && percent < 100.0) {
            return Err(format!("found {percent}%, expected more than 0% and less than 100%"));
        }
        Ok(Self { share: percent / 100.0, figure: figure.to_owned() })
    }
}

impl Display for Precision {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // Rounded, because 0.07 · 100 is not 7.
        write!(f, "ci {}%", (self.share * 1e8).round() / 1e6)?;
        if self.figure == FIGURE { Ok(()) } else { write!(f, " of {}", self.figure) }
    }
}

impl Serialize for Precision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Precision {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Precision {
    fn schema_name() -> Cow<'static, str> {
        "Precision".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "description": "\"ci 2%\", or with a figure \"ci 5% of ttft_ms.p99\""})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_and_a_figure() {
        let of = |text: &str| text.parse::<Precision>();
        let plain = of("ci 2%").unwrap();
        assert_eq!((plain.share, plain.figure.as_str()), (0.02, FIGURE));
        for text in ["ci 2%", "ci 7% of ttft_ms.p99", "ci 0.5%"] {
            assert_eq!(of(text).unwrap().to_string(), text);
        }
        for (wrong, problem) in [
            ("2%", "is not like"),
            ("ci 2", "is not like"),
            ("ci x%", "is not like"),
            ("ci 2% ttft_ms.p99", "is not like"),
            ("", "is not like"),
            ("ci 0%", "more than 0%"),
            ("ci 100%", "less than 100%"),
            ("ci NaN%", "more than 0%"),
        ] {
            assert!(of(wrong).unwrap_err().contains(problem), "{wrong}");
        }
    }
}
