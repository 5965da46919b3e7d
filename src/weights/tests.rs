//! Each test writes a small model folder, changes one thing in it, and compares the findings.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::folder::download;
use super::sample::{INDEX, SHARDS, cut, model, shard};
use super::{WeightsFound, examine};
use crate::node::WeightsQuery;
use crate::prompts::TokenizerCache;

const INDEX_NAME: &str = "model.safetensors.index.json";

struct Folder(tempfile::TempDir);

impl Folder {
    /// A whole model.
    fn whole() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        model(&folder.path());
        folder
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("m")
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.path().join(name)).unwrap();
    }

    fn subject(&self) -> WeightsQuery {
        let folder = self.path().display().to_string();
        WeightsQuery { folder, model: "org/m".into(), weights_gib: None, is_draft: false }
    }

    fn found(&self) -> WeightsFound {
        examine(&self.subject(), &TokenizerCache::default())
    }

    /// Every problem as `NAME: problem`, names as they are in the folder.
    fn problems(&self) -> Vec<String> {
        let found = self.found();
        let top = format!("{}/", self.path().display());
        let lines = found.problems.iter().map(|error| {
            assert!(error.next.is_some(), "{error}: what to do?");
            format!("{}: {}", error.origin, error.problem).replace(&top, "")
        });
        lines.collect()
    }

    #[track_caller]
    fn is_whole_but(&self, remarks: &[&str]) {
        let found = self.found();
        assert_eq!(found.problems, []);
        assert_eq!(found.remarks, remarks);
        assert_eq!(found.shards, 2);
    }
}

/// `model` in a temporary folder has 2 shards: header of a, b and 30 bytes; header of c and 70 bytes.
const FIRST: usize = 8 + r#"{"a":{"dtype":"U8","shape":[10],"data_offsets":[0,10]},"b":{"dtype":"U8","shape":[20],"data_offsets":[10,30]}}"#.len() + 30;
const SECOND: usize = 8 + r#"{"c":{"dtype":"U8","shape":[70],"data_offsets":[0,70]}}"#.len() + 70;

#[test]
fn a_whole_folder() {
    let found = Folder::whole().found();
    assert_eq!((found.problems.as_slice(), found.remarks.as_slice()), (&[][..], &[][..]));
    assert_eq!((found.shards, found.bytes), (2, (FIRST + SECOND) as u64));
    assert_eq!(found.words(), format!("2 shards, {} bytes, whole", FIRST + SECOND));
    let large = WeightsFound { shards: 15, bytes: 65_248_893_184, examined: true, ..WeightsFound::default() };
    assert_eq!(large.words(), "15 shards, 60.8 GiB, whole");
}

#[test]
fn a_shard_that_is_missing() {
    let folder = Folder::whole();
    folder.remove(SHARDS[1]);
    assert_eq!(folder.problems(), [format!("{INDEX_NAME}: 1 of its 2 shards is missing: {}", SHARDS[1])]);
    let advice = folder.found().problems[0].next.clone().unwrap();
    assert_eq!(
        advice,
        format!("download it again: hf download org/m --local-dir {}", folder.path().display())
    );
}

#[test]
fn a_shard_whose_length_differs_from_its_header() {
    let folder = Folder::whole();
    cut(&folder.path().join(SHARDS[0]));
    let cut = format!("{}: is truncated: {} bytes, and its header says {FIRST}", SHARDS[0], FIRST - 1);
    assert_eq!(folder.problems(), std::slice::from_ref(&cut));
    let mut long = shard(&[("c", 70)]);
    long.push(0);
    folder.write(SHARDS[1], long);
    let long = format!("{}: is too long: {} bytes, and its header says {SECOND}", SHARDS[1], SECOND + 1);
    assert_eq!(folder.problems(), [cut, long], "both at once");
    assert!(folder.found().words().ends_with(", and 2 problems"));
}

#[test]
fn a_file_that_the_index_does_not_name() {
    let folder = Folder::whole();
    folder.write("model-00001-of-00003.safetensors", shard(&[("a", 1)]));
    folder.is_whole_but(&[
        "model.safetensors.index.json does not name model-00001-of-00003.safetensors: from another revision?",
    ]);
}

