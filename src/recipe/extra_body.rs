//! `load.extra_body`: a table, or JSON text, because TOML has no `null`.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

/// Reads either form.
pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map<String, Value>, D::Error> {
    let expected = &"a table, or the text of a JSON object";
    let value = match Value::deserialize(deserializer)? {
        Value::String(text) => serde_json::from_str(&text)
            .map_err(|_| de::Error::invalid_value(de::Unexpected::Str(&text), expected))?,
        value => value,
    };
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(de::Error::invalid_type(de::Unexpected::Other("something else"), expected)),
    }
}

/// Its JSON Schema.
pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["object", "string"], "additionalProperties": true})
}

#[cfg(test)]
mod tests {
    use super::super::LoadSection;

    #[test]
    fn a_table_or_json_text() {
        let body = |text: &str| toml::from_str::<LoadSection>(text).map(|load| load.extra_body);
        let table = body("[extra_body]\na = 1\nb.c = \"x\"").unwrap();
        assert_eq!(serde_json::Value::from(table), serde_json::json!({"a": 1, "b": {"c": "x"}}));
        let text = body("extra_body = '{\"min_tokens\": null}'").unwrap();
        assert_eq!(serde_json::Value::from(text), serde_json::json!({"min_tokens": null}));
        for wrong in ["extra_body = '[1]'", "extra_body = 'x'", "extra_body = 3"] {
            assert!(body(wrong).unwrap_err().to_string().contains("JSON object"), "{wrong}");
        }
    }
}
