//! Findings from the answers of compute nodes.
//!
//! Pure.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use itertools::Itertools;

use super::probe::{KeyedPath, Probe};
use super::{Finding, container, weights};
use crate::executor::Answer;
use crate::node::Report;
use crate::site::Site;
use crate::slurm::sbatch;

/// Largest clock difference without a warning; larger ones make logs of several nodes hard to compare.
const SKEW_S: f64 = 1.0;

/// Free space for temporary files below which engines fail to compile their kernels.
const TMP_GIB: f64 = 10.0;

/// A node's answer and when it arrived here.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeAnswer {
    pub report: Report,
    /// Seconds by which the node's clock is ahead of this machine's; negative if behind.
    pub skew_s: f64,
}

/// The answers among the output lines of a probe, sorted by host.
pub fn answers(lines: &[(SystemTime, String)]) -> Vec<NodeAnswer> {
    let one = |(at, line): &(SystemTime, String)| {
        let report = Report::parse_all(line).into_iter().next()?;
        let arrived = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let skew_s = report.unix_ns as f64 / 1e9 - arrived;
        Some(NodeAnswer { report, skew_s })
    };
    let mut answers: Vec<NodeAnswer> = lines.iter().filter_map(one).collect();
    answers.sort_by(|one, other| one.report.host.cmp(&other.report.host));
    answers
}

/// Findings of a finished probe. `shared` is the file that this machine wrote into the experiments folder.
pub fn judge(
    site: &Site,
    kind: Option<&str>,
    probe: &Probe,
    answer: &Answer,
    shared: Option<&KeyedPath>,
) -> Vec<Finding> {
    let answers = answers(&answer.lines);
    if answers.is_empty() {
        return vec![no_answer(probe, answer)];
    }
    let hosts = answers.iter().map(|answer| &answer.report.host).join(", ");
    let mut findings =
        vec![Finding::ok("node", format!("tokmark {} runs on {hosts}", answers[0].report.version))];
    if !answer.status.success() {
        let found = format!("not every node answered: {}", last_line(&answer.stderr));
        findings.push(Finding::warn("node", found, "check the node named there"));
    }
    findings.extend(other_arch(site, kind, &answers));
    findings.extend(paths(probe, &answers, shared));
    let reports: Vec<&Report> = answers.iter().map(|answer| &answer.report).collect();
    findings.extend(weights::of_nodes(&probe.weights, &reports));
    findings.push(ports(&answers));
    findings.push(disk(&answers));
    findings.extend(container::room(&answers));
    findings.push(clocks(&answers));
    findings.extend(interface(site, &answers));
    findings.extend(gpus(site, kind, &answers));
    findings
}

/// Why no node answered.
fn no_answer(probe: &Probe, answer: &Answer) -> Finding {
    let stderr = answer.stderr.as_str();
    let problem = last_line(stderr);
    let binary = &probe.binary;
    let set = "set [binary] in the site file to a tokmark built for the nodes, on a file system they see";
    if stderr.contains("Requested nodes are busy") || stderr.contains("Immediate execution impossible") {
        let found = "no node was free in time, so nothing was checked on nodes";
        let next = "run doctor again later, with a longer --wait, or with --no-job";
        return Finding::warn("node", found, next);
    }
    let exec_failed =
        |reason: &str| stderr.lines().any(|line| line.contains("execve()") && line.contains(reason));
    if exec_failed("Exec format error") {
        return Finding::fail("node", format!("{binary} is for another architecture than the node's"), set);
    }
    if exec_failed("No such file") || exec_failed("Permission denied") {
        return Finding::fail("node", format!("{binary} cannot be started there: {problem}"), set);
    }
    if answer.status.success() {
        let found = format!("{binary} gave no readable answer");
        return Finding::fail("node", found, "the binary there must be of this version: see [binary]");
    }
    let next = sbatch::advice(stderr).unwrap_or("repeat the call by hand: `doctor -v` shows it");
    Finding::fail("node", format!("the job on a node failed: {problem}"), next)
}

/// The last line with a reason; srun's "Exited with" lines have none.
fn last_line(stderr: &str) -> String {
    let lines = || stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let why = lines().rfind(|line| !line.contains("Exited with exit code"));
    why.or_else(|| lines().next_back()).unwrap_or("no message").to_owned()
}

fn other_arch(site: &Site, kind: Option<&str>, answers: &[NodeAnswer]) -> Option<Finding> {
    let declared = site.gpus.get(kind?)?.arch?;
    let other = answers.iter().find(|answer| answer.report.arch != declared.name())?;
    let found = format!("arch = {:?}, but {} is {}", declared.name(), other.report.host, other.report.arch);
    Some(Finding::fail("arch", found, "correct arch in [gpus.TYPE]"))
}

