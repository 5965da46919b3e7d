use super::*;
use crate::deploy::Notice as Server;

fn died(process: &str) -> DeployError {
    DeployError::Died {
        process: process.to_owned(),
        host: "node1".into(),
        cause: None,
        status: "exit 3".into(),
        excerpt: String::new(),
        log: String::new(),
    }
}

fn ended(process: &str) -> Notice {
    let (status, error) = ("exit 3".to_owned(), Some(Box::new(died(process))));
    Notice::Server(1, Server::Ended { process: process.to_owned(), status, error })
}

/// A fatal line in the log of a process that still lives.
fn fatal(process: &str) -> Notice {
    Notice::Server(1, Server::Fatal(Box::new(died(process))))
}

const WHOLE: LoadEnd = LoadEnd { cut: false, lost: false, unreachable: false };
const CUT: LoadEnd = LoadEnd { cut: true, ..WHOLE };
const LOST: LoadEnd = LoadEnd { lost: true, ..WHOLE };
const UNREACHABLE: LoadEnd = LoadEnd { unreachable: true, ..LOST };

const INT: Notice = Notice::Signal(Signal::Interrupt);
const TERM: Notice = Notice::Signal(Signal::Terminate);
const HUP: Notice = Notice::Signal(Signal::Hangup);
const USR1: Notice = Notice::Signal(Signal::TimeLimit);

/// One step of a run.
enum Step {
    Begin(Activity),
    See(Notice),
}
use Step::{Begin, See};

/// A run that starts its own servers, locally or in a job.
fn run(in_job: bool) -> State {
    State { in_job, attempt: 1, has_servers: true, ..State::default() }
}

/// Every action in a word or two; events by name.
fn actions(state: &mut State, steps: impl IntoIterator<Item = Step>) -> Vec<String> {
    let mut words = Vec::new();
    for step in steps {
        match step {
            Begin(activity) => {
                if !state.begin(activity) {
                    words.push(format!("no {activity:?}"));
                }
            }
            See(notice) => words.extend(state.decide(notice).iter().map(word)),
        }
    }
    words
}

fn word(action: &Action) -> String {
    match action {
        Action::Emit(Event::Interrupted { signal }) => signal.split(' ').next().unwrap().to_owned(),
        Action::Emit(Event::ProcessEnded { process, expected, .. }) => {
            format!("{process} ended{}", if *expected { "" } else { " by itself" })
        }
        Action::Wait(timer, patience) => format!("wait {} s for {timer:?}", patience.as_secs()),
        other => format!("{other:?}"),
    }
}

#[track_caller]
fn check(in_job: bool, steps: impl IntoIterator<Item = Step>, expected: &[&str]) -> State {
    let mut state = run(in_job);
    assert_eq!(actions(&mut state, steps), expected);
    state
}

#[track_caller]
fn assert_failure(mut state: State, expected: &str) {
    let failure = state.failure();
    assert!(failure.to_string().contains(expected), "{failure}");
}

#[test]
fn a_server_that_dies_before_it_is_ready_ends_the_start() {
    let steps = [Begin(Activity::Preparing), See(ended("server-0")), Begin(Activity::Measuring)];
    let state = check(false, steps, &["server-0 ended by itself", "Abandon", "no Measuring"]);
    assert_failure(state, "server-0 ended by itself (exit 3)");
}

#[test]
fn a_fatal_line_ends_the_start_though_its_process_lives_on() {
    let state = check(false, [Begin(Activity::Preparing), See(fatal("server-0"))], &["Abandon"]);
    assert_failure(state, "server-0");
}

#[test]
fn a_server_that_dies_during_the_load_cuts_it() {
    let steps = [Begin(Activity::Measuring), See(ended("server-0")), See(Notice::LoadEnded(CUT))];
    let state = check(false, steps, &["server-0 ended by itself", "CutLoad"]);
    assert_eq!(state.cut(CUT), Some(Cut::ServerDied));
    assert_failure(state, "server-0");
}

#[test]
fn of_two_servers_that_die_the_first_is_the_reason() {
    let steps = [Begin(Activity::Measuring), See(ended("decode-1")), See(ended("prefill-0"))];
    let state = check(false, steps, &["decode-1 ended by itself", "CutLoad", "prefill-0 ended by itself"]);
    assert_failure(state, "decode-1");
}

