//! What a run leaves in an allocation that outlives it: nothing. And one run at a time in an experiment.

use std::process::Command;

use crate::lab::{Lab, Said, TINY, long, said};

const SITE: &str = "schema = 1\ngpu = \"h100\"\n[slurm]\npartition = \"gpu\"\n[gpus.h100]\nper_node = 4\n";

/// Runs a bash script in an allocation of one node, from a shell that is not on it.
fn in_allocation(lab: &Lab, script: &str) -> Said {
    let mut salloc = Command::new("salloc");
    let tokmark = env!("CARGO_BIN_EXE_tokmark");
    // The whole node: another job's server could take a port between the choice and the start.
    salloc.args(["-Q", "-N1", "--exclusive", "--gres=gpu:1", "bash", "-uc", script]);
    salloc.current_dir(lab.path("")).env("HOME", lab.path("")).env("tokmark", tokmark);
    said(salloc.env("TOKMARK_SLURM_POLL_MS", "100").env_remove("XDG_CONFIG_HOME"))
}

/// Waits at most a minute until a command fails, or else succeeds.
const WAITING: &str = r#"
until_fails() { local end=$((SECONDS + 60)); while "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || return 1; sleep 0.1; done; }
until_works() { local end=$((SECONDS + 60)); until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || return 1; sleep 0.1; done; }
steps() { scontrol --oneliner show step $SLURM_JOB_ID | grep 'StepId=[0-9]*\.[0-9]'; }
"#;

#[test]
fn a_run_that_is_killed_in_an_allocation_leaves_no_step() {
    let Some(lab) = Lab::new() else { return };
    let (recipe, site) = (lab.write("long.toml", &long(60)), lab.write("site.toml", SITE));
    for signal in ["HUP", "QUIT", "KILL"] {
        let script = format!(
            r#"{WAITING}
            "$tokmark" run '{recipe}' --site '{site}' --experiments '{signal}' & run=$!
            until_works compgen -G '{signal}/*/benchmark_logs/*_osl15000_*/records.jsonl' || exit 8
            steps || exit 7
            kill -{signal} $run
            until_fails steps || exit 9
            until_fails kill -0 $run"#
        );
        in_allocation(&lab, &script).code(0);
    }
}

#[test]
fn a_second_process_on_one_experiment_is_refused_and_told_who_runs_it() {
    let Some(lab) = Lab::new() else { return };
    let (recipe, site) = (lab.write("tiny.toml", TINY), lab.write("site.toml", SITE));
    let script = format!(
        r#"{WAITING}
        "$tokmark" render '{recipe}' --site '{site}' -o job.sbatch --set load.duration=5s >/dev/null || exit 8
        bash job.sbatch >first.out 2>&1 & first=$!
        until_works compgen -G 'experiments/*/running.json' || exit 7
        bash job.sbatch >second.out 2>&1; echo "second $?"
        wait $first; echo "first $?""#
    );
    let end = in_allocation(&lab, &script).code(0);
    let (first, second) = (lab.read("first.out"), lab.read("second.out"));
    assert_eq!(end.out, "second 3\nfirst 0\n", "{first}\n{second}");
    assert!(second.contains("another tokmark runs this experiment right now: job "), "{second}");
    assert!(second.contains(", restart 0, pid "), "{second}");
}