#[test]
fn an_index_that_is_wrong() {
    let folder = Folder::whole();
    let with = |from: &str, to: &str| folder.write(INDEX_NAME, INDEX.replace(from, to));
    with("\"b\"", "\"x\"");
    let says = format!(
        "{}: lacks 1 tensor that {INDEX_NAME} maps to it, first \"x\": index and shard are from different downloads",
        SHARDS[0]
    );
    assert_eq!(folder.problems(), [says]);
    let unnamed = format!("{} has 1 tensor that {INDEX_NAME} does not map to it, first \"b\"", SHARDS[0]);
    assert_eq!(folder.found().remarks, std::slice::from_ref(&unnamed));
    with(",\"b\":\"model-00001-of-00002.safetensors\"", "");
    folder.is_whole_but(&[&unnamed]);
    with(SHARDS[1], "model-00009-of-00002.safetensors");
    assert_eq!(
        folder.problems(),
        [format!("{INDEX_NAME}: 1 of its 2 shards is missing: model-00009-of-00002.safetensors")]
    );
    with("}}", "");
    assert!(folder.problems()[0].starts_with("model.safetensors.index.json: is not an index: EOF"));
    with(SHARDS[1], "../other/weights.safetensors");
    assert!(folder.problems()[0].contains("which is not a file of this folder"));
    with("\"total_size\":100", "\"total_size\":99");
    folder.is_whole_but(&["model.safetensors.index.json says total_size 99, and the tensors have 100 bytes"]);
    with("\"total_size\":100", "\"total_size\":111");
    assert_eq!(
        folder.problems(),
        [format!("{INDEX_NAME}: says total_size 111, and the tensors have 100 bytes")]
    );
}