fn paths(probe: &Probe, answers: &[NodeAnswer], shared: Option<&KeyedPath>) -> Vec<Finding> {
    let mut readable = 0;
    let mut findings = Vec::new();
    // Two keys may name the same path, so answers are matched by position.
    for (at, named) in probe.paths.iter().enumerate() {
        let unread = answers.iter().filter_map(|answer| {
            let path =
                answer.report.paths.get(at).filter(|path| path.path == named.path && !path.readable)?;
            Some((answer.report.host.as_str(), path.problem.as_deref().unwrap_or("not readable")))
        });
        let unread: Vec<(&str, &str)> = unread.collect();
        let Some((_, problem)) = unread.first() else {
            readable += 1;
            continue;
        };
        let hosts = unread.iter().map(|(host, _)| host).join(", ");
        let found = format!("`{}`: {} on {hosts}: {problem}", named.key, named.path);
        findings.push(if shared == Some(named) {
            let folder = named.path.rsplit_once('/').map_or(named.path.as_str(), |(folder, _)| folder);
            let found = format!("files that this machine writes to {folder} do not appear on {hosts}");
            let next = "use a folder that every node sees: experiments in the site file, or --experiments";
            Finding::fail("experiments", found, next)
        } else if named.optional {
            let next = match named.path.as_str() {
                "enroot" => "put it on the jobs' PATH ([slurm] setup): tokmark imports images and removes containers with it",
                _ => "fine if [slurm] setup or [bare] modules bring it",
            };
            Finding::warn("paths", found, next)
        } else {
            Finding::fail("paths", found, "correct the path, or put it where compute nodes see it")
        });
    }
    if readable > 0 {
        findings.insert(0, Finding::ok("paths", format!("{readable} readable")));
    }
    findings
}

fn ports(answers: &[NodeAnswer]) -> Finding {
    let first = |answer: &NodeAnswer| answer.report.free.first().and_then(|starts| starts.first().copied());
    let starts: BTreeMap<&str, Option<u16>> =
        answers.iter().map(|answer| (answer.report.host.as_str(), first(answer))).collect();
    if let Some((host, _)) = starts.iter().find(|(_, start)| start.is_none()) {
        let found = format!("{host} has no 16 consecutive free ports from 8000");
        return Finding::warn("ports", found, "`ss -ltn` there lists what listens");
    }
    let list = starts.iter().map(|(host, start)| format!("{host} from {}", start.unwrap_or_default()));
    Finding::ok("ports", format!("free: {}", list.into_iter().join(", ")))
}

fn disk(answers: &[NodeAnswer]) -> Finding {
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let least = answers.iter().filter_map(|answer| Some((gib(answer.report.disk.tmp?), &answer.report.host)));
    match least.min_by(|one, other| one.0.total_cmp(&other.0)) {
        None => Finding::warn("disk", "nodes did not report their free space", "run `df` there"),
        Some((free, host)) if free < TMP_GIB => {
            let found = format!("{free:.1} GiB free for temporary files on {host}");
            Finding::warn("disk", found, "set TMPDIR to a larger folder, in [slurm] setup")
        }
        Some((free, host)) => {
            Finding::ok("disk", format!("{free:.0} GiB free for temporary files on {host}"))
        }
    }
}

/// Compares clocks with this machine's and with each other.
fn clocks(answers: &[NodeAnswer]) -> Finding {
    let skews = answers.iter().map(|answer| answer.skew_s);
    let (least, most) = skews.minmax_by(f64::total_cmp).into_option().unwrap_or_default();
    let worst = answers.iter().max_by(|one, other| one.skew_s.abs().total_cmp(&other.skew_s.abs()));
    let (worst, host) = worst.map_or((0.0, ""), |answer| (answer.skew_s, answer.report.host.as_str()));
    if worst.abs() > SKEW_S {
        let found = format!("the clock of {host} is {worst:+.1} s from this machine's");
        return Finding::warn("clocks", found, "synchronise its time (chrony, ntp)");
    }
    if most - least > SKEW_S {
        let found = format!("clocks of nodes differ by {:.1} s", most - least);
        return Finding::warn("clocks", found, "synchronise their time (chrony, ntp)");
    }
    Finding::ok("clocks", format!("within {:.0} ms of this machine's", (worst.abs() * 1000.0).ceil()))
}

