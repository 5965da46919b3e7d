//! Checks a model folder and collects all errors.
//!
//! Only the top level counts: engines ignore hidden files and inner folders (`.git`, `.cache`, `original`, `metal` …). Links are
//! followed, because the hub's cache consists of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::metadata::{Metadata, absent, small_file};
use super::shard::{self, Fault, Shard};
use super::{GIB, ModelFolder, WeightsFound, counted, index, listed, size};
use crate::document::InputError;
use crate::prompts::TokenizerCache;

/// Allowed deviation of the total size from the recipe.
const TOLERANCE: f64 = 0.1;

/// File extensions of weights in other formats. A folder without any of them contains no weights.
const OTHERS: [&str; 20] = [
    "bin",
    "ckpt",
    "distcp",
    "engine",
    "ggml",
    "gguf",
    "h5",
    "llamafile",
    "msgpack",
    "nemo",
    "npy",
    "npz",
    "onnx",
    "onnx_data",
    "ot",
    "pdparams",
    "plan",
    "pt",
    "pth",
    "tflite",
];

/// Extensions of unfinished downloads and of their control files.
const UNFINISHED: [&str; 3] = ["incomplete", "part", "aria2"];

/// Checks a folder. It never fails: an unreadable file is an error like any other.
pub fn examine(model: &ModelFolder, tokenizers: &TokenizerCache) -> WeightsFound {
    let folder = Path::new(&model.folder);
    let mut check = Check { model, folder, found: WeightsFound::default(), whole: BTreeMap::new() };
    match names(folder) {
        Ok(Names::File) => check.found.remarks.push(format!("{} is a file: not checked", model.folder)),
        Ok(Names::Folder { names, folders }) => check.all(&names, &folders, tokenizers),
        Err(problem) => {
            let error = InputError::new(&model.folder, problem).expected("a folder with the model's weights");
            check.found.problems.push(error.next("correct the path, or download the model there"));
        }
    }
    check.found
}

enum Names {
    /// It is a file.
    File,
    /// Its visible entries.
    Folder {
        /// Files and dangling links.
        names: Vec<String>,
        /// Folders.
        folders: Vec<String>,
    },
}

fn names(folder: &Path) -> Result<Names, String> {
    if folder.is_file() {
        return Ok(Names::File);
    }
    let failed = |error: std::io::Error| match std::fs::read_link(folder) {
        Ok(target) if error.kind() == std::io::ErrorKind::NotFound => {
            format!("is a link to {}, which does not exist", target.display())
        }
        _ => format!("the folder cannot be read: {error}"),
    };
    let (mut names, mut folders) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        if entry.path().is_dir() {
            folders.push(name);
        } else {
            names.push(name);
        }
    }
    names.sort();
    folders.sort();
    Ok(Names::Folder { names, folders })
}

struct Check<'a> {
    model: &'a ModelFolder,
    folder: &'a Path,
    found: WeightsFound,
    /// Complete files by name.
    whole: BTreeMap<String, Shard>,
}

