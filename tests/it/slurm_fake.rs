//! `executor::slurm` against fake Slurm tools: what sites and laggards make of Slurm's answers.

use std::time::{Duration, Instant};

use crate::support::{FakeSlurm, eventually};
use tokmark::internals::executor::{Slurm, SlurmError};
use tokmark::internals::slurm::{ExitCode, JobId, JobState, srun};

fn slurm(fake: &FakeSlurm) -> Slurm {
    Slurm { path: Some(FakeSlurm::path()), env: fake.env(), patience: 3, ..Slurm::default() }
}

fn ids(texts: &[&str]) -> Vec<JobId> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

const TICK: Duration = Duration::from_millis(5);

#[tokio::test]
async fn submit_finds_the_id_among_banners() {
    let fake = FakeSlurm::new();
    let script = fake.write("my job.sbatch", "#!/bin/bash\n");
    let mut slurm = slurm(&fake);
    slurm.env.push(("FAKE_SLURM_BANNER".into(), "1".into()));
    let args = ["--partition=gpu".to_owned(), "--comment=a \"b\"\nc".to_owned()];
    let id = slurm.submit(&script, &args).await.unwrap();
    assert_eq!(id.as_str(), "1");
    let script = script.display().to_string();
    assert_eq!(fake.calls(), [["sbatch", "--parsable", &args[0], &args[1], &script]]);

    let jobs = slurm.poll(std::slice::from_ref(&id)).await.unwrap();
    assert_eq!(jobs[&id].state, JobState::Pending);
    assert_eq!(jobs[&id].reason.as_deref(), Some("Resources"));
}

#[tokio::test]
async fn a_refusal_prints_what_to_change() {
    let fake = FakeSlurm::new();
    fake.write("sbatch.stderr", "sbatch: error: invalid partition specified: nope\n");
    fake.write("sbatch.rc", "1");
    let script = fake.write("x.sbatch", "#!/bin/bash\n");
    let error = slurm(&fake).submit(&script, &["--partition=nope".to_owned()]).await.unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, SlurmError::Refused { advice: Some(_), .. }), "{said}");
    for part in ["sbatch --parsable --partition=nope", "invalid partition specified: nope", "site.toml"] {
        assert!(said.contains(part), "{part} in {said}");
    }
}

#[tokio::test]
async fn an_answer_without_an_id_is_quoted() {
    let fake = FakeSlurm::new();
    fake.write("sbatch.stdout", "request queued, see the portal\n");
    let script = fake.write("x.sbatch", "#!/bin/bash\n");
    let error = slurm(&fake).submit(&script, &[]).await.unwrap_err();
    assert!(matches!(error, SlurmError::Unparsable { .. }));
    assert!(error.to_string().contains("see the portal"), "{error}");
}

#[tokio::test]
async fn one_squeue_for_all_and_one_sacct_for_those_gone() {
    let fake = FakeSlurm::new();
    fake.job("1", &[("state", "RUNNING"), ("nodes", "n[1-2]"), ("name", "a|b"), ("start", "100")]);
    fake.job("2", &[("state", "FAILED"), ("exit", "3:0"), ("end", "200")]);
    fake.job("3", &[("state", "COMPLETED"), ("end", "300")]);
    fake.write("squeue.hide", "2\n3\n");
    let jobs = slurm(&fake).poll(&ids(&["1", "2", "3", "4"])).await.unwrap();
    let states: Vec<_> = jobs.values().map(|job| (job.id.as_str(), &job.state)).collect();
    assert_eq!(states, [("1", &JobState::Running), ("2", &JobState::Failed), ("3", &JobState::Completed)]);
    let failed = &jobs[&ids(&["2"])[0]];
    assert_eq!((failed.exit_code, failed.end), (Some(ExitCode { code: 3, signal: 0 }), Some(200)));
    assert_eq!(jobs[&ids(&["1"])[0]].name, "a|b");
    assert_eq!(fake.tools(), ["squeue", "sacct"]);
    assert!(fake.calls()[1].contains(&"--jobs=2,3,4".to_owned()));
}

#[tokio::test]
async fn polling_asks_once_for_all_jobs_and_not_at_all_for_none() {
    let fake = FakeSlurm::new();
    assert!(slurm(&fake).poll(&[]).await.unwrap().is_empty());
    assert!(fake.calls().is_empty());
    fake.job("1", &[("state", "RUNNING")]);
    slurm(&fake).poll(&ids(&["1"])).await.unwrap();
    assert_eq!(fake.tools(), ["squeue"]);
}

