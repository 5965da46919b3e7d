//! Values with a unit or as a list: durations, rates, one or many numbers.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A duration in seconds, written `"500ms"`, `"30s"`, `"5m"`, `"1h"`, `"01:00:00"` or as a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Span(pub f64);

impl Span {
    /// Seconds.
    pub fn seconds(self) -> f64 {
        self.0
    }

    /// Milliseconds.
    pub fn millis(self) -> f64 {
        self.0 * 1e3
    }
}

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let wrong = || format!("{text:?} is not a length of time like 500ms, 30s, 5m, 1h or 01:00:00");
        if text.contains(':') {
            let parts: Vec<u64> =
                text.split(':').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
            let [hours, minutes, seconds] = parts[..] else { return Err(wrong()) };
            return Ok(Self((hours * 3600 + minutes * 60 + seconds) as f64));
        }
        let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let scale = match unit.trim() {
            "" | "s" => 1.0,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return Err(wrong()),
        };
        Ok(Self(number * scale))
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let whole = |unit: f64| self.0 > 0.0 && self.0 % unit == 0.0;
        match self.0 {
            seconds if seconds > 0.0 && seconds < 1.0 => write!(f, "{}ms", seconds * 1e3),
            seconds if whole(3600.0) => write!(f, "{}h", seconds / 3600.0),
            seconds if whole(60.0) => write!(f, "{}m", seconds / 60.0),
            seconds => write!(f, "{seconds}s"),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Span;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a length of time like \"500ms\", \"30s\", \"5m\", \"1h\" or \"01:00:00\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Span, E> {
                if seconds < 0 {
                    return Err(E::invalid_value(de::Unexpected::Signed(seconds), &self));
                }
                Ok(Span(seconds as f64))
            }
            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Span, E> {
                Ok(Span(seconds as f64))
            }
            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Span, E> {
                if seconds.is_finite() && seconds >= 0.0 {
                    return Ok(Span(seconds));
                }
                Err(E::invalid_value(de::Unexpected::Float(seconds), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "number"], "description": "a length of time: \"500ms\", \"30s\", \"5m\", \"1h\", \"01:00:00\" or seconds"})
    }
}

/// A number or a list of numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOrMany(pub Vec<u32>);

impl Serialize for OneOrMany {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0[..] {
            [one] => serializer.serialize_u32(one),
            _ => self.0.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = OneOrMany;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a whole number above 0, or a list of them")
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<OneOrMany, E> {
                match u32::try_from(number) {
                    Ok(number) if number > 0 => Ok(OneOrMany(vec![number])),
                    _ => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
                }
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<OneOrMany, E> {
                self.visit_i64(i64::try_from(number).unwrap_or(0))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut sequence: A) -> Result<OneOrMany, A::Error> {
                let mut numbers = Vec::new();
                while let Some(number) = sequence.next_element::<u32>()? {
                    if number == 0 {
                        return Err(de::Error::invalid_value(de::Unexpected::Unsigned(0), &self));
                    }
                    numbers.push(number);
                }
                if numbers.is_empty() {
                    return Err(de::Error::invalid_length(0, &self));
                }
                Ok(OneOrMany(numbers))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for OneOrMany {
    fn schema_name() -> Cow<'static, str> {
        "OneOrMany".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"oneOf": [{"type": "integer", "minimum": 1}, {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 1}}]})
    }
}

/// A rate per second or a list of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Rates(pub Vec<f64>);

/// Largest rate, per second. Above it, gaps are shorter than 1 µs.
pub const MAX_RATE: f64 = 1e6;

impl Serialize for Rates {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0[..] {
            [one] => serializer.serialize_f64(one),
            _ => self.0.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Rates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl Visitor {
            fn one<E: de::Error>(self, rate: f64) -> Result<f64, E> {
                if rate > 0.0 && rate <= MAX_RATE {
                    return Ok(rate);
                }
                Err(E::invalid_value(de::Unexpected::Float(rate), &self))
            }
        }
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Rates;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a rate above 0 and at most 1000000 per second, or a list of them")
            }
            fn visit_f64<E: de::Error>(self, rate: f64) -> Result<Rates, E> {
                Ok(Rates(vec![self.one(rate)?]))
            }
            fn visit_i64<E: de::Error>(self, rate: i64) -> Result<Rates, E> {
                self.visit_f64(rate as f64)
            }
            fn visit_u64<E: de::Error>(self, rate: u64) -> Result<Rates, E> {
                self.visit_f64(rate as f64)
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut sequence: A) -> Result<Rates, A::Error> {
                let mut rates = Vec::new();
                while let Some(rate) = sequence.next_element::<f64>()? {
                    rates.push(Visitor.one(rate)?);
                }
                if rates.is_empty() {
                    return Err(de::Error::invalid_length(0, &self));
                }
                Ok(Rates(rates))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Rates {
    fn schema_name() -> Cow<'static, str> {
        "Rates".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let rate = json_schema!({"type": "number", "exclusiveMinimum": 0, "maximum": MAX_RATE});
        json_schema!({"oneOf": [rate, {"type": "array", "minItems": 1, "items": rate}]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        #[derive(Debug, Deserialize)]
        struct Holder {
            rate: Rates,
        }
        let get =
            |text: &str| toml::from_str::<Holder>(&format!("rate = {text}")).map(|holder| holder.rate.0);
        assert_eq!(get("12.5").unwrap(), [12.5]);
        assert_eq!(get("3").unwrap(), [3.0]);
        assert_eq!(get("[1, 2.5]").unwrap(), [1.0, 2.5]);
        for wrong in ["0", "-1", "nan", "inf", "1e7", "[]", "[1, 0]", "\"fast\""] {
            let error = get(wrong).unwrap_err().to_string();
            assert!(error.contains("a rate above 0") || wrong == "[]", "{wrong}: {error}");
        }
    }

    #[test]
    fn spans() {
        for (text, seconds) in
            [("500ms", 0.5), ("30s", 30.0), ("5m", 300.0), ("1.5h", 5400.0), ("01:00:30", 3630.0), ("7", 7.0)]
        {
            assert_eq!(text.parse::<Span>(), Ok(Span(seconds)), "{text}");
        }
        for text in ["", "s", "5 parsecs", "1:2", "-3s", "nan"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
