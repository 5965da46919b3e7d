//! `records.jsonl`: written as requests end, read again for the exports.
//!
//! Records gather in a buffer and go to the file every 64 KiB, and at the latest after a second, on a thread that does
//! nothing else: a crash of tokmark loses a second at most, and the threads that drive load never wait for a disk.

use std::cell::OnceCell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::experiment::files;
use crate::metrics::record::{Records, RequestRecord};

/// What gathers before it is written.
const BATCH: usize = 64 << 10;

/// How long a record may wait to be written.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// Of a file that is read from one end to the other.
const READ_BUFFER: usize = 256 << 10;

/// A `records.jsonl` that grows.
pub(super) struct RecordWriter {
    shared: Arc<Shared>,
    flusher: Option<std::thread::JoinHandle<()>>,
    path: PathBuf,
    /// Length of the file before the first record.
    start: u64,
}

struct Shared {
    state: Mutex<State>,
    closing: Condvar,
}

struct State {
    file: File,
    buffer: Vec<u8>,
    /// The first thing that went wrong. Nothing is written after it: a gap in the middle would not be seen.
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

    /// Writes what waits, once a second, until the file is closed.
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
    /// Opens `path` to write at its end.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = files::append(path)?;
        let start = file.metadata()?.len();
        let state = State { file, buffer: Vec::with_capacity(2 * BATCH), failed: None, closed: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), closing: Condvar::new() });
        let there = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("records".into());
        let flusher = Some(thread.spawn(move || there.keep_flushed())?);
        Ok(Self { shared, flusher, path: path.to_owned(), start })
    }

    /// Takes a record. What goes wrong is told by [`RecordWriter::close`].
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

    /// Writes what is left and gives the records to read.
    pub(super) fn close(mut self) -> io::Result<RecordFile> {
        self.stop();
        let failed = self.shared.state().failed.take();
        match failed {
            Some(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))),
            None => Ok(RecordFile { path: self.path.clone(), start: self.start, lines: OnceCell::new() }),
        }
    }

    fn stop(&mut self) {
        let mut state = self.shared.state();
        state.closed = true;
        state.flush();
        drop(state);
        self.shared.closing.notify_all();
        if let Some(flusher) = self.flusher.take() {
            // It does not panic; if it did, nothing would be missing but its last flush, which was made above.
            let _ = flusher.join();
        }
    }
}

impl Drop for RecordWriter {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The records of one run in a `records.jsonl`, from a byte on.
#[derive(Debug)]
pub(super) struct RecordFile {
    path: PathBuf,
    start: u64,
    /// Where each line begins, once that was asked for, and the end of the last one.
    lines: OnceCell<Vec<u64>>,
}

impl RecordFile {
    fn open(&self) -> io::Result<BufReader<File>> {
        let mut file = File::open(&self.path).map_err(|error| self.named(error))?;
        file.seek(SeekFrom::Start(self.start)).map_err(|error| self.named(error))?;
        Ok(BufReader::with_capacity(READ_BUFFER, file))
    }

    fn named(&self, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
    }

    /// `number` counts from 0, from where the run begins.
    fn parse(&self, line: &[u8], number: usize) -> io::Result<RequestRecord> {
        serde_json::from_slice(line).map_err(|error| {
            let text = format!(
                "{}: record {}: {error}; expected one record a line, as tokmark wrote it a moment ago: look whether \
                 another program writes into this folder",
                self.path.display(),
                number + 1
            );
            io::Error::new(io::ErrorKind::InvalidData, text)
        })
    }

    fn lines(&self) -> io::Result<&[u64]> {
        if self.lines.get().is_none() {
            // It was empty a line ago.
            let _ = self.lines.set(self.find_lines()?);
        }
        Ok(self.lines.get().map_or(&[], Vec::as_slice))
    }

