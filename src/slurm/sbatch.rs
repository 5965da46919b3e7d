//! `sbatch`: its argv, the id in its output, advice on its refusals.
//!
//! Source: sbatch(1).

use std::path::Path;

use super::{JobId, Unparsable};

/// The argv that submits `script` with `args` before it (`--partition=…`).
///
/// A relative path that begins with a dash becomes `./-x`, because sbatch would read it as an option.
pub fn argv(script: &Path, args: &[String]) -> Vec<String> {
    let script = script.to_string_lossy();
    let script = if script.starts_with('-') { format!("./{script}") } else { script.into_owned() };
    let mut argv = vec!["sbatch".to_owned(), "--parsable".to_owned()];
    argv.extend_from_slice(args);
    argv.push(script);
    argv
}

/// Variables hidden from sbatch: those whose values are already in the script, and those that would change the job (an array,
/// another output), keep sbatch from returning, or put the job into a container or change those of its servers.
pub const CLEARED_ENV: &[&str] = &[
    "SBATCH_ACCOUNT",
    "SBATCH_ARRAY_INX",
    "SBATCH_CONSTRAINT",
    "SBATCH_ERROR",
    "SBATCH_EXCLUSIVE",
    "SBATCH_GPUS",
    "SBATCH_GPUS_PER_NODE",
    "SBATCH_GRES",
    "SBATCH_INPUT",
    "SBATCH_JOB_NAME",
    "SBATCH_MEM_PER_NODE",
    "SBATCH_NO_REQUEUE",
    "SBATCH_OPEN_MODE",
    "SBATCH_OUTPUT",
    "SBATCH_PARTITION",
    "SBATCH_QOS",
    "SBATCH_RESERVATION",
    "SBATCH_SEGMENT_SIZE",
    "SBATCH_SIGNAL",
    "SBATCH_TIMELIMIT",
    "SBATCH_WAIT",
    "SBATCH_WCKEY",
    "PYXIS_CONTAINER_*",
    "ENROOT_MOUNT_HOME",
    "ENROOT_REMAP_ROOT",
    "ENROOT_ROOTFS_WRITABLE",
];

/// A submitted job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    pub id: JobId,
    /// The cluster, only in a multi-cluster set-up.
    pub cluster: Option<String>,
}

/// The id in sbatch's stdout: `123`, `123;cluster`, or (if a wrapper drops `--parsable`) `Submitted batch job 123`. Other lines are
/// skipped; the last match counts, because sbatch prints the id at its end.
///
/// # Errors
/// No such line.
pub fn parse(stdout: &str) -> Result<Submitted, Unparsable> {
    stdout.lines().rev().find_map(parse_line).ok_or_else(|| Unparsable {
        tool: "sbatch",
        wanted: "a job id",
        found: stdout.to_owned(),
    })
}

fn parse_line(line: &str) -> Option<Submitted> {
    let line = line.trim();
    let (id, cluster) = if let Some(rest) = line.strip_prefix("Submitted batch job ") {
        let mut words = rest.split_whitespace();
        (words.next()?, words.find(|w| *w != "on" && *w != "cluster"))
    } else {
        line.split_once(';').map_or((line, None), |(id, cluster)| (id, Some(cluster)))
    };
    let cluster = cluster.map(str::to_owned).filter(|c| !c.is_empty());
    id.bytes().all(|b| b.is_ascii_digit()).then_some(Submitted { id: id.parse().ok()?, cluster })
}

/// The argv that tests whether Slurm would accept a script. It prints time and place on stderr, and consumes a job id.
pub fn test_argv(script: &Path) -> Vec<String> {
    vec!["sbatch".to_owned(), "--test-only".to_owned(), script.display().to_string()]
}

/// Parts of sbatch's refusals (22.05 to 24.x) and advice. The first match counts.
const ADVICE: &str = "\
invalid partition => set `[slurm] partition` (or `[gpus.TYPE] partition`) in site.toml to one that `sinfo -s` lists, or give --slurm-arg=--partition=NAME
Invalid account or account/partition => set `[slurm] account` and `partition` in site.toml to a pair that `sacctmgr show assoc user=$USER` lists
Invalid account => set `[slurm] account` in site.toml to one that `sacctmgr show assoc user=$USER` lists
Invalid qos => set `[slurm] qos` in site.toml to one that `sacctmgr show qos` lists
mutually exclusive => this Slurm takes either --gres=gpu or --gpus-per-node, not both: give the script's own option, or set `[slurm] gres` and `srun` in site.toml to the same one
with and without type identification => request GPUs either with their type or without: set `[slurm] gres` in site.toml to typed-gres or gres
Requested topology configuration is not available => the nodes do not divide into groups of --segment: change `[gpus.TYPE] nodes_per_domain` in site.toml, or the number of nodes
Invalid generic resource => set `[slurm] gres` (none, gres, typed-gres, gpus-per-node) and `[gpus.TYPE] gres_type` in site.toml; `sinfo -o %G` shows what nodes call their GPUs
Invalid Trackable RESource => set `[slurm] gres` (none, gres, typed-gres, gpus-per-node) and `[gpus.TYPE] gres_type` in site.toml; see `sinfo -o %G`
MaxSubmitJob => as many jobs are queued as the account or the QOS allows: wait until some have ended (`squeue --me`)
WallDuration => lower `slurm.time` in the recipe, or give --set slurm.time=…: the account or the QOS allows less
QOSMax => the QOS limits the resources of one user: wait for running jobs, or request less
AssocMax => the account limits the resources of one user: wait for running jobs, or request less
violates accounting/QOS policy => request less, or set another `[slurm] account` or `qos` in site.toml
Requested time limit is invalid => lower `slurm.time` in the recipe, or give --set slurm.time=…: `sinfo -o '%P %l'` shows each partition's limit
time limit => lower `slurm.time` in the recipe, or give --set slurm.time=…: `sinfo -o '%P %l'` shows the limits
Node count specification invalid => the partition has fewer nodes than the deployment needs: set another `[slurm] partition` (or `[gpus.TYPE] partition`) in site.toml, or use fewer GPUs
More processors requested than permitted => the partition is smaller than the deployment: set another `[slurm] partition` (or `[gpus.TYPE] partition`) in site.toml, or use fewer GPUs
Requested node configuration is not available => no node has these GPUs, CPUs and memory together: compare `[gpus.TYPE] per_node`, `gres_type` and `constraint` in site.toml with `sinfo -o '%N %G %c %m'`
reservation is invalid => set `[slurm] reservation` in site.toml to one that `scontrol show reservation` lists, or leave it out
Invalid node name => name only nodes that `sinfo -N` lists
Invalid feature => set `[gpus.TYPE] constraint` in site.toml to features that `sinfo -o '%N %f'` lists
Memory specification => lower `slurm.mem` in the recipe or in the site's `[defaults.slurm]`: `sinfo -o '%N %m'` shows each node's MB
unrecognized option '--container => this Slurm has no pyxis: set `[container] runtime = \"none\"` in site.toml
does not look like a batch script => the script must begin with #!: render it again
DOS line breaks => the script has CRLF line ends: render it again, or run dos2unix
Unable to open file => the script is missing, or not readable on this host
could not establish a configuration source => Slurm has no configuration here: set SLURM_CONF
Unable to contact slurm controller => the controller does not answer: run `scontrol ping`";

