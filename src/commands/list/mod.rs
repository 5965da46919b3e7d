//! `tokmark list`: lists recipes, launchers, or what can be submitted as workloads.

mod filters;
mod launchers;
mod recipes;
mod workloads;

use clap::Args;

use self::filters::Filters;
use super::flags::SiteFlag;
use super::planning::Planning;
use super::printer::Printer;

#[derive(Debug, Args)]
pub struct ListArgs {
    /// List launchers instead of recipes
    #[arg(long, conflicts_with = "workload")]
    launchers: bool,
    /// List what `submit -w` takes: all workloads, or one, with sizes, precisions and scales
    #[arg(short, long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    workload: Option<String>,
    /// One line per recipe, with model and published figures
    #[arg(long, conflicts_with_all = ["launchers", "workload"])]
    wide: bool,
    #[command(flatten)]
    filters: Filters,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: SiteFlag,
}

pub fn run(printer: Printer, args: &ListArgs) -> anyhow::Result<()> {
    let printer = printer.with_json(args.json);
    match &args.workload {
        Some(name) => {
            let mut planning = Planning::new(printer, args.flags.site()?, None)?;
            planning.choices.gpu = args.filters.gpu.as_ref().map(|gpu| gpu.to_lowercase());
            workloads::run(printer, &planning, name, &args.filters)
        }
        None if args.launchers => launchers::run(printer),
        None => recipes::run(printer, &args.filters, args.wide),
    }
}
