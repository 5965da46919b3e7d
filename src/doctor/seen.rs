//! What compute nodes answered, judged.
//!
//! Arrow: `node`, `probe` → here → `examine`. Pure.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Finding;
use super::probe::{Named, Probe};
use crate::executor::Answer;
use crate::node::Report;
use crate::site::Site;
use crate::slurm::sbatch;

/// A clock that differs by more than this is worth a word: traces and logs of nodes are read side by side.
const SKEW_S: f64 = 1.0;

/// Free space for temporary files below which engines fail to compile their kernels.
const TMP_GIB: f64 = 10.0;

/// A node's answer and when it arrived here.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The answer.
    pub report: Report,
    /// Seconds the node's clock is ahead of this machine's; negative when it is behind.
    pub skew_s: f64,
}

/// The answers among the lines of a probe's output.
pub fn seen(lines: &[(SystemTime, String)]) -> Vec<Seen> {
    let one = |(at, line): &(SystemTime, String)| {
        let report = Report::parse_all(line).into_iter().next()?;
        let here = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let skew_s = report.unix_ns as f64 / 1e9 - here;
        Some(Seen { report, skew_s })
    };
    lines.iter().filter_map(one).collect()
}

/// Findings of a probe that has ended. `shared` is the file that this machine put into the folder of the experiments.
pub fn judge(
    site: &Site,
    kind: Option<&str>,
    probe: &Probe,
    answer: &Answer,
    shared: Option<&Named>,
) -> Vec<Finding> {
    let seen = seen(&answer.lines);
    if seen.is_empty() {
        return vec![silent(probe, answer)];
    }
    let hosts = seen.iter().map(|seen| seen.report.host.as_str()).collect::<Vec<_>>().join(", ");
    let mut findings =
        vec![Finding::ok("node", format!("tokmark {} runs on {hosts}", seen[0].report.version))];
    if !answer.status.success() {
        let said = last_line(&answer.stderr);
        findings.push(Finding::warn(
            "node",
            format!("not every node answered: {said}"),
            "look at the node named there",
        ));
    }
    findings.extend(other_arch(site, kind, &seen));
    findings.extend(paths(probe, &seen, shared));
    findings.push(ports(&seen));
    findings.push(disk(&seen));
    findings.push(clocks(&seen));
    findings.extend(interface(site, &seen));
    findings.extend(gpus(site, kind, &seen));
    findings
}

/// Why no node answered.
fn silent(probe: &Probe, answer: &Answer) -> Finding {
    let stderr = answer.stderr.as_str();
    let said = last_line(stderr);
    let binary = &probe.binary;
    let set = "set [binary] in the site file to a tokmark built for the nodes, on a file system they see";
    if stderr.contains("Requested nodes are busy") || stderr.contains("Immediate execution impossible") {
        let found = "no node was free in time: what only a node can say is not known";
        return Finding::warn(
            "node",
            found,
            "run doctor again later, with a longer --wait, or with --no-job",
        );
    }
    let of_exec =
        |reason: &str| stderr.lines().any(|line| line.contains("execve()") && line.contains(reason));
    if of_exec("Exec format error") {
        return Finding::fail("node", format!("{binary} is for another architecture than the node's"), set);
    }
    if of_exec("No such file") || of_exec("Permission denied") {
        return Finding::fail("node", format!("{binary} cannot be started there: {said}"), set);
    }
    if answer.status.success() {
        let found = format!("{binary} gave no answer that can be read");
        return Finding::fail("node", found, "the binary there must be of this version: see [binary]");
    }
    let next = sbatch::advice(stderr).unwrap_or("repeat the call by hand: `doctor -v` shows it");
    Finding::fail("node", format!("the job on a node failed: {said}"), next)
}

/// The last line that says why; srun's own "Exited with" only repeats that something did.
fn last_line(stderr: &str) -> String {
    let lines = || stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let why = lines().filter(|line| !line.contains("Exited with exit code")).next_back();
    why.or_else(|| lines().next_back()).unwrap_or("it said nothing").to_owned()
}

fn other_arch(site: &Site, kind: Option<&str>, seen: &[Seen]) -> Option<Finding> {
    let declared = site.gpus.get(kind?)?.arch?;
    let other = seen.iter().find(|seen| seen.report.arch != declared.name())?;
    let found = format!("arch = {:?}, and {} is {}", declared.name(), other.report.host, other.report.arch);
    Some(Finding::fail("arch", found, "correct arch in [gpus.TYPE]"))
}

