//! Writes files so that a reader never sees half a file and no data is lost.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use fs_err as fs;

/// A temporary name beside `path` that no other process uses.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.{}.{}.tmp", super::manifest::hostname(), std::process::id()))
}

/// Creates `path` with `bytes` in one step, unless it exists. Returns whether this call created it.
pub fn create_once(path: &Path, bytes: &[u8]) -> std::io::Result<bool> {
    create_once_with(path, |out| out.write_all(bytes))
}

/// Like [`create_once`], for content that need not fit in memory: `fill` writes it through a buffer.
pub fn create_once_with(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<fs::File>) -> std::io::Result<()>,
) -> std::io::Result<bool> {
    if path.exists() {
        return Ok(false);
    }
    let temporary = temporary(path);
    let mut out = BufWriter::with_capacity(1 << 16, fs::File::create(&temporary)?);
    fill(&mut out)?;
    out.flush()?;
    out.get_ref().sync_all()?;
    // A hard link fails if the name exists; a rename would replace the file.
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    match linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes a derived file, and replaces an older version in one step.
pub fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = temporary(path);
    let mut file = fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// Opens a file that only grows.
pub fn append(path: &Path) -> std::io::Result<std::fs::File> {
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|error| std::io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_writer_wins_and_no_temporary_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        assert!(create_once(&path, b"one").unwrap());
        assert!(!create_once(&path, b"two").unwrap());
        replace(&path, b"three").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "three");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
