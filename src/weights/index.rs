//! `model.safetensors.index.json`: which tensor is in which file. Without it, the numbers in file names tell how many files exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use serde::Deserialize;
use serde_json::Value;

/// The file's name.
pub(super) const NAME: &str = "model.safetensors.index.json";

#[derive(Debug, Deserialize)]
struct Text {
    #[serde(default)]
    metadata: Value,
    weight_map: BTreeMap<String, String>,
}

/// An index.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Index {
    /// Tensors of each file.
    pub(super) shards: BTreeMap<String, BTreeSet<String>>,
    /// Bytes of all tensors according to it.
    pub(super) total: Option<u64>,
}

/// Reads the text of an index.
///
/// # Errors
/// The text is not an index, or names files outside the folder.
pub(super) fn parse(text: &[u8]) -> Result<Index, String> {
    let Text { metadata, weight_map } =
        serde_json::from_slice(text).map_err(|error| format!("is not an index: {error}"))?;
    let mut shards: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (tensor, shard) in weight_map {
        let path = Path::new(&shard);
        if shard.is_empty() || !path.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(format!(
                "maps the tensor {tensor:?} to {shard:?}, which is not a file of this folder"
            ));
        }
        shards.entry(shard).or_default().insert(tensor);
    }
    if shards.is_empty() {
        return Err("is not an index: its weight_map names no tensor".into());
    }
    let total = metadata.get("total_size");
    // Some tools write it as a floating-point number.
    let total = total.and_then(|total| total.as_u64().or_else(|| total.as_f64().map(|total| total as u64)));
    Ok(Index { shards, total })
}

impl Index {
    /// Shards that the numbers in file names imply but it does not name. Existing files count too, except those numbered
    /// differently: they are from another revision, and no engine reads them.
    pub(super) fn gaps(&self, there: &[impl AsRef<str>]) -> Vec<String> {
        let named = || self.shards.keys().map(String::as_str);
        let (own, all) = (sets(named()), sets(named().chain(there.iter().map(AsRef::as_ref))));
        let missing = all.iter().filter(|(set, _)| own.contains_key(*set)).flat_map(|((stem, of), there)| {
            // Numbers from 0 end at the total or one before it (gpt-oss: 00000 to 00014 of 00014). The index names the last if
            // it exists.
            let last = there.contains(&0).then(|| name(stem, of.parse().unwrap_or(0), of));
            absent(stem, of, there).filter(move |name| Some(name) != last.as_ref())
        });
        missing.collect()
    }
}

/// File names missing among `NAME-00001-of-00003.safetensors`.
pub(super) fn gaps(names: &[impl AsRef<str>]) -> Vec<String> {
    let sets = sets(names.iter().map(AsRef::as_ref));
    sets.iter().flat_map(|((stem, of), there)| absent(stem, of, there)).collect()
}

/// Numbers grouped by the parts of the name before and after them.
fn sets<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<(&'a str, &'a str), BTreeSet<usize>> {
    let mut sets: BTreeMap<_, BTreeSet<usize>> = BTreeMap::new();
    for (stem, number, of) in names.filter_map(numbered) {
        sets.entry((stem, of)).or_default().insert(number);
    }
    sets
}

fn absent(stem: &str, of: &str, there: &BTreeSet<usize>) -> impl Iterator<Item = String> {
    // Bounded, so that a huge total does not produce a huge list.
    let last = of.parse::<usize>().unwrap_or(0).min(there.len() + 1000);
    (1..=last).filter(|number| !there.contains(number)).map(move |number| name(stem, number, of))
}

fn name(stem: &str, number: usize, of: &str) -> String {
    let width = of.len();
    format!("{stem}-{number:0width$}-of-{of}.safetensors")
}

