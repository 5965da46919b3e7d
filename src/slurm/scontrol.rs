//! `scontrol`: one job in slurmctld (for clusters without accounting), the steps of a job, host lists, the cluster's configuration and nodes.
//!
//! Source: scontrol(1).

use std::collections::BTreeMap;

use super::status::{ExitCode, text};
use super::{JobId, JobState, JobStatus, StepInfo, Unparsable, duration_s, unix_s};

/// The argv that shows one job on one line. slurmctld forgets an ended job after `MinJobAge` (300 s by default).
pub fn job_argv(id: &JobId) -> Vec<String> {
    ["scontrol", "--oneliner", "show", "job", id.as_str()].map(str::to_owned).to_vec()
}

/// The argv that shows a job's running steps, one per line. squeue leaves out those that step managers keep (`enable_stepmgr`, from
/// 24.05 on).
pub fn steps_argv(id: &JobId) -> Vec<String> {
    ["scontrol", "--oneliner", "show", "step", id.as_str()].map(str::to_owned).to_vec()
}

/// Whether scontrol failed only because the job has no running step.
pub fn has_no_steps(stdout: &str, stderr: &str) -> bool {
    let says =
        |text: &str| text.lines().any(|line| line.starts_with("Job step ") && line.ends_with("not found"));
    super::knows_none(stderr) || says(stdout) || says(stderr)
}

/// The steps in the stdout of [`steps_argv`]. Skips other lines.
pub fn parse_steps(stdout: &str) -> Vec<StepInfo> {
    let step = |line: &str| {
        let (id, _) = line.trim_start().strip_prefix("StepId=")?.split_once(' ')?;
        let srun = value(line, "SrunHost:Pid").and_then(|at| at.rsplit_once(':')?.1.parse().ok());
        Some(StepInfo {
            id: id.parse().ok()?,
            name: value(line, "Name")?.to_owned(),
            srun: srun.filter(|&pid| pid != 0),
        })
    };
    stdout.lines().filter_map(step).collect()
}

/// The argv that expands a host list, one name per line.
pub fn hostnames_argv(host_list: &str) -> Vec<String> {
    ["scontrol", "show", "hostnames", host_list].map(str::to_owned).to_vec()
}

/// The argv that tests whether slurmctld answers. It returns at once, while other tools wait for minutes.
pub fn ping_argv() -> Vec<String> {
    ["scontrol", "ping"].map(str::to_owned).to_vec()
}

/// The argv that shows the configuration.
pub fn config_argv() -> Vec<String> {
    ["scontrol", "show", "config"].map(str::to_owned).to_vec()
}

/// The argv that shows every node, one per line.
pub fn nodes_argv() -> Vec<String> {
    ["scontrol", "--oneliner", "show", "node"].map(str::to_owned).to_vec()
}

/// The jobs in the stdout of [`job_argv`], one per line (an array has several). Skips other lines.
///
/// # Errors
/// A line begins with `JobId=` but lacks id, name or state.
pub fn parse_jobs(stdout: &str) -> Result<Vec<JobStatus>, Unparsable> {
    let lines = stdout.lines().map(str::trim_start).filter(|line| line.starts_with("JobId="));
    lines.map(|line| parse_job(line).ok_or_else(|| unparsable("JobId=… JobState=…", line))).collect()
}

fn unparsable(wanted: &'static str, found: &str) -> Unparsable {
    Unparsable { tool: "scontrol", wanted, found: found.to_owned() }
}

