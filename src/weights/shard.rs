//! The header of one safetensors file, and whether the file has the length that follows from it. The data is never read.
//!
//! A header is untrusted: its length is compared with the file's before anything is allocated, and sums are checked. The format:
//! 8 bytes of little-endian header length, the header in JSON, the data.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::PathBuf;

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde_json::{Map, Value};

/// Longest header, bytes: the format's own limit.
pub const MAX_HEADER: u64 = 100_000_000;

/// Start of a git-lfs pointer, which replaces a file until it is fetched.
pub const POINTER: &[u8] = b"version https://git-lfs";

/// A complete file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    pub tensors: BTreeSet<String>,
    /// Bytes of their data.
    pub data: u64,
    /// Bytes of the file.
    pub length: u64,
    /// A number type that this tokmark does not know; tensor sizes are then not compared with shapes.
    pub unknown: Option<String>,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("is missing")]
    Missing,
    #[error("is a link to {}, which does not exist", .0.display())]
    Dangling(PathBuf),
    #[error("is not a file")]
    NoFile,
    #[error("is a git-lfs pointer of {0} bytes, not the file itself")]
    Pointer(u64),
    #[error("{0} bytes are too few for a safetensors file")]
    TooShort(u64),
    /// The file ends within its header.
    #[error("is truncated: {length} bytes, and its header alone is {header}")]
    Cut { length: u64, header: u64 },
    #[error("is not a safetensors file: its header would be {0} bytes, and the format allows {MAX_HEADER}")]
    TooLarge(u64),
    #[error("its header is invalid: {0}")]
    Header(String),
    #[error("{}: {length} bytes, and its header says {expected}", if length < expected { "is truncated" } else { "is too long" })]
    Length { length: u64, expected: u64 },
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
}

/// Reads the header of a file of `length` bytes and compares the length with it.
///
/// # Errors
/// It is not a safetensors file, or not a whole one.
pub fn read(mut source: impl Read, length: u64) -> Result<Shard, Fault> {
    let mut start = Vec::with_capacity(POINTER.len());
    (&mut source).take(POINTER.len() as u64).read_to_end(&mut start)?;
    if start == POINTER {
        return Err(Fault::Pointer(length));
    }
    let Some((first, rest)) = start.split_first_chunk::<8>() else { return Err(Fault::TooShort(length)) };
    let declared = u64::from_le_bytes(*first);
    if declared > MAX_HEADER {
        return Err(Fault::TooLarge(declared));
    }
    let header = declared + 8;
    if header > length {
        return Err(Fault::Cut { length, header });
    }
    let more = declared.saturating_sub(rest.len() as u64);
    let mut bytes = rest.to_vec();
    source.take(more).read_to_end(&mut bytes)?;
    bytes.truncate(usize::try_from(declared).unwrap_or(usize::MAX));
    if bytes.len() as u64 != declared {
        // It shrank while it was read.
        return Err(Fault::Cut { length: bytes.len() as u64 + 8, header });
    }
    let (tensors, data, unknown) = parse_header(&bytes)?;
    let expected = header.checked_add(data).ok_or_else(|| Fault::Header("offsets beyond any file".into()))?;
    if expected != length {
        return Err(Fault::Length { length, expected });
    }
    Ok(Shard { tensors, data, length, unknown })
}

/// Tensor names, bytes of data, and an unknown number type, if any.
fn parse_header(header: &[u8]) -> Result<(BTreeSet<String>, u64, Option<String>), Fault> {
    match serde_json::from_slice::<Metadata>(header) {
        Ok(known) => Ok((known.offset_keys().into_iter().collect(), known.data_len() as u64, None)),
        Err(error) => {
            let broken = || Fault::Header(error.to_string());
            let table: Map<String, Value> = serde_json::from_slice(header).map_err(|_| broken())?;
            let unknown = table.values().find_map(unknown_type).ok_or_else(broken)?;
            let (tensors, data) = by_offsets(&table).ok_or_else(broken)?;
            Ok((tensors, data, Some(unknown)))
        }
    }
}

/// The number type of a tensor if the `safetensors` crate does not know it.
fn unknown_type(tensor: &Value) -> Option<String> {
    let name = tensor.get("dtype")?.as_str()?;
    let known = serde_json::from_value::<Dtype>(Value::from(name)).is_ok();
    (!known).then(|| name.to_owned())
}