fn numbered(name: &str) -> Option<(&str, usize, &str)> {
    let (rest, of) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let is_number =
        |digits: &str| (1..=6).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    (is_number(of) && is_number(number)).then_some(())?;
    Some((stem, number.parse().ok()?, of))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tensors_by_shard_and_the_size_of_all() {
        let text = r#"{"metadata":{"total_size":12},"weight_map":{"x":"2","a":"1","b":"1"}}"#;
        let index = parse(text.as_bytes()).unwrap();
        let shards: Vec<_> =
            index.shards.iter().map(|(name, tensors)| (name.as_str(), tensors.len())).collect();
        assert_eq!((shards, index.total), (vec![("1", 2), ("2", 1)], Some(12)));
        assert_eq!(
            parse(br#"{"metadata":{"total_size":1.2e1},"weight_map":{"a":"1"}}"#).unwrap().total,
            Some(12)
        );
        assert_eq!(parse(br#"{"weight_map":{"a":"1"}}"#).unwrap().total, None);
    }

    #[test]
    fn what_is_no_index() {
        let table = [
            ("", "is not an index: EOF"),
            ("{\"weight_map\":{\"a\":\"1\"", "is not an index: EOF"),
            ("[]", "is not an index: "),
            ("{}", "is not an index: missing field `weight_map`"),
            ("{\"weight_map\":{}}", "is not an index: its weight_map names no tensor"),
            ("{\"weight_map\":{\"a\":1}}", "is not an index: invalid type"),
            (
                "{\"weight_map\":{\"a\":\"\"}}",
                "maps the tensor \"a\" to \"\", which is not a file of this folder",
            ),
            ("{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "maps the tensor \"a\" to \"/etc/passwd\""),
            ("{\"weight_map\":{\"a\":\"x/../../y\"}}", "maps the tensor \"a\" to \"x/../../y\""),
        ];
        for (text, expected) in table {
            let found = parse(text.as_bytes()).unwrap_err();
            assert!(found.starts_with(expected), "{text}: {found}");
        }
    }

    #[test]
    fn numbers_that_are_missing() {
        let table: [(&[&str], &[&str]); 4] = [
            (&["model.safetensors"], &[]),
            (&["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"], &[]),
            (
                &["m-00002-of-00003.safetensors", "x-1-of-2.safetensors"],
                &["m-00001-of-00003.safetensors", "m-00003-of-00003.safetensors", "x-2-of-2.safetensors"],
            ),
            (&["a-of-b.safetensors", "-of-.safetensors", "m-1-of-99999999999.safetensors"], &[]),
        ];
        for (there, missing) in table {
            assert_eq!(gaps(there), missing, "{there:?}");
        }
    }

    #[test]
    fn shards_that_an_index_leaves_out() {
        let zero_to = |last: usize| -> Vec<String> {
            (0..=last).map(|number| format!("m-{number:05}-of-00014.safetensors")).collect()
        };
        let gaps_of = |names: &[String], there: &[&str]| {
            let shards = names.iter().map(|name| (name.clone(), BTreeSet::new())).collect();
            Index { shards, total: None }.gaps(there)
        };
        assert_eq!(gaps_of(&zero_to(14), &[]), [""; 0], "gpt-oss");
        assert_eq!(gaps_of(&zero_to(13), &[]), [""; 0], "14 that are counted from 0");
        assert_eq!(gaps_of(&zero_to(12), &[]), ["m-00013-of-00014.safetensors"]);
        let two = ["m-1-of-3.safetensors".to_owned(), "m-2-of-3.safetensors".to_owned()];
        assert_eq!(gaps_of(&two, &["m-1-of-3.safetensors"]), ["m-3-of-3.safetensors"]);
        assert_eq!(gaps_of(&two, &["m-3-of-3.safetensors", "m-1-of-9.safetensors"]), [""; 0]);
    }

    proptest! {
        #[test]
        fn never_panics(text in "[\\[\\]{}:,\"a-z_0-9./]{0,80}", name in "[-a-z0-9of.]{0,30}") {
            let _ = (parse(text.as_bytes()), gaps(&[&name, &format!("{name}.safetensors")]));
        }
    }
}
