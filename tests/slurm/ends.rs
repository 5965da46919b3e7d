//! How jobs end: softly, by force, by failure, by cancellation, by the clock, by a dead node; and how they come back.

use std::process::Command;

use tokmark::internals::experiment::Event;

use crate::lab::{Job, Lab, TINY, long, slurm};
use crate::support::eventually;

/// The simulated engine beside a process that takes a TERM as `trap` says.
fn launcher(trap: &str) -> String {
    format!(
        r#"
schema = 1
name = "pair"
summary = "the simulated engine and a process with a trap"
simulated = true
[endpoint]
role = "server"
port = "http"
health = "/health"
[[role]]
name = "beside"
ready = {{ started = {{}} }}
placement = "head"
bare = true
argv = ["sh", "-c", '{trap}; echo up; while :; do sleep 0.1; done', "sh", "{{{{ dirs.logs }}}}/marker"]
[[role]]
name = "server"
placement = "head"
bare = true
argv = ["{{{{ tokmark }}}}", "sim", "--host", "{{{{ host }}}}", "--port", "{{{{ port.http }}}}", "--model", "{{{{ model.served_name }}}}"]
ports = {{ http = 8700 }}
"#
    )
}

fn pair(grace: &str) -> String {
    TINY.replace("launcher = \"sim\"", &format!("launcher = \"pair\"\nstop_grace = \"{grace}\""))
        .replace("[deploy.engine]\nprofile = \"quick\"\n", "")
}

/// Names of the processes that had to be killed at the last stop.
fn killed(job: &Job) -> Vec<String> {
    let of = |event: Event| match event {
        Event::Stopped { killed, .. } => Some(killed),
        _ => None,
    };
    job.events().into_iter().rev().find_map(of).unwrap()
}

