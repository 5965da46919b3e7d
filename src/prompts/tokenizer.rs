//! Counts tokens as the server does, from local files only.
//!
//! Four kinds: a `tokenizer.json` (crate `tokenizers`, what vLLM, SGLang and Dynamo load themselves), a `tiktoken.model`,
//! OpenAI's o200k_harmony (built in), and the built-in approximation of one token a word.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::tiktoken;
use super::words::WORDS;
use crate::document::{InputError, no_such_file};
use crate::plan::TokenizerSpec;

/// Ids of o200k's ordinary tokens are below this (OpenAI's `o200k_base.tiktoken` has 199,998 lines).
const O200K_TOKENS: u32 = 199_998;

/// Counts tokens.
pub struct Tokenizer {
    kind: Kind,
    /// `builtin`, `o200k_harmony`, or the path of the file.
    name: String,
}

enum Kind {
    Words,
    File(Box<tokenizers::Tokenizer>),
    /// Ids of its ordinary tokens are below the number.
    Tiktoken(Bpe, u32),
}

/// An encoder of tiktoken: built in, or read.
type Bpe = std::borrow::Cow<'static, tiktoken_rs::CoreBPE>;

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({})", self.name)
    }
}

/// Loaded tokenizers; a sweep loads each once.
#[derive(Debug, Clone, Default)]
pub struct TokenizerCache(Arc<Mutex<HashMap<String, Arc<Tokenizer>>>>);

