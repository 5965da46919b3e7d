//! Writes `records.jsonl` as requests end; `export::records` reads it.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::rescue::Rescue;
use crate::experiment::files;
use crate::metrics::record::RequestRecord;

const BATCH: usize = 64 << 10;

/// Longest time that a record waits to be written: a crash of tokmark loses no more, and a full disk is noticed within it.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// A growing `records.jsonl`, written by a thread of its own: the threads that drive load never wait for a disk.
pub(super) struct RecordWriter {
    lines: Option<Sender<Vec<u8>>>,
    writing: Option<JoinHandle<io::Result<()>>>,
}

impl RecordWriter {
    /// Opens `path` for appending. When it takes no more, cancels `stop`, and writes all further records into `rescue`.
    pub(super) fn open(path: &Path, stop: CancellationToken, rescue: Arc<Rescue>) -> io::Result<Self> {
        let file = files::append(path)?;
        let (sender, lines) = channel();
        let thread = std::thread::Builder::new().name("records".into());
        let writing = thread.spawn(move || {
            let mut growing = Growing { whole: file.metadata()?.len(), file, pending: Vec::new() };
            let ended = growing.write(&lines);
            if ended.is_err() {
                stop.cancel();
                finish_elsewhere(&growing.pending, &lines, &rescue);
            }
            ended
        })?;
        Ok(Self { lines: Some(sender), writing: Some(writing) })
    }

    /// Takes a record; [`RecordWriter::close`] returns any error.
    pub(super) fn write(&self, record: &RequestRecord) {
        if let (Some(lines), Ok(mut line)) = (&self.lines, serde_json::to_vec(record)) {
            line.push(b'\n');
            let _ = lines.send(line);
        }
    }

    /// Waits until every record is on disk.
    pub(super) fn close(mut self) -> io::Result<()> {
        self.stop()
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

/// A file and the lines that it has not taken yet.
struct Growing {
    file: File,
    /// Its length, which ends with a whole line.
    whole: u64,
    pending: Vec<u8>,
}

impl Growing {
    /// Writes until the last line or the first error. Nothing is written after an error, because a gap in the middle would go
    /// unnoticed.
    fn write(&mut self, lines: &Receiver<Vec<u8>>) -> io::Result<()> {
        let mut flushed = Instant::now();
        loop {
            let left = FLUSH_EVERY.saturating_sub(flushed.elapsed());
            if left.is_zero() || self.pending.len() >= BATCH {
                self.flush()?;
                flushed = Instant::now();
            }
            match lines.recv_timeout(left) {
                Ok(line) => self.pending.extend_from_slice(&line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.flush()?;
                    // Some file systems say only now that they are full.
                    return self.file.sync_data();
                }
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.file.metadata()?.nlink() == 0 {
            return Err(io::Error::new(io::ErrorKind::NotFound, "records.jsonl was deleted"));
        }
        if let Err(error) = self.file.write_all(&self.pending) {
            // Half a line would be read with the next one.
            let _ = self.file.set_len(self.whole);
            return Err(error);
        }
        self.whole += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }
}

/// Writes what is pending, and all further lines, into another place.
fn finish_elsewhere(pending: &[u8], lines: &Receiver<Vec<u8>>, rescue: &Rescue) {
    let mut file = rescue.keep("records.jsonl", pending);
    while let Ok(line) = lines.recv() {
        if let Some(file) = &mut file {
            let _ = file.write_all(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::records::read;
    use crate::metrics::fixtures::record;

    fn open(path: &Path, stop: CancellationToken) -> RecordWriter {
        RecordWriter::open(path, stop, Arc::new(Rescue::of("x"))).unwrap()
    }

    #[test]
    fn a_deleted_file_stops_the_load() {
        let (dir, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = dir.path().join("records.jsonl");
        let stop = CancellationToken::new();
        let rescue = Arc::new(Rescue::within("x", vec![home.path().to_owned()]));
        let writer = RecordWriter::open(&path, stop.clone(), Arc::clone(&rescue)).unwrap();
        std::fs::remove_file(&path).unwrap();
        writer.write(&record(0, 5));
        while !stop.is_cancelled() {
            std::thread::yield_now();
        }
        writer.write(&record(1, 5));
        assert_eq!(writer.close().unwrap_err().to_string(), "records.jsonl was deleted");
        let kept = std::fs::read_to_string(rescue.folder().unwrap().join("records.jsonl")).unwrap();
        assert_eq!(kept.lines().count(), 2, "{kept}");
    }

    #[test]
    fn a_full_disk_stops_the_load_and_the_rest_is_kept_elsewhere() {
        // A write to this device fails with "No space left on device".
        let stop = CancellationToken::new();
        let home = tempfile::tempdir().unwrap();
        let rescue = Arc::new(Rescue::within("x", vec![home.path().to_owned()]));
        let writer = RecordWriter::open(Path::new("/dev/full"), stop.clone(), Arc::clone(&rescue)).unwrap();
        (0..3).for_each(|id| writer.write(&record(id, 5)));
        while !stop.is_cancelled() {
            std::thread::yield_now();
        }
        assert_eq!(writer.close().unwrap_err().kind(), io::ErrorKind::StorageFull);
        let mut found = Vec::new();
        let path = rescue.folder().unwrap().join("records.jsonl");
        assert!(
            read(&path, |record| {
                found.push(record);
                Ok(())
            })
            .unwrap()
        );
        assert_eq!(found, (0..3).map(|id| record(id, 5)).collect::<Vec<_>>());
    }

    #[test]
    fn what_was_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records.jsonl");
        // More than one batch, and lines of different lengths.
        let mut records: Vec<_> = (0..2_000).map(|id| record(id, id * 7_919)).collect();
        records.iter_mut().step_by(3).for_each(|record| record.chunks_us.truncate(2));
        let writer = open(&path, CancellationToken::new());
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
        let writer = open(&path, CancellationToken::new());
        writer.write(&record(0, 5));
        while std::fs::metadata(&path).unwrap().len() == 0 {
            std::thread::yield_now();
        }
        drop(writer);
    }
}