/// JobName, Command and what follows contain arbitrary text with spaces and `Key=`, so the other keys are read between UserId, which
/// follows the name, and Command.
fn parse_job(line: &str) -> Option<JobStatus> {
    let (head, rest) = line.split_once(" UserId=")?;
    let (ids, name) = head.split_once(" JobName=")?;
    let ids = format!(" {ids}");
    let facts = rest.split_once(" Command=").map_or(rest, |(facts, _)| facts);
    let fact = |key| value(facts, key).unwrap_or_default();
    let id = match (value(&ids, "ArrayJobId"), value(&ids, "ArrayTaskId")) {
        (Some(array), Some(task)) if task.bytes().all(|b| b.is_ascii_digit()) => format!("{array}_{task}"),
        (Some(array), Some(task)) => format!("{array}_[{task}]"),
        _ => value(&ids, "JobId")?.to_owned(),
    };
    let status = JobStatus {
        id: id.parse().ok()?,
        state: JobState::parse(value(facts, "JobState")?),
        reason: text(fact("Reason")),
        exit_code: ExitCode::parse(fact("ExitCode")),
        nodes: text(fact("NodeList")),
        name: name.to_owned(),
        submit: unix_s(fact("SubmitTime")),
        start: unix_s(fact("StartTime")),
        end: unix_s(fact("EndTime")),
        elapsed_s: duration_s(fact("RunTime")),
        time_limit_s: duration_s(fact("TimeLimit")),
    };
    Some(status.without_forecast())
}

/// GPUs per node of the job in the stdout of [`job_argv`]: allocated ones (`AllocTRES`, before 23.02 `TRES`), else requested ones
/// (`TresPerNode`); `None` if neither counts GPUs.
pub fn gpus_per_node(stdout: &str) -> Option<u32> {
    let line = stdout.lines().map(str::trim_start).find(|line| line.starts_with("JobId="))?;
    let (_, rest) = line.split_once(" UserId=")?;
    let facts = rest.split_once(" Command=").map_or(rest, |(facts, _)| facts);
    let nodes: u32 = value(facts, "NumNodes")?.split('-').next()?.parse().ok()?;
    let allocated = value(facts, "AllocTRES").or_else(|| value(facts, "TRES")).unwrap_or_default();
    let total = allocated.split(',').find_map(|tres| tres.strip_prefix("gres/gpu=")?.parse::<u32>().ok());
    let requested = || {
        let (_, after) = line.split_once(" TresPerNode=")?;
        let tres = after.split_whitespace().next()?.split(',');
        let gpus = tres.filter(|tres| tres.starts_with("gres:gpu") || tres.starts_with("gres/gpu"));
        gpus.filter_map(|tres| tres.rsplit([':', '=']).next()?.parse().ok()).max()
    };
    total.map(|total| total / nodes.max(1)).or_else(requested)
}

/// The value of ` Key=`, up to the next ` Word=`.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!(" {key}="))?;
    let is_key = |text: &str| {
        let key = text.split_once('=').map_or("", |(key, _)| key);
        key.starts_with(|c: char| c.is_ascii_uppercase()) && !key.contains(' ')
    };
    let next = rest.match_indices(' ').map(|(at, _)| at).find(|&at| is_key(&rest[at + 1..]));
    Some(rest[..next.unwrap_or(rest.len())].trim_end())
}

/// The host names in the stdout of [`hostnames_argv`], in order. Skips banners: lines of several words, or without letter or digit.
///
/// # Errors
/// A word is not a host name (scontrol makes `sn]` of the broken list `sn[1-`), or there is no name.
pub fn parse_hostnames(stdout: &str) -> Result<Vec<String>, Unparsable> {
    let mut names = Vec::new();
    for line in stdout.lines().map(str::trim) {
        if line.contains(char::is_whitespace) || !line.contains(|c: char| c.is_ascii_alphanumeric()) {
            continue;
        }
        if !line.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
            return Err(unparsable("a host name", line));
        }
        names.push(line.to_owned());
    }
    if names.is_empty() { Err(unparsable("a host name", stdout)) } else { Ok(names) }
}

/// The values in the stdout of [`config_argv`], by name. Skips other lines.
pub fn parse_config(stdout: &str) -> BTreeMap<String, String> {
    let pairs = stdout.lines().filter_map(|line| line.split_once('='));
    let pairs = pairs.map(|(name, value)| (name.trim(), value.trim()));
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_/".contains(&b))
    };
    pairs.filter(|(name, _)| is_name(name)).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The architecture of each node in the stdout of [`nodes_argv`]. A node that was never up has none.
