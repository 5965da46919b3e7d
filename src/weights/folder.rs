//! Checks a model folder and collects all errors.
//!
//! Only the top level counts: engines ignore hidden files and inner folders (`.git`, `.cache`, `original`, `metal` …). Links are
//! followed, because the hub's cache consists of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read};
use std::path::Path;

use itertools::Itertools;

use super::shard::{self, Fault, POINTER, Shard};
use super::{GIB, WeightsFound, counted, index, size};
use crate::document::InputError;
use crate::node::WeightsQuery;
use crate::plan::TokenizerSpec;
use crate::prompts::TokenizerCache;

/// Allowed deviation of the total size from the recipe.
const TOLERANCE: f64 = 0.1;

/// File extensions of weights in other formats. A folder without any of them contains no weights.
const OTHERS: &str = "bin ckpt distcp engine ggml gguf h5 llamafile msgpack nemo npy npz onnx onnx_data ot pdparams plan pt pth tflite";

/// Extensions of unfinished downloads and of their control files.
const UNFINISHED: &str = "incomplete part aria2";

/// Configuration files, in the order in which engines look for them.
const CONFIGS: [&str; 2] = ["config.json", "params.json"];

/// The tokenizer that is loaded.
const TOKENIZER: &str = "tokenizer.json";

/// Other tokenizers, which are not loaded here. Some consist of two files.
const OTHER_TOKENIZERS: [&[&str]; 4] =
    [&["tokenizer.model"], &["tekken.json"], &["tiktoken.model"], &["vocab.json", "merges.txt"]];

/// Checks a folder. It never fails: an unreadable file is an error like any other.
pub fn examine(model: &WeightsQuery, tokenizers: &TokenizerCache) -> WeightsFound {
    let folder = Path::new(&model.folder);
    let mut found = WeightsFound::default();
    if folder.is_file() {
        found.remarks.push(format!("{} is a file: not checked", model.folder));
        return found;
    }
    match names(folder) {
        Ok((names, folders)) => {
            let mut check = Check { model, folder, names, folders, found, whole: BTreeMap::new() };
            check.weights();
            check.config();
            check.tokenizer(tokenizers);
            return check.found;
        }
        Err(problem) => {
            let error = InputError::new(&model.folder, problem).expected("a folder with the model's weights");
            found.problems.push(error.next("correct the path, or download the model there"));
        }
    }
    found
}

/// Names of the visible files (or dangling links) and folders, sorted.
fn names(folder: &Path) -> Result<(Vec<String>, Vec<String>), String> {
    let failed = |error: std::io::Error| match std::fs::read_link(folder) {
        Ok(target) if error.kind() == ErrorKind::NotFound => {
            format!("is a link to {}, which does not exist", target.display())
        }
        _ => format!("the folder cannot be read: {error}"),
    };
    let (mut names, mut folders) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            if entry.path().is_dir() { &mut folders } else { &mut names }.push(name);
        }
    }
    names.sort();
    folders.sort();
    Ok((names, folders))
}

struct Check<'a> {
    model: &'a WeightsQuery,
    folder: &'a Path,
    /// Names of the files in it.
    names: Vec<String>,
    /// Names of the folders in it.
    folders: Vec<String>,
    found: WeightsFound,
    /// Complete files by name.
    whole: BTreeMap<String, Shard>,
}

