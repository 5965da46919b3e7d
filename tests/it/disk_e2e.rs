//! A file system that takes no more in the middle of a load: full, or its folder gone.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::eventually;
use crate::support::house::{End, House, house_json};
use serde_json::Value;

/// A small file system, mounted until it is dropped.
struct Small(PathBuf);

impl Small {
    /// `None` and a remark where this user may not mount one.
    fn mount(at: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir(&at).unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&at).output();
        let is_mounted = mounted.is_ok_and(|output| output.status.success());
        if !is_mounted {
            println!("skipped: mounting a small tmpfs needs root");
        }
        is_mounted.then_some(Self(at))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A load that would take ten minutes.
fn house() -> House {
    let house = House::new();
    house.recipe(
        "summary = \"a test\"\n[model]\nname = \"org/m\"\n[deploy]\nlauncher = \"sim\"\n[deploy.engine]\nprofile = \"quick\"\n\
         speed = 50\n[load]\nisl = 8\nosl = 16\nconcurrency = 8\nduration = \"600s\"\nwarmup_requests = 0\n",
    );
    house
}

fn good_records(path: &Path) -> usize {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "no line is torn");
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.filter(|record| record["outcome"] == "ok").count()
}

/// The folder in which tokmark kept what the experiment could not take, with its summary.
#[track_caller]
fn rescued(house: &House, end: &End) -> (PathBuf, Value) {
    let folders = std::fs::read_dir(house.path().join("home")).unwrap().map(|entry| entry.unwrap().path());
    let [folder] = folders.collect::<Vec<_>>().try_into().unwrap();
    assert!(end.stderr.contains(&folder.display().to_string()), "{}", end.stderr);
    let summary = house_json(&folder.join("summary.interrupted.json"));
    assert_eq!(summary["verdict"]["result"], "invalid");
    (folder, summary)
}

#[test]
fn a_full_disk_ends_the_load_and_what_is_missing_is_kept_elsewhere() {
    let house = house();
    let Some(small) = Small::mount(house.path().join("small"), "1m") else { return };
    let end = house.run(["run", "./r.toml", "--experiments", "small"]).fails(3);
    assert!(end.stderr.contains("No space left on device"), "{}", end.stderr);
    assert!(end.stdout.contains("conc") && end.stdout.contains("invalid"), "the table: {}", end.stdout);
    let (folder, summary) = rescued(&house, &end);
    let dirs = std::fs::read_dir(&small.0).unwrap().map(|entry| entry.unwrap().path());
    let [dir] = dirs.collect::<Vec<_>>().try_into().unwrap();
    let (there, here) = (dir.join("benchmark_logs/records.jsonl"), folder.join("records.jsonl"));
    let records = good_records(&there) + good_records(&here);
    assert_eq!(Value::from(records), summary["requests"]["completed"], "no record is lost");
    house.assert_empty();
}

#[test]
fn an_experiment_that_is_deleted_under_a_load_ends_it() {
    let house = house();
    let running = house.start(["run", "./r.toml"]);
    let dir = eventually("records are written", || {
        let wrote = |dir: &PathBuf| {
            std::fs::metadata(dir.join("benchmark_logs/records.jsonl")).is_ok_and(|file| file.len() > 0)
        };
        house.all().pop().filter(wrote)
    });
    std::fs::remove_dir_all(&dir).unwrap();
    let end = running.finish().fails(3);
    assert!(end.stderr.contains("records.jsonl was deleted"), "{}", end.stderr);
    let (_, summary) = rescued(&house, &end);
    assert!(summary["requests"]["completed"].as_u64().unwrap() > 0);
    house.assert_empty();
}
