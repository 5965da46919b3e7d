//! Rebuilds when an embedded file changes, and puts the commit into the version.

use std::process::Command;

fn main() {
    for folder in ["recipes", "launchers", "templates"] {
        println!("cargo::rerun-if-changed={folder}");
    }
    println!("cargo::rerun-if-changed=.git/HEAD");
    println!("cargo::rerun-if-env-changed=TOKMARK_COMMIT");
    let commit = std::env::var("TOKMARK_COMMIT").ok().or_else(|| {
        let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    });
    println!("cargo::rustc-env=TOKMARK_COMMIT={}", commit.unwrap_or_else(|| "unknown".into()));
}
