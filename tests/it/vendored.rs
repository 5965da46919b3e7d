//! Files of others are what their checksums say.

use std::process::Command;

#[test]
fn files_of_others_have_their_checksums() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/vendor");
    let end = Command::new("sha256sum")
        .args(["--check", "--strict", "--quiet", "SHA256SUMS"])
        .current_dir(folder)
        .output();
    let end = end.expect("sha256sum of coreutils");
    assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stdout));
    let sums = std::fs::read_to_string(format!("{folder}/SHA256SUMS")).expect("the list");
    let listed = |name: &str| sums.lines().any(|line| line.ends_with(name));
    for folder_of in ["uplot", "dejavu"] {
        for entry in std::fs::read_dir(format!("{folder}/{folder_of}")).expect("a folder") {
            let name = format!("{folder_of}/{}", entry.expect("a file").file_name().to_string_lossy());
            assert!(listed(&name), "{name} has no checksum");
        }
    }
}
