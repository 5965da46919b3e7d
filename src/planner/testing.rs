//! Plans of small recipes on the simulated engine, for tests.

use crate::document::{Document, InputErrors};
use crate::plan::choices::Choices;
use crate::plan::{Plan, PlanInput};

/// The plan of a recipe with these keys of `[load]`, and further sections behind them.
pub(crate) fn planned(load: &str, choices: Choices) -> Result<Plan, InputErrors> {
    let text = format!(
        "schema = 1\nname = \"r\"\nsummary = \"s\"\n[model]\nname = \"a/m\"\n[deploy]\nlauncher = \"sim\"\n\
         [load]\nisl = 8\nosl = 4\n{load}"
    );
    super::plan(&PlanInput {
        recipe: Document { file: "r.toml".into(), text },
        folder: "/r".into(),
        site: None,
        site_folder: String::new(),
        launcher: crate::launcher::find("sim", None, "r.toml")?,
        stand_in: None,
        choices,
        experiments: "/x".into(),
        version: "0".into(),
    })
}
