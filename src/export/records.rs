//! Reads `records.jsonl` sequentially, one record at a time.

use std::io::{self, BufRead, BufReader};
use std::path::Path;

use fs_err as fs;

use crate::document::{InputError, InputErrors};
use crate::metrics::record::RequestRecord;

/// The file of a load point's records.
pub const RECORDS: &str = "records.jsonl";

const READ_BUFFER: usize = 256 << 10;

/// Passes every record of `path` to `see`, in order of ending. Returns false if the last line is torn, as a crash leaves it;
/// skips that line.
///
/// # Errors
/// Errors from `see` and from reading; an invalid line.
pub fn read(path: &Path, mut see: impl FnMut(RequestRecord) -> io::Result<()>) -> Result<bool, ExportError> {
    let mut file = BufReader::with_capacity(READ_BUFFER, fs::File::open(path)?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if file.read_until(b'\n', &mut line)? == 0 {
            return Ok(true);
        }
        if line.last() != Some(&b'\n') {
            return Ok(false);
        }
        let record = serde_json::from_slice(&line).map_err(|error| {
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

/// Why a load point was not exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The folder belongs to no load point, or a line of its records is invalid.
    #[error(transparent)]
    Input(InputErrors),
    /// A file operation failed.
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