#[test]
fn a_signal_ends_what_can_be_ended() {
    for signal in [INT, TERM, HUP, USR1] {
        let mut state = run(false);
        let Notice::Signal(name) = signal else { panic!("{signal:?}") };
        let first = name.to_string().split(' ').next().unwrap().to_owned();
        let during = [Begin(Activity::Preparing), See(signal), Begin(Activity::Measuring)];
        assert_eq!(actions(&mut state, during), [first.as_str(), "Abandon", "no Measuring"]);
        assert_failure(state, "interrupted");
    }
    let steps = [Begin(Activity::Measuring), See(INT), See(Notice::LoadEnded(CUT)), Begin(Activity::Writing)];
    let state = check(false, steps, &["SIGINT", "CutLoad"]);
    assert_eq!(state.cut(CUT), Some(Cut::Interrupted));
    for activity in [Activity::Writing, Activity::Stopping] {
        check(false, [Begin(activity), See(TERM)], &["SIGTERM"]);
    }
}

#[test]
fn a_second_signal_kills_the_servers_and_a_second_warning_does_not() {
    let twice =
        |first, second| [Begin(Activity::Measuring), See(first), Begin(Activity::Stopping), See(second)];
    check(false, twice(INT, INT), &["SIGINT", "CutLoad", "SIGINT", "KillServers"]);
    check(false, twice(USR1, HUP), &["SIGUSR1", "CutLoad", "SIGHUP", "KillServers"]);
    check(false, twice(INT, USR1), &["SIGINT", "CutLoad", "SIGUSR1"]);
}

#[test]
fn a_second_signal_ends_the_writing_when_no_server_runs() {
    let mut state = State { has_servers: false, ..run(false) };
    let steps = [Begin(Activity::Measuring), See(INT), Begin(Activity::Writing), See(INT)];
    assert_eq!(actions(&mut state, steps), ["SIGINT", "CutLoad", "SIGINT", "KillServers", "Abandon"]);
}

#[test]
fn the_servers_of_a_cancelled_job_get_two_seconds() {
    for signal in [TERM, HUP] {
        let Notice::Signal(name) = signal else { panic!("{signal:?}") };
        let steps = [Begin(Activity::Measuring), See(signal), See(Notice::Timer(Timer::Servers))];
        check(true, steps, &[&name.to_string(), "wait 2 s for Servers", "CutLoad", "KillServers"]);
    }
    check(true, [Begin(Activity::Measuring), See(USR1)], &["SIGUSR1", "CutLoad"]);
}

#[test]
fn lost_connections_wait_for_their_reason() {
    let lost = |end| [Begin(Activity::Measuring), See(Notice::LoadEnded(end))];
    // The server ends a moment later.
    let mut state = check(false, lost(LOST), &["wait 3 s for Reason"]);
    assert_eq!(actions(&mut state, [See(ended("server-0"))]), ["server-0 ended by itself", "Abandon"]);
    assert_eq!(state.cut(LOST), Some(Cut::ServerDied));
    // Slurm signals a moment later.
    let mut state = check(true, lost(LOST), &["wait 3 s for Reason"]);
    assert_eq!(actions(&mut state, [See(TERM)]), ["SIGTERM", "wait 2 s for Servers", "Abandon"]);
    assert_eq!(state.cut(LOST), Some(Cut::Interrupted));
    // Nothing follows: the failed requests are the result, and the run goes on.
    let mut state = check(false, lost(LOST), &["wait 3 s for Reason"]);
    let later = [See(Notice::Timer(Timer::Reason)), Begin(Activity::Writing)];
    assert_eq!(actions(&mut state, later), ["Abandon"]);
    assert_eq!((state.cut(LOST), state.is_over()), (None, false));
}

#[test]
fn an_unreachable_endpoint_ends_the_run_though_its_server_lives() {
    let steps =
        [Begin(Activity::Measuring), See(Notice::LoadEnded(UNREACHABLE)), See(Notice::Timer(Timer::Reason))];
    let state = check(false, steps, &["wait 10 s for Reason", "Abandon"]);
    assert_eq!(state.cut(UNREACHABLE), Some(Cut::Unreachable));
    // Servers that this run did not start cannot be seen to end.
    let mut attached = State { has_servers: false, ..run(false) };
    let steps = [Begin(Activity::Measuring), See(Notice::LoadEnded(UNREACHABLE))];
    assert_eq!(actions(&mut attached, steps), Vec::<String>::new());
    assert_eq!(attached.cut(UNREACHABLE), Some(Cut::Unreachable));
}

