//! Writes `records.jsonl` as requests end; `export::records` reads it.
//!
//! A separate thread writes buffered records every 64 KiB, and at least once a second: a crash of tokmark loses at most a second,
//! and the threads that drive load never wait for a disk.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::experiment::files;
use crate::metrics::record::RequestRecord;

/// Bytes that gather before a write.
const BATCH: usize = 64 << 10;

/// Longest time that a record waits to be written.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// A growing `records.jsonl`.
pub(super) struct RecordWriter {
    shared: Arc<Shared>,
    flusher: Option<std::thread::JoinHandle<()>>,
    path: PathBuf,
}

struct Shared {
    state: Mutex<State>,
    closing: Condvar,
}

struct State {
    file: File,
    buffer: Vec<u8>,
    /// The first error. Nothing is written after it, because a gap in the middle would go unnoticed.
    failed: Option<io::Error>,
    closed: bool,
}

impl State {
    fn flush(&mut self) {
        if self.failed.is_none()
            && let Err(error) = self.file.write_all(&self.buffer)
        {
            self.failed = Some(error);
        }
        self.buffer.clear();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Flushes once a second until the file is closed.
    fn keep_flushed(&self) {
        let mut state = self.state();
        while !state.closed {
            let woken = self.closing.wait_timeout(state, FLUSH_EVERY);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
            state.flush();
        }
    }
}

impl RecordWriter {
    /// Opens `path` for appending.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = files::append(path)?;
        let state = State { file, buffer: Vec::with_capacity(2 * BATCH), failed: None, closed: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), closing: Condvar::new() });
        let there = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("records".into());
        let flusher = Some(thread.spawn(move || there.keep_flushed())?);
        Ok(Self { shared, flusher, path: path.to_owned() })
    }

    /// Takes a record; [`RecordWriter::close`] returns any error.
    pub(super) fn write(&self, record: &RequestRecord) {
        let mut state = self.shared.state();
        let before = state.buffer.len();
        if let Err(error) = serde_json::to_writer(&mut state.buffer, record) {
            state.buffer.truncate(before);
            state.failed.get_or_insert(error.into());
            return;
        }
        state.buffer.push(b'\n');
        if state.buffer.len() >= BATCH {
            state.flush();
        }
    }

    /// Writes the rest.
    pub(super) fn close(mut self) -> io::Result<()> {
        self.stop();
        let failed = self.shared.state().failed.take();
        match failed {
            Some(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))),
            None => Ok(()),
        }
    }

    fn stop(&mut self) {
        let mut state = self.shared.state();
        state.closed = true;
        state.flush();
        drop(state);
        self.shared.closing.notify_all();
        if let Some(flusher) = self.flusher.take() {
            // A panic of the flusher would lose only its last flush, which was made above.
            let _ = flusher.join();
        }
    }
}

impl Drop for RecordWriter {
    fn drop(&mut self) {
        self.stop();
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