impl Check<'_> {
    fn weights(&mut self) {
        let unfinished = self.names.iter().filter(|name| ends_in(name, UNFINISHED)).collect_vec();
        if !unfinished.is_empty() {
            let problem = format!("the download is not finished: found {}", listed(&unfinished));
            let next = format!("wait for it, remove what it left, or {}", download(self.model));
            self.found.problems.push(InputError::new(&self.model.folder, problem).next(next));
        }
        let shards = self.names.iter().filter(|name| name.ends_with(".safetensors")).cloned().collect_vec();
        let has_index = self.has(index::NAME);
        if !has_index && shards.is_empty() {
            return self.other_formats();
        }
        self.found.examined = true;
        match has_index.then(|| self.index()).flatten() {
            Some(index) => self.by_index(&index, &shards),
            None => self.without_index(&shards, has_index),
        }
        self.found.shards = self.whole.len();
        self.found.bytes = self.whole.values().map(|shard| shard.length).fold(0, u64::saturating_add);
        if self.found.problems.is_empty() {
            self.size();
        }
    }

    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    /// An error about a file of the folder.
    fn error(&self, name: &str, problem: impl Into<String>) -> InputError {
        InputError::new(self.folder.join(name).display().to_string(), problem).next(download(self.model))
    }

    fn problem(&mut self, name: &str, problem: impl Into<String>) {
        self.found.problems.push(self.error(name, problem));
    }

    /// An error about a file that cannot be used.
    fn fault(&self, name: &str, fault: &Fault) -> InputError {
        let error = self.error(name, fault.to_string());
        match fault {
            Fault::Pointer(_) => error.next(format!("fetch it: git lfs pull; or {}", download(self.model))),
            _ => error,
        }
    }

    /// Weights in other formats: only their existence is checked.
    fn other_formats(&mut self) {
        let is_empty = |name: &String| is_empty(&self.folder.join(name));
        let has_weights = self.names.iter().any(|name| ends_in(name, OTHERS) && !is_empty(name))
            || self.folders.iter().any(|folder| has_weights(&self.folder.join(folder)));
        if has_weights {
            let remark = "no *.safetensors at the top of the folder: weights not checked";
            self.found.remarks.push(remark.into());
        } else if self.found.problems.is_empty() {
            let files = self.names.iter().map(|name| match ends_in(name, OTHERS) && is_empty(name) {
                true => format!("{name} (empty)"),
                false => name.clone(),
            });
            let shown = files.chain(self.folders.iter().map(|folder| format!("{folder}/"))).collect_vec();
            let has =
                if shown.is_empty() { "it is empty".into() } else { format!("found {}", listed(&shown)) };
            let error = InputError::new(&self.model.folder, format!("holds no weights: {has}"));
            self.found.problems.push(error.expected("*.safetensors files").next(download(self.model)));
        }
    }

    /// The index; if it is invalid, records the error.
    fn index(&mut self) -> Option<index::Index> {
        let read = match small_file(&self.folder.join(index::NAME)) {
            Ok(text) => index::parse(&text).map_err(|problem| self.error(index::NAME, problem)),
            Err(fault) => Err(self.fault(index::NAME, &fault)),
        };
        read.map_err(|error| self.found.problems.push(error)).ok()
    }

    fn by_index(&mut self, index: &index::Index, there: &[String]) {
        let is_missing = |name: &String| {
            let found = std::fs::symlink_metadata(self.folder.join(name));
            found.is_err_and(|error| error.kind() == ErrorKind::NotFound)
        };
        let (missing, present): (Vec<&String>, Vec<_>) =
            index.shards.keys().partition(|name| is_missing(name));
        if !missing.is_empty() {
            let total = counted(index.shards.len(), "shard");
            let (number, names) = (missing.len(), listed(&missing));
            let problem = format!("{number} of its {total} {} missing: {names}", are(number));
            self.problem(index::NAME, problem);
        }
        for name in present {
            if let Some(shard) = self.shard(name) {
                self.compare(name, &index.shards[name], &shard.tensors);
                self.whole.insert(name.clone(), shard);
            }
        }
        let extra = there.iter().filter(|name| !index.shards.contains_key(*name)).collect_vec();
        if !extra.is_empty() {
            let others = listed(&extra);
            let remark = format!("{} does not name {others}: from another revision?", index::NAME);
            self.found.remarks.push(remark);
        }
        let gaps = index.gaps(there);
        if !gaps.is_empty() {
            let (shards, are, names) = (counted(gaps.len(), "shard"), are(gaps.len()), listed(&gaps));
            let problem =
                format!("by the numbers of the others it omits {shards}, which {are} missing: {names}");
            self.problem(index::NAME, problem);
        }
        self.total(index);
    }

    /// Compares the bytes of all tensors with the index. A larger total means missing data; a smaller one is a tool's way to count.
    fn total(&mut self, index: &index::Index) {
        let data = self.whole.values().map(|shard| shard.data).fold(0, u64::saturating_add);
        let Some(total) = index.total.filter(|_| self.whole.len() == index.shards.len()) else { return };
        let says = format!("says total_size {total}, and the tensors have {data} bytes");
        // Publishers may count a shared tensor twice; an unnamed shard is a larger part than that.
        if total as f64 > data as f64 * (1.0 + TOLERANCE) {
            self.problem(index::NAME, says);
        } else if total != data {
            self.found.remarks.push(format!("{} {says}", index::NAME));
        }
    }

    /// Compares the tensors that the index maps to a file with those in it.
    fn compare(&mut self, name: &str, mapped: &BTreeSet<String>, there: &BTreeSet<String>) {
        let only_in = |one: &BTreeSet<String>, other: &BTreeSet<String>| {
            let only = one.difference(other).collect_vec();
            Some((counted(only.len(), "tensor"), (*only.first()?).clone()))
        };
        if let Some((tensors, first)) = only_in(mapped, there) {
            let problem = format!(
                "lacks {tensors} that {} maps to it, first {first:?}: index and shard are from different downloads",
                index::NAME
            );
            self.problem(name, problem);
        }
        if let Some((tensors, first)) = only_in(there, mapped) {
            let index = index::NAME;
            let remark = format!("{name} has {tensors} that {index} does not map to it, first {first:?}");
            self.found.remarks.push(remark);
        }
    }

    fn without_index(&mut self, there: &[String], is_broken: bool) {
        let missing = index::gaps(there);
        if !missing.is_empty() {
            let (shards, are) = (counted(missing.len(), "shard"), are(missing.len()));
            let problem =
                format!("by the numbers of the others {shards} {are} missing: {}", listed(&missing));
            let error = InputError::new(&self.model.folder, problem).next(download(self.model));
            self.found.problems.push(error);
        } else if !is_broken && there.len() > 1 {
            let remark = format!("no {}: missing tensors would go unnoticed", index::NAME);
            self.found.remarks.push(remark);
        }
        for name in there {
            if let Some(shard) = self.shard(name) {
                self.whole.insert(name.clone(), shard);
            }
        }
    }

    /// One file; if it is invalid, records the error.
    fn shard(&mut self, name: &str) -> Option<Shard> {
        let read = open(&self.folder.join(name)).and_then(|(file, length)| shard::read(file, length));
        let shard = read.map_err(|fault| self.found.problems.push(self.fault(name, &fault))).ok()?;
        if let Some(unknown) = &shard.unknown {
            let remark =
                format!("{name} has numbers of the unknown type {unknown}: only its length was checked");
            self.found.remarks.push(remark);
        }
        Some(shard)
    }

    /// Compares the total size with the recipe, because the folder of another, smaller model is complete too.
    fn size(&mut self) {
        let Some(wanted) = self.model.weights_gib.filter(|wanted| *wanted > 0.0) else { return };
        let share = self.found.bytes as f64 / (wanted * GIB);
        let (size, shards) = (size(self.found.bytes), counted(self.found.shards, "shard"));
        let says = format!("{size} in {shards}, and model.weights_gib says {wanted} GiB");
        if share < 1.0 - TOLERANCE {
            let error = InputError::new(&self.model.folder, says).key("model.weights_gib");
            let expected = format!("at least {:.1} GiB", wanted * (1.0 - TOLERANCE));
            self.found.problems.push(error.expected(expected).next(format!(
                "check that this is the folder of {}; correct model.path or model.weights_gib",
                self.model.model
            )));
        } else if share > 1.0 + TOLERANCE {
            self.found.remarks.push(says);
        }
    }

    /// Checks the configuration, a JSON object; with weights it must exist.
    fn config(&mut self) {
        let Some(name) = CONFIGS.into_iter().find(|name| self.has(name)) else {
            if self.found.examined {
                self.problem("config.json", "is missing");
            }
            return;
        };
        let error = match small_file(&self.folder.join(name)) {
            Err(fault) => self.fault(name, &fault),
            Ok(text) => match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&text) {
                Ok(_) => return,
                Err(error) => self.error(name, format!("cannot be read as JSON: {error}")),
            },
        };
        self.found.problems.push(error.expected("the model's configuration, a JSON object"));
    }

    /// Checks the tokenizer, by loading it if possible; with weights one must exist.
    fn tokenizer(&mut self, tokenizers: &TokenizerCache) {
        if self.has(TOKENIZER) {
            let spec = TokenizerSpec::Model { folder: self.model.folder.clone() };
            let error = match small_file(&self.folder.join(TOKENIZER)) {
                Err(fault) => Some(self.fault(TOKENIZER, &fault)),
                Ok(_) => tokenizers.tokenizer(&spec).err().map(|error| self.error(TOKENIZER, error.problem)),
            };
            return self.found.problems.extend(error);
        }
        let together = OTHER_TOKENIZERS.into_iter().find(|names| names.iter().all(|name| self.has(name)));
        let tiktoken = || self.names.iter().find(|name| name.ends_with(".tiktoken")).cloned();
        if let Some(other) = together.map(|names| names.join(" and ")).or_else(tiktoken) {
            self.found.remarks.push(format!("tokenizer: no {TOKENIZER}; {other} is not checked"));
        } else if self.found.examined && !self.model.is_draft {
            let expected =
                format!("{TOKENIZER}, or another tokenizer: tokenizer.model, vocab.json and merges.txt");
            self.found.problems.push(self.error(TOKENIZER, "is missing").expected(expected));
        }
    }
}

