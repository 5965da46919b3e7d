//! The options of `submit`, and the orders they form.

use std::path::PathBuf;

use clap::Args;

use crate::commands::export::ExportOption;
use crate::commands::flags::{ExperimentFlags, up_to};
use crate::document::{Document, InputError, InputErrors};
use crate::slurm::options;
use crate::workload::file::{self, SuiteFile};
use crate::workload::{Order, Scales};

#[derive(Debug, Args)]
#[command(after_help = "\
A recipe reads some of its values from environment variables, its knobs:
CONCURRENCY=64 tokmark submit RECIPE; `tokmark show RECIPE` lists them.")]
pub struct SubmitArgs {
    /// Recipe: file, name or alias
    #[arg(conflicts_with_all = ["workload", "file"])]
    recipe: Option<String>,
    /// Set a knob of the recipe, or any other variable in the servers' environment (repeatable)
    #[arg(long = "env", value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Show the script and the sbatch call without submitting or writing anything
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Wait for the jobs to end and exit with their (worst) code
    #[arg(long, conflicts_with = "dry_run")]
    pub(super) wait: bool,
    /// Run each deployment of a sweep over server options as a job of its own, at most N at a time; the results are one sweep
    #[arg(long, value_name = "N", value_parser = up_to(1000))]
    pub(super) parallel: Option<u32>,
    /// Skip weights, image, tokenizer and prompt files on this machine; the job only warns about faulty weights
    #[arg(long)]
    pub(super) no_weights_check: bool,
    #[command(flatten)]
    pub(super) exports: ExportOption,
    /// Print JSON: the job, or a list of several
    #[arg(long)]
    pub(super) json: bool,
    // Last, because their headings apply to everything after them.
    #[command(flatten)]
    order: OrderArgs,
    #[command(flatten)]
    slurm: SlurmArgs,
    #[command(flatten)]
    pub(super) flags: ExperimentFlags,
}

/// What to submit, the llmb way.
#[derive(Debug, Args)]
#[command(next_help_heading = "Workloads (a comma makes a list, a list makes a job for each)")]
struct OrderArgs {
    /// Workloads: names or aliases of recipes, optionally with _SIZE at the end (see `tokmark list -w`)
    #[arg(short, long, value_name = "NAME", value_delimiter = ',')]
    workload: Vec<String>,
    /// Size of the model, e.g. 120b
    #[arg(short, long, visible_alias = "model-size")]
    size: Option<String>,
    /// Precision of the weights, e.g. mxfp4
    #[arg(short, long, value_delimiter = ',')]
    dtype: Vec<String>,
    /// Total numbers of GPUs: scales of the recipe [default: its own]
    #[arg(long, value_name = "N", value_delimiter = ',', conflicts_with_all = ["max_scale", "min_scale"])]
    scale: Vec<u32>,
    /// Every scale up to N, largest first; the largest is doubled with replicas up to N
    #[arg(long, value_name = "N")]
    max_scale: Option<u32>,
    /// Every scale from N on
    #[arg(long, value_name = "N")]
    min_scale: Option<u32>,
    /// With --max-scale: do not double the largest scale
    #[arg(long)]
    exact_scales: bool,
    /// Submit one workload with the precision and scale of its recipe, even if you named others
    #[arg(long)]
    force: bool,
    /// Submit each job this many times (of the points of one job: --set load.repeats=N)
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = up_to(1000))]
    repeats: u32,
    // Set as `help`, because rustdoc takes the brackets for a link.
    #[arg(
        help = "Submit a suite: a file of [[job]] tables",
        short, long, value_name = "FILE",
        conflicts_with_all = ["workload", "size", "dtype", "scale", "max_scale", "min_scale", "exact_scales", "force", "repeats"]
    )]
    file: Option<PathBuf>,
}

/// What is passed on to sbatch.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options for sbatch")]
struct SlurmArgs {
    /// Lower the priority of the jobs by N
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    nice: Option<i64>,
    /// Use only these nodes
    #[arg(long, value_name = "NODES")]
    nodelist: Option<String>,
    /// Exclude these nodes
    #[arg(long, value_name = "NODES")]
    exclude: Option<String>,
    /// Use this reservation
    #[arg(long, value_name = "NAME")]
    reservation: Option<String>,
    /// Take the nodes in groups of N, each within one block of the network
    #[arg(long, value_name = "N")]
    segment: Option<u32>,
    /// Pass another option, e.g. --slurm-arg comment=night (repeatable)
    #[arg(long = "slurm-arg", value_name = "KEY=VALUE", allow_hyphen_values = true)]
    slurm_args: Vec<String>,
}

impl SubmitArgs {
    /// Options for sbatch's argv.
    pub(super) fn sbatch(&self) -> Result<Vec<String>, InputErrors> {
        let args = &self.slurm;
        let named = [
            ("nice", args.nice.map(|nice| nice.to_string())),
            ("nodelist", args.nodelist.clone()),
            ("exclude", args.exclude.clone()),
            ("reservation", args.reservation.clone()),
            ("segment", args.segment.map(|segment| segment.to_string())),
        ];
        options::argv(&named, &args.slurm_args).map_err(InputErrors)
    }

    /// `--env`, parsed.
    pub(super) fn env(&self) -> Result<Vec<(String, String)>, InputErrors> {
        let mut errors = Vec::new();
        let mut pairs: Vec<(String, String)> = Vec::new();
        for text in &self.env {
            match text.split_once('=') {
                Some((name, value)) => pairs.push((name.to_owned(), value.to_owned())),
                // Not the text itself, because it may be a secret.
                None => errors.push(InputError::new("--env", "no `=`").expected("--env NAME=VALUE")),
            }
        }
        InputErrors::check(errors)?;
        Ok(pairs)
    }

    /// Whether several jobs may result, so that JSON is a list.
    pub(super) fn is_list(&self) -> bool {
        let order = &self.order;
        order.file.is_some()
            || self.parallel.is_some()
            || order.repeats > 1
            || order.max_scale.or(order.min_scale).is_some()
            || [order.workload.len(), order.dtype.len(), order.scale.len()].iter().any(|count| *count > 1)
    }

    /// The orders, and the suite if they come from a file.
    pub(super) fn orders(&self) -> Result<(Option<SuiteFile>, Vec<Order>), InputErrors> {
        let args = &self.order;
        if let Some(path) = &args.file {
            let (suite, orders) = file::parse(&Document::read(path)?)?;
            return Ok((Some(suite), orders));
        }
        if self.recipe.is_none() && args.workload.is_empty() {
            return Err(InputError::new("submit", "nothing to submit")
                .expected("RECIPE, --workload NAME or --file FILE")
                .next("`tokmark list` and `tokmark list -w` show what there is")
                .into());
        }
        let scales = match (args.max_scale, args.min_scale, args.scale.is_empty()) {
            (None, None, true) => Scales::Own,
            (None, None, false) => Scales::These(args.scale.clone()),
            (max, min, _) => Scales::Within { min, max, exact: args.exact_scales },
        };
        if args.exact_scales && !matches!(scales, Scales::Within { .. }) {
            return Err(InputError::new("--exact-scales", "without --max-scale or --min-scale")
                .next("add one of them, or name the scales: --scale 4,8")
                .into());
        }
        let order = Order {
            recipe: self.recipe.clone(),
            workloads: args.workload.clone(),
            size: args.size.clone(),
            dtypes: args.dtype.clone(),
            scales,
            repeats: args.repeats,
            force: args.force,
            ..Order::default()
        };
        Ok((None, vec![order]))
    }
}
