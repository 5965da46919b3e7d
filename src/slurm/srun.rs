//! `srun`: the argv of a step inside an allocation.
//!
//! Source: srun(1); pyxis' README for `--container-*`.
//!
//! Why the options are what they are:
//! - `--overlap`: otherwise a step takes its nodes exclusively, and the next step waits for the server forever.
//! - `--nodes`, `--ntasks`, `--ntasks-per-node`, `--mem=0`: options override the job's sizes in `SLURM_*` variables, which a bare
//!   srun would obey. `--mem=0` means all of the job's memory on the node. Variables without a neutral option are in
//!   [`CLEARED_ENV`].
//! - no `--cpus-per-task`: it implies `--exact`, which gives the step that many CPUs instead of the job's. `--cpu-bind=none`,
//!   because task/affinity would pin a single task to one core; clusters without it print that they lack "support for cpu
//!   binding" and continue.
//! - no `--gpus*` or `--gres`: the step sees all GPUs of its nodes. Two overlapping steps that request two GPUs each would both
//!   get 0 and 1, so [`Step::env`] (`CUDA_VISIBLE_DEVICES`) divides them.
//! - `--overcommit`: one task per GPU may exceed the CPUs of a job without `--exclusive`.
//! - `--export=ALL`: a job submitted with `--export=NONE` leaves `SLURM_EXPORT_ENV=NONE` behind.
//! - `--kill-on-bad-exit=1` and no `--no-kill`: an engine that lost a task or a node is dead, so its step must end.
//! - `--input=none`: servers read nothing, and srun leaves the script's stdin alone. Samplers read it: its end ends them.
//! - `--open-mode=append`: a requeued job appends to its logs.
//!
//! Slurm places tasks on nodes in the allocation's order, whatever the order in `--nodelist`.

use std::path::{Path, PathBuf};

/// Variables hidden from srun: they describe the whole job's GPUs or tasks, or an allocation that the job was submitted from, and no
/// option overrides them; or they would put each step into a container (pyxis 0.21 and later).
pub const CLEARED_ENV: &[&str] = &[
    "SLURM_GPUS",
    "SLURM_GPUS_PER_NODE",
    "SLURM_GRES",
    "SLURM_STEP_GRES",
    "SLURM_GPUS_PER_TASK",
    "SLURM_GPUS_PER_SOCKET",
    "SLURM_TRES_PER_TASK",
    "SLURM_NTASKS_PER_GPU",
    "SLURM_NTASKS_PER_SOCKET",
    "SLURM_NTASKS_PER_CORE",
    "SLURM_CPUS_PER_TASK",
    "SLURM_CPUS_PER_GPU",
    "SLURM_MEM_PER_CPU",
    "SLURM_MEM_PER_GPU",
    "SLURM_MEM_PER_NODE",
    "SLURM_DISTRIBUTION",
    "SLURM_HINT",
    "SLURM_EXACT",
    "SLURM_EXCLUSIVE",
    "SLURM_RELATIVE",
    "SLURM_CONSTRAINT",
    "SLURM_THREADS_PER_CORE",
    "SLURM_CORE_SPEC",
    "SLURM_TIMELIMIT",
    "SLURM_IMMEDIATE",
    "SLURM_NO_KILL",
    "SLURM_STDERRMODE",
    "SRUN_ERROR",
    "SLURM_LABELIO",
    "PYXIS_CONTAINER_*",
];

/// Where the tasks' stdout and stderr go. Paths are literal: `%` in them starts no pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepOutput {
    /// One file for all tasks.
    Shared(PathBuf),
    /// A file per task, see [`task_log`].
    PerTask(PathBuf),
    /// srun's own stdout and stderr.
    Piped,
}

/// A pyxis container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// `--container-image`: a reference (`nvcr.io#nvidia/x:1`) or the path of a `.sqsh`.
    pub image: Option<String>,
    /// `--container-name`: shared by the job's steps on a node, so the image is unpacked once.
    pub name: Option<String>,
    /// `--container-mounts`: `SRC:DST[:FLAGS]` each; a comma cannot be escaped.
    pub mounts: Vec<String>,
    pub workdir: Option<String>,
    /// `--container-env`: variables that keep the host's value, such as secrets.
    pub env: Vec<String>,
    /// Verbatim flags, e.g. `--no-container-mount-home`.
    pub flags: Vec<String>,
}