/// Advice for missing or broken files.
pub(super) fn download(WeightsQuery { folder, model, .. }: &WeightsQuery) -> String {
    let quoted = |word: &str| shlex::try_quote(word).map_or_else(|_| format!("{word:?}"), Into::into);
    // Files in the hub's cache have other names.
    let place = match folder.contains("/snapshots/") {
        true => String::new(),
        false => format!(" --local-dir {}", quoted(folder)),
    };
    format!("download it again: hf download {}{place}", quoted(model))
}

/// Opens a file, and gives its length.
fn open(path: &Path) -> Result<(std::fs::File, u64), Fault> {
    let found = std::fs::metadata(path).map_err(|error| match std::fs::read_link(path) {
        Ok(target) if error.kind() == ErrorKind::NotFound => {
            Fault::Dangling(path.parent().unwrap_or(Path::new("")).join(target))
        }
        _ if error.kind() == ErrorKind::NotFound => Fault::Missing,
        _ => Fault::Io(error),
    })?;
    if !found.is_file() {
        return Err(Fault::NoFile);
    }
    Ok((std::fs::File::open(path)?, found.len()))
}

/// Reads a small text file.
fn small_file(path: &Path) -> Result<Vec<u8>, Fault> {
    let (file, length) = open(path)?;
    let mut text = Vec::new();
    file.take(shard::MAX_HEADER).read_to_end(&mut text)?;
    if text.starts_with(POINTER) { Err(Fault::Pointer(length)) } else { Ok(text) }
}

/// Whether a name has one of these extensions, which are separated by blanks.
fn ends_in(name: &str, endings: &str) -> bool {
    let end = Path::new(name).extension().and_then(|end| end.to_str());
    end.is_some_and(|end| endings.split(' ').any(|known| end.eq_ignore_ascii_case(known)))
}

/// Whether a file is empty or missing.
fn is_empty(path: &Path) -> bool {
    std::fs::metadata(path).map_or(true, |found| !found.is_file() || found.len() == 0)
}

/// Whether a folder contains weights of any format at its top level.
fn has_weights(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (ends_in(&name, OTHERS) || ends_in(&name, "safetensors")) && !is_empty(&entry.path())
        })
    })
}

fn are(number: usize) -> &'static str {
    if number == 1 { "is" } else { "are" }
}

/// The first names, and the number of others.
fn listed(names: &[impl std::fmt::Display]) -> String {
    const MOST: usize = 20;
    let shown = names.iter().take(MOST).join(", ");
    match names.len().saturating_sub(MOST) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