#[tokio::test]
async fn an_unknown_state_is_kept() {
    let fake = FakeSlurm::new();
    fake.job("1", &[("state", "NAPPING")]);
    let jobs = slurm(&fake).poll(&ids(&["1"])).await.unwrap();
    assert_eq!(jobs[&ids(&["1"])[0]].state, JobState::Unknown("NAPPING".into()));
}

#[tokio::test]
async fn a_job_that_slurm_does_not_show_yet_is_absent() {
    let fake = FakeSlurm::new();
    fake.job("1", &[("state", "PENDING")]);
    fake.write("squeue.hide", "1\n");
    fake.write("sacct.hide", "1\n");
    assert!(slurm(&fake).poll(&ids(&["1"])).await.unwrap().is_empty());
}

#[tokio::test]
async fn accounting_that_lags_is_made_up_for_by_scontrol() {
    let fake = FakeSlurm::new();
    fake.job("1", &[("state", "FAILED"), ("exit", "3:0"), ("end", "200")]);
    fake.write("sacct.hide", "1\n");
    let jobs = slurm(&fake).poll(&ids(&["1"])).await.unwrap();
    assert_eq!(jobs[&ids(&["1"])[0]].exit_code, Some(ExitCode { code: 3, signal: 0 }));
    assert_eq!(fake.tools(), ["squeue", "sacct", "scontrol"]);
}

#[tokio::test]
async fn no_accounting_is_a_condition_and_not_a_failure() {
    let fake = FakeSlurm::new();
    fake.write("accounting.off", "");
    fake.job("1", &[("state", "COMPLETED"), ("exit", "0:0")]);
    let slurm = slurm(&fake);
    let error = slurm.sacct(&ids(&["1"])).await.unwrap_err();
    assert!(matches!(error, SlurmError::AccountingDisabled { .. }), "{error}");
    let jobs = slurm.poll(&ids(&["1", "2"])).await.unwrap();
    let [job] = &jobs.into_values().collect::<Vec<_>>()[..] else { panic!("one job") };
    assert_eq!((&job.state, job.exit_code), (&JobState::Completed, ExitCode::parse("0:0")));
}

#[tokio::test]
async fn wait_reports_each_change_once_and_bears_failures() {
    let fake = FakeSlurm::new();
    fake.job("1", &[("state", "PENDING"), ("reason", "Priority")]);
    fake.write("squeue.hide", "1\n");
    fake.write("sacct.hide", "1\n");
    let mut seen = Vec::new();
    let dir = fake.dir().to_owned();
    let looks = |tools: Vec<String>| tools.iter().filter(|tool| *tool == "squeue").count();
    let story = std::thread::spawn(move || {
        let fake_calls = || std::fs::read_to_string(dir.join("calls.jsonl")).unwrap_or_default();
        let after = |text: &str, n: usize| {
            eventually("looks", || (fake_calls().matches(text).count() >= n).then_some(()));
        };
        after("\"squeue\"", 2); // not visible
        std::fs::remove_file(dir.join("squeue.hide")).unwrap();
        after("\"squeue\"", 6); // pending
        std::fs::write(dir.join("squeue.rc"), "1").unwrap(); // the controller is away
        after("\"squeue\"", 8);
        std::fs::remove_file(dir.join("squeue.rc")).unwrap();
        std::fs::write(dir.join("jobs/1/reason"), "None").unwrap();
        std::fs::write(dir.join("jobs/1/exit"), "0:0").unwrap();
        std::fs::write(dir.join("jobs/1/state"), "COMPLETED").unwrap();
    });
    let mut slurm = slurm(&fake);
    slurm.patience = 30;
    let status = slurm.wait(&ids(&["1"])[0], TICK, |job| seen.push(job.state.clone())).await.unwrap();
    story.join().unwrap();
    assert_eq!((&status.state, status.exit_code), (&JobState::Completed, ExitCode::parse("0:0")));
    seen.dedup();
    assert_eq!(seen, [JobState::Pending, JobState::Completed]);
    assert!(looks(fake.tools()) >= 8);
}

#[tokio::test]
async fn wait_gives_up_on_an_unknown_job() {
    let fake = FakeSlurm::new();
    let error = slurm(&fake).wait(&ids(&["9"])[0], TICK, |_| {}).await.unwrap_err();
    assert!(matches!(&error, SlurmError::Unseen { id } if id.as_str() == "9"), "{error}");
    assert_eq!(fake.tools().iter().filter(|tool| *tool == "squeue").count(), 4, "patience is 3");
}