    fn find_lines(&self) -> io::Result<Vec<u64>> {
        let mut file = self.open()?;
        let (mut at, mut starts) = (self.start, vec![self.start]);
        loop {
            match file.skip_until(b'\n').map_err(|error| self.named(error))? {
                0 => return Ok(starts),
                read => at += read as u64,
            }
            starts.push(at);
        }
    }
}

impl Records for RecordFile {
    fn each(&self, see: &mut dyn FnMut(&RequestRecord) -> io::Result<()>) -> io::Result<()> {
        let (mut file, mut line) = (self.open()?, Vec::new());
        for number in 0.. {
            line.clear();
            if file.read_until(b'\n', &mut line).map_err(|error| self.named(error))? == 0 {
                break;
            }
            see(&self.parse(&line, number)?)?;
        }
        Ok(())
    }

    fn pick(
        &self,
        positions: &mut dyn Iterator<Item = u32>,
        see: &mut dyn FnMut(&RequestRecord) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut positions = positions.peekable();
        if positions.peek().is_none() {
            return Ok(());
        }
        let (starts, mut file, mut line) = (self.lines()?, self.open()?, Vec::new());
        let mut at = self.start;
        for position in positions {
            let number = position as usize;
            let (Some(start), Some(end)) = (starts.get(number), starts.get(number + 1)) else {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("{}: record {} is missing", self.path.display(), number + 1),
                ));
            };
            // Requests end in nearly the order they were sent in: the next line is most often in the buffer already.
            file.seek_relative(start.cast_signed() - at.cast_signed()).map_err(|error| self.named(error))?;
            line.clear();
            let length = end - start;
            file.by_ref().take(length).read_to_end(&mut line).map_err(|error| self.named(error))?;
            at = *end;
            see(&self.parse(&line, number)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::samples::{any_record, record};
    use proptest::prelude::*;

    fn written(path: &Path, records: &[RequestRecord]) -> RecordFile {
        let writer = RecordWriter::open(path).unwrap();
        records.iter().for_each(|record| writer.write(record));
        writer.close().unwrap()
    }

    fn read(file: &RecordFile) -> Vec<RequestRecord> {
        let mut found = Vec::new();
        file.each(&mut |record| {
            found.push(record.clone());
            Ok(())
        })
        .unwrap();
        found
    }

    fn picked(file: &dyn Records, positions: &[u32]) -> io::Result<Vec<RequestRecord>> {
        let mut found = Vec::new();
        file.pick(&mut positions.iter().copied(), &mut |record| {
            found.push(record.clone());
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn what_was_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        // More than one batch, and lines of several lengths.
        let mut records: Vec<_> = (0..2_000).map(|id| record(id, id * 7_919)).collect();
        records.iter_mut().step_by(3).for_each(|record| record.chunks_us.truncate(2));
        let file = written(&dir.path().join("records.jsonl"), &records);
        assert_eq!(read(&file), records);
        let order: Vec<u32> = (0..2_000).map(|i| i * 1_999 % 2_000).collect();
        assert_eq!(picked(&file, &order).unwrap(), picked(&records, &order).unwrap());
        assert_eq!(picked(&file, &[]).unwrap(), []);
        assert!(picked(&file, &[2_000]).unwrap_err().to_string().contains("record 2001 is missing"));
    }

    #[test]
    fn an_older_attempt_in_the_same_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records.jsonl");
        written(&path, &[record(0, 5), record(1, 6)]);
        let file = written(&path, &[record(7, 8)]);
        assert_eq!(read(&file), [record(7, 8)]);
        assert_eq!(picked(&file, &[0]).unwrap(), [record(7, 8)]);
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

    #[test]
    fn a_line_that_is_no_record_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records.jsonl");
        let file = written(&path, &[record(0, 5)]);
        files::append(&path).unwrap().write_all(b"{\"id\":1\n").unwrap();
        let error = file.each(&mut |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("records.jsonl: record 2: "), "{error}");
    }

    proptest! {
        #[test]
        fn any_record_survives_the_file(records in prop::collection::vec(any_record(), 0..20)) {
            let dir = tempfile::tempdir().unwrap();
            let file = written(&dir.path().join("records.jsonl"), &records);
            prop_assert_eq!(read(&file), records);
        }
    }
}
