//! Values with a unit or as a list: durations, rates, one or many numbers.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter};
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, DeserializeOwned, IntoDeserializer, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

    /// Reads a length of time that names its unit: elsewhere a bare number may mean ms.
    pub fn with_unit(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.parse::<f64>().is_ok() {
            return Err(format!("{text} has no unit: write {text}ms or {text}s; other tools mean ms"));
        }
        text.parse()
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

impl Display for Span {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
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
            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time like \"500ms\", \"30s\", \"5m\", \"1h\" or \"01:00:00\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Span, E> {
                if seconds < 0 {
                    return Err(E::invalid_value(Unexpected::Signed(seconds), &self));
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
                Err(E::invalid_value(Unexpected::Float(seconds), &self))
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

/// Largest rate, per second. Above it, gaps are shorter than 1 µs.
pub const MAX_RATE: f64 = 1e6;

/// A value or a list of values; a single value is written without brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

/// What [`OneOrMany`] may hold.
pub trait Item: Serialize + DeserializeOwned {
    /// Name in the JSON Schema.
    const NAME: &'static str;
    /// The accepted values, in words.
    const EXPECTED: &'static str;
    /// JSON Schema of one value.
    fn schema() -> Schema;
    /// The value in an error.
    fn unexpected(&self) -> Unexpected<'_>;
    /// Whether the value is in range.
    fn is_valid(&self) -> bool {
        true
    }
    /// The list that a value without brackets means.
    fn into_list(self) -> Vec<Self> {
        vec![self]
    }
}

impl Item for u32 {
    const NAME: &'static str = "OneOrMany";
    const EXPECTED: &'static str = "a whole number above 0, or a list of them";
    fn schema() -> Schema {
        json_schema!({"type": "integer", "minimum": 1})
    }
    fn unexpected(&self) -> Unexpected<'_> {
        Unexpected::Unsigned((*self).into())
    }
    fn is_valid(&self) -> bool {
        *self > 0
    }
}

/// A rate per second.
impl Item for f64 {
    const NAME: &'static str = "Rates";
    const EXPECTED: &'static str = "a rate above 0 and at most 1000000 per second, or a list of them";
    fn schema() -> Schema {
        json_schema!({"type": "number", "exclusiveMinimum": 0, "maximum": MAX_RATE})
    }
    fn unexpected(&self) -> Unexpected<'_> {
        Unexpected::Float(*self)
    }
    fn is_valid(&self) -> bool {
        *self > 0.0 && *self <= MAX_RATE
    }
}

/// A URL; text without brackets holds several, separated by commas.
impl Item for String {
    const NAME: &'static str = "Urls";
    const EXPECTED: &'static str = "a URL, or a list of them";
    fn schema() -> Schema {
        json_schema!({"type": "string"})
    }
    fn unexpected(&self) -> Unexpected<'_> {
        Unexpected::Str(self)
    }
    fn into_list(self) -> Vec<Self> {
        self.split(',').map(|url| url.trim().to_owned()).collect()
    }
}

impl<T: Item> Serialize for OneOrMany<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0[..] {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }
}

impl<'de, T: Item> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor(PhantomData)).map(Self)
    }
}

struct OneOrManyVisitor<T>(PhantomData<T>);

impl<T: Item> OneOrManyVisitor<T> {
    fn one<'de, V, E>(self, value: V, found: Unexpected<'_>) -> Result<Vec<T>, E>
    where
        V: IntoDeserializer<'de, E>,
        E: de::Error,
    {
        match T::deserialize(value.into_deserializer()) {
            Ok(item) if item.is_valid() => Ok(item.into_list()),
            _ => Err(E::invalid_value(found, &T::EXPECTED)),
        }
    }
}

impl<'de, T: Item> de::Visitor<'de> for OneOrManyVisitor<T> {
    type Value = Vec<T>;
    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Vec<T>, E> {
        self.one(number, Unexpected::Signed(number))
    }
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Vec<T>, E> {
        self.one(number, Unexpected::Unsigned(number))
    }
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Vec<T>, E> {
        self.one(number, Unexpected::Float(number))
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
        self.one(text, Unexpected::Str(text))
    }
    fn visit_seq<A: de::SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<T>, A::Error> {
        let mut items: Vec<T> = Vec::new();
        while let Some(item) = sequence.next_element::<T>()? {
            if !item.is_valid() {
                return Err(de::Error::invalid_value(item.unexpected(), &T::EXPECTED));
            }
            items.push(item);
        }
        if items.is_empty() {
            return Err(de::Error::invalid_length(0, &T::EXPECTED));
        }
        Ok(items)
    }
}

impl<T: Item> JsonSchema for OneOrMany<T> {
    fn schema_name() -> Cow<'static, str> {
        T::NAME.into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"oneOf": [T::schema(), {"type": "array", "minItems": 1, "items": T::schema()}]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        #[derive(Debug, Deserialize)]
        struct Holder {
            rate: OneOrMany<f64>,
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
