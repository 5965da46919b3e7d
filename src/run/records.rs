//! Writes `records.jsonl` as requests end; `export::records` reads it.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::experiment::files;
use crate::metrics::record::RequestRecord;

const BATCH: usize = 64 << 10;

/// Longest time that a record waits to be written: a crash of tokmark loses no more.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// A growing `records.jsonl`, written by a thread of its own: the threads that drive load never wait for a disk.
pub(super) struct RecordWriter {
    lines: Option<Sender<Vec<u8>>>,
    writing: Option<JoinHandle<io::Result<()>>>,
    path: PathBuf,
}

impl RecordWriter {
    /// Opens `path` for appending.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = files::append(path)?;
        let (sender, lines) = channel();
        let thread = std::thread::Builder::new().name("records".into());
        let writing = thread.spawn(move || write(file, &lines))?;
        Ok(Self { lines: Some(sender), writing: Some(writing), path: path.to_owned() })
    }

    /// Takes a record; [`RecordWriter::close`] returns any error.
    pub(super) fn write(&self, record: &RequestRecord) {
        if let (Some(lines), Ok(mut line)) = (&self.lines, serde_json::to_vec(record)) {
            line.push(b'\n');
            let _ = lines.send(line);
        }
    }

    pub(super) fn close(mut self) -> io::Result<()> {
        let written = self.stop();
        written.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.path.display())))
    }

    fn stop(&mut self) -> io::Result<()> {
        self.lines = None;
        let ended = self.writing.take().map(JoinHandle::join);
        ended.unwrap_or(Ok(Ok(()))).unwrap_or_else(|_| Err(io::Error::other("the writing thread panicked")))
    }
}

impl Drop for RecordWriter {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// Writes until the last line or the first error. Nothing is written after an error, because a gap in the middle would go
/// unnoticed.
fn write(file: File, lines: &Receiver<Vec<u8>>) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(BATCH, file);
    let mut flushed = Instant::now();
    loop {
        let left = FLUSH_EVERY.saturating_sub(flushed.elapsed());
        if left.is_zero() {
            out.flush()?;
            flushed = Instant::now();
        }
        match lines.recv_timeout(left) {
            Ok(line) => out.write_all(&line)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return out.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::records::read;
    use crate::metrics::fixtures::record;

    #[test]
    fn what_was_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records.jsonl");
        // More than one batch, and lines of different lengths.
        let mut records: Vec<_> = (0..2_000).map(|id| record(id, id * 7_919)).collect();
        records.iter_mut().step_by(3).for_each(|record| record.chunks_us.truncate(2));
        let writer = RecordWriter::open(&path).unwrap();
        records.iter().for_each(|record| writer.write(record));
        writer.close().unwrap();
        let mut found = Vec::new();
        let whole = read(&path, |record| {
            found.push(record);
            Ok(())
        });
        assert!(whole.unwrap());
        assert_eq!(found, records);
    }

    #[test]
    fn a_record_is_on_disk_within_moments_although_no_other_follows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records.jsonl");
        let writer = RecordWriter::open(&path).unwrap();
        writer.write(&record(0, 5));
        while std::fs::metadata(&path).unwrap().len() == 0 {
            std::thread::yield_now();
        }
        drop(writer);
    }
}
