//! Flags that several verbs take, and the version they report.

use std::path::PathBuf;

use clap::Args;

/// Version with the commit it was built from.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("TOKMARK_COMMIT"), ")");

/// Options of every verb.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Site file [default: $TOKMARK_SITE, ./site.toml, ~/.config/tokmark/site.toml]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub site: Option<PathBuf>,
    /// Set a value of the recipe, e.g. --set load.concurrency=64 (repeatable)
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", help_heading = "Global options")]
    pub sets: Vec<String>,
    /// Folder of the experiments [default: the site's, else ./experiments]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub experiments: Option<PathBuf>,
    /// GPU type [default: the site's, or the recipe's only one]
    #[arg(long, global = true, value_name = "TYPE", help_heading = "Global options")]
    pub gpu: Option<String>,
    /// Drive this share of the recipe's requests and time, e.g. 0.01; the results say so
    #[arg(long, global = true, value_name = "SHARE", value_parser = share, help_heading = "Global options")]
    pub scale_load: Option<f64>,
    /// The recipe on the simulated engine, at a hundredth of its load unless --scale-load says otherwise
    #[arg(long, global = true, help_heading = "Global options")]
    pub rehearse: bool,
    /// Say more: every event as it happens
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub verbose: bool,
    /// Say nothing but results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    pub quiet: bool,
}

/// The value of `--scale-load`: a share above 0 and up to 1.
fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("expected a share above 0 and up to 1, e.g. 0.01".into()),
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
