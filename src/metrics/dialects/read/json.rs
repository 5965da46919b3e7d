//! The JSON summaries. A metric is a top-level object with a `unit`; everything else in the file is left alone.

use super::{ForeignMetric, ForeignSummary, Tool, shortened, tool_of_name, unknown};
use crate::document::InputError;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

pub(super) fn parse(file: &Path, text: &str) -> Result<ForeignSummary, InputError> {
    let content: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        // The place stands in front of the message.
        let problem = message.rsplit_once(" at line ").map_or(message.as_str(), |(problem, _)| problem);
        let line = Some((error.line(), error.column()));
        InputError { line, ..InputError::new(file.display().to_string(), problem) }
    })?;
    let tool = tool(&content).or_else(|| tool_of_name(file)).ok_or_else(|| unknown(file))?;
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
) -> Result<ForeignMetric, InputError> {
    let wrong = |key: &str, found: &Value, expected: &str| {
        let (tag, key, found) = (shortened(tag), shortened(key), shortened(&found.to_string()));
        let problem = format!("{tag}.{key}: found {found}, expected {expected}");
        InputError::new(file.display().to_string(), problem)
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
