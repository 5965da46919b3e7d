//! Secrets by reference: `env:NAME` and `file:PATH` are read where a server starts, and never stored.

use std::collections::BTreeMap;

use crate::document::InputError;

/// Resolves the references; keeps other values.
pub fn resolve(env: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, InputError> {
    env.iter()
        .map(|(name, value)| Ok((name.clone(), read(value).map_err(|error| error.key(name.clone()))?)))
        .collect()
}

/// The value behind a reference; any other value unchanged.
pub fn read(value: &str) -> Result<String, InputError> {
    let wrong = |problem: String| InputError::new("the environment", format!("found {value:?}: {problem}"));
    if let Some(variable) = value.strip_prefix("env:") {
        std::env::var(variable).map_err(|_| {
            wrong("no such environment variable here".into()).next(format!("export {variable} first"))
        })
    } else if let Some(path) = value.strip_prefix("file:") {
        let text =
            std::fs::read_to_string(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        Ok(text.trim_end_matches(['\n', '\r']).to_owned())
    } else {
        Ok(value.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_reference_names_variable_and_key() {
        let env = BTreeMap::from([("HF_TOKEN".to_owned(), "env:TOKMARK_NO_SUCH_VARIABLE".to_owned())]);
        let error = resolve(&env).unwrap_err().to_string();
        assert!(error.contains("HF_TOKEN") && error.contains("TOKMARK_NO_SUCH_VARIABLE"), "{error}");
    }
}
