//! The configuration and the tokenizer in a model folder.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::shard::POINTER;
use super::{ModelFolder, shard};
use crate::document::InputError;
use crate::plan::TokenizerSpec;
use crate::prompts::TokenizerCache;

/// Configuration files, in the order in which engines look for them.
const CONFIGS: [&str; 2] = ["config.json", "params.json"];

/// Other tokenizers, which are not loaded here. Some consist of two files.
const TOKENIZERS: [&[&str]; 4] =
    [&["tokenizer.model"], &["tekken.json"], &["tiktoken.model"], &["vocab.json", "merges.txt"]];

/// The files of a folder other than its weights.
pub(super) struct Metadata<'a> {
    pub(super) model: &'a ModelFolder,
    pub(super) folder: &'a Path,
    /// Visible names at the top of the folder.
    pub(super) names: &'a [String],
}

impl Metadata<'_> {
    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    fn error(&self, name: &str, problem: impl Into<String>) -> InputError {
        InputError::new(self.folder.join(name).display().to_string(), problem).next(self.model.download())
    }

    /// Checks the configuration, a JSON object. `needed`: it must exist.
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
        Some(self.error(name, problem).expected("the model's configuration, a JSON object"))
    }

    /// Checks the tokenizer, by loading it if possible. `needed`: one must exist.
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
                return Some(self.error(NAME, problem).next(self.model.fetch()));
            }
            if let Some(problem) = absent(&file) {
                return Some(self.error(NAME, problem));
            }
            let spec = TokenizerSpec::Model { folder: self.model.folder.clone() };
            return tokenizers.tokenizer(&spec).err().map(|error| self.error(NAME, error.problem));
        }
        let ends = |end: &str| self.names.iter().find(|name| name.ends_with(end)).cloned();
        let pair = TOKENIZERS.into_iter().find(|pair| pair.iter().all(|name| self.has(name)));
        let other = pair.map(|pair| pair.join(" and ")).or_else(|| ends(".tiktoken"));
        match other {
            Some(other) => {
                remarks.push(format!("tokenizer: no {NAME}; {other} is not checked"));
                None
            }
            None if needed => Some(self.error(NAME, "is missing").expected(format!(
                "{NAME}, or another tokenizer: tokenizer.model, vocab.json and merges.txt"
            ))),
            None => None,
        }
    }
}

/// Why a path is not a file.
pub(super) fn absent(path: &Path) -> Option<String> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => None,
        Ok(_) => Some("is not a file".into()),
        Err(error) => Some(match std::fs::read_link(path) {
            Ok(target) if error.kind() == std::io::ErrorKind::NotFound => {
                format!("is a link to {}, which does not exist", shown(path, &target))
            }
            _ if error.kind() == std::io::ErrorKind::NotFound => "is missing".into(),
            _ => format!("cannot be read: {error}"),
        }),
    }
}

/// The absolute target of a link.
fn shown(link: &Path, target: &Path) -> String {
    let joined: PathBuf = link.parent().unwrap_or(Path::new("")).join(target);
    joined.display().to_string()
}

/// The error for a git-lfs pointer instead of a file.
fn pointer(path: &Path) -> Option<String> {
    let mut start = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.take(POINTER.len() as u64).read_to_end(&mut start).ok()?;
    (start == POINTER).then(|| shard::Fault::Pointer(length).to_string())
}

/// Reads a small text file.
///
/// # Errors
/// Why it cannot be read, or is not a file.
pub(super) fn small_file(path: &Path) -> Result<Vec<u8>, String> {
    if let Some(problem) = absent(path).or_else(|| pointer(path)) {
        return Err(problem);
    }
    let mut text = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(shard::MAX_HEADER).read_to_end(&mut text));
    read.map(|_| text).map_err(|error| format!("cannot be read: {error}"))
}
