//! What lies beside the weights: the configuration, the tokenizer.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::shard::POINTER;
use super::{Subject, shard};
use crate::document::InputError;
use crate::plan::TokenizerSpec;
use crate::prompts::TokenizerCache;

/// Configurations, in the order engines look for them.
const CONFIGS: [&str; 2] = ["config.json", "params.json"];

/// Tokenizers of other kinds, which are not loaded here. Two names are a pair.
const TOKENIZERS: [&[&str]; 4] =
    [&["tokenizer.model"], &["tekken.json"], &["tiktoken.model"], &["vocab.json", "merges.txt"]];

/// A folder's entries beside its weights.
pub(super) struct Beside<'a> {
    pub(super) subject: &'a Subject,
    pub(super) folder: &'a Path,
    /// Names at the top of the folder that are not hidden.
    pub(super) names: &'a [String],
}

impl Beside<'_> {
    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    fn error(&self, name: &str, problem: impl Into<String>) -> InputError {
        InputError::new(self.folder.join(name).display().to_string(), problem).next(self.subject.download())
    }

    /// The configuration, an object in JSON. `needed`: it must be there.
    pub(super) fn config(&self, needed: bool) -> Option<InputError> {
        let Some(name) = CONFIGS.into_iter().find(|name| self.has(name)) else {
            return needed.then(|| self.error("config.json", "is missing"));
        };
        let problem = match small_file(&self.folder.join(name)) {
            Err(problem) => problem,
            Ok(text) => match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&text) {
                Ok(_) => return None,
                Err(error) => format!("cannot be read as JSON: {error}"),
            },
        };
        Some(self.error(name, problem).expected("the model's configuration, an object in JSON"))
    }

    /// The tokenizer, loaded when it is of the kind that can be. `needed`: there must be one.
    pub(super) fn tokenizer(
        &self,
        needed: bool,
        tokenizers: &TokenizerCache,
        remarks: &mut Vec<String>,
    ) -> Option<InputError> {
        const NAME: &str = "tokenizer.json";
        let file = self.folder.join(NAME);
        if self.has(NAME) {
            if let Some(problem) = pointer(&file) {
                return Some(self.error(NAME, problem).next(self.subject.fetch()));
            }
            if let Some(problem) = absent(&file) {
                return Some(self.error(NAME, problem));
            }
            let spec = TokenizerSpec::Model { folder: self.subject.folder.clone() };
            return tokenizers.tokenizer(&spec).err().map(|error| self.error(NAME, error.problem));
        }
        let ends = |end: &str| self.names.iter().find(|name| name.ends_with(end)).cloned();
        let pair = TOKENIZERS.into_iter().find(|pair| pair.iter().all(|name| self.has(name)));
        let other = pair.map(|pair| pair.join(" and ")).or_else(|| ends(".tiktoken"));
        match other {
            Some(other) => {
                remarks.push(format!("tokenizer: there is no {NAME}; {other}: not loaded"));
                None
            }
            None if needed => Some(self.error(NAME, "is missing").expected(format!(
                "{NAME}, or another tokenizer: tokenizer.model, vocab.json and merges.txt"
            ))),
            None => None,
        }
    }
}

/// Why a name of the folder leads to no file.
pub(super) fn absent(path: &Path) -> Option<String> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => None,
        Ok(_) => Some("is no file".into()),
        Err(error) => Some(match std::fs::read_link(path) {
            Ok(target) if error.kind() == std::io::ErrorKind::NotFound => {
                format!("is a link to {}, which does not exist", shown(path, &target))
            }
            _ if error.kind() == std::io::ErrorKind::NotFound => "is missing".into(),
            _ => format!("cannot be read: {error}"),
        }),
    }
}

/// The target of a link, from the root.
fn shown(link: &Path, target: &Path) -> String {
    let joined: PathBuf = link.parent().unwrap_or(Path::new("")).join(target);
    joined.display().to_string()
}

/// A pointer of git-lfs in place of a file.
fn pointer(path: &Path) -> Option<String> {
    let mut start = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.take(POINTER.len() as u64).read_to_end(&mut start).ok()?;
    (start == POINTER).then(|| shard::Fault::Pointer(length).to_string())
}

/// A file of text that is never large.
///
/// # Errors
/// Why it cannot be read, or is none.
pub(super) fn small_file(path: &Path) -> Result<Vec<u8>, String> {
    if let Some(problem) = absent(path).or_else(|| pointer(path)) {
        return Err(problem);
    }
    let mut text = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(shard::MAX_HEADER).read_to_end(&mut text));
    read.map(|_| text).map_err(|error| format!("cannot be read: {error}"))
}