/// A step to start: one role's processes on some nodes of the allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// `--job-name`: shown by `squeue --steps`.
    pub name: String,
    /// The nodes it runs on; all of them get tasks.
    pub nodes: Vec<String>,
    /// Total tasks, spread evenly.
    pub ntasks: u32,
    pub output: StepOutput,
    /// A file for stderr; without it stderr goes to stdout's file.
    pub error: Option<PathBuf>,
    /// `--mpi`, e.g. `pmix`; without it the cluster's default.
    pub mpi: Option<String>,
    /// `--chdir` on the host; if missing, srun uses /tmp.
    pub chdir: Option<PathBuf>,
    pub container: Option<Container>,
    /// Whether this srun replaces patterns twice, see [`replaces_patterns_twice`].
    pub replaces_twice: bool,
    /// Variables set for the tasks by `env K=V …` before the command, which overrides Slurm and the container. They appear in argv:
    /// no secrets.
    pub env: Vec<(String, String)>,
    /// Variables removed in the same way.
    pub unset: Vec<String>,
    /// The site's options, last, so they override others.
    pub extra: Vec<String>,
    pub argv: Vec<String>,
    /// srun passes its stdin on to the tasks.
    pub stdin: bool,
}

impl Step {
    /// A step with one task per node.
    pub fn new(name: &str, nodes: &[String], output: StepOutput, argv: &[String]) -> Self {
        Self {
            name: name.to_owned(),
            nodes: nodes.to_vec(),
            ntasks: u32::try_from(nodes.len()).unwrap_or(u32::MAX),
            output,
            error: None,
            mpi: None,
            chdir: None,
            container: None,
            replaces_twice: false,
            env: Vec::new(),
            unset: Vec::new(),
            extra: Vec::new(),
            argv: argv.to_vec(),
            stdin: false,
        }
    }

    /// The whole argv, `srun` first. Start it without [`CLEARED_ENV`].
    pub fn to_argv(&self) -> Vec<String> {
        let nodes = self.nodes.len().max(1);
        let per_node = usize::try_from(self.ntasks).unwrap_or(usize::MAX).div_ceil(nodes);
        let mut argv: Vec<String> =
            ["srun", "--overlap", "--overcommit", "--export=ALL"].map(str::to_owned).into();
        argv.push(if self.stdin { "--input=all" } else { "--input=none" }.to_owned());
        argv.extend([
            "--kill-on-bad-exit=1".to_owned(),
            "--cpu-bind=none".to_owned(),
            "--mem=0".to_owned(),
            "--open-mode=append".to_owned(),
            format!("--nodes={nodes}"),
            format!("--ntasks={}", self.ntasks),
            format!("--ntasks-per-node={per_node}"),
            format!("--nodelist={}", self.nodes.join(",")),
            format!("--job-name={}", self.name),
        ]);
        argv.extend(self.output.pattern(self.replaces_twice).map(|pattern| format!("--output={pattern}")));
        argv.extend(self.error.as_ref().map(|path| format!("--error={}", literal(path))));
        argv.extend(self.mpi.as_ref().map(|mpi| format!("--mpi={mpi}")));
        argv.extend(self.chdir.as_ref().map(|dir| format!("--chdir={}", dir.display())));
        argv.extend(self.container.iter().flat_map(Container::options));
        argv.extend(self.extra.iter().cloned());
        if !self.env.is_empty() || !self.unset.is_empty() {
            argv.push("env".to_owned());
            argv.extend(self.unset.iter().flat_map(|name| ["-u".to_owned(), name.clone()]));
            argv.extend(self.env.iter().map(|(name, value)| format!("{name}={value}")));
        }
        argv.extend(self.argv.iter().cloned());
        argv
    }
}

impl StepOutput {
    fn pattern(&self, replaces_twice: bool) -> Option<String> {
        match self {
            Self::Shared(path) => Some(literal(path)),
            Self::PerTask(path) => {
                let once = literal(path);
                Some(task_log(&if replaces_twice { once.replace('%', "%%") } else { once }, "%t"))
            }
            Self::Piped => None,
        }
    }
}

/// Whether srun of this version replaces the patterns of a path with `%t` a second time: 26.05 does, so that `%%j` becomes the job's
/// id. Paths without `%t` it reads once, as 22.05 and 24.11 read all.
pub fn replaces_patterns_twice(version: &str) -> bool {
    let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(26), Some(5))
}

/// A path with `%` escaped, because it would start a pattern.
fn literal(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%%")
}

/// Name of a task's log: `worker-0.log` → `worker-0.t3.log`.
pub fn task_log(log: &str, task: &str) -> String {
    match log.rsplit_once('.').filter(|(_, extension)| !extension.contains('/')) {
        Some((stem, extension)) => format!("{stem}.t{task}.{extension}"),
        None => format!("{log}.t{task}"),
    }
}