fn interface(site: &Site, answers: &[NodeAnswer]) -> Option<Finding> {
    let name = site.network.interface.as_ref()?;
    let Some(answer) = answers.iter().find(|answer| answer.report.address.is_none()) else {
        return Some(Finding::ok("network", format!("{name} has an address on each")));
    };
    let Report { host, addresses, .. } = &answer.report;
    let has = addresses.iter().map(|address| &address.interface).dedup().join(", ");
    let found = format!("{host} has no IPv4 address on {name}: it has {has}");
    Some(Finding::fail("network", found, "set [network] interface to one of them, or leave it out"))
}

/// Warns about a node with some, but fewer GPU devices than declared.
fn gpus(site: &Site, kind: Option<&str>, answers: &[NodeAnswer]) -> Option<Finding> {
    let declared = site.gpus_per_node(kind?)?;
    let fewer = answers.iter().find(|answer| (1..declared).contains(&answer.report.gpus))?;
    let found =
        format!("{} has {} GPU devices, but per_node = {declared}", fewer.report.host, fewer.report.gpus);
    Some(Finding::warn("gpus", found, "run `nvidia-smi` there; some sites show a job only its own GPUs"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;
    use std::time::Duration;

    use super::super::Status;
    use super::*;
    use crate::node::{Address, Disk, PathReport, Query};

    fn report(host: &str) -> Report {
        let mut report = crate::node::report(&Query::default());
        report.host = host.to_owned();
        report.free = vec![vec![8000]];
        report.disk.tmp = Some(64 << 30);
        report.gpus = 0;
        report.unix_ns = 1_000_000_000_000;
        report
    }

    /// Answers that arrived when this machine's clock was at 1000 s.
    fn answer(reports: &[Report], stderr: &str, code: i32) -> Answer {
        let at = UNIX_EPOCH + Duration::from_secs(1000);
        let lines = reports.iter().map(|report| (at, serde_json::to_string(report).unwrap()));
        let banner = (at, "Welcome to lab".to_owned());
        Answer {
            lines: std::iter::once(banner).chain(lines).collect(),
            stderr: stderr.to_owned(),
            status: ExitStatus::from_raw(code << 8),
        }
    }

    fn probe(paths: &[(&str, bool)]) -> Probe {
        let named = |(path, optional): &(&str, bool)| KeyedPath {
            path: (*path).to_owned(),
            key: "models.m".into(),
            optional: *optional,
        };
        Probe {
            argv: Vec::new(),
            binary: "/x/tokmark".into(),
            paths: paths.iter().map(named).collect(),
            weights: Vec::new(),
        }
    }

    fn unread(path: &str, problem: Option<&str>) -> PathReport {
        PathReport { path: path.into(), readable: false, is_dir: false, problem: problem.map(str::to_owned) }
    }

    fn judged(site: &str, probe: &Probe, answer: &Answer) -> Vec<Finding> {
        let site: Site = toml::from_str(&format!("schema = 1\n{site}")).unwrap();
        judge(&site, Some("h100"), probe, answer, None)
    }

    /// The worst finding of a check.
    fn worst(findings: &[Finding], check: &str) -> (Status, String) {
        let of_check = findings.iter().filter(|finding| finding.check == check);
        let found = of_check.max_by_key(|finding| finding.status).unwrap();
        (found.status, found.found.clone())
    }

    #[test]
    fn two_healthy_nodes() {
        let findings = judged("", &probe(&[]), &answer(&[report("n2"), report("n1")], "", 0));
        assert!(findings.iter().all(|finding| finding.status == Status::Ok), "{findings:#?}");
        assert!(worst(&findings, "node").1.ends_with("runs on n1, n2"));
        assert_eq!(worst(&findings, "ports").1, "free: n1 from 8000, n2 from 8000");
        assert_eq!(worst(&findings, "disk").1, "64 GiB free for temporary files on n1");
        assert_eq!(worst(&findings, "clocks").1, "within 0 ms of this machine's");
    }

    #[test]
    fn clocks_that_differ() {
        let at = |host: &str, ms: u64| Report { unix_ns: ms * 1_000_000, ..report(host) };
        let table = [
            (vec![at("n1", 1_000_900)], Status::Ok, "within 90"),
            (vec![at("n1", 1_000_000), at("n2", 1_002_500)], Status::Warn, "the clock of n2 is +2.5 s"),
            (vec![at("n1", 998_000)], Status::Warn, "the clock of n1 is -2.0 s"),
            (vec![at("n1", 999_300), at("n2", 1_000_700)], Status::Warn, "clocks of nodes differ by 1.4 s"),
        ];
        for (reports, status, found) in table {
            let (found_status, text) = worst(&judged("", &probe(&[]), &answer(&reports, "", 0)), "clocks");
            assert!(found_status == status && text.starts_with(found), "{found_status:?} {text}");
        }
    }

    #[test]
    fn what_a_node_lacks() {
        let lacking = Report {
            free: vec![vec![]],
            disk: Disk { cwd: None, tmp: Some(3 << 30), enroot: Some(("/raid/enroot".into(), 7 << 30)) },
            gpus: 7,
            address: None,
            addresses: vec![Address { interface: "eth0".into(), ip: "10.0.0.1".into() }],
            arch: "aarch64".into(),
            paths: vec![
                unread("/m", Some("gone")),
                PathReport { path: "/ok".into(), readable: true, is_dir: true, problem: None },
                unread("apptainer", None),
            ],
            ..report("n2")
        };
        let paths = [("/m", false), ("/ok", false), ("apptainer", true)];
        let site = "[network]\ninterface = \"ib0\"\n[gpus.h100]\nper_node = 8\narch = \"x86_64\"\n";
        let findings = judged(site, &probe(&paths), &answer(&[lacking], "", 0));
        let table = [
            ("ports", Status::Warn, "n2 has no 16 consecutive free ports"),
            ("disk", Status::Warn, "3.0 GiB free"),
            ("containers", Status::Warn, "7 GiB free for containers in /raid/enroot on n2"),
            ("gpus", Status::Warn, "n2 has 7 GPU devices, but per_node = 8"),
            ("network", Status::Fail, "n2 has no IPv4 address on ib0: it has eth0"),
            ("arch", Status::Fail, "arch = \"x86_64\", but n2 is aarch64"),
            ("paths", Status::Fail, "`models.m`: /m on n2: gone"),
        ];
        for (check, status, found) in table {
            let (found_status, text) = worst(&findings, check);
            assert!(found_status == status && text.starts_with(found), "{check}: {found_status:?} {text}");
        }
        let of_paths =
            findings.iter().filter(|finding| finding.check == "paths").map(|finding| finding.status);
        assert_eq!(of_paths.collect::<Vec<_>>(), [Status::Ok, Status::Fail, Status::Warn]);
    }

    #[test]
    fn why_no_node_answered() {
        let exec = |why: &str| {
            format!(
                "slurmstepd: error: execve(): /x/tokmark: {why}\nsrun: error: n1: task 0: Exited with exit code 8\n"
            )
        };
        let busy = "srun: error: Unable to allocate resources: Requested nodes are busy\n";
        let table = [
            (busy.to_owned(), 1, Status::Warn, "no node was free"),
            (exec("Exec format error"), 8, Status::Fail, "/x/tokmark is for another architecture"),
            (
                exec("No such file or directory"),
                2,
                Status::Fail,
                "/x/tokmark cannot be started there: slurmstepd: error: execve()",
            ),
            (
                "srun: error: Invalid qos\n".to_owned(),
                1,
                Status::Fail,
                "the job on a node failed: srun: error: Invalid qos",
            ),
            (String::new(), 0, Status::Fail, "/x/tokmark gave no readable answer"),
        ];
        for (stderr, code, status, found) in table {
            let findings = judged("", &probe(&[]), &answer(&[], &stderr, code));
            let [finding] = &findings[..] else { panic!("{findings:?}") };
            assert!(finding.status == status && finding.found.starts_with(found), "{finding:?}");
        }
    }

    #[test]
    fn one_of_two_nodes_does_not_answer() {
        let findings = judged("", &probe(&[]), &answer(&[report("n1")], "srun: error: n2: boom\n", 1));
        let warns = |finding: &Finding| finding.status == Status::Warn && finding.found.contains("n2: boom");
        assert!(findings.iter().any(warns), "{findings:?}");
    }

    #[test]
    fn a_folder_that_nodes_do_not_share() {
        let probe = probe(&[("/here/.tokmark-doctor-1", false)]);
        let paths = vec![unread("/here/.tokmark-doctor-1", None)];
        let answer = answer(&[Report { paths, ..report("n1") }], "", 0);
        let findings = judge(&Site::default(), None, &probe, &answer, Some(&probe.paths[0]));
        let (status, found) = worst(&findings, "experiments");
        assert_eq!(
            (status, found.as_str()),
            (Status::Fail, "files that this machine writes to /here do not appear on n1")
        );
    }
}
