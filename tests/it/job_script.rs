//! The job script as bash runs it, on nodes that are not like the one it was made on: which tokmark takes over, and what the
//! shell loads before.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use crate::support::house::House;

/// Writes an executable of the house.
fn program(house: &House, name: &str, text: &str) -> String {
    let path = house.file(name, &format!("#!/bin/bash\n{text}"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

/// Runs the job script of quickstart at a site, on a node whose `uname -m` says `arch`. The tokmark that submitted is gone
/// from there.
fn job(house: &House, site: &str, arch: &str) -> Output {
    house.file("site.toml", &format!("schema = 1\n{site}"));
    program(house, "bin/uname", &format!("echo {arch}\n"));
    let script = house.run(["render", "quickstart"]).succeeds().stdout;
    let submitted_by = format!("submitted_by={}\n", env!("CARGO_BIN_EXE_tokmark"));
    assert!(script.contains(&submitted_by), "{script}");
    house.file("job.sbatch", &script.replace(&submitted_by, "submitted_by=/gone/tokmark\n"));
    let path = format!("{}:/usr/bin:/bin", house.path().join("bin").display());
    let mut bash = Command::new("bash");
    bash.arg("job.sbatch").current_dir(house.path()).env_clear().env("PATH", path).output().unwrap()
}

/// A tokmark that says its name and its first argument.
fn tokmark(house: &House, name: &str) -> String {
    program(house, name, &format!("[ \"$1\" = --version ] || echo {name} \"$1\"\n"))
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_binary_is_that_of_the_node_the_job_runs_on() {
    let house = House::new();
    let site = format!(
        "[binary]\nx86_64 = {:?}\naarch64 = {:?}\n",
        tokmark(&house, "of x86"),
        tokmark(&house, "of arm")
    );
    for (arch, expected) in [("x86_64", "of x86 exec\n"), ("aarch64", "of arm exec\n")] {
        let output = job(&house, &site, arch);
        assert_eq!(said(&output.stdout), expected, "{arch}: {output:?}");
    }
}

#[test]
fn a_binary_that_does_not_run_on_the_node_is_skipped() {
    let house = House::new();
    // What the kernel makes of another architecture's: not started at all.
    let broken = program(&house, "of arm", "exit 126\n");
    tokmark(&house, "bin/tokmark");
    let output = job(&house, &format!("[binary]\naarch64 = {broken:?}\n"), "aarch64");
    assert_eq!(said(&output.stdout), "bin/tokmark exec\n", "{output:?}");
}

#[test]
fn without_a_binary_for_the_architecture_the_job_names_the_key() {
    let house = House::new();
    let x86 = tokmark(&house, "of x86");
    let output = job(&house, &format!("[binary]\nx86_64 = {x86:?}\n"), "aarch64");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let stderr = said(&output.stderr);
    for part in ["no tokmark for aarch64 on ", "tried /gone/tokmark and PATH", "[binary]", "site file"] {
        assert!(stderr.contains(part), "{part} in {stderr}");
    }
}

#[test]
fn modules_and_the_environment_come_after_the_sites_own_lines() {
    let house = House::new();
    tokmark(&house, "bin/tokmark");
    program(&house, "bin/module", "echo module \"$@\"\n[ \"$2\" != broken ]\n");
    house.file("my venv/bin/activate", "echo activated\n");
    let venv = house.path().join("my venv");
    let site = format!(
        "[slurm]\nsetup = [\"echo setup\"]\n[bare]\nmodules = [\"cuda/12.8\", \"a b\"]\nvenv = {:?}\n",
        venv.display().to_string()
    );
    let output = job(&house, &site, "x86_64");
    let expected = "setup\nmodule load cuda/12.8\nmodule load a b\nactivated\nbin/tokmark exec\n";
    assert_eq!(said(&output.stdout), expected, "{output:?}");

    for (site, told) in [
        ("[bare]\nmodules = [\"broken\"]\n", "module load broken failed on "),
        ("[bare]\nvenv = \"/gone/venv\"\n", "cannot activate /gone/venv on "),
    ] {
        let output = job(&house, site, "x86_64");
        let stderr = said(&output.stderr);
        assert!(output.status.code() == Some(3) && stderr.contains(told), "{output:?}");
    }
}

#[test]
fn the_sites_memory_and_exclusive_are_defaults() {
    let house = House::new();
    let recipe = |slurm: &str| {
        house.recipe(&format!(
            "[model]\nname = \"m\"\n[deploy]\nlauncher = \"sim\"\n[load]\nisl = 8\nosl = 8\n{slurm}"
        ));
    };
    let asked = |site: &str| {
        house.file("site.toml", &format!("schema = 1\n{site}"));
        let script = house.run(["render", "./r.toml", "--gpu", "h100"]).succeeds().stdout;
        let lines = script.lines().filter_map(|line| line.strip_prefix("#SBATCH --"));
        let about = lines.filter(|line| line.starts_with("mem") || line.starts_with("excl"));
        about.map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    let slurm = "[slurm]\nexclusive = false\nmem = \"1G\"\n";
    recipe("");
    assert_eq!(asked(""), "exclusive");
    assert_eq!(asked(slurm), "mem=1G");
    assert_eq!(asked(&format!("{slurm}[gpus.h100]\nmem = \"2G\"\n")), "mem=2G");
    assert_eq!(asked(&format!("{slurm}[gpus.b200]\nmem = \"2G\"\n")), "mem=1G");
    recipe("[slurm]\nexclusive = true\nmem = \"3G\"\n");
    assert_eq!(asked(&format!("{slurm}[gpus.h100]\nmem = \"2G\"\n")), "mem=3G exclusive");
}
