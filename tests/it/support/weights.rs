//! A small model, its files written by hand: two shards of safetensors, their index, a configuration, a tokenizer.
//! The unit tests of `src/weights` use it too.

use std::path::Path;

/// A safetensors file of tensors of bytes: 8 bytes of header length, the header, the data.
pub(crate) fn shard(tensors: &[(&str, usize)]) -> Vec<u8> {
    let mut at = 0;
    let mut entries = Vec::new();
    for (name, bytes) in tensors {
        let end = at + bytes;
        entries.push(format!(r#""{name}":{{"dtype":"U8","shape":[{bytes}],"data_offsets":[{at},{end}]}}"#));
        at = end;
    }
    let header = format!("{{{}}}", entries.join(","));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + at, 7);
    file
}

/// Names of its shards.
pub(crate) const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

/// Its index.
pub(crate) const INDEX: &str = r#"{"metadata":{"total_size":100},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00001-of-00002.safetensors","c":"model-00002-of-00002.safetensors"}}"#;

/// Its tokenizer: a token a word.
pub(crate) const TOKENIZER: &str = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,"pre_tokenizer":{"type":"Whitespace"},"post_processor":null,"decoder":null,"model":{"type":"WordLevel","vocab":{"?":0,"the":1},"unk_token":"?"}}"#;

/// Writes the model into a folder. Its tensors are `a`, `b` (10 and 20 bytes, first shard) and `c` (70 bytes, second).
pub(crate) fn model(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();
    write(SHARDS[0], &shard(&[("a", 10), ("b", 20)]));
    write(SHARDS[1], &shard(&[("c", 70)]));
    write("model.safetensors.index.json", INDEX.as_bytes());
    write("config.json", b"{\"model_type\":\"tiny\"}");
    write("tokenizer.json", TOKENIZER.as_bytes());
}

/// Cuts a file by one byte.
pub(crate) fn cut(file: &Path) {
    let length = std::fs::metadata(file).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(length - 1).unwrap();
}