#[tokio::test]
async fn a_tool_that_hangs_is_given_up() {
    let fake = FakeSlurm::new();
    fake.write("squeue.delay", "30");
    let mut slurm = slurm(&fake);
    slurm.timeout = Duration::from_millis(100);
    let begin = Instant::now();
    let error = slurm.poll(&ids(&["1"])).await.unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(25));
    assert!(matches!(error, SlurmError::Timeout { .. }));
    assert!(error.to_string().contains("did not answer within 0.1 s"), "{error}");
}

#[tokio::test]
async fn without_slurm_the_advice_is_to_run_without() {
    let empty = tempfile::tempdir().unwrap();
    let slurm = Slurm { path: Some(empty.path().into()), ..Slurm::default() };
    let error = slurm.wait(&ids(&["1"])[0], TICK, |_| {}).await.unwrap_err();
    assert!(matches!(&error, SlurmError::NotFound { tool } if tool == "squeue"), "{error}");
    assert!(error.to_string().contains("`tokmark run`"));
}

#[tokio::test]
async fn host_lists_are_written_out() {
    let fake = FakeSlurm::new();
    let mut slurm = slurm(&fake);
    slurm.env.push(("FAKE_SLURM_BANNER".into(), "1".into()));
    assert_eq!(slurm.hostnames("n[1-2,07],login").await.unwrap(), ["n1", "n2", "n07", "login"]);
}

#[tokio::test]
async fn a_fake_job_really_runs_and_its_step_stops_softly() {
    let fake = FakeSlurm::new();
    fake.write("run_jobs", "");
    fake.write("nodes", "n1\nn2\n");
    let log = fake.dir().join("50% step.log");
    let tasks = "trap 'echo soft $SLURM_PROCID on $SLURMD_NODENAME; exit 0' TERM; echo up; while :; do sleep 0.05; done";
    let step = srun::Step::new(
        "server",
        &["n1".to_owned(), "n2".to_owned()],
        srun::StepOutput::PerTask(log.clone()),
        &["bash".to_owned(), "-c".to_owned(), tasks.to_owned()],
    );
    let line = shlex::try_join(step.to_argv().iter().map(String::as_str)).unwrap();
    let script = fake.write(
        "x.sbatch",
        &format!("#!/bin/bash\n#SBATCH --nodes=2\n{line}\necho step ended with $?\nexit 3\n"),
    );
    let slurm = slurm(&fake);
    let out = fake.dir().join("job-%j.out");
    let id = slurm.submit(&script, &[format!("--output={}", out.display())]).await.unwrap();
    let of_task = |task: &str| srun::task_log(&log.display().to_string(), task);
    eventually("both tasks are up", || {
        let up = |task| std::fs::read_to_string(of_task(task)).unwrap_or_default() == "up\n";
        (up("0") && up("1")).then_some(())
    });
    let steps = slurm.steps(&id).await.unwrap();
    assert_eq!((steps.len(), steps[0].name.as_str()), (1, "server"));
    slurm.signal_step(&steps[0].id, "TERM").await.unwrap();
    let status = slurm.wait(&id, TICK, |_| {}).await.unwrap();
    assert_eq!((&status.state, status.exit_code), (&JobState::Failed, ExitCode::parse("3:0")));
    assert!(std::fs::read_to_string(of_task("1")).unwrap().contains("soft 1 on n2"));
    let said = std::fs::read_to_string(fake.dir().join(format!("job-{id}.out"))).unwrap();
    assert_eq!(said, "step ended with 0\n");
    assert!(slurm.signal_step(&steps[0].id, "TERM").await.is_ok(), "an ended step is no failure");
}

#[tokio::test]
async fn cancel_ends_a_fake_job() {
    let fake = FakeSlurm::new();
    fake.write("run_jobs", "");
    let mark = fake.dir().join("up");
    let script = fake.write("x.sbatch", &format!("#!/bin/bash\n: >'{}'\nexec sleep 60\n", mark.display()));
    let slurm = slurm(&fake);
    let id = slurm.submit(&script, &["--output=/dev/null".to_owned()]).await.unwrap();
    eventually("the job runs", || mark.exists().then_some(()));
    slurm.cancel(&id).await.unwrap();
    let status = slurm.wait(&id, TICK, |_| {}).await.unwrap();
    assert_eq!(status.state, JobState::Cancelled);
    slurm.cancel(&id).await.unwrap();
    slurm.cancel(&ids(&["99"])[0]).await.unwrap();
}