impl Container {
    fn options(&self) -> Vec<String> {
        let list = |values: &[String]| (!values.is_empty()).then(|| values.join(","));
        let named = [
            ("image", self.image.clone()),
            ("name", self.name.clone()),
            ("mounts", list(&self.mounts)),
            ("workdir", self.workdir.clone()),
            ("env", list(&self.env)),
        ];
        let named =
            named.into_iter().filter_map(|(key, value)| Some(format!("--container-{key}={}", value?)));
        named.chain(self.flags.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step() -> Step {
        let nodes = ["n1".to_owned(), "n2".to_owned()];
        Step::new(
            "server 0",
            &nodes,
            StepOutput::Shared("/x/50% a.log".into()),
            &["vllm".into(), "serve".into()],
        )
    }

    #[test]
    fn the_whole_argv() {
        let argv = step().to_argv().join("\n");
        let expected = "srun --overlap --overcommit --export=ALL --input=none --kill-on-bad-exit=1 --cpu-bind=none --mem=0 \
            --open-mode=append --nodes=2 --ntasks=2 --ntasks-per-node=1 --nodelist=n1,n2 --job-name=server@0 \
            --output=/x/50%%@a.log vllm serve";
        assert_eq!(argv, expected.replace(' ', "\n").replace('@', " "));
    }

    #[test]
    fn a_step_on_pipes() {
        let step =
            Step { stdin: true, ..Step::new("gpus", &["n1".into()], StepOutput::Piped, &["true".into()]) };
        let argv = step.to_argv();
        assert!(
            argv.contains(&"--input=all".to_owned()) && !argv.contains(&"--input=none".to_owned()),
            "{argv:?}"
        );
        assert!(!argv.iter().any(|word| word.starts_with("--output")), "{argv:?}");
    }

    #[test]
    fn tasks_gpus_mpi_and_extra() {
        let mut step = step();
        step.ntasks = 5;
        step.output = StepOutput::PerTask("/x/w.log".into());
        step.mpi = Some("pmix".into());
        step.env = vec![("CUDA_VISIBLE_DEVICES".into(), "2,3".into()), ("A".into(), "b c".into())];
        step.unset = vec!["UCX_TLS".into()];
        step.error = Some("/x/e%.log".into());
        step.extra = vec!["--het-group=1".into()];
        let argv = step.to_argv();
        for wanted in ["--ntasks=5", "--ntasks-per-node=3", "--output=/x/w.t%t.log", "--mpi=pmix"] {
            assert!(argv.iter().any(|a| a == wanted), "{wanted} in {argv:?}");
        }
        assert!(argv.iter().any(|a| a == "--error=/x/e%%.log"));
        let tail =
            ["--het-group=1", "env", "-u", "UCX_TLS", "CUDA_VISIBLE_DEVICES=2,3", "A=b c", "vllm", "serve"];
        assert_eq!(argv[argv.len() - 8..], tail);
    }

    #[test]
    fn a_percent_sign_of_a_path_stays_one_where_srun_replaces_patterns_twice() {
        for (version, twice) in [("22.05.8", false), ("24.11.5", false), ("26.05.5", true), ("27.02", true)] {
            assert_eq!(replaces_patterns_twice(version), twice, "{version}");
        }
        let mut step = step();
        step.replaces_twice = true;
        assert!(step.to_argv().contains(&"--output=/x/50%% a.log".to_owned()));
        step.output = StepOutput::PerTask("/x/50%j/w.log".into());
        assert!(step.to_argv().contains(&"--output=/x/50%%%%j/w.t%t.log".to_owned()));
    }

    #[test]
    fn containers() {
        let mut step = step();
        step.container = Some(Container {
            image: Some("nvcr.io#nvidia/x:1".into()),
            name: Some("x".into()),
            mounts: vec!["/a:/b:ro".into(), "/c:/c".into()],
            workdir: Some("/w".into()),
            env: vec!["HF_TOKEN".into()],
            flags: vec!["--no-container-mount-home".into()],
        });
        let argv = step.to_argv();
        let from = argv.iter().position(|a| a.starts_with("--container")).unwrap();
        let expected = [
            "--container-image=nvcr.io#nvidia/x:1",
            "--container-name=x",
            "--container-mounts=/a:/b:ro,/c:/c",
            "--container-workdir=/w",
            "--container-env=HF_TOKEN",
            "--no-container-mount-home",
            "vllm",
            "serve",
        ];
        assert_eq!(argv[from..], expected);
        assert!(Container::default().options().is_empty());
    }
}