fn paths(probe: &Probe, seen: &[Seen], shared: Option<&Named>) -> Vec<Finding> {
    let mut readable = 0;
    let mut findings = Vec::new();
    // The same path may be asked for under two keys: the answers are in the order of the questions.
    for (at, named) in probe.paths.iter().enumerate() {
        let unread = seen.iter().filter_map(|seen| {
            let path = seen.report.paths.get(at).filter(|path| path.path == named.path && !path.readable)?;
            Some((seen.report.host.as_str(), path.problem.as_deref().unwrap_or("not readable")))
        });
        let unread: Vec<(&str, &str)> = unread.collect();
        let Some((_, problem)) = unread.first() else {
            readable += 1;
            continue;
        };
        let hosts = unread.iter().map(|(host, _)| *host).collect::<Vec<_>>().join(", ");
        let found = format!("`{}`: {} on {hosts}: {problem}", named.key, named.path);
        findings.push(if shared == Some(named) {
            let next = "name a folder that every node sees: [experiments] in the site file, or --experiments";
            Finding::fail(
                "experiments",
                format!("files of this machine in {} are not there on {hosts}", folder(&named.path)),
                next,
            )
        } else if named.may_come {
            Finding::warn("paths", found, "fine if [slurm] setup or [bare] modules bring it")
        } else {
            Finding::fail("paths", found, "correct the path, or put it where compute nodes see it")
        });
    }
    if readable > 0 {
        findings.insert(0, Finding::ok("paths", format!("{readable} readable")));
    }
    findings
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(folder, _)| folder)
}

fn ports(seen: &[Seen]) -> Finding {
    let first = |seen: &Seen| seen.report.free.first().and_then(|starts| starts.first().copied());
    let starts: BTreeMap<&str, Option<u16>> =
        seen.iter().map(|seen| (seen.report.host.as_str(), first(seen))).collect();
    match starts.iter().find(|(_, start)| start.is_none()) {
        Some((host, _)) => Finding::warn(
            "ports",
            format!("{host} has no 16 free ports in a row from 8000 on"),
            "see what listens there: `ss -ltn`",
        ),
        None => {
            let list: Vec<String> = starts
                .iter()
                .map(|(host, start)| format!("{host} from {}", start.unwrap_or_default()))
                .collect();
            Finding::ok("ports", format!("free: {}", list.join(", ")))
        }
    }
}

fn disk(seen: &[Seen]) -> Finding {
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let least = seen.iter().filter_map(|seen| Some((gib(seen.report.disk.tmp?), &seen.report.host)));
    match least.min_by(|one, other| one.0.total_cmp(&other.0)) {
        None => Finding::warn("disk", "nodes do not say how much space they have", "look at `df` there"),
        Some((free, host)) if free < TMP_GIB => Finding::warn(
            "disk",
            format!("{free:.1} GiB free for temporary files on {host}"),
            "set TMPDIR to a larger folder, in [slurm] setup",
        ),
        Some((free, host)) => {
            Finding::ok("disk", format!("{free:.0} GiB free for temporary files on {host}"))
        }
    }
}

/// Clocks against this machine's and against each other.
fn clocks(seen: &[Seen]) -> Finding {
    let skews = || seen.iter().map(|seen| seen.skew_s);
    let (least, most) =
        skews().fold((f64::MAX, f64::MIN), |(least, most), skew| (least.min(skew), most.max(skew)));
    let worst = seen.iter().max_by(|one, other| one.skew_s.abs().total_cmp(&other.skew_s.abs()));
    let (worst, host) = worst.map_or((0.0, ""), |seen| (seen.skew_s, seen.report.host.as_str()));
    if worst.abs() > SKEW_S {
        let found = format!("the clock of {host} is {worst:+.1} s from this machine's");
        return Finding::warn("clocks", found, "have its time synchronised (chrony, ntp)");
    }
    if most - least > SKEW_S {
        let found = format!("clocks of nodes differ by {:.1} s", most - least);
        return Finding::warn("clocks", found, "have their time synchronised (chrony, ntp)");
    }
    Finding::ok("clocks", format!("within {:.0} ms of this machine's", (worst.abs() * 1000.0).ceil()))
}

fn interface(site: &Site, seen: &[Seen]) -> Option<Finding> {
    let name = site.network.interface.as_ref()?;
    let without = seen.iter().find(|seen| seen.report.address.is_none());
    Some(match without {
        None => Finding::ok("network", format!("{name} has an address on each")),
        Some(seen) => {
            let mut has: Vec<&str> =
                seen.report.addresses.iter().map(|address| address.interface.as_str()).collect();
            has.dedup();
            let found =
                format!("{} has no IPv4 address on {name}: it has {}", seen.report.host, has.join(", "));
            Finding::fail("network", found, "set [network] interface to one of them, or leave it out")
        }
    })
}

/// GPU devices of a node, where it has any: fewer than declared is a broken one.
fn gpus(site: &Site, kind: Option<&str>, seen: &[Seen]) -> Option<Finding> {
    let declared = site.gpus_per_node(kind?)?;
    let fewer = seen.iter().find(|seen| (1..declared).contains(&seen.report.gpus))?;
    let found =
        format!("{} has {} GPU devices, and per_node = {declared}", fewer.report.host, fewer.report.gpus);
    Some(Finding::warn("gpus", found, "look at `nvidia-smi` there; some sites show a job its own GPUs only"))
}
