//! Axes to points: the product of value lists, with readable stable names and a bound on its size.

use toml::{Table, Value};

use crate::document::InputError;
use crate::plan::axis_name;
use crate::recipe::layers::split_path;

/// Most combinations of one sweep; more is a typo.
pub const MAX_COMBINATIONS: usize = 1000;

/// One combination: the value of each axis, by dotted key.
pub type Combination = Vec<(String, Value)>;

/// The product of `axes`, the last one varying fastest. Errors name the key below `section`; the caller adds the line.
pub fn product(axes: &Table, section: &str) -> Result<Vec<Combination>, InputError> {
    let mut combinations: Vec<Combination> = vec![Vec::new()];
    for (key, values) in axes {
        let wrong = |problem: String| InputError::new("", problem).key(format!("{section}.{key}"));
        let values = match values {
            Value::Array(values) if !values.is_empty() => values,
            Value::Array(_) => return Err(wrong("an empty list".into()).expected("at least one value")),
            other => {
                return Err(wrong(format!("found {other}")).expected("a list of values, e.g. [1, 2, 4]"));
            }
        };
        if let Some((at, twice)) = values.iter().enumerate().find(|(at, value)| values[..*at].contains(value))
        {
            return Err(wrong(format!("the value {twice} occurs twice"))
                .next(format!("remove the value at place {} of the list", at + 1)));
        }
        if combinations.len().saturating_mul(values.len()) > MAX_COMBINATIONS {
            return Err(InputError::new("", format!("more than {MAX_COMBINATIONS} combinations"))
                .key(section)
                .next("split the sweep into several recipes"));
        }
        combinations = combinations
            .iter()
            .flat_map(|known| {
                values.iter().map(move |value| [known.as_slice(), &[(key.clone(), value.clone())]].concat())
            })
            .collect();
    }
    Ok(combinations)
}

/// `table` with the values of a combination set at their dotted keys.
pub fn overlay(mut table: Table, axes: &[(String, Value)], section: &str) -> Result<Table, InputError> {
    for (key, value) in axes {
        let path = split_path(key)
            .map_err(|problem| InputError::new("", problem).key(format!("{section}.{key}")))?;
        set(&mut table, &path, value.clone());
    }
    Ok(table)
}

fn set(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => {
            table.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let slot = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
            if !slot.is_table() {
                *slot = Value::Table(Table::new());
            }
            if let Value::Table(inner) = slot {
                set(inner, rest, value);
            }
        }
    }
}

/// `tp4_max_num_seqs512`: axis names without their sections, each with its value; safe as a file name.
pub fn combination_id(combination: &Combination) -> String {
    let part = |(key, value): &(String, Value)| {
        let name = axis_name(key);
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let separator = if value.starts_with(|c: char| c.is_ascii_digit()) { "" } else { "-" };
        file_safe(&format!("{name}{separator}{value}"))
    };
    combination.iter().map(part).collect::<Vec<_>>().join("_")
}

/// Text with everything but letters, digits, `.`, `-`, `_` replaced by `-`.
pub fn file_safe(text: &str) -> String {
    let safe: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '-' })
        .collect();
    safe.trim_start_matches('.').chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_of_prefill_and_decode_has_two_names() {
        let axes = "\"prefill.replicas\" = [1]\n\"decode.engine.max_num_seqs\" = [8]\ntp = [2]";
        let combinations = product(&table(axes), "sweep.server").unwrap();
        assert_eq!(combination_id(&combinations[0]), "prefill-replicas1_decode-max_num_seqs8_tp2");
    }

    fn table(text: &str) -> Table {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn the_last_axis_varies_fastest() {
        let combinations =
            product(&table("tp = [1, 2]\n\"engine.x\" = [\"a\", \"b\"]"), "sweep.server").unwrap();
        let ids: Vec<String> = combinations.iter().map(combination_id).collect();
        assert_eq!(ids, ["tp1_x-a", "tp1_x-b", "tp2_x-a", "tp2_x-b"]);
        let set = overlay(table("tp = 8\n[engine]\ny = 1"), &combinations[3], "s").unwrap();
        assert_eq!(set, table("tp = 2\n[engine]\ny = 1\nx = \"b\""));
    }

    #[test]
    fn no_axes_are_one_combination() {
        assert_eq!(product(&Table::new(), "s").unwrap(), [Combination::new()]);
    }

    #[test]
    fn sizes_are_bounded_and_lists_required() {
        let many: Vec<String> = (0..40).map(|n| n.to_string()).collect();
        let list = format!("[{}]", many.join(", "));
        assert!(product(&table(&format!("a = {list}\nb = {list}")), "s").is_err());
        assert!(product(&table("a = 3"), "s").is_err());
        assert!(product(&table("a = [1, 2, 1]"), "s").is_err());
        assert!(product(&table("a = []"), "s").is_err());
    }

    #[test]
    fn names_are_file_safe() {
        assert_eq!(file_safe("a/b $(x)\n.é"), "a-b---x--.-");
        assert_eq!(file_safe("../x"), "-x");
    }
}