impl Check<'_> {
    fn all(&mut self, names: &[String], folders: &[String], tokenizers: &TokenizerCache) {
        let shards: Vec<&str> =
            names.iter().map(String::as_str).filter(|name| name.ends_with(".safetensors")).collect();
        self.unfinished(names);
        let has_index = names.iter().any(|name| name == index::NAME);
        if has_index || !shards.is_empty() {
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
        } else {
            self.other_formats(names, folders);
        }
        let metadata = Metadata { model: self.model, folder: self.folder, names };
        let needed = self.found.examined;
        self.found.problems.extend(metadata.config(needed));
        let tokenizer = metadata.tokenizer(needed, tokenizers, &mut self.found.remarks);
        self.found.problems.extend(tokenizer);
    }

    /// Reports unfinished downloads: complete files may be there, but not all.
    fn unfinished(&mut self, names: &[String]) {
        let names: Vec<&str> =
            names.iter().map(String::as_str).filter(|name| ends_in(name, &UNFINISHED)).collect();
        if !names.is_empty() {
            let problem = format!("the download is not finished: found {}", listed(&names));
            let error = InputError::new(&self.model.folder, problem);
            let next = format!("wait for it, remove what it left, or {}", self.model.download());
            self.found.problems.push(error.next(next));
        }
    }

    /// Weights in other formats: only their existence is checked.
    fn other_formats(&mut self, names: &[String], folders: &[String]) {
        let holds = |name: &String| ends_in(name, &OTHERS) && !is_empty(&self.folder.join(name));
        if names.iter().any(holds) || folders.iter().any(|folder| has_weights(&self.folder.join(folder))) {
            let remark = "no *.safetensors at the top of the folder: weights not checked";
            self.found.remarks.push(remark.into());
        } else if self.found.problems.is_empty() {
            let of_file = |name: &String| {
                let empty = ends_in(name, &OTHERS) && is_empty(&self.folder.join(name));
                if empty { format!("{name} (empty)") } else { name.clone() }
            };
            let shown = names.iter().map(of_file).chain(folders.iter().map(|folder| format!("{folder}/")));
            let shown: Vec<String> = shown.collect();
            let has =
                if shown.is_empty() { "it is empty".into() } else { format!("found {}", listed_all(&shown)) };
            let error = InputError::new(&self.model.folder, format!("holds no weights: {has}"));
            self.found.problems.push(error.expected("*.safetensors files").next(self.model.download()));
        }
    }

    fn problem(&mut self, name: &str, problem: impl Into<String>) {
        let origin = self.folder.join(name).display().to_string();
        self.found.problems.push(InputError::new(origin, problem).next(self.model.download()));
    }

    /// The index; if it is invalid, records the error.
    fn index(&mut self) -> Option<index::Index> {
        let read = small_file(&self.folder.join(index::NAME)).and_then(|text| index::parse(&text));
        read.map_err(|problem| self.problem(index::NAME, problem)).ok()
    }

    fn by_index(&mut self, index: &index::Index, there: &[&str]) {
        let missing: Vec<&str> = index
            .shards
            .keys()
            .filter(|name| std::fs::symlink_metadata(self.folder.join(name)).is_err_and(|e| is_missing(&e)))
            .map(String::as_str)
            .collect();
        if !missing.is_empty() {
            let total = counted(index.shards.len(), "shard");
            let (number, are) = (missing.len(), are(missing.len()));
            let problem = format!("{number} of its {total} {are} missing: {}", listed(&missing));
            self.problem(index::NAME, problem);
        }
        for (name, tensors) in index.shards.iter().filter(|(name, _)| !missing.contains(&name.as_str())) {
            if let Some(shard) = self.shard(name) {
                self.compare(name, tensors, &shard.tensors);
                self.whole.insert(name.clone(), shard);
            }
        }
        let extra: Vec<&str> =
            there.iter().copied().filter(|name| !index.shards.contains_key(*name)).collect();
        if !extra.is_empty() {
            let others = listed(&extra);
            self.found
                .remarks
                .push(format!("{} does not name {others}: from another revision?", index::NAME));
        }
        let gaps = index.gaps(there);
        if !gaps.is_empty() {
            let (shards, are) = (counted(gaps.len(), "shard"), are(gaps.len()));
            let names = listed_all(&gaps);
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
        let says = format!("total_size {total}, and the tensors have {data} bytes");
        // Publishers may count a shared tensor twice; an unnamed shard is a larger part than that.
        if total as f64 > data as f64 * (1.0 + TOLERANCE) {
            self.problem(index::NAME, format!("says {says}"));
        } else if total != data {
            self.found.remarks.push(format!("{} says {says}", index::NAME));
        }
    }

    /// Compares the tensors that the index maps to a file with those in it.
    fn compare(&mut self, name: &str, mapped: &BTreeSet<String>, there: &BTreeSet<String>) {
        let first = |of: &[&String]| of.first().map(|name| (*name).clone()).unwrap_or_default();
        let absent: Vec<&String> = mapped.difference(there).collect();
        if !absent.is_empty() {
            let tensors = counted(absent.len(), "tensor");
            let problem = format!(
                "lacks {tensors} that {} maps to it, first {:?}: index and shard are from different downloads",
                index::NAME,
                first(&absent)
            );
            self.problem(name, problem);
        }
        let unnamed: Vec<&String> = there.difference(mapped).collect();
        if !unnamed.is_empty() {
            let tensors = counted(unnamed.len(), "tensor");
            self.found.remarks.push(format!(
                "{name} has {tensors} that {} does not map to it, first {:?}",
                index::NAME,
                first(&unnamed)
            ));
        }
    }

    fn without_index(&mut self, there: &[&str], is_broken: bool) {
        let missing = index::gaps(there);
        if !missing.is_empty() {
            let names: Vec<&str> = missing.iter().map(String::as_str).collect();
            let (shards, are) = (counted(names.len(), "shard"), are(names.len()));
            let problem = format!("by the numbers of the others {shards} {are} missing: {}", listed(&names));
            let error = InputError::new(&self.model.folder, problem).next(self.model.download());
            self.found.problems.push(error);
        } else if !is_broken && there.len() > 1 {
            let remark = format!("no {}: missing tensors would go unnoticed", index::NAME);
            self.found.remarks.push(remark);
        }
        for name in there {
            if let Some(shard) = self.shard(name) {
                self.whole.insert((*name).to_owned(), shard);
            }
        }
    }

    /// One file; if it is invalid, records the error.
    fn shard(&mut self, name: &str) -> Option<Shard> {
        let path = self.folder.join(name);
        if let Some(problem) = absent(&path) {
            self.problem(name, problem);
            return None;
        }
        let read = std::fs::File::open(&path).map_err(Fault::from).and_then(|file| {
            let length = file.metadata()?.len();
            shard::read(file, length)
        });
        match read {
            Ok(shard) => {
                if let Some(unknown) = &shard.unknown {
                    let remark = format!(
                        "{name} has numbers of the unknown type {unknown}: only its length was checked"
                    );
                    self.found.remarks.push(remark);
                }
                Some(shard)
            }
            Err(fault) => {
                let advice = match fault {
                    Fault::Pointer(_) => self.model.fetch(),
                    _ => self.model.download(),
                };
                let error = InputError::new(path.display().to_string(), fault.to_string()).next(advice);
                self.found.problems.push(error);
                None
            }
        }
    }

    /// Compares the total size with the recipe, because the folder of another, smaller model is complete too.
    fn size(&mut self) {
        let Some(wanted) = self.model.weights_gib.filter(|wanted| *wanted > 0.0) else { return };
        let bytes = self.found.bytes;
        let share = bytes as f64 / (wanted * GIB);
        let says = format!(
            "{} in {}, and model.weights_gib says {wanted} GiB",
            size(bytes),
            counted(self.found.shards, "shard")
        );
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
}

fn ends_in(name: &str, endings: &[&str]) -> bool {
    let end = Path::new(name).extension().and_then(|end| end.to_str());
    end.is_some_and(|end| endings.iter().any(|known| end.eq_ignore_ascii_case(known)))
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
            (ends_in(&name, &OTHERS) || ends_in(&name, &["safetensors"])) && !is_empty(&entry.path())
        })
    })
}

fn is_missing(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

fn are(number: usize) -> &'static str {
    if number == 1 { "is" } else { "are" }
}

fn listed_all(names: &[String]) -> String {
    listed(&names.iter().map(String::as_str).collect::<Vec<_>>())
}
