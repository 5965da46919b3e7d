//! Entries of an argv: whole arguments, never a shell line.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

/// One entry of an argv.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Arg {
    /// One argument, a template.
    One(String),
    /// Arguments given only when an expression is true.
    When {
        /// Template expression, e.g. `deploy.pp > 1`.
        when: String,
        /// The arguments.
        args: Vec<String>,
    },
    /// Arguments repeated for each replica of a role or pool: `item` is its first process.
    Each {
        /// Name of the role or pool.
        each: String,
        /// The arguments: templates that may use `item.host`, `item.ip`, `item.port.NAME`, `item.name`.
        args: Vec<String>,
    },
    /// All engine options as flags: `name = value` → `--name value`, `true` → `--name`, `false` → `--no-name`.
    Options {
        /// Options that are not flags of this process.
        options_except: Vec<String>,
        /// Only when this expression is true.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        when: Option<String>,
    },
}

impl<'de> Deserialize<'de> for Arg {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Arg;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("text, { when = \"EXPRESSION\", args = […] }, { each = \"ROLE\", args = […] } or { options_except = […] }")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Arg, E> {
                Ok(Arg::One(text.to_owned()))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Arg, A::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Table {
                    when: Option<String>,
                    each: Option<String>,
                    args: Option<Vec<String>>,
                    options_except: Option<Vec<String>>,
                }
                let table = Table::deserialize(de::value::MapAccessDeserializer::new(map))?;
                match (table.when, table.each, table.args, table.options_except) {
                    (Some(when), None, Some(args), None) => Ok(Arg::When { when, args }),
                    (None, Some(each), Some(args), None) => Ok(Arg::Each { each, args }),
                    (when, None, None, Some(options_except)) => Ok(Arg::Options { options_except, when }),
                    _ => {
                        Err(de::Error::custom("`when` and `args`, or `each` and `args`, or `options_except`"))
                    }
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Arg {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Arg".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let list = serde_json::json!({"type": "array", "items": {"type": "string"}});
        schemars::json_schema!({"oneOf": [
            {"type": "string"},
            {"type": "object", "required": ["when", "args"], "additionalProperties": false,
             "properties": {"when": {"type": "string"}, "args": list}},
            {"type": "object", "required": ["each", "args"], "additionalProperties": false,
             "properties": {"each": {"type": "string"}, "args": list}},
            {"type": "object", "required": ["options_except"], "additionalProperties": false,
             "properties": {"options_except": list, "when": {"type": "string"}}}]})
    }
}