pub fn parse_archs(stdout: &str) -> BTreeMap<String, String> {
    let nodes = stdout.lines().map(str::trim).filter(|line| line.starts_with("NodeName="));
    let word = |line: &str, key: &str| {
        let mut words = line.split_whitespace();
        words.find_map(|word| word.strip_prefix(key)).map(str::to_owned)
    };
    nodes.filter_map(|line| Some((word(line, "NodeName=")?, word(line, "Arch=")?))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Slurm 22.05, `scontrol -o show job`, with SLURM_TIME_FORMAT=%s.
    const CANCELLED: &str = "JobId=31 JobName=my job=a b UserId=root(0) GroupId=root(0) MCS_label=N/A \
        Priority=4294901732 Nice=0 Account=(null) QOS=normal JobState=CANCELLED Reason=None Dependency=(null) Requeue=1 \
        Restarts=0 BatchFlag=1 Reboot=0 ExitCode=0:15 RunTime=00:00:03 TimeLimit=01:00:00 TimeMin=N/A \
        SubmitTime=1795322736 EligibleTime=1795322736 AccrueTime=1795322736 StartTime=1795322736 EndTime=1795322739 \
        Deadline=N/A SuspendTime=None SecsPreSuspend=0 LastSchedEval=1795322736 Scheduler=Backfill Partition=gpu \
        AllocNode:Sid=localhost:8282 ReqNodeList=sn1 ExcNodeList=(null) NodeList=sn[3-4] BatchHost=sn3 NumNodes=2 \
        NumCPUs=2 NumTasks=2 CPUs/Task=1 ReqB:S:C:T=0:0:*:* TRES=cpu=2,mem=1000M,node=2,billing=2,gres/gpu=8 \
        Features=(null) Command=/x/JobState=RUNNING WorkDir=/tmp/cap StdOut=/tmp/cap/o 31.log Power= ";

    #[test]
    fn a_job_with_spaces_and_equals_in_its_name() {
        let text = format!("Welcome to lab\n\n{CANCELLED}\n");
        let jobs = parse_jobs(&text).unwrap();
        let [job] = &jobs[..] else { panic!("{jobs:?}") };
        assert_eq!((job.id.as_str(), job.name.as_str()), ("31", "my job=a b"));
        assert_eq!((&job.state, job.exit_code), (&JobState::Cancelled, ExitCode::parse("0:15")));
        assert_eq!((job.nodes.as_deref(), &job.reason), (Some("sn[3-4]"), &None));
        assert_eq!((job.start, job.end), (Some(1_795_322_736), Some(1_795_322_739)));
        assert_eq!((job.elapsed_s, job.time_limit_s), (Some(3), Some(3600)));
    }

    #[test]
    fn steps_have_ids_names_and_the_pid_of_their_srun() {
        // Slurm 22.05; 24.11 and 26.05 print these keys too, also with step managers.
        let line = |id: &str, name: &str, srun: &str| {
            format!(
                "StepId={id} UserId=0 StartTime=2026-12-01T09:28:32 TimeLimit=UNLIMITED State=RUNNING Partition=gpu \
                 NodeList=n[1-2] Nodes=2 CPUs=2 Tasks=2 Name={name} Network=(null) TRES=cpu=2,node=2 ResvPorts=(null) \
                 CPUFreqReq=Default Dist=Cyclic SrunHost:Pid={srun}\n"
            )
        };
        let text = format!(
            "Welcome\n{}{}{}StepId=\n",
            line("1.batch", "batch", "(null):0"),
            line("1.0", "server 0", "n1:22051"),
            line("1.1", "router", "n1:22052")
        );
        let steps = parse_steps(&text);
        let got: Vec<_> = steps.iter().map(|s| (s.id.as_str(), s.name.as_str(), s.srun)).collect();
        let expected =
            [("1.batch", "batch", None), ("1.0", "server 0", Some(22051)), ("1.1", "router", Some(22052))];
        assert_eq!(got, expected);
        assert!(has_no_steps("Job step 1. not found\n", ""));
        assert!(has_no_steps("", "slurm_get_job_steps error: Invalid job id specified\n"));
        assert!(!has_no_steps("", "slurm_get_job_steps error: Unable to contact slurm controller\n"));
    }

    #[test]
    fn a_reason_of_several_words() {
        let text = "JobId=5 JobName=x UserId=u(1) JobState=PENDING Reason=Nodes required for job are DOWN Dependency=(null)";
        let jobs = parse_jobs(text).unwrap();
        assert_eq!(jobs[0].reason.as_deref(), Some("Nodes required for job are DOWN"));
    }

    #[test]
    fn array_tasks() {
        let text = "JobId=6 ArrayJobId=5 ArrayTaskId=1 JobName=x UserId=u(1) JobState=RUNNING ExitCode=0:0\n\
            JobId=5 ArrayJobId=5 ArrayTaskId=2-3 JobName=x UserId=u(1) JobState=PENDING ExitCode=0:0\n";
        let ids: Vec<_> = parse_jobs(text).unwrap().into_iter().map(|j| j.id.to_string()).collect();
        assert_eq!(ids, ["5_1", "5_[2-3]"]);
    }

    #[test]
    fn nothing_and_too_little() {
        assert_eq!(parse_jobs("").unwrap(), []);
        assert_eq!(parse_jobs("No jobs in the system\n").unwrap(), []);
        assert!(parse_jobs("JobId=5 JobName=x").is_err());
    }

    #[test]
    fn host_names() {
        assert_eq!(parse_hostnames("sn1\nsn2\nsn4\n").unwrap(), ["sn1", "sn2", "sn4"]);
        assert_eq!(parse_hostnames("***\n* hello there *\nn-1.lab\n").unwrap(), ["n-1.lab"]);
        assert_eq!(parse_hostnames("sn]\n").unwrap_err().found, "sn]");
        assert!(parse_hostnames("").is_err());
    }

    #[test]
    fn gpus_of_a_node() {
        let job = |facts: &str| {
            format!(
                "JobId=1 JobName=a NumNodes=9 UserId=root(0) JobState=RUNNING {facts} Command=/x TresPerNode=gres:gpu:7 "
            )
        };
        let table = [
            (CANCELLED.to_owned(), Some(4)),
            (job("NumNodes=1 AllocTRES=cpu=4,gres/gpu=3,gres/gpu:h100=3 ReqTRES=gres/gpu=1"), Some(3)),
            (job("NumNodes=2 TRES=cpu=2,node=2 Features=(null)"), Some(7)),
            (job("NumNodes=1 TRES=cpu=2").replace("gres:gpu:7", "gres/gpu:h100=2,gres/nvme:4"), Some(2)),
            (job("NumNodes=1 TRES=cpu=2").replace("TresPerNode=gres:gpu:7", "Power="), None),
            ("slurm_load_jobs error".to_owned(), None),
        ];
        for (text, expected) in table {
            assert_eq!(gpus_per_node(&text), expected, "{text}");
        }
    }

    #[test]
    fn configuration_and_architectures() {
        let config = parse_config(
            "Configuration data as of 2026-11-24\nClusterName             = lab\n\
            SchedulerParameters     = a=1,b=2\nWelcome to = us\n",
        );
        let expected = [("ClusterName", "lab"), ("SchedulerParameters", "a=1,b=2")];
        assert_eq!(config, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        let archs = parse_archs(
            "NodeName=n1 Arch=aarch64 CoresPerSocket=8  CPUAlloc=0 OS=Linux Arch=x\nNodeName=n2 CoresPerSocket=1\n",
        );
        assert_eq!(archs, [("n1".to_owned(), "aarch64".to_owned())].into());
    }

    proptest! {
        #[test]
        fn configuration_never_panics(text in "[\\PC\n=]*") {
            let _ = (parse_config(&text), parse_archs(&text));
        }

        #[test]
        fn never_panics(text in "[\\PC\n]*", job in "JobId=[0-9]{0,3} JobName=\\PC{0,9} UserId=[ A-Za-z=é]{0,60}") {
            let _ = (parse_jobs(&text), parse_jobs(&job), parse_hostnames(&text), parse_steps(&text));
        }
    }
}
