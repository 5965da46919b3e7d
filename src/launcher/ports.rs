//! Ports a process needs: one number, or a number of ports at a distance from the next process's.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, de};

/// A port of a role: `8000`, or `{ base = 5200, count = "{{ dp_local }}", stride = 8 }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PortSpec {
    /// The preferred first number.
    pub base: u16,
    /// Consecutive ports it takes: a number, or a template of one. Default 1.
    pub count: String,
    /// Distance to the next process's on the same node: a number, or a template of one. Default: the count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stride: Option<String>,
}

/// A number or a template of one, as text.
#[derive(Debug)]
struct Number(String);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Number;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a whole number, or a template of one")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Number, E> {
                Ok(Number(value.to_string()))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Number, E> {
                let number = u64::try_from(value).map(|value| Number(value.to_string()));
                number.map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Number, E> {
                Ok(Number(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl<'de> Deserialize<'de> for PortSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = PortSpec;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a port number, or { base = 5200, count = 1, stride = 1 }")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<PortSpec, E> {
                let base = u16::try_from(value)
                    .ok()
                    .filter(|port| *port > 0)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(value), &"1 to 65535"))?;
                Ok(PortSpec { base, count: "1".into(), stride: None })
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<PortSpec, E> {
                let base = u64::try_from(value);
                self.visit_u64(
                    base.map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &"1 to 65535"))?,
                )
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<PortSpec, A::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Table {
                    base: u16,
                    count: Option<Number>,
                    stride: Option<Number>,
                }
                let table = Table::deserialize(de::value::MapAccessDeserializer::new(map))?;
                if table.base == 0 {
                    return Err(de::Error::invalid_value(de::Unexpected::Unsigned(0), &"1 to 65535"));
                }
                Ok(PortSpec {
                    base: table.base,
                    count: table.count.map_or_else(|| "1".into(), |number| number.0),
                    stride: table.stride.map(|number| number.0),
                })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for PortSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PortSpec".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let number = serde_json::json!({"oneOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]});
        let port = serde_json::json!({"type": "integer", "minimum": 1, "maximum": 65535});
        schemars::json_schema!({"oneOf": [
            port,
            {"type": "object", "required": ["base"], "additionalProperties": false,
             "properties": {"base": port, "count": number, "stride": number}}]})
    }
}
