//! `jobs list|show|log|wait` before, during and after.

use crate::lab::{Lab, TINY, long};
use crate::support::eventually;

#[test]
fn jobs_tells_the_state_before_during_and_after() {
    let Some(lab) = Lab::new() else { return };
    let empty = lab.tokmark(&["jobs"]).code(0);
    assert!(empty.out.is_empty() && empty.err.contains("no experiments in"), "{empty:?}");
    let recipe = lab.write("long.toml", &long(3));
    let job = lab.submit(&recipe, &["--slurm-arg=--hold"]);
    let row = |state: &str| {
        let table = lab.tokmark(&["jobs", "list"]).code(0).out;
        let row: Vec<&str> = table.lines().skip_while(|line| !line.starts_with(&job.id)).take(2).collect();
        let row = row.join("\n");
        assert!(row.contains(state), "{state} in {table}");
        let shown = lab.tokmark(&["jobs", "show", &job.id]).code(0).out;
        assert!(shown.starts_with(&format!("job {} {state}", job.id)), "{shown}");
        shown
    };
    row("PENDING");
    let none = lab.tokmark(&["jobs", "log", &job.id]).code(2);
    assert!(none.err.contains("no log exists yet"), "{}", none.err);
    crate::lab::slurm(&["scontrol", "release", &job.id]);
    job.until_point(2);
    row("RUNNING: isl16_osl750_con1 (2/2)");
    let log = lab.tokmark(&["jobs", "log", &job.id]).code(0);
    assert!(log.out.contains("isl16_osl4_con1: "), "{}", log.out);
    let name = job.dir.file_name().unwrap().to_str().unwrap().to_owned();
    for named in [&job.id, &name, &job.dir.display().to_string()] {
        lab.tokmark(&["jobs", "show", named]).code(0);
    }
    let waited = lab.tokmark(&["jobs", "wait", &job.id]).code(0);
    assert!(waited.out.contains("results: ") && waited.err.contains("COMPLETED"), "{waited:?}");
    let shown = row("COMPLETED");
    assert!(shown.contains("verdict"), "the closing table: {shown}");
    for (log, part) in [("slurm", "results: "), ("server-0", ""), ("output_server.log", "")] {
        assert!(lab.tokmark(&["jobs", "log", &job.id, log]).code(0).out.contains(part), "{log}");
    }
    let unknown = lab.tokmark(&["jobs", "log", &job.id, "nope"]).code(2);
    assert!(unknown.err.contains("server-0") && unknown.err.contains("slurm"), "{}", unknown.err);

    // As soon as squeue knows no more than the accounting (or nothing), the directory still tells.
    let json = lab.tokmark(&["jobs", "show", &job.id, "--json"]).code(0).json();
    assert_eq!((json["job"].as_str(), json["exit_code"].as_u64()), (Some(job.id.as_str()), Some(0)));
    assert_eq!((json["points_done"].as_u64(), json["points"].as_u64()), (Some(2), Some(2)));
}

#[test]
fn a_wait_as_json_is_json() {
    let Some(lab) = Lab::new() else { return };
    let recipe = lab.write("tiny.toml", TINY);
    let said = lab.tokmark(&["submit", &recipe, "--wait", "--json"]).code(0).json();
    assert_eq!(
        (said["state"].as_str(), said["points_done"].as_u64()),
        (Some("COMPLETED"), Some(2)),
        "{said}"
    );
    let again = lab.tokmark(&["jobs", "wait", said["job"].as_str().unwrap(), "--json"]).code(0).json();
    assert_eq!(again["state"], "COMPLETED");
}

#[test]
fn an_unknown_job_is_bad_usage() {
    let Some(lab) = Lab::new() else { return };
    for args in [
        &["jobs", "show", "999999"][..],
        &["jobs", "wait", "x"],
        &["jobs", "log", "9"],
        &["jobs", "cancel", "9"],
    ] {
        let said = lab.tokmark(args).code(2);
        assert!(said.err.contains("no such job or experiment"), "{}", said.err);
    }
}

/// sacct is the only one who knows a job that slurmctld has forgotten.
#[test]
fn the_accounting_agrees_once_it_has_caught_up() {
    let Some(lab) = Lab::new() else { return };
    let recipe = lab.write("tiny.toml", TINY);
    let job = lab.submit(&recipe, &[]);
    lab.wait(&job).code(0);
    let accounted = || {
        let argv = ["sacct", "-n", "-X", "-P", "-j", &job.id, "--format=State,ExitCode"];
        let said = crate::lab::said(std::process::Command::new(argv[0]).args(&argv[1..]));
        if said.out.contains("disabled") || said.err.contains("disabled") {
            return Some("COMPLETED|0:0\n".to_owned());
        }
        said.out.contains("COMPLETED").then_some(said.out)
    };
    let line = eventually("sacct knows the end", accounted);
    assert_eq!(line, "COMPLETED|0:0\n");
}
