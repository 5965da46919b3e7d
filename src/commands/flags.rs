//! Flags that several verbs take, in groups that a verb flattens where they mean something. Each verb resolves its groups once.

use std::path::PathBuf;

use clap::Args;
use clap::builder::TypedValueParser;

use super::planning::{self, Planning};
use super::printer::Printer;
use crate::document::InputErrors;
use crate::plan::choices::Choices;
use crate::site::SiteFile;

const COMMON: &str = "Common options";

/// How much is printed: every verb takes it.
#[derive(Debug, Clone, Copy, Args)]
pub struct Verbosity {
    /// Print every event as it happens
    #[arg(short, long, global = true, help_heading = COMMON)]
    pub(super) verbose: bool,
    /// Print only results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = COMMON)]
    pub(super) quiet: bool,
}

/// Which site.
#[derive(Debug, Clone, Args)]
pub struct SiteFlag {
    /// Site file [default: $TOKMARK_SITE, ./site.toml, ~/.config/tokmark/site.toml]
    #[arg(long, global = true, value_name = "FILE", help_heading = COMMON)]
    site: Option<PathBuf>,
}

/// Where experiments are kept.
#[derive(Debug, Clone, Args)]
pub struct HistoryFlags {
    #[command(flatten)]
    site: SiteFlag,
    /// Folder of the experiments [default: the site's, else ./experiments]
    #[arg(long, global = true, value_name = "DIR", help_heading = COMMON)]
    experiments: Option<PathBuf>,
}

/// What is laid over a recipe.
#[derive(Debug, Clone, Args)]
pub struct RecipeFlags {
    /// GPU type [default: the site's, or the recipe's only one]
    #[arg(long, value_name = "TYPE", help_heading = COMMON)]
    gpu: Option<String>,
    /// Set a value of the recipe, e.g. --set load.concurrency=64 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE", help_heading = COMMON)]
    sets: Vec<String>,
    /// Send this share of the recipe's requests and time, e.g. 0.01; the results say so
    #[arg(long, value_name = "SHARE", value_parser = share, help_heading = COMMON)]
    scale_load: Option<f64>,
    /// Pass on engine options and values that tokmark does not know, without a warning
    #[arg(long, help_heading = COMMON)]
    allow_unknown: bool,
    /// Run the recipe on the simulated engine, at a hundredth of its load unless --scale-load is given
    #[arg(long, help_heading = COMMON)]
    rehearse: bool,
}

/// Flags of a verb that plans a recipe.
#[derive(Debug, Clone, Args)]
pub struct PlanFlags {
    #[command(flatten)]
    recipe: RecipeFlags,
    #[command(flatten)]
    site: SiteFlag,
}

/// Flags of a verb that plans a recipe and keeps the experiment.
#[derive(Debug, Clone, Args)]
pub struct ExperimentFlags {
    #[command(flatten)]
    recipe: RecipeFlags,
    #[command(flatten)]
    history: HistoryFlags,
}

/// A whole number within bounds, both included.
pub(super) fn whole_number(text: &str, low: i64, high: i64) -> Result<i64, String> {
    let number = text.trim().parse().ok().filter(|number| (low..=high).contains(number));
    let most = if high < u32::MAX.into() { format!("to {high}") } else { "on".to_owned() };
    number.ok_or_else(|| format!("expected a whole number from {low} {most}"))
}

/// From 1 to `high`: jobs, repeats, GPUs.
pub(super) fn up_to(high: u32) -> impl TypedValueParser<Value = u32> {
    move |text: &str| whole_number(text, 1, high.into()).map(|number| number as u32)
}

/// The value of `--scale-load`: a share above 0 and up to 1.
fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("expected a share above 0 and up to 1, e.g. 0.01".into()),
    }
}

impl SiteFlag {
    pub(super) fn site(&self) -> Result<SiteFile, InputErrors> {
        SiteFile::load(self.site.as_deref())
    }
}

impl HistoryFlags {
    /// Absolute folder of the experiments.
    pub(super) fn folder(&self) -> Result<PathBuf, InputErrors> {
        Ok(planning::experiments(self.experiments.as_deref(), &self.site.site()?)?)
    }

    /// The file of the cluster's own references: beside the site file, without one in the current folder.
    pub(super) fn references(&self) -> Result<PathBuf, InputErrors> {
        let site = self.site.site()?.document.map(|document| PathBuf::from(document.file));
        Ok(site.unwrap_or_default().with_file_name("references.toml"))
    }
}

impl RecipeFlags {
    fn lay(&self, mut planning: Planning) -> Planning {
        let Self { gpu, sets, scale_load, allow_unknown, rehearse } = self.clone();
        planning.choices = Choices { gpu, sets, scale_load, allow_unknown, ..Choices::default() };
        planning.rehearse = rehearse;
        planning
    }
}

impl PlanFlags {
    pub(super) fn planning(&self, printer: Printer) -> Result<Planning, InputErrors> {
        Ok(self.recipe.lay(Planning::new(printer, self.site.site()?, None)?))
    }

    /// For a recipe to which the site does not apply.
    pub(super) fn planning_without_site(&self, printer: Printer) -> Result<Planning, InputErrors> {
        Ok(self.recipe.lay(Planning::new(printer, SiteFile::default(), None)?))
    }
}

impl ExperimentFlags {
    pub(super) fn planning(&self, printer: Printer) -> Result<Planning, InputErrors> {
        let site = self.history.site.site()?;
        Ok(self.recipe.lay(Planning::new(printer, site, self.history.experiments.as_deref())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_is_above_0_and_at_most_1() {
        assert_eq!(share("0.01"), Ok(0.01));
        assert_eq!(share("1"), Ok(1.0));
        for text in ["0", "-1", "1.5", "NaN", "inf", "1%", ""] {
            assert!(share(text).is_err(), "{text}");
        }
    }
}