#[test]
fn a_stop_is_soft_and_reaches_the_tasks() {
    let Some(lab) = Lab::new() else { return };
    lab.write("launchers/pair.toml", &launcher(r#"trap "echo soft >\"$1\"; exit 0" TERM"#));
    let recipe = lab.write("pair.toml", &pair("20s"));
    let job = lab.submit(&recipe, &[]);
    lab.wait(&job).code(0);
    assert_eq!(
        job.read("server_logs/marker"),
        "soft\n",
        "TERM reached the task, and it had the time to act on it"
    );
    assert_eq!(killed(&job), Vec::<String>::new());
    job.left_nothing();
}

#[test]
fn a_process_that_ignores_term_is_killed_after_the_grace() {
    let Some(lab) = Lab::new() else { return };
    lab.write("launchers/pair.toml", &launcher(r#"trap "" TERM"#));
    let recipe = lab.write("pair.toml", &pair("1s"));
    let job = lab.submit(&recipe, &[]);
    lab.wait(&job).code(0);
    assert_eq!(killed(&job), ["beside-0"]);
    assert!(job.read("server_logs/bench.log").contains("had to kill beside-0"));
    job.left_nothing();
}

#[test]
fn a_crashed_server_fails_the_job_and_submit_wait_prints_why() {
    let Some(lab) = Lab::new() else { return };
    let text = TINY.replace("profile = \"quick\"", "profile = \"quick\"\ncrash_after = 3");
    let recipe = lab.write("crash.toml", &text);
    let said = lab.tokmark(&["submit", &recipe, "--wait"]).code(4);
    assert!(said.err.contains("server-0") && said.err.contains("server-0.log"), "{}", said.err);
    assert!(said.err.contains("  | "), "an excerpt of the log: {}", said.err);
    let id = said.out.lines().next().unwrap().rsplit(' ').next().unwrap().to_owned();
    let state = eventually("the job has ended", || {
        let state = slurm(&["squeue", "-h", "--states=all", "-o", "%T", "-j", &id]);
        (state.trim() != "COMPLETING").then_some(state)
    });
    assert_eq!(state.trim(), "FAILED");
    let shown = lab.tokmark(&["jobs", "show", &id, "--json"]).code(0).json();
    assert_eq!((shown["state"].as_str(), shown["exit_code"].as_u64()), (Some("FAILED"), Some(4)));
    assert!(shown["failure"].as_str().unwrap().contains("server-0"), "{shown}");
}

#[test]
fn a_missing_program_is_named() {
    let Some(lab) = Lab::new() else { return };
    lab.write("launchers/pair.toml", &launcher("").replace("\"sh\", \"-c\"", "\"no-such-program\", \"-c\""));
    let recipe = lab.write("pair.toml", &pair("1s").replace("osl = 4", "osl = 15000"));
    let said = lab.tokmark(&["submit", &recipe, "--wait"]).code(4);
    assert!(said.err.contains("no-such-program") && said.err.contains("beside-0"), "{}", said.err);
}

#[test]
fn a_failing_site_setup_shows_in_the_job_output() {
    let Some(lab) = Lab::new() else { return };
    let recipe = lab.write("tiny.toml", TINY);
    let site = lab.write("s.toml", "schema = 1\n[slurm]\nsetup = [\"echo no such module >&2; false\"]\n");
    let said = lab.tokmark(&["submit", &recipe, "--wait", "--site", &site]).code(3);
    assert!(said.err.contains("FAILED") && said.err.contains("no such module"), "{}", said.err);
}

const FIRST: &str = "benchmark_logs/isl16_osl4_con1";

/// The second point of [`long`].
fn second(seconds: u32) -> String {
    format!("isl16_osl{}_con1", seconds * 250)
}

/// Waits for a cancelled or timed-out job that was in its second point, and checks what every such job owes.
#[track_caller]
fn assert_interrupted(lab: &Lab, job: &Job) {
    let said = lab.wait(job).code(130);
    assert_eq!(job.exit_code(), Some(130), "the end is written before Slurm kills: {}", said.err);
    assert!(job.dir.join(FIRST).join("summary.json").exists(), "the finished point is kept");
    let second = format!("benchmark_logs/{}", second(60));
    assert!(!job.dir.join(&second).join("summary.json").exists(), "the other does not look finished");
    assert!(
        job.dir.join(&second).join("summary.interrupted.json").exists(),
        "but what there is of it is there"
    );
    assert!(
        job.read("summary.md").contains("| isl16_osl4_con1 |"),
        "and the report: {}",
        job.read("summary.md")
    );
    assert!(said.out.contains("results: "), "{}", said.out);
    let shown = lab.tokmark(&["jobs", "show", &job.id, "--json"]).code(0).json();
    assert_eq!((shown["points_done"].as_u64(), shown["points"].as_u64()), (Some(1), Some(2)), "{shown}");
    job.left_nothing();
}

#[test]
fn cancelling_a_running_job_keeps_what_was_measured() {
    let Some(lab) = Lab::new() else { return };
    let recipe = lab.write("long.toml", &long(60));
    let job = lab.submit(&recipe, &[]);
    job.until_point(2);
    assert_eq!(lab.state(&job), format!("RUNNING: {} (2/2)", second(60)));
    let said = lab.tokmark(&["jobs", "cancel", &job.id]).code(0);
    assert_eq!(said.out, format!("cancelled job {}\n", job.id));
    assert_interrupted(&lab, &job);
    assert_eq!(lab.state(&job), "CANCELLED");
    let again = lab.tokmark(&["jobs", "cancel", &job.id]).code(0);
    assert!(again.out.contains("has ended already"), "{}", again.out);
}

#[test]
fn cancelling_does_not_wait_for_a_server_that_ignores_term() {
    let Some(lab) = Lab::new() else { return };
    lab.write("launchers/pair.toml", &launcher(r#"trap "" TERM"#));
    let text = long(60).replace("launcher = \"sim\"", "launcher = \"pair\"\nstop_grace = \"100s\"");
    let recipe = lab.write("pair.toml", &text.replace("[deploy.engine]\nprofile = \"quick\"\n", ""));
    let job = lab.submit(&recipe, &[]);
    job.until_point(2);
    lab.tokmark(&["jobs", "cancel", &job.id]).code(0);
    lab.wait(&job).code(130);
    assert_eq!(job.exit_code(), Some(130), "written within Slurm's KillWait: {:#?}", job.events());
    job.left_nothing();
}

#[test]
fn a_pending_job_is_shown_and_cancelled() {
    let Some(lab) = Lab::new() else { return };
    let recipe = lab.write("tiny.toml", TINY);
    // Slurm is asked by number: another name of the job changes nothing.
    let job = lab.submit(&recipe, &["--slurm-arg=--hold", "--slurm-arg=job-name=mine | yours"]);
    assert_eq!(lab.state(&job), "PENDING");
    let shown = lab.tokmark(&["jobs", "show", &job.id]).code(0);
    assert!(shown.out.contains("reason     JobHeld"), "{}", shown.out);
    lab.tokmark(&["jobs", "cancel", &job.id]).code(0);
    let said = lab.wait(&job).code(130);
    assert!(said.err.contains("CANCELLED"), "{}", said.err);
    assert_eq!(lab.state(&job), "CANCELLED");
}

#[test]
fn the_warning_before_the_time_limit_wraps_the_job_up() {
    let Some(lab) = Lab::new() else { return };
    let recipe = lab.write("long.toml", &long(60));
    let job = lab.submit(&recipe, &[]);
    job.until_point(2);
    slurm(&["scancel", "--batch", "--signal=USR1", &job.id]);
    assert_interrupted(&lab, &job);
    let warned =
        |event: &Event| matches!(event, Event::Interrupted { signal } if signal.starts_with("SIGUSR1"));
    assert!(job.events().iter().any(warned));
    assert_eq!(lab.state(&job), "INTERRUPTED");
    // The job had most of its time left: on a machine that is not too slow it was no limit.
    let causes = ["interrupted by SIGUSR1", "the time limit of 00:05:00 was reached"];
    let is_told = |message: &str| {
        causes.iter().any(|cause| message.starts_with(cause)) && message.contains(" was measured;")
    };
    let failed = |event: &Event| matches!(event, Event::Failed { message } if is_told(message));
    assert!(job.events().iter().any(failed), "{:#?}", job.events());
}

#[test]
fn a_job_at_its_time_limit_keeps_what_was_measured() {
    let Some(lab) = Lab::new() else { return };
    let recipe = lab.write("long.toml", &long(60));
    // Without the warning, as if it had come too late.
    let job = lab.submit(&recipe, &["--set", "slurm.directives=[\"--signal=B:CONT@60\"]"]);
    job.until_point(2);
    // Limits are looked at every 30 s. Slurm refuses a time that is already over when it gets to it, so it is asked again.
    eventually("Slurm takes the new end", || {
        let update = ["update", &format!("jobid={}", job.id), "endtime=now"];
        Command::new("scontrol").args(update).status().unwrap().success().then_some(())
    });
    assert_interrupted(&lab, &job);
    let ended = |state: &str| matches!(state, "TIMEOUT").then_some(());
    eventually("Slurm and tokmark call it a time-out", || ended(&lab.state(&job)));
}

#[test]
fn a_requeued_job_goes_on_where_it_stopped() {
    let Some(lab) = Lab::new() else { return };
    let recipe = lab.write("long.toml", &long(5));
    let job = lab.submit(&recipe, &[]);
    job.until_point(2);
    let first = job.read(&format!("{FIRST}/summary.json"));
    slurm(&["scontrol", "requeue", &job.id]);
    eventually("it is in the queue again", || lab.state(&job).starts_with("PENDING").then_some(()));
    let said = lab.wait(&job).code(0);
    assert!(said.err.contains("PENDING") && said.err.contains("RUNNING"), "{}", said.err);
    let restarts: Vec<u32> = job
        .events()
        .into_iter()
        .filter_map(|event| if let Event::Started { restarts, .. } = event { Some(restarts) } else { None })
        .collect();
    assert_eq!(restarts, [0, 1]);
    let kept = |event: &Event| matches!(event, Event::PointKept { point } if point == "isl16_osl4_con1");
    assert!(job.events().iter().any(kept), "{:#?}", job.events());
    assert_eq!(job.read(&format!("{FIRST}/summary.json")), first);
    let second = second(5);
    let layout = job.layout();
    for wanted in [format!("{second}/summary.json"), format!("{second}.interrupted-1/records.jsonl")] {
        assert!(layout.contains(&format!("benchmark_logs/{wanted}")), "{wanted} in {layout:#?}");
    }
    assert_eq!(lab.state(&job), "COMPLETED");
    let shown = lab.tokmark(&["jobs", "show", &job.id, "--json"]).code(0).json();
    assert_eq!((shown["points_done"].as_u64(), shown["points"].as_u64()), (Some(2), Some(2)), "{shown}");
    let folders = std::fs::read_dir(lab.path("experiments"))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(folders.count(), 1, "one directory");
    assert!(
        job.read("slurm.out").contains("started again"),
        "the job's output grew: {}",
        job.read("slurm.out")
    );
    job.left_nothing();
}
