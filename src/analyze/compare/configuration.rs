//! What differs in how two experiments were run.

use serde::Serialize;
use serde_json::Value;

use crate::metrics::Summary;
use crate::plan::Plan;

/// A key with another value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    pub what: String,
    /// `null`: not set.
    pub a: Option<String>,
    pub b: Option<String>,
}

impl Change {
    /// `deploy.engine.max_num_seqs 256 → 512`
    pub fn words(&self) -> String {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".into());
        format!("{} {} → {}", self.what, text(&self.a), text(&self.b))
    }
}

/// Keys of a recipe that say nothing about what ran.
const WORDS: [&str; 9] =
    ["schema", "summary", "aliases", "source", "notes", "published", "knobs", "gpu", "slurm"];

/// Every difference: keys of the resolved recipes, hardware, container, launcher, and versions.
pub fn changes(a: (&Plan, Option<&Summary>), b: (&Plan, Option<&Summary>)) -> Vec<Change> {
    let (of_a, of_b) = (facts(a.0, a.1), facts(b.0, b.1));
    let mut names: Vec<&String> = of_a.iter().map(|(name, _)| name).collect();
    names.extend(
        of_b.iter().map(|(name, _)| name).filter(|name| !of_a.iter().any(|(known, _)| known == *name)),
    );
    let value = |facts: &[(String, String)], name: &String| {
        facts.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    };
    let change = |name: &String| Change { what: name.clone(), a: value(&of_a, name), b: value(&of_b, name) };
    names.into_iter().map(change).filter(|change| change.a != change.b).collect()
}

/// Names and values.
fn facts(plan: &Plan, summary: Option<&Summary>) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    let recipe = serde_json::to_value(&plan.recipe).unwrap_or_default();
    for (key, value) in recipe.as_object().into_iter().flatten() {
        if !WORDS.contains(&key.as_str()) {
            flatten(key, value, &mut facts);
        }
    }
    let mut add =
        |name: &str, value: Option<String>| facts.extend(value.map(|value| (name.to_owned(), value)));
    let mut gpus: Vec<String> =
        plan.deployments.iter().map(|deployment| deployment.gpus.to_string()).collect();
    gpus.dedup();
    add("GPU type", Some(plan.gpu.kind.clone()));
    add("GPUs", Some(gpus.join(", ")));
    add("container image", plan.container.as_ref().map(|container| container.image.clone()));
    add(
        "launcher file",
        Some(format!("{:016x}", digest(&serde_json::to_string(plan.launcher()).unwrap_or_default()))),
    );
    add("engine version", summary.and_then(|summary| summary.engine_version.clone()));
    add("tokmark", Some(plan.input.version.clone()));
    facts
}

fn flatten(path: &str, value: &Value, facts: &mut Vec<(String, String)>) {
    match value {
        Value::Null => {}
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(key, value)| flatten(&format!("{path}.{key}"), value, facts));
        }
        Value::String(text) => facts.push((path.to_owned(), text.clone())),
        value => facts.push((path.to_owned(), value.to_string())),
    }
}

/// FNV-1a: whether two texts are the same, not who wrote them.
fn digest(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_become_dotted_keys_and_lists_stay_whole() {
        let value = serde_json::json!({"engine": {"max_num_seqs": 256, "none": null}, "tp": 4, "list": [1, 2], "name": "x", "env": {}});
        let mut facts = Vec::new();
        flatten("deploy", &value, &mut facts);
        let expected = [
            ("deploy.engine.max_num_seqs", "256"),
            ("deploy.tp", "4"),
            ("deploy.list", "[1,2]"),
            ("deploy.name", "x"),
            ("deploy.env", "{}"),
        ];
        let found: Vec<(&str, &str)> =
            facts.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_change_in_words() {
        let change = Change { what: "deploy.tp".into(), a: None, b: Some("2".into()) };
        assert_eq!(change.words(), "deploy.tp not set → 2");
    }
}