/// Shards of 8 bytes, numbered, and an index of them.
fn numbered(numbers: std::ops::RangeInclusive<usize>, of: usize, total: usize) -> Folder {
    let folder = Folder::whole();
    SHARDS.iter().for_each(|name| folder.remove(name));
    let map = numbers.map(|number| {
        let name = format!("model-{number:05}-of-{of:05}.safetensors");
        folder.write(&name, shard(&[(&format!("t{number}"), 8)]));
        format!(r#""t{number}":"{name}""#)
    });
    let map = map.collect::<Vec<_>>().join(",");
    folder.write(INDEX_NAME, format!(r#"{{"metadata":{{"total_size":{total}}},"weight_map":{{{map}}}}}"#));
    folder
}

#[test]
fn an_index_that_leaves_out_a_shard() {
    let gap = format!(
        "{INDEX_NAME}: by the numbers of the others it omits 1 shard, which is missing: model-00003-of-00003.safetensors"
    );
    let total = format!("{INDEX_NAME}: says total_size 24, and the tensors have 16 bytes");
    assert_eq!(numbered(1..=2, 3, 24).problems(), [gap.clone(), total]);
    assert_eq!(numbered(1..=2, 3, 16).problems(), [gap]);
    // gpt-oss has 15 shards: 00000 to 00014 of 00014. Others that count from 0 end one before.
    for last in [14, 13] {
        let found = numbered(0..=last, 14, 8 * (last + 1)).found();
        assert_eq!((found.problems, found.remarks, found.shards), (vec![], vec![], last + 1));
    }
}

#[test]
fn downloads_that_are_not_finished() {
    for end in ["incomplete", "part", "aria2"] {
        let folder = Folder::whole();
        let name = format!("x.safetensors.{end}");
        folder.write(&name, "x");
        let at = folder.path().display().to_string();
        assert_eq!(folder.problems(), [format!("{at}: the download is not finished: found {name}")]);
    }
    let folder = Folder(tempfile::tempdir().unwrap());
    folder.write("model-00001-of-00002.safetensors.incomplete", "x");
    folder.write("config.json", "{}");
    let at = folder.path().display().to_string();
    let name = "model-00001-of-00002.safetensors.incomplete";
    assert_eq!(folder.problems(), [format!("{at}: the download is not finished: found {name}")]);
}

#[test]
fn shards_are_checked_with_a_broken_index() {
    let folder = Folder::whole();
    folder.write(INDEX_NAME, "");
    cut(&folder.path().join(SHARDS[1]));
    let problems = folder.problems();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[1].starts_with(&format!("{}: is truncated", SHARDS[1])), "{problems:?}");
}

#[test]
fn hidden_and_inner_folders_are_ignored() {
    let folder = Folder::whole();
    for name in [
        ".git/x.safetensors",
        ".cache/huggingface/x.safetensors",
        "original/x.safetensors",
        "metal/model.bin",
    ] {
        folder.write(name, "rubbish");
    }
    folder.write(".x.safetensors", "rubbish");
    folder.is_whole_but(&[]);
}

/// The hub's cache: every file is a link into `blobs`.
#[test]
fn links_are_followed() {
    let folder = Folder::whole();
    for name in [SHARDS[0], SHARDS[1], INDEX_NAME, "config.json", "tokenizer.json"] {
        let blob = folder.0.path().join("blobs").join(name.replace('.', "0"));
        std::fs::create_dir_all(blob.parent().unwrap()).unwrap();
        std::fs::rename(folder.path().join(name), &blob).unwrap();
        symlink(Path::new("..").join("blobs").join(name.replace('.', "0")), folder.path().join(name))
            .unwrap();
    }
    folder.is_whole_but(&[]);
    let blob = folder.0.path().join("blobs").join(SHARDS[0].replace('.', "0"));
    cut(&blob);
    assert!(folder.problems()[0].starts_with(&format!("{}: is truncated", SHARDS[0])));
    std::fs::remove_file(&blob).unwrap();
    let target = format!("../blobs/{}", SHARDS[0].replace('.', "0"));
    assert_eq!(folder.problems(), [format!("{}: is a link to {}, which does not exist", SHARDS[0], target)]);
}

#[test]
fn a_git_lfs_pointer_instead_of_a_file() {
    const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 4504304664\n";
    let folder = Folder::whole();
    for name in [SHARDS[0], "tokenizer.json"] {
        folder.write(name, POINTER);
    }
    let says =
        |name: &str| format!("{name}: is a git-lfs pointer of {} bytes, not the file itself", POINTER.len());
    assert_eq!(folder.problems(), [says(SHARDS[0]), says("tokenizer.json")]);
    for error in folder.found().problems {
        assert!(
            error.next.as_ref().is_some_and(|next| next.starts_with("fetch it: git lfs pull")),
            "{error}"
        );
    }
    folder.write(INDEX_NAME, POINTER);
    assert_eq!(folder.problems()[0], says(INDEX_NAME));
}

#[test]
fn weights_without_an_index() {
    let folder = Folder::whole();
    folder.remove(INDEX_NAME);
    folder.is_whole_but(&["no model.safetensors.index.json: missing tensors would go unnoticed"]);
    folder.remove(SHARDS[0]);
    let missing = format!("by the numbers of the others 1 shard is missing: {}", SHARDS[0]);
    assert_eq!(folder.problems(), [format!("{}: {missing}", folder.path().display())]);
    folder.remove(SHARDS[1]);
    folder.write("model.safetensors", shard(&[("a", 5)]));
    let found = folder.found();
    assert_eq!((found.problems.as_slice(), found.remarks.as_slice(), found.shards), (&[][..], &[][..], 1));
    cut(&folder.path().join("model.safetensors"));
    assert!(folder.problems()[0].starts_with("model.safetensors: is truncated"));
}

#[test]
fn weights_of_other_formats_are_not_checked() {
    for (name, of) in [
        ("pytorch_model.bin", "x"),
        ("m.gguf", "GGUF"),
        ("engine/rank0.engine", "x"),
        ("unet/x.safetensors", "x"),
    ] {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.write(name, of);
        let found = folder.found();
        assert_eq!(found.problems, [], "{name}");
        assert_eq!(found.remarks, ["no *.safetensors at the top of the folder: weights not checked"]);
        assert_eq!(found.words(), "not checked");
    }
    let folder = Folder(tempfile::tempdir().unwrap());
    folder.write("m.gguf", "GGUF");
    let subject = WeightsQuery { folder: format!("{}/m.gguf", folder.path().display()), ..folder.subject() };
    let found = examine(&subject, &TokenizerCache::default());
    assert_eq!(found.remarks, [format!("{} is a file: not checked", subject.folder)]);
}

#[test]
fn a_folder_without_any_weights() {
    let folder = Folder(tempfile::tempdir().unwrap());
    folder.write(".gitattributes", "x");
    let at = folder.path().display().to_string();
    assert_eq!(folder.problems(), [format!("{at}: holds no weights: it is empty")]);
    folder.write("config.json", "{}");
    folder.write("README", "x");
    assert_eq!(folder.problems(), [format!("{at}: holds no weights: found README, config.json")]);
    std::fs::create_dir(folder.path().join("original")).unwrap();
    folder.write("pytorch_model.bin", "");
    folder.write("x/y/model.bin", "two levels down");
    let has = "README, config.json, pytorch_model.bin (empty), original/, x/";
    assert_eq!(folder.problems(), [format!("{at}: holds no weights: found {has}")]);
    std::fs::remove_dir_all(folder.path()).unwrap();
    assert!(folder.problems()[0].starts_with(&format!("{at}: the folder cannot be read: No such file")));
    symlink("/gone/away", folder.path()).unwrap();
    assert_eq!(folder.problems(), [format!("{at}: is a link to /gone/away, which does not exist")]);
}

/// 2 GiB of data that takes no room on the disk.
#[test]
fn the_total_size_is_compared_with_the_recipe() {
    let folder = Folder::whole();
    folder.remove(INDEX_NAME);
    folder.remove(SHARDS[0]);
    folder.remove(SHARDS[1]);
    let data = 2_u64 << 30;
    let header = format!(r#"{{"a":{{"dtype":"U8","shape":[{data}],"data_offsets":[0,{data}]}}}}"#);
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    folder.write("model.safetensors", &bytes);
    let file = std::fs::OpenOptions::new().write(true).open(folder.path().join("model.safetensors")).unwrap();
    file.set_len(bytes.len() as u64 + data).unwrap();
    let of = |gib: f64| {
        examine(&WeightsQuery { weights_gib: Some(gib), ..folder.subject() }, &TokenizerCache::default())
    };
    for gib in [2.0, 2.2, 1.82] {
        assert_eq!((of(gib).problems, of(gib).remarks), (vec![], vec![]), "{gib}");
    }
    let small = of(2.3);
    assert_eq!(small.problems[0].problem, "2.0 GiB in 1 shard, and model.weights_gib says 2.3 GiB");
    assert_eq!(small.problems[0].expected.as_deref(), Some("at least 2.1 GiB"));
    let large = of(1.8);
    assert_eq!(large.problems, []);
    assert_eq!(large.remarks, ["2.0 GiB in 1 shard, and model.weights_gib says 1.8 GiB"]);
    // The size of what is not whole says nothing.
    cut(&folder.path().join("model.safetensors"));
    assert_eq!(of(2.3).problems.len(), 1);
}

#[test]
fn the_configuration() {
    let folder = Folder::whole();
    for broken in ["{", "[]", "\"x\""] {
        folder.write("config.json", broken);
        assert!(folder.problems()[0].starts_with("config.json: cannot be read as JSON: "), "{broken}");
    }
    folder.remove("config.json");
    assert_eq!(folder.problems(), ["config.json: is missing"]);
    folder.write("params.json", "{}");
    folder.is_whole_but(&[]);
    std::fs::create_dir(folder.path().join("config.json")).unwrap();
    folder.is_whole_but(&[]);
}

#[test]
fn the_tokenizer() {
    let folder = Folder::whole();
    folder.write("tokenizer.json", "{\"version\":\"1.0\"}");
    let problems = folder.problems();
    assert!(problems[0].starts_with("tokenizer.json: cannot be read as a tokenizer: "), "{problems:?}");
    folder.remove("tokenizer.json");
    assert_eq!(folder.problems(), ["tokenizer.json: is missing"]);
    folder.write("vocab.json", "{}");
    assert_eq!(folder.problems().len(), 1, "a vocabulary without its merges");
    folder.write("merges.txt", "");
    folder.is_whole_but(&["tokenizer: no tokenizer.json; vocab.json and merges.txt is not checked"]);
    folder.write("tokenizer.model", "");
    folder.is_whole_but(&["tokenizer: no tokenizer.json; tokenizer.model is not checked"]);
    symlink("gone.json", folder.path().join("tokenizer.json")).unwrap();
    assert!(folder.problems()[0].starts_with("tokenizer.json: is a link to "), "{:?}", folder.problems());
}

#[test]
fn advice_quotes_what_a_shell_would_split_and_knows_the_hubs_cache() {
    let advice = |folder: &str| {
        let model = "org/m".into();
        download(&WeightsQuery { folder: folder.into(), model, weights_gib: None, is_draft: false })
    };
    assert_eq!(advice("/my models/m"), "download it again: hf download org/m --local-dir '/my models/m'");
    assert_eq!(advice("/hub/models--org--m/snapshots/0a1b"), "download it again: hf download org/m");
}