impl TokenizerCache {
    /// The tokenizer of `spec`.
    ///
    /// # Errors
    /// The file is missing, unreadable or not a tokenizer.
    pub fn tokenizer(&self, spec: &TokenizerSpec) -> Result<Arc<Tokenizer>, InputError> {
        let key = serde_json::to_string(spec).unwrap_or_default();
        if let Some(known) = self.lock().get(&key) {
            return Ok(Arc::clone(known));
        }
        let loaded = Arc::new(Tokenizer::load(spec)?);
        self.lock().insert(key, Arc::clone(&loaded));
        Ok(loaded)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Tokenizer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tokenizer at `path`: the file, or the one in the folder, where a `tokenizer.json` comes first.
fn file_of(path: &str) -> PathBuf {
    let path = Path::new(path);
    if !path.is_dir() {
        return path.to_owned();
    }
    let file = path.join("tokenizer.json");
    if file.is_file() { file } else { tiktoken::in_folder(path).unwrap_or(file) }
}

/// The folder of the tokenizer's file, where the template and the model's configuration lie too.
pub(super) fn folder_of(spec: &TokenizerSpec) -> Option<PathBuf> {
    match spec {
        TokenizerSpec::Builtin | TokenizerSpec::O200kHarmony => None,
        TokenizerSpec::Model { folder } => Some(folder.into()),
        TokenizerSpec::File { path } => file_of(path).parent().map(Path::to_owned),
    }
}

impl Tokenizer {
    /// The approximation: one token a word.
    pub fn builtin() -> Self {
        Self { kind: Kind::Words, name: "builtin".into() }
    }

    fn load(spec: &TokenizerSpec) -> Result<Self, InputError> {
        match spec {
            TokenizerSpec::Builtin => Ok(Self::builtin()),
            TokenizerSpec::Model { folder } => {
                let file = file_of(folder);
                if file.is_file() { Self::read(&file) } else { Ok(Self::builtin()) }
            }
            TokenizerSpec::O200kHarmony => {
                let kind =
                    Kind::Tiktoken(Bpe::Borrowed(tiktoken_rs::o200k_harmony_singleton()), O200K_TOKENS);
                Ok(Self { kind, name: "o200k_harmony".into() })
            }
            TokenizerSpec::File { path } => Self::read(&file_of(path)),
        }
    }

    fn read(file: &Path) -> Result<Self, InputError> {
        let name = file.display().to_string();
        let advice = "give the folder or the tokenizer.json of the model, \"builtin\" for one token a word, or \
                      \"o200k_harmony\" for gpt-oss";
        let bytes = fs_err::read(file).map_err(|error| {
            let error = match error.kind() {
                std::io::ErrorKind::NotFound => no_such_file(file),
                kind => InputError::new(&name, format!("cannot be read: {kind}")),
            };
            error.expected("a tokenizer.json").or_next(advice)
        })?;
        if bytes.starts_with(b"version https://git-lfs") {
            return Err(InputError::new(name, "is a Git LFS pointer, not the tokenizer itself")
                .expected("a tokenizer.json")
                .next("fetch it: git lfs pull"));
        }
        if tiktoken::is_ranks(&bytes) {
            let tiktoken::Ranks { bpe, tokens, assumed } = tiktoken::parse(file, &bytes)?;
            let split = if assumed { " (splits text as cl100k_base does: no pat_str beside it)" } else { "" };
            return Ok(Self {
                kind: Kind::Tiktoken(Bpe::Owned(bpe), tokens),
                name: format!("{name}{split}"),
            });
        }
        let mut loaded = tokenizers::Tokenizer::from_bytes(&bytes).map_err(|error| {
            InputError::new(&name, format!("cannot be read as a tokenizer: {error}"))
                .expected("a tokenizer.json as the crate and the Python package `tokenizers` write it, or a tiktoken.model")
                .next(advice)
        })?;
        // A file may set truncation; the prompt would then seem shorter than it is.
        let _ = loaded.with_truncation(None);
        loaded.with_padding(None);
        Ok(Self { kind: Kind::File(Box::new(loaded)), name })
    }

    /// `builtin`, `o200k_harmony`, or the path of the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it counts as a server does; the built-in one counts words.
    pub fn is_exact(&self) -> bool {
        !matches!(self.kind, Kind::Words)
    }

    /// Token ids of `text`. `special`: with what the tokenizer puts around every text, such as a BOS token. Text that spells a
    /// special token is that token, as in the servers. The built-in one has no ids: it gives as many zeros as there are words.
    pub fn encode(&self, text: &str, special: bool) -> Vec<u32> {
        match &self.kind {
            Kind::Words => vec![0; count_words(text) as usize],
            // It fails for none of the models that this crate can load.
            Kind::File(file) => file
                .encode_fast(text, special)
                .map(|encoding| encoding.get_ids().to_vec())
                .unwrap_or_default(),
            Kind::Tiktoken(bpe, _) => bpe.encode_with_special_tokens(text),
        }
    }

    /// Tokens of `text`, see [`Tokenizer::encode`].
    pub fn count(&self, text: &str, special: bool) -> u64 {
        match &self.kind {
            Kind::Words => count_words(text),
            Kind::File(file) => {
                file.encode_fast(text, special).map_or(0, |encoding| encoding.get_ids().len() as u64)
            }
            Kind::Tiktoken(bpe, _) => bpe.count_with_special_tokens(text) as u64,
        }
    }

    /// The text of `ids`.
    pub fn decode(&self, ids: &[u32]) -> Option<String> {
        match &self.kind {
            Kind::Words => None,
            Kind::File(file) => file.decode(ids, false).ok(),
            Kind::Tiktoken(bpe, _) => bpe.decode(ids).ok(),
        }
    }

    /// Plain words that may be single tokens behind a space, in the order of their ids: for byte-level and for SentencePiece
    /// vocabularies frequent words come first.
    pub(super) fn candidates(&self) -> Vec<String> {
        match &self.kind {
            Kind::Words => WORDS.iter().map(|word| (*word).to_owned()).collect(),
            Kind::File(file) => {
                let mut words: Vec<(u32, String)> = file
                    .get_vocab(false)
                    .into_iter()
                    .filter_map(|(piece, id)| {
                        let word = piece.strip_prefix('Ġ').or_else(|| piece.strip_prefix('▁'))?;
                        is_plain(word).then(|| (id, word.to_owned()))
                    })
                    .collect();
                words.sort_unstable();
                words.into_iter().map(|(_, word)| word).collect()
            }
            Kind::Tiktoken(bpe, tokens) => (0..*tokens)
                .filter_map(|id| {
                    let bytes = bpe.decode_bytes(&[id]).ok()?;
                    let text = String::from_utf8(bytes).ok()?;
                    text.strip_prefix(' ').filter(|word| is_plain(word)).map(str::to_owned)
                })
                .collect(),
        }
    }
}

/// Lower-case ASCII letters: no tokenizer splits, joins or normalises these in a surprising way.
fn is_plain(word: &str) -> bool {
    (2..=14).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_lowercase())
}

/// Words in `text`, separated by white space: the built-in approximation of its tokens.
pub fn count_words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}