#[test]
fn a_point_finished_at_the_moment_of_a_death_is_finished() {
    let one = [Begin(Activity::Measuring), See(ended("server-0")), See(Notice::LoadEnded(WHOLE))];
    let other = [Begin(Activity::Measuring), See(Notice::LoadEnded(WHOLE)), See(ended("server-0"))];
    let mut state = check(false, one, &["server-0 ended by itself", "CutLoad"]);
    assert_eq!(state.cut(WHOLE), None);
    assert_eq!(actions(&mut state, [Begin(Activity::Measuring)]), ["no Measuring"], "but no other begins");
    let state = check(false, other, &["server-0 ended by itself"]);
    assert_eq!(state.cut(WHOLE), None);
    let state = check(
        false,
        [Begin(Activity::Measuring), See(INT), See(Notice::LoadEnded(WHOLE))],
        &["SIGINT", "CutLoad"],
    );
    assert_eq!(state.cut(WHOLE), None);
    assert_failure(state, "interrupted");
}

#[test]
fn servers_that_fail_just_before_a_cancellation_signal_are_no_failure() {
    let ends = |failed| [See(Notice::ServersStopped { failed })];
    let mut state = check(true, ends(true), &["wait 1 s for Reason"]);
    assert_eq!(actions(&mut state, [See(TERM)]), ["SIGTERM", "wait 2 s for Servers", "Abandon"]);
    assert!(state.signalled);
    let mut state = check(true, ends(true), &["wait 1 s for Reason"]);
    assert_eq!(actions(&mut state, [See(Notice::Timer(Timer::Reason))]), ["Abandon"]);
    assert!(!state.signalled);
    check(true, ends(false), &[]);
    check(false, ends(true), &[]);
}

#[test]
fn a_server_that_ends_while_it_is_stopped_is_no_failure() {
    let steps = [Begin(Activity::Measuring), See(INT), See(ended("server-0")), See(Notice::LoadEnded(CUT))];
    let state = check(false, steps, &["SIGINT", "CutLoad", "server-0 ended by itself"]);
    assert_eq!(state.cut(CUT), Some(Cut::Interrupted));
    let state = check(false, [Begin(Activity::Stopping), See(ended("server-0"))], &["server-0 ended"]);
    assert!(!state.is_over());
}

#[test]
fn reports_of_an_earlier_start_do_not_concern_the_present_one() {
    let mut state = State { attempt: 2, ..run(false) };
    let steps = [Begin(Activity::Preparing), See(ended("server-0")), See(fatal("server-0"))];
    assert_eq!(actions(&mut state, steps), ["server-0 ended"]);
    assert!(!state.is_over());
}

#[test]
fn a_timer_that_nobody_waits_for_changes_nothing() {
    check(false, [Begin(Activity::Measuring), See(Notice::Timer(Timer::Reason))], &[]);
}

/// What follows on each of the failures of one deployment, the first of which came before or after its servers were ready.
fn follows(state: &mut State, was_ready: bool, failures: Vec<DeployError>) -> Vec<Next> {
    state.was_ready = was_ready;
    failures.into_iter().map(|failure| state.next(&RunError::Deploy(failure))).collect()
}

#[test]
fn a_server_that_died_starts_once_more_and_then_its_deployment_is_given_up() {
    for was_ready in [false, true] {
        let two = vec![died("server-0"), died("server-0")];
        assert_eq!(follows(&mut run(false), was_ready, two), [Next::Restart, Next::GiveUp]);
    }
    let gone = || DeployError::Gone { url: "u".into(), logs: Vec::new() };
    assert_eq!(follows(&mut run(true), true, vec![gone(), gone()]), [Next::Restart, Next::GiveUp]);
    let mut attached = State { has_servers: false, ..run(false) };
    assert_eq!(follows(&mut attached, true, vec![gone()]), [Next::GiveUp], "nothing to start");
}

#[test]
fn a_start_that_would_fail_again_is_not_repeated() {
    let ended = |status: &str| match died("server-0") {
        DeployError::Died { process, host, cause, excerpt, log, .. } => {
            DeployError::Died { process, host, status: status.into(), cause, excerpt, log }
        }
        other => other,
    };
    let said = |permanent| DeployError::Fatal {
        process: "server-0".into(),
        host: "h".into(),
        line: "l".into(),
        advice: String::new(),
        new_ports: false,
        permanent,
        excerpt: String::new(),
        log: String::new(),
    };
    let late = DeployError::NotReady {
        waiting: String::new(),
        deadline: "deploy.startup_timeout",
        sign: None,
        logs: Vec::new(),
    };
    for (failure, was_ready, expected) in [
        (ended("exit 2"), false, Next::GiveUp),
        (ended("exit 127"), false, Next::GiveUp),
        (ended("exit 2"), true, Next::Restart),
        (ended("signal 9"), false, Next::Restart),
        (said(true), false, Next::GiveUp),
        (said(false), false, Next::Restart),
        (late, false, Next::GiveUp),
    ] {
        let shown = format!("{failure:?} {was_ready}");
        assert_eq!(follows(&mut run(false), was_ready, vec![failure]), [expected], "{shown}");
    }
}

