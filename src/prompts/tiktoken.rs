//! Tokenizers that are published as tiktoken's ranks: `tiktoken.model` (Kimi), `*.tiktoken` (Qwen 1, OpenAI), and
//! `tokenizer.model` where it holds ranks (Llama 3's own, GLM 4).
//!
//! A line has a token in Base64 and its rank. Special tokens stand under `added_tokens_decoder` of `tokenizer_config.json`. The
//! pattern that cuts a text before ranks apply stands under `pat_str` there, or in the Python file beside it, which is read and
//! never run.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;
use serde_json::Value;
use tiktoken_rs::{CoreBPE, Rank};

use crate::document::InputError;

/// The pattern of cl100k_base, which Llama 3, GLM 4 and DBRX use too
/// (<https://github.com/openai/tiktoken/blob/main/tiktoken_ext/openai_public.py>).
const CL100K: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A tokenizer made of ranks.
pub(super) struct Ranks {
    pub(super) bpe: CoreBPE,
    /// Ids of ordinary tokens are below this.
    pub(super) tokens: Rank,
    /// Its pattern was not found, so that it splits as cl100k_base does.
    pub(super) assumed: bool,
}

/// The file of ranks in `folder`.
pub(super) fn in_folder(folder: &Path) -> Option<PathBuf> {
    let named = |name: &str| Some(folder.join(name)).filter(|file| file.is_file());
    let ending = || files(folder, "tiktoken").into_iter().next();
    let model = || named("tokenizer.model").filter(|file| fs_err::read(file).is_ok_and(|b| is_ranks(&b)));
    named("tiktoken.model").or_else(ending).or_else(model)
}

/// The files of `folder` with this extension, by name.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|own| own == extension)).collect();
    found.sort();
    found
}

/// Whether the first line is a token and its rank.
pub(super) fn is_ranks(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    std::str::from_utf8(line).is_ok_and(|line| rank(line).is_some())
}

fn rank(line: &str) -> Option<(Vec<u8>, Rank)> {
    let (token, rank) = line.trim_end().split_once(' ')?;
    Some((STANDARD.decode(token).ok()?, rank.parse().ok()?))
}

/// The tokenizer in the `bytes` of `file`, with what stands beside it.
///
/// # Errors
/// A line that is no token and rank, ranks that lack single bytes or repeat, or a pattern that cannot be used.
pub(super) fn parse(file: &Path, bytes: &[u8]) -> Result<Ranks, InputError> {
    let name = file.display().to_string();
    let wrong = |problem: String| {
        InputError::new(&name, problem)
            .expected("a token in Base64 and its rank on each line")
            .next("look whether the download was complete, or give the tokenizer.json of the model")
    };
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("is not UTF-8".into()))?;
    let mut ranks = std::collections::BTreeMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let (token, rank) =
            rank(line).ok_or_else(|| wrong(format!("line {} is no token and rank", number + 1)))?;
        if ranks.insert(rank, token).is_some() {
            return Err(wrong(format!("line {} repeats the rank {rank}", number + 1)));
        }
    }
    let bytes_known = ranks.values().filter(|token| token.len() == 1).count();
    if bytes_known < 256 {
        return Err(wrong(format!("has {bytes_known} of the 256 tokens of one byte")));
    }
    let tokens = ranks.last_key_value().map_or(0, |(rank, _)| rank + 1);
    let folder = file.parent().unwrap_or(Path::new("."));
    let config = config(folder)?;
    let mut special = special_tokens(&config);
    if special.is_empty() {
        // The crate needs one; no text has this.
        special.push(("\u{10FFFE}\u{10FFFF}".into(), Rank::MAX));
    }
    let given = pattern(&config, folder);
    let encoder = ranks.into_iter().map(|(rank, token)| (token, rank)).collect();
    let bpe = CoreBPE::new(encoder, special.into_iter().collect(), given.as_deref().unwrap_or(CL100K))
        .map_err(|error| wrong(format!("cannot be used with its pattern: {error}")))?;
    Ok(Ranks { bpe, tokens, assumed: given.is_none() })
}

fn config(folder: &Path) -> Result<Value, InputError> {
    let file = folder.join("tokenizer_config.json");
    let Ok(text) = std::fs::read_to_string(&file) else { return Ok(Value::Null) };
    serde_json::from_str(&text).map_err(|error| {
        InputError::new(file.display().to_string(), format!("is not JSON: {error}"))
            .expected("the tokenizer's settings")
            .next("fetch the model's folder again")
    })
}

/// `{"163584": {"content": "[BOS]"}, …}`.
fn special_tokens(config: &Value) -> Vec<(String, Rank)> {
    let added = config.get("added_tokens_decoder").and_then(Value::as_object).into_iter().flatten();
    let each =
        added.filter_map(|(id, token)| Some((token.get("content")?.as_str()?.to_owned(), id.parse().ok()?)));
    each.collect()
}

