//! Keeps results elsewhere when the file system of an experiment takes no more: it is full, read-only, over quota or gone.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::metrics::summary::Summary;

/// A folder for what the experiment could not take, made when it is first needed.
#[derive(Debug)]
pub(super) struct Rescue {
    name: String,
    places: Vec<PathBuf>,
    folder: OnceLock<PathBuf>,
}

impl Rescue {
    /// For an experiment of this name: in the home folder, else where tokmark was started, else in the folder for temporary files.
    pub(super) fn of(experiment: &str) -> Self {
        let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        let places = home.into_iter().chain(std::env::current_dir()).chain([std::env::temp_dir()]);
        Self::within(experiment, places.collect())
    }

    pub(super) fn within(experiment: &str, places: Vec<PathBuf>) -> Self {
        Self { name: experiment.to_owned(), places, folder: OnceLock::new() }
    }

    /// Writes a file that may grow, in the folder or in the first place that takes it. `None` if none does.
    pub(super) fn keep(&self, file: &str, bytes: &[u8]) -> Option<File> {
        if let Some(folder) = self.folder.get() {
            return written(folder, file, bytes);
        }
        self.places.iter().find_map(|place| {
            // A name that nobody can foresee, readable by this user only.
            let prefix = format!("tokmark-rescued-{}-", self.name);
            let private = std::fs::Permissions::from_mode(0o700);
            let folder =
                tempfile::Builder::new().prefix(&prefix).permissions(private).tempdir_in(place).ok()?;
            let kept = written(folder.path(), file, bytes)?;
            let _ = self.folder.set(folder.keep());
            Some(kept)
        })
    }

    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.get().map(PathBuf::as_path)
    }
}

fn written(folder: &Path, file: &str, bytes: &[u8]) -> Option<File> {
    let mut file = File::create(folder.join(file)).ok()?;
    file.write_all(bytes).and_then(|()| file.sync_data()).ok()?;
    Some(file)
}

/// Results that the experiment's file system did not take.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}: {}; make room or bring it back, then start again: only this load point is missing", .dir.display(), kept(.rescued.as_deref()))]
pub struct Unwritten {
    /// Folder of the load point.
    pub dir: PathBuf,
    pub error: std::io::Error,
    /// Where the rest of the records and the summary are.
    pub rescued: Option<PathBuf>,
    /// What was measured until then.
    pub summary: Option<Box<Summary>>,
}

fn kept(rescued: Option<&Path>) -> String {
    match rescued {
        Some(folder) => {
            format!("the load ended early, and what could not be written is in {}", folder.display())
        }
        None => "the load ended early, and no other place could take what is missing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_that_takes_a_file_takes_all_of_them() {
        let places = tempfile::tempdir().unwrap();
        let rescue = Rescue::within("m_7", vec![places.path().join("gone"), places.path().to_owned()]);
        assert_eq!(rescue.folder(), None);
        drop(rescue.keep("records.jsonl", b"{}\n").unwrap());
        drop(rescue.keep("summary.json", b"{}").unwrap());
        let folder = rescue.folder().unwrap();
        assert!(
            folder.starts_with(places.path()) && folder.to_string_lossy().contains("tokmark-rescued-m_7-")
        );
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 2);
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(folder).unwrap());
        assert_eq!(mode & 0o777, 0o700);
        assert!(Rescue::within("m_7", vec![places.path().join("gone")]).keep("x", b"").is_none());
    }
}
