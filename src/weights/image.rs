//! Checks by its first bytes that an image file is complete.

use std::io::Read;
use std::path::Path;

/// Bytes of the longest header looked at: SIF's.
const HEAD: u64 = 128;

/// Checks that a file is a complete image, by its magic and the length in its header. A folder is an unpacked image (apptainer's
/// sandbox), which is not checked further.
///
/// # Errors
/// The fault.
pub fn verify(path: &Path) -> Result<(), String> {
    let shown = path.display();
    if path.is_dir() {
        return Ok(());
    }
    let file = std::fs::File::open(path).map_err(|error| format!("{shown} cannot be opened: {error}"))?;
    let length = file.metadata().map_err(|error| format!("{shown}: {error}"))?.len();
    let mut head = Vec::new();
    file.take(HEAD).read_to_end(&mut head).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let Some((what, used)) = declared_length(&head) else {
        return Err(format!("{shown} ({length} bytes) is neither a squashfs image nor a SIF"));
    };
    if length < used {
        return Err(format!("{shown} is truncated: {length} bytes, and its {what} says {used}"));
    }
    Ok(())
}

/// The length that the header declares, and the header's name.
fn declared_length(head: &[u8]) -> Option<(&'static str, u64)> {
    let number = |at: usize| head.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    // SIF, by its reference implementation: 32 bytes of launch script, the magic, and at 112 and 120 the offset of the data
    // and its size.
    if head.get(32..41) == Some(b"SIF_MAGIC") {
        let used = number(112).zip(number(120)).map(|(offset, size)| offset.saturating_add(size));
        return Some(("header", used.unwrap_or(HEAD)));
    }
    // squashfs superblock 4.0: `bytes_used`, little-endian, at offset 40.
    head.starts_with(b"hsqs").then(|| number(40)).flatten().map(|used| ("superblock", used))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn squashfs(used: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        bytes[..4].copy_from_slice(b"hsqs");
        bytes[40..48].copy_from_slice(&used.to_le_bytes());
        bytes
    }

    fn sif(offset: u64, size: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![b'#'; 32];
        bytes.extend(b"SIF_MAGIC\0 01 and more");
        bytes.resize(112, 0);
        bytes.extend(offset.to_le_bytes());
        bytes.extend(size.to_le_bytes());
        bytes.resize(length, 0);
        bytes
    }

    #[test]
    fn images_are_whole_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let cases = [
            ("whole.sqsh", squashfs(4096, 4096), None),
            ("padded.sqsh", squashfs(4000, 4096), None),
            ("cut.sqsh", squashfs(8192, 4096), Some("truncated: 4096 bytes, and its superblock says 8192")),
            ("head.sqsh", b"hsqs and no more".to_vec(), Some("is neither a squashfs")),
            ("text.sqsh", b"not found".to_vec(), Some("is neither a squashfs")),
            ("empty.sqsh", Vec::new(), Some("(0 bytes) is neither a squashfs")),
            ("whole.sif", sif(4096, 904, 5000), None),
            ("cut.sif", sif(4096, 904, 4999), Some("truncated: 4999 bytes, and its header says 5000")),
            ("huge.sif", sif(u64::MAX, 9, 5000), Some("is truncated: 5000 bytes")),
            ("head.sif", sif(0, 0, 60), Some("truncated: 60 bytes, and its header says 128")),
            ("text.sif", b"x".repeat(100), Some("image nor a SIF")),
        ];
        for (name, bytes, expected) in cases {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let found = verify(&path).err();
            match expected {
                None => assert_eq!(found, None, "{name}"),
                Some(words) => {
                    assert!(found.as_ref().is_some_and(|e| e.contains(words)), "{name}: {found:?}")
                }
            }
        }
        assert!(verify(&folder.path().join("gone.sqsh")).unwrap_err().contains("cannot be opened"));
        assert_eq!(verify(folder.path()), Ok(()), "a sandbox");
    }
}
