//! The JSON summaries. A metric is a top-level object with a `unit`; everything else in the file is left alone.

use super::{ForeignMetric, ForeignSummary, ReadError, Tool, shortened, tool_of_name};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

pub(super) fn parse(file: &Path, text: &str) -> Result<ForeignSummary, ReadError> {
    let content: Map<String, Value> = serde_json::from_str(text).map_err(|error| ReadError::Json {
        file: file.to_owned(),
        line: error.line(),
        column: error.column(),
        reason: without_place(&error.to_string()).to_owned(),
    })?;
    let tool = tool(&content)
        .or_else(|| tool_of_name(file))
        .ok_or_else(|| ReadError::Unknown { file: file.to_owned() })?;
    let mut metrics = BTreeMap::new();
    for (tag, value) in &content {
        if let Some((unit, fields)) = value.as_object().and_then(|fields| Some((fields.get("unit")?, fields)))
        {
            metrics.insert(tag.clone(), metric(file, tag, unit, fields)?);
        }
    }
    let version = content.get("aiperf_version").and_then(Value::as_str).map(str::to_owned);
    Ok(ForeignSummary { tool, version, metrics })
}

/// A parser's message without its ` at line 3 column 0`, which stands in front of it already.
fn without_place(message: &str) -> &str {
    message.rsplit_once(" at line ").map_or(message, |(reason, _)| reason)
}

/// AIPerf says its version; before it did, the two tools counted requests in different units.
fn tool(content: &Map<String, Value>) -> Option<Tool> {
    if content.contains_key("aiperf_version") || content.contains_key("schema_version") {
        return Some(Tool::AiPerf);
    }
    match content.get("request_count")?.get("unit")?.as_str()? {
        "count" => Some(Tool::GenAiPerf),
        "requests" => Some(Tool::AiPerf),
        _ => None,
    }
}

fn metric(
    file: &Path,
    tag: &str,
    unit: &Value,
    fields: &Map<String, Value>,
) -> Result<ForeignMetric, ReadError> {
    let wrong = |key: &str, found: &Value, expected| ReadError::Value {
        file: file.to_owned(),
        key: format!("{}.{}", shortened(tag), shortened(key)),
        found: shortened(&found.to_string()),
        expected,
    };
    let Value::String(unit) = unit else { return Err(wrong("unit", unit, "a string")) };
    let mut stats = BTreeMap::new();
    for (key, value) in fields.iter().filter(|(key, _)| *key != "unit") {
        match value {
            Value::Null => {}
            Value::Number(number) => {
                let number = number.as_f64().filter(|number| number.is_finite());
                stats.extend(number.map(|number| (key.clone(), number)));
            }
            other => return Err(wrong(key, other, "a number or null")),
        }
    }
    Ok(ForeignMetric { unit: unit.clone(), stats })
}
