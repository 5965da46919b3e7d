//! From the command line to a plan; shared by every verb that plans a recipe.

use std::path::{Path, PathBuf};

use super::printer::Printer;
use crate::analyze::published;
use crate::document::{InputError, InputErrors};
use crate::flags::Global;
use crate::launcher::{self, LauncherFile};
use crate::plan::Plan;
use crate::plan::choices::{Choices, Scale};
use crate::planner::input::{Launchers, Request};
use crate::planner::{self, knobs, sbatch_env};
use crate::recipe::find::{self, RecipeFile};
use crate::render;
use crate::site::SiteFile;

/// Plans the recipe that the user named, at its own scale or another one that it offers.
pub(crate) fn plan(global: &Global, recipe: &str, scale: Option<u32>) -> Result<Plan, InputErrors> {
    plan_with(global, recipe, Choices { scale: scale.map(Scale::of), ..choices(global) })
}

/// The same with all choices. Warns about knobs without effect.
pub(crate) fn plan_with(global: &Global, recipe: &str, choices: Choices) -> Result<Plan, InputErrors> {
    let site = SiteFile::load(global.site.as_deref())?;
    let plan = plan_file(global, &site, &find::named(recipe)?, choices)?;
    render::check(&plan)?;
    warn_without_effect(Printer::new(global, false), &plan);
    Ok(plan)
}

/// Warns about knobs without effect.
pub(crate) fn warn_without_effect(printer: Printer, plan: &Plan) {
    for warning in knobs::without_effect(plan) {
        printer.note(format!("warning: {warning}"));
    }
}

/// The choices from the options that all verbs share.
pub(crate) fn choices(global: &Global) -> Choices {
    let sets = global.sets.clone();
    Choices { gpu: global.gpu.clone(), sets, scale_load: global.scale_load, ..Choices::default() }
}

/// Launchers next to a recipe, in the user's configuration and in the binary.
struct Beside<'a>(Option<&'a Path>);

impl Launchers for Beside<'_> {
    fn find(&self, name: &str, origin: &str) -> Result<LauncherFile, InputErrors> {
        launcher::find(name, self.0, origin)
    }

    fn stand_in(&self) -> Option<String> {
        launcher::standing_in().map(|launcher| launcher.name)
    }
}

/// Plans a recipe file with this process's environment.
pub(crate) fn plan_file(
    global: &Global,
    site: &SiteFile,
    file: &RecipeFile,
    mut choices: Choices,
) -> Result<Plan, InputErrors> {
    choices.variables = sbatch_env::variables(&file.recipe, &|name| std::env::var(name).ok());
    let request = Request {
        file,
        folder: folder(file)?,
        site,
        choices,
        rehearse: global.rehearse,
        experiments: experiments(global, site)?.display().to_string(),
        version: crate::flags::VERSION.to_owned(),
    };
    let plan = planner::plan(&request.input(&Beside(file.folder.as_deref()))?)?;
    published::check(file, &plan)?;
    Ok(plan)
}

/// The folder that a recipe's relative paths start from: its own, or the working directory.
fn folder(file: &RecipeFile) -> Result<String, InputError> {
    let folder = file.folder.as_deref().filter(|folder| !folder.as_os_str().is_empty());
    std::path::absolute(folder.unwrap_or(Path::new(".")))
        .map(|folder| folder.display().to_string())
        .map_err(|error| InputError::new(&file.document.file, format!("its folder cannot be found: {error}")))
}

/// Absolute folder of the experiments: `--experiments`, else the site's, else `./experiments`.
pub(crate) fn experiments(global: &Global, site: &SiteFile) -> Result<PathBuf, InputError> {
    let chosen = global
        .experiments
        .clone()
        .or_else(|| site.site.experiments.clone().map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("experiments"));
    std::path::absolute(&chosen)
        .map_err(|error| InputError::new("--experiments", format!("{}: {error}", chosen.display())))
}

/// Absolute path of this binary, for scripts and the simulated engine.
pub(crate) fn this_binary() -> std::io::Result<String> {
    Ok(std::env::current_exe()?.display().to_string())
}