/// The pattern in the settings, or in a Python file: `pat_str = r"""…"""`, or several of these joined by `|`.
fn pattern(config: &Value, folder: &Path) -> Option<String> {
    if let Some(pattern) = config.get("pat_str").and_then(Value::as_str) {
        return Some(pattern.to_owned());
    }
    let assigned = Regex::new(r"(?im)^\s*pat_str\s*(?::[^=\n]*)?=").ok()?;
    let raw = Regex::new(r#"(?s)r"""(.*?)""""#).ok()?;
    files(folder, "py").iter().find_map(|file| {
        let text = std::fs::read_to_string(file).ok()?;
        let value = text.get(assigned.find(&text)?.end()..)?;
        let value = value.split("\n\n").next()?;
        let parts: Vec<&str> =
            raw.captures_iter(value).filter_map(|found| Some(found.get(1)?.as_str())).collect();
        (!parts.is_empty()).then(|| parts.join("|"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All single bytes, then `words`.
    fn model(words: &[&str]) -> String {
        let bytes = (0..=255_u8).map(|byte| vec![byte]);
        let tokens = bytes.chain(words.iter().map(|word| word.as_bytes().to_vec()));
        tokens.enumerate().map(|(rank, token)| format!("{} {rank}\n", STANDARD.encode(token))).collect()
    }

    fn folder(words: &[&str], config: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tiktoken.model"), model(words)).unwrap();
        std::fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
        folder
    }

    fn load(folder: &Path) -> Result<Ranks, InputError> {
        let file = in_folder(folder).unwrap();
        parse(&file, &std::fs::read(&file).unwrap())
    }

    #[test]
    fn ranks_and_special_tokens_count_as_tiktoken_does() {
        let config = r#"{"added_tokens_decoder": {"300": {"content": "[BOS]", "special": true}}}"#;
        let folder = folder(&["he", "ll", "hell", "hello", " w"], config);
        let ranks = load(folder.path()).unwrap();
        assert_eq!(ranks.bpe.encode_with_special_tokens("[BOS]hello w"), [300, 259, 260]);
        assert_eq!((ranks.tokens, ranks.assumed), (261, true));
    }

    #[test]
    fn the_pattern_is_read_from_the_settings_and_from_python() {
        let digits =
            |folder: &Path| load(folder).map(|ranks| ranks.bpe.encode_with_special_tokens("12").len());
        let folder = folder(&["12"], "{}");
        assert_eq!(digits(folder.path()).unwrap(), 1);
        let python = "class T:\n    pat_str = \"|\".join(\n        [\n            r\"\"\"[\\p{Han}]+\"\"\",\n            r\"\"\"\\p{N}\"\"\",\n            r\"\"\"[^\\p{N}&&[^\\p{Han}]]+\"\"\",\n        ]\n    )\n\n    other = r\"\"\".*\"\"\"\n";
        std::fs::write(folder.path().join("tokenization_kimi.py"), python).unwrap();
        assert_eq!(digits(folder.path()).unwrap(), 2);
        std::fs::write(folder.path().join("tokenizer_config.json"), r#"{"pat_str": "\\p{N}+|\\P{N}+"}"#)
            .unwrap();
        assert_eq!(digits(folder.path()).unwrap(), 1);
    }

    #[test]
    fn the_pattern_of_kimi_k2_can_be_used() {
        let parts = [
            r"[\p{Han}]+",
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n]*",
            r"\s*[\r\n]+",
            r"\s+(?!\S)",
            r"\s+",
        ];
        let config = serde_json::json!({"pat_str": parts.join("|")}).to_string();
        let folder = folder(&["東", "京", "東京"], &config);
        let ranks = load(folder.path()).unwrap();
        assert_eq!(ranks.bpe.encode_with_special_tokens("東京a").len(), 2);
    }

    #[test]
    fn what_is_no_whole_list_of_ranks_is_refused() {
        let said =
            |text: &str| parse(Path::new("/f/tiktoken.model"), text.as_bytes()).err().unwrap().to_string();
        assert!(said("QQ== 0\n").starts_with("/f/tiktoken.model: has 1 of the 256 tokens of one byte"));
        assert!(said("QQ== 0\nQg==\n").contains("line 2 is no token and rank"));
        assert!(said("QQ== 0\nQg== 0\n").contains("line 2 repeats the rank 0"));
        let pattern = folder(&[], r#"{"pat_str": "("}"#);
        assert!(load(pattern.path()).err().unwrap().to_string().contains("cannot be used with its pattern"));
        assert!(!is_ranks(b"\n\x0e\n\x05<unk>\x15"), "SentencePiece");
    }

    #[test]
    fn the_folder_is_searched_for_the_names_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        put("tokenizer.model", b"\n\x0e\n\x05<unk>\x15");
        assert_eq!(in_folder(folder.path()), None);
        for name in ["tokenizer.model", "qwen.tiktoken", "tiktoken.model"] {
            put(name, b"QQ== 0\n");
            assert_eq!(in_folder(folder.path()), Some(folder.path().join(name)));
        }
    }
}
