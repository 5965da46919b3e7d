//! From the command line to a plan; shared by every verb that plans a recipe.

use std::path::{Path, PathBuf};

use super::VERSION;
use super::printer::Printer;
use crate::analyze::{published, repeats, search};
use crate::document::{InputError, InputErrors};
use crate::launcher;
use crate::plan::Plan;
use crate::plan::choices::{Choices, Scale};
use crate::planner::input::Request;
use crate::planner::{self, engine_options, knobs, sbatch_env};
use crate::recipe::find::{self, RecipeFile};
use crate::render;
use crate::site::SiteFile;

/// What the shared flags come to: all that a plan needs beside its recipe.
#[derive(Debug)]
pub(crate) struct Planning {
    printer: Printer,
    pub(crate) site: SiteFile,
    /// Absolute folder of the experiments.
    pub(crate) experiments: PathBuf,
    /// What the shared flags choose; a verb may choose more.
    pub(crate) choices: Choices,
    pub(crate) rehearse: bool,
}

impl Planning {
    /// Without choices. `experiments` is the folder that the user named.
    pub(crate) fn new(
        printer: Printer,
        site: SiteFile,
        experiments: Option<&Path>,
    ) -> Result<Self, InputError> {
        let experiments = self::experiments(experiments, &site)?;
        Ok(Self { printer, site, experiments, choices: Choices::default(), rehearse: false })
    }

    /// The choices at another scale that the recipe offers.
    pub(crate) fn at_scale(&self, scale: Option<u32>) -> Choices {
        Choices { scale: scale.map(Scale::of), ..self.choices.clone() }
    }

    /// Plans the recipe that the user named, and warns about knobs without effect.
    pub(crate) fn plan_named(&self, recipe: &str, choices: Choices) -> Result<Plan, InputErrors> {
        let plan = self.plan(&find::named(recipe)?, choices)?;
        render::check(&plan)?;
        warn_about(self.printer, &plan);
        Ok(plan)
    }

    /// Plans a recipe file with this process's environment.
    pub(crate) fn plan(&self, file: &RecipeFile, mut choices: Choices) -> Result<Plan, InputErrors> {
        choices.variables = sbatch_env::variables(&file.recipe, &|name| std::env::var(name).ok());
        let request = Request {
            file,
            folder: folder(file)?,
            site: &self.site,
            choices,
            rehearse: self.rehearse,
            experiments: self.experiments.display().to_string(),
            version: VERSION.to_owned(),
        };
        let find = |name: &str, origin: &str| launcher::find(name, file.folder.as_deref(), origin);
        let plan = planner::plan(&request.input(&find)?)?;
        published::check(file, &plan)?;
        repeats::check(&plan)?;
        search::check(&plan)?;
        super::sim::check(&plan)?;
        Ok(plan)
    }

    /// The GPU type of the command line, else the site's.
    pub(crate) fn gpu(&self) -> Option<&str> {
        self.choices.gpu.as_deref().or(self.site.site.gpu.as_deref())
    }

    /// Plans a recipe for a GPU type; without one for each that it is written for.
    pub(crate) fn plan_for_gpus(
        &self,
        file: &RecipeFile,
        gpu: Option<&str>,
    ) -> Vec<(Choices, Result<Plan, InputErrors>)> {
        let mut gpus: Vec<Option<String>> = file.recipe.gpu.keys().cloned().map(Some).collect();
        if gpus.is_empty() || gpu.is_some() {
            // The site's is found again, with the site file as its place.
            gpus = vec![self.choices.gpu.clone()];
        }
        let plan = |gpu| {
            let choices = Choices { gpu, ..self.choices.clone() };
            (choices.clone(), self.plan(file, choices))
        };
        gpus.into_iter().map(plan).collect()
    }
}

/// Warns about knobs without effect, containers, and options that the engine's table lacks.
pub(crate) fn warn_about(printer: Printer, plan: &Plan) {
    let warnings = knobs::without_effect(plan).into_iter().chain(planner::container::warnings(plan));
    let warnings = warnings.chain(engine_options::unknown(plan));
    warnings.for_each(|warning| printer.note(format!("warning: {warning}")));
}

/// Warns about a job that ends before its load.
pub(crate) fn warn_about_time(printer: Printer, plan: &Plan) {
    plan.too_short().into_iter().for_each(|warning| printer.note(format!("warning: {warning}")));
}

/// The folder that a recipe's relative paths start from: its own, or the working directory.
fn folder(file: &RecipeFile) -> Result<String, InputError> {
    let folder = file.folder.as_deref().filter(|folder| !folder.as_os_str().is_empty());
    std::path::absolute(folder.unwrap_or(Path::new(".")))
        .map(|folder| folder.display().to_string())
        .map_err(|error| InputError::new(&file.document.file, format!("its folder cannot be found: {error}")))
}

/// Absolute folder of the experiments: the one that the user named, else the site's, else `./experiments`.
pub(crate) fn experiments(named: Option<&Path>, site: &SiteFile) -> Result<PathBuf, InputError> {
    let folder =
        named.or(site.site.experiments.as_deref().map(Path::new)).unwrap_or(Path::new("experiments"));
    std::path::absolute(folder)
        .map_err(|error| InputError::new("--experiments", format!("{}: {error}", folder.display())))
}

/// Absolute path of this binary, for scripts and the simulated engine.
pub(crate) fn this_binary() -> std::io::Result<String> {
    Ok(std::env::current_exe()?.display().to_string())
}