#[test]
fn what_concerns_the_whole_run_ends_it() {
    let few = DeployError::TooFewNodes { have: 1, need: 2 };
    let bad = DeployError::Input(crate::document::InputError::new("r.toml", "found 0"));
    for failure in [few, bad] {
        assert_eq!(follows(&mut run(true), false, vec![failure]), [Next::End]);
    }
    assert_eq!(run(false).next(&RunError::Interrupted), Next::End);
    let mut signalled = State { signalled: true, ..run(true) };
    assert_eq!(follows(&mut signalled, true, vec![died("server-0")]), [Next::End], "the job was cancelled");
}

mod task {
    use super::*;

    fn supervisor(in_job: bool) -> (tempfile::TempDir, Supervisor) {
        let folder = tempfile::tempdir().unwrap();
        let events = EventLog::open(folder.path(), Box::new(|_| {})).unwrap();
        (folder, Supervisor::new(in_job, Arc::new(events)))
    }

    #[tokio::test]
    async fn work_is_dropped_when_a_server_dies_and_nothing_new_begins() {
        let (_folder, mut supervisor) = supervisor(false);
        let report = supervisor.new_attempt(true);
        let work = async {
            report(Server::Fatal(Box::new(died("server-0"))));
            std::future::pending::<Result<(), RunError>>().await
        };
        let error = supervisor.during(Activity::Preparing, work).await.unwrap_err();
        assert!(matches!(error, RunError::Deploy(DeployError::Died { .. })), "{error}");
    }

    #[tokio::test]
    async fn a_load_whose_server_dies_is_cut_and_awaited() {
        let (_folder, mut supervisor) = supervisor(false);
        let (report, load) = (supervisor.new_attempt(true), supervisor.new_load());
        let work = async {
            report(Server::Fatal(Box::new(died("server-0"))));
            load.cancelled().await;
            Ok::<_, RunError>(CUT)
        };
        let end = supervisor.during(Activity::Measuring, work).await.unwrap();
        assert_eq!(supervisor.cut(end).await, Some(Cut::ServerDied));
        let next = supervisor.during(Activity::Measuring, async { Ok::<_, RunError>(()) }).await;
        assert!(matches!(next, Err(RunError::Deploy(_))), "{next:?}");
    }

    #[tokio::test]
    async fn a_reason_that_comes_later_is_waited_for() {
        let (_folder, mut supervisor) = supervisor(false);
        let report = supervisor.new_attempt(true);
        tokio::spawn(async move { report(Server::Fatal(Box::new(died("server-0")))) });
        assert_eq!(supervisor.cut(LOST).await, Some(Cut::ServerDied));
    }

    #[tokio::test]
    async fn a_death_after_the_last_point_does_not_reach_the_next_deployment() {
        let (_folder, mut supervisor) = supervisor(false);
        let report = supervisor.new_attempt(true);
        report(Server::Fatal(Box::new(died("server-0"))));
        supervisor.stopping(async {}).await;
        let next = supervisor.during(Activity::Preparing, async { Ok::<_, RunError>(()) }).await;
        assert!(next.is_ok(), "{next:?}");
    }

    #[tokio::test]
    async fn work_goes_on_after_a_failure_that_was_dealt_with() {
        let (_folder, mut supervisor) = supervisor(false);
        let report = supervisor.new_attempt(true);
        report(Server::Fatal(Box::new(died("server-0"))));
        let failed = supervisor.during(Activity::Measuring, async { Ok::<_, RunError>(()) }).await;
        let failure = supervisor.conclude(failed.unwrap_err()).await;
        assert_eq!(supervisor.next(&failure), Next::Restart);
        supervisor.new_attempt(true);
        let again = supervisor.during(Activity::Measuring, async { Ok::<_, RunError>(()) }).await;
        assert!(again.is_ok(), "{again:?}");
    }
}
