//! Reads `records.jsonl` sequentially, one record at a time.

use std::io::{self, BufRead, BufReader};
use std::path::Path;

use fs_err as fs;

use crate::document::{InputError, InputErrors};
use crate::metrics::record::RequestRecord;

pub const RECORDS: &str = "records.jsonl";

const READ_BUFFER: usize = 256 << 10;

/// Passes every record of `path` to `see`, in order of ending. Returns false if the last line is torn, as a crash leaves it;
/// skips that line.
///
/// # Errors
/// Errors from `see` and from reading; an invalid line.
pub fn read(path: &Path, mut see: impl FnMut(RequestRecord) -> io::Result<()>) -> Result<bool, ExportError> {
    let mut file = BufReader::with_capacity(READ_BUFFER, fs::File::open(path)?);
    let (mut line, mut others) = (Vec::new(), Vec::new());
    for number in 1.. {
        line.clear();
        if file.read_until(b'\n', &mut line)? == 0 {
            return Ok(true);
        }
        if line.last() != Some(&b'\n') {
            return Ok(false);
        }
        let record = quickly(&line, &mut others).map_or_else(|| serde_json::from_slice(&line), Ok);
        let record = record.map_err(|error| {
            let mut bad = InputError::new(path.display().to_string(), error.to_string())
                .expected("one record a line, as tokmark writes it")
                .next("check whether another program writes into this folder");
            bad.line = Some((number, error.column().max(1)));
            bad
        })?;
        see(record)?;
    }
    Ok(true)
}

/// Parses a line as tokmark writes it; `None` for any other. The instants of the chunks are most of it, and the general parser
/// takes ten times as long for them. `others` is working memory.
fn quickly(line: &[u8], others: &mut Vec<u8>) -> Option<RequestRecord> {
    const KEY: &[u8] = br#","chunks_us":["#;
    let (before, rest) = line.split_at_checked(memchr::memmem::find(line, KEY)?)?;
    let rest = rest.get(KEY.len()..)?;
    let (digits, after) = rest.split_at_checked(memchr::memchr(b']', rest)?)?;
    let mut chunks_us = Vec::with_capacity(digits.len() / 8 + 1);
    for number in digits.split(|byte| *byte == b',') {
        if number.is_empty() || number.len() > 19 || (number.len() > 1 && number.starts_with(b"0")) {
            return None;
        }
        let mut value = 0;
        for byte in number {
            value = value * 10 + u64::from(byte.checked_sub(b'0').filter(|digit| *digit < 10)?);
        }
        chunks_us.push(value);
    }
    others.clear();
    others.extend_from_slice(before);
    others.extend_from_slice(after.get(1..)?);
    let record: RequestRecord = serde_json::from_slice(others).ok()?;
    record.chunks_us.is_empty().then_some(RequestRecord { chunks_us, ..record })
}

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Input(InputErrors),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<InputError> for ExportError {
    fn from(error: InputError) -> Self {
        Self::Input(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::{any_record, record};
    use proptest::prelude::*;

    fn written(records: &[RequestRecord], tail: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let lines = records.iter().map(|record| serde_json::to_string(record).unwrap() + "\n");
        std::fs::write(file.path(), lines.collect::<String>() + tail).unwrap();
        file
    }

    fn all(file: &tempfile::NamedTempFile) -> Result<(Vec<RequestRecord>, bool), ExportError> {
        let mut found = Vec::new();
        let whole = read(file.path(), |record| {
            found.push(record);
            Ok(())
        })?;
        Ok((found, whole))
    }

    #[test]
    fn a_torn_last_line_is_left_out() {
        let records = [record(0, 5), record(1, 6)];
        assert_eq!(all(&written(&records, "")).unwrap(), (records.to_vec(), true));
        assert_eq!(all(&written(&records, "{\"id\":7,\"pha")).unwrap(), (records.to_vec(), false));
    }

    #[test]
    fn instants_are_read_quickly_only_when_the_general_parser_reads_the_same() {
        let line = serde_json::to_string(&record(0, 5)).unwrap();
        let mut others = Vec::new();
        assert_eq!(quickly(line.as_bytes(), &mut others), Some(record(0, 5)));
        let (start, end) = (line.find('[').unwrap(), line.find(']').unwrap());
        for list in ["", "01", "1,", "-1", "1.0", "1e3", " 1", "18446744073709551616", "1],\"chunks_us\":[2"]
        {
            let other = format!("{}[{list}{}", &line[..start], &line[end..]);
            assert_eq!(quickly(other.as_bytes(), &mut others), None, "{other}");
        }
    }

    #[test]
    fn a_line_that_is_no_record_is_named() {
        let file = written(&[record(0, 5)], "{\"id\":1}\n");
        let error = all(&file).unwrap_err().to_string();
        assert!(error.contains(&format!("{}:2:8: missing field `phase`", file.path().display())), "{error}");
    }

    proptest! {
        #[test]
        fn any_record_survives_the_file(records in prop::collection::vec(any_record(), 0..20)) {
            prop_assert_eq!(all(&written(&records, "")).unwrap(), (records, true));
        }
    }
}
