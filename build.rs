//! Rebuilds when an embedded file changes, and puts the commit into the version.

use std::path::Path;
use std::process::Command;

fn main() {
    for folder in ["recipes", "launchers", "templates"] {
        println!("cargo::rerun-if-changed={folder}");
    }
    // In a worktree `.git` is a file, and a path that is not there would rebuild everything every time. HEAD alone names
    // a branch and stays the same when a commit is added; its log does not.
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    println!("cargo::rerun-if-env-changed=TOKMARK_COMMIT");
    let commit = std::env::var("TOKMARK_COMMIT").ok().or_else(|| git(&["rev-parse", "--short=12", "HEAD"]));
    println!("cargo::rustc-env=TOKMARK_COMMIT={}", commit.unwrap_or_else(|| "unknown".into()));
}

/// What git answers; nothing without git or outside a repository.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