/// The next step after a refusal, from what sbatch (or srun) wrote on stderr.
pub fn advice(stderr: &str) -> Option<&'static str> {
    let stderr = stderr.to_lowercase();
    let mut advice = ADVICE.lines().filter_map(|line| line.split_once(" => "));
    advice.find(|(part, _)| stderr.contains(&part.to_lowercase())).map(|(_, advice)| advice)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn argv_is_parsable_and_keeps_the_order() {
        let got = argv(Path::new("/x/my job.sbatch"), &["--partition=gpu".into(), "--time=5".into()]);
        assert_eq!(got, ["sbatch", "--parsable", "--partition=gpu", "--time=5", "/x/my job.sbatch"]);
        assert_eq!(argv(Path::new("-x"), &[]).last().unwrap(), "./-x");
    }

    #[test]
    fn ids_among_other_lines() {
        let table = [
            ("123\n", "123", None),
            ("123;lab\n", "123", Some("lab")),
            ("Submitted batch job 123\n", "123", None),
            ("Submitted batch job 123 on cluster lab\n", "123", Some("lab")),
            ("***\n* Welcome to lab, 512 nodes *\n***\n\n77\n\nQuota: 5 of 10 TB used\n", "77", None),
            ("sbatch: INFO: account lab charged 4 GPUh\n  77  \r\n", "77", None),
        ];
        for (text, id, cluster) in table {
            let got = parse(text).unwrap();
            assert_eq!((got.id.as_str(), got.cluster.as_deref()), (id, cluster), "{text:?}");
        }
    }

    #[test]
    fn no_id_is_an_error_that_quotes_the_answer() {
        for text in ["", "Welcome\n", "job 5 queued", ";lab", "Submitted batch job x"] {
            let error = parse(text).unwrap_err();
            assert_eq!((error.tool, error.found.as_str()), ("sbatch", text));
        }
    }

    #[test]
    fn refusals_have_advice() {
        let table = [
            ("sbatch: error: invalid partition specified: nope", "`[slurm] partition`"),
            ("sbatch: error: Batch job submission failed: Node count specification invalid", "fewer nodes"),
            (
                "sbatch: error: Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)",
                "`slurm.time`",
            ),
            ("sbatch: error: Invalid generic resource (gres) specification", "`[slurm] gres`"),
            (
                "sbatch: error: Batch job submission failed: Requested node configuration is not available",
                "no node has",
            ),
            (
                "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
                "`[slurm] account`",
            ),
            ("sbatch: unrecognized option '--container-image=x'", "pyxis"),
            ("sbatch: fatal: --gpus-per-node and --gres=gpu are mutually exclusive.", "either --gres"),
            (
                "sbatch: error: Batch job submission failed: Requested topology configuration is not available",
                "--segment",
            ),
        ];
        for (stderr, advised) in table {
            assert!(advice(stderr).is_some_and(|a| a.contains(advised)), "{stderr}");
        }
        assert_eq!(advice("sbatch: error: something new"), None);
        assert!(ADVICE.lines().all(|line| line.contains(" => ")), "every line is a pair");
    }

    #[test]
    fn a_limit_of_the_account_is_not_taken_for_a_time_limit() {
        let refused = |limit: &str| {
            format!(
                "sbatch: error: {limit}\nsbatch: error: Batch job submission failed: Job violates accounting/QOS policy \
                 (job submit limit, user's size and/or time limits)"
            )
        };
        let table = [
            ("AssocMaxSubmitJobLimit", "as many jobs are queued"),
            ("QOSMaxSubmitJobPerUserLimit", "as many jobs are queued"),
            ("AssocMaxNodesLimit", "resources of one user"),
            ("AssocMaxWallDurationPerJobLimit", "lower `slurm.time`"),
            ("something else", "another `[slurm] account`"),
        ];
        for (limit, advised) in table {
            let got = advice(&refused(limit)).unwrap();
            assert!(got.contains(advised), "{limit}: {got}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[\\PC\n;]*") {
            let _ = (parse(&text), advice(&text));
        }
    }
}
