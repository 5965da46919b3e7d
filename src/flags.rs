//! Flags that several verbs take, each in a group that a verb flattens where it means something, and the version.

use std::path::PathBuf;

use clap::Args;

/// Version with the commit it was built from.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("TOKMARK_COMMIT"), ")");

const COMMON: &str = "Common options";

/// How much is printed: every verb takes it.
#[derive(Debug, Clone, Copy, Args)]
pub struct Verbosity {
    /// More output: every event as it happens
    #[arg(short, long, global = true, help_heading = COMMON)]
    verbose: bool,
    /// Only results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = COMMON)]
    quiet: bool,
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
    /// Drive this share of the recipe's requests and time, e.g. 0.01; the results say so
    #[arg(long, value_name = "SHARE", value_parser = share, help_heading = COMMON)]
    scale_load: Option<f64>,
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

/// The value of `--scale-load`: a share above 0 and up to 1.
fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("expected a share above 0 and up to 1, e.g. 0.01".into()),
    }
}

/// The values of all groups; those that a verb does not take are empty.
#[derive(Debug, Clone, Default)]
pub struct Global {
    /// `--site`
    pub site: Option<PathBuf>,
    /// `--set`
    pub sets: Vec<String>,
    /// `--experiments`
    pub experiments: Option<PathBuf>,
    /// `--gpu`
    pub gpu: Option<String>,
    /// `--scale-load`
    pub scale_load: Option<f64>,
    /// `--rehearse`
    pub rehearse: bool,
    /// `--verbose`
    pub verbose: bool,
    /// `--quiet`
    pub quiet: bool,
}

impl From<Verbosity> for Global {
    fn from(Verbosity { verbose, quiet }: Verbosity) -> Self {
        Self { verbose, quiet, ..Self::default() }
    }
}

impl SiteFlag {
    /// With this group's values.
    pub fn over(&self, global: Global) -> Global {
        Global { site: self.site.clone(), ..global }
    }
}

impl HistoryFlags {
    /// With this group's values.
    pub fn over(&self, global: Global) -> Global {
        Global { experiments: self.experiments.clone(), ..self.site.over(global) }
    }
}

impl RecipeFlags {
    fn over(&self, global: Global) -> Global {
        let Self { gpu, sets, scale_load, rehearse } = self.clone();
        Global { gpu, sets, scale_load, rehearse, ..global }
    }
}

impl PlanFlags {
    /// With this group's values.
    pub fn over(&self, global: Global) -> Global {
        self.site.over(self.recipe.over(global))
    }
}

impl ExperimentFlags {
    /// With this group's values.
    pub fn over(&self, global: Global) -> Global {
        self.history.over(self.recipe.over(global))
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