/// Names and size from the offsets alone; `None` if they leave gaps or overlap.
fn by_offsets(table: &Map<String, Value>) -> Option<(BTreeSet<String>, u64)> {
    let tensors = || table.iter().filter(|(name, _)| *name != "__metadata__");
    let span = |tensor: &Value| {
        let offsets = tensor.get("data_offsets")?.as_array()?;
        let [begin, end] = offsets.as_slice() else { return None };
        Some((begin.as_u64()?, end.as_u64()?))
    };
    let mut spans: Vec<(u64, u64)> = tensors().map(|(_, tensor)| span(tensor)).collect::<Option<_>>()?;
    spans.sort_unstable();
    let end = spans.iter().try_fold(0, |at, (begin, end)| (*begin == at && end >= begin).then_some(*end))?;
    Some((tensors().map(|(name, _)| name.clone()).collect(), end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A file with this header and `data` bytes behind it.
    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(vec![7; data]);
        bytes
    }

    fn read_all(bytes: &[u8]) -> Result<Shard, String> {
        read(bytes, bytes.len() as u64).map_err(|fault| fault.to_string())
    }

    const TWO: &str = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"U8","shape":[2,3],"data_offsets":[8,14]},"a":{"dtype":"BF16","shape":[4],"data_offsets":[0,8]}}"#;

    #[test]
    fn a_complete_file_lists_its_tensors() {
        let bytes = file(TWO, 14);
        let shard = read_all(&bytes).unwrap();
        let names: Vec<&str> = shard.tensors.iter().map(String::as_str).collect();
        assert_eq!((names, shard.data, shard.length), (vec!["a", "b"], 14, bytes.len() as u64));
        assert_eq!(read_all(&file("{}", 0)).unwrap().tensors.len(), 0, "an empty file is a whole one");
        assert_eq!(read_all(&file(&format!("{TWO}   "), 14)).unwrap().data, 14, "padded with blanks");
    }

    #[test]
    fn what_is_wrong_with_a_file() {
        let header = TWO.len();
        let huge = u64::MAX - 3;
        let overflow = format!(r#"{{"a":{{"dtype":"U8","shape":[{huge}],"data_offsets":[0,{huge}]}}}}"#);
        let table: [(Vec<u8>, String); 11] = [
            (Vec::new(), "0 bytes are too few".into()),
            (vec![1, 0, 0], "3 bytes are too few".into()),
            (
                file(TWO, 13),
                format!("is truncated: {} bytes, and its header says {}", header + 21, header + 22),
            ),
            (
                file(TWO, 15),
                format!("is too long: {} bytes, and its header says {}", header + 23, header + 22),
            ),
            (
                file(TWO, 0)[..40].to_vec(),
                format!("is truncated: 40 bytes, and its header alone is {}", header + 8),
            ),
            (
                b"<!DOCTYPE html><html>not found".to_vec(),
                "is not a safetensors file: its header would be ".into(),
            ),
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4000000000\n".to_vec(),
                "is a git-lfs pointer of 72 bytes".into(),
            ),
            (file("not JSON", 0), "its header is invalid: expected".into()),
            (
                file(r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#, 3),
                "its header is invalid: ".into(),
            ),
            (
                file(r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,3]}}"#, 3),
                "its header is invalid: ".into(),
            ),
            (file(&overflow, 0), "its header is invalid: ".into()),
        ];
        for (bytes, expected) in table {
            let found = read_all(&bytes).unwrap_err();
            assert!(found.starts_with(&expected), "{expected}: {found}");
        }
    }

    #[test]
    fn unknown_number_types_are_sized_by_their_offsets() {
        let later = |offsets: &str| {
            format!(
                r#"{{"a":{{"dtype":"F3_X","shape":[8],"data_offsets":[0,3]}},"b":{{"dtype":"U8","shape":[2],"data_offsets":{offsets}}}}}"#
            )
        };
        let shard = read_all(&file(&later("[3,5]"), 5)).unwrap();
        assert_eq!((shard.data, shard.unknown.as_deref(), shard.tensors.len()), (5, Some("F3_X"), 2));
        assert!(read_all(&file(&later("[3,5]"), 4)).unwrap_err().starts_with("is truncated"));
        for gap in ["[4,6]", "[2,5]", "[3]", "[3,1]", "null"] {
            assert!(read_all(&file(&later(gap), 5)).unwrap_err().contains("invalid"), "{gap}");
        }
    }

    #[test]
    fn a_long_header_length_allocates_nothing() {
        let mut bytes = MAX_HEADER.to_le_bytes().to_vec();
        bytes.extend(b"{}");
        assert_eq!(
            read_all(&bytes).unwrap_err(),
            "is truncated: 10 bytes, and its header alone is 100000008"
        );
        // A file system that tells more than it gives.
        let given = read(bytes.as_slice(), MAX_HEADER + 8).unwrap_err();
        assert_eq!(given.to_string(), "is truncated: 10 bytes, and its header alone is 100000008");
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), length in any::<u64>()) {
            let _ = (read(bytes.as_slice(), length), read(bytes.as_slice(), bytes.len() as u64));
        }

        #[test]
        fn a_random_header_never_panics(header in "[\\[\\]{}:,\"a-c0-9]*|\\{\"a\":\\{\"dtype\":\"(U8|F4|X)\",\"shape\":\\[[0-9]{0,20}\\],\"data_offsets\":\\[[0-9]{0,20},[0-9]{0,20}\\]\\}\\}", data in 0_usize..9) {
            let bytes = file(&header, data);
            if let Ok(shard) = read(bytes.as_slice(), bytes.len() as u64) {
                prop_assert_eq!(shard.data, data as u64);
            }
        }

        #[test]
        fn any_truncation_is_detected(keep in 0_usize..170) {
            let whole = file(TWO, 14);
            let keep = keep.min(whole.len() - 1);
            prop_assert!(read_all(&whole[..keep]).is_err());
        }
    }
}
