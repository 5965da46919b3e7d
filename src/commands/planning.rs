//! From the command line to a plan: the steps `show`, `check`, `render`, `submit` and `run` share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::printer::Printer;
use crate::analyze::published;
use crate::deploy::connection;
use crate::document::{Document, InputError, InputErrors};
use crate::flags::Global;
use crate::launcher;
use crate::plan::choices::{Choices, Scale};
use crate::plan::container::host_path;
use crate::plan::{Connection, Plan, Proxy};
use crate::planner::resolve::{Resolved, resolve};
use crate::planner::sources::{self, Parts};
use crate::prompts::{self, TokenizerCache};
use crate::recipe::find::{self, RecipeFile};
use crate::render::{self, Addresses, Placed, RenderError};
use crate::site::SiteFile;
use crate::weights::{self, ModelFolder};

/// A recipe on its way to a plan.
pub(crate) struct Planned {
    /// The recipe file.
    pub(crate) file: RecipeFile,
    /// Its merged form.
    pub(crate) resolved: Resolved,
    /// The launcher file.
    pub(crate) launcher: Document,
    /// The plan.
    pub(crate) plan: Plan,
}

/// Resolves and plans the recipe a user named, at its own scale or another one it offers.
pub(crate) fn plan(global: &Global, recipe: &str, scale: Option<u32>) -> Result<Planned, InputErrors> {
    plan_with(global, recipe, Choices { scale: scale.map(Scale::of), ..chosen(global) })
}

/// The same with everything that was chosen.
pub(crate) fn plan_with(global: &Global, recipe: &str, chosen: Choices) -> Result<Planned, InputErrors> {
    let site = SiteFile::load(global.site.as_deref())?;
    let planned = plan_file(global, &site, find::named(recipe)?, chosen)?;
    check_templates(&planned)?;
    warn_without_effect(Printer::new(global, false), &planned.plan);
    Ok(planned)
}

/// Warns of knobs that were given in vain.
pub(crate) fn warn_without_effect(printer: Printer, plan: &Plan) {
    for warning in sources::without_effect(plan) {
        printer.note(format!("warning: {warning}"));
    }
}

/// What the options of every verb choose.
pub(crate) fn chosen(global: &Global) -> Choices {
    let sets = global.sets.clone();
    Choices { gpu: global.gpu.clone(), sets, scale_load: global.scale_load, ..Choices::default() }
}

/// How much of the load `--rehearse` drives when `--scale-load` says nothing.
const REHEARSAL: f64 = 0.01;

/// `--rehearse`, or a `--set deploy.launcher` that names an engine which stands in for others: the recipe on that engine, unless
/// it is the recipe's own.
fn rehearse(
    global: &Global,
    site: &SiteFile,
    file: &RecipeFile,
    chosen: &mut Choices,
) -> Result<Option<Document>, InputErrors> {
    let beside = file.folder.as_deref();
    let set = chosen.set("deploy.launcher").map(|value| value.trim_matches('"').to_owned());
    let stands_in = |name: &String| {
        launcher::named(name, beside, "--set").is_ok_and(|launcher| launcher.stand_in.is_some())
    };
    let name = match (set, global.rehearse) {
        (Some(name), _) if stands_in(&name) => name,
        (Some(name), true) => {
            let found = format!("found beside --set deploy.launcher={name}, which stands in for no engine");
            return Err(InputError::new("--rehearse", found).expected("one of them").into());
        }
        (None, true) => match launcher::standing_in() {
            Some(launcher) => launcher.name,
            None => return Ok(None),
        },
        (_, false) => return Ok(None),
    };
    if global.rehearse {
        chosen.scale_load = chosen.scale_load.or(Some(REHEARSAL));
    }
    let mut rehearsed = chosen.clone();
    rehearsed.rehearse(&name);
    // A GPU section, a knob or --env may choose the engine as well.
    let own = resolve(file, site, &rehearsed)?.recipe.deploy.launcher;
    if own.as_deref() == Some(name.as_str()) {
        return Ok(None);
    }
    *chosen = rehearsed;
    launcher::find(&name, beside, "--rehearse").map(Some)
}

/// Resolves and plans a recipe file, with the environment as it is.
pub(crate) fn plan_file(
    global: &Global,
    site: &SiteFile,
    file: RecipeFile,
    mut chosen: Choices,
) -> Result<Planned, InputErrors> {
    chosen.look(&file.recipe, &|name| std::env::var(name).ok());
    let stand_in = rehearse(global, site, &file, &mut chosen)?;
    let resolved = resolve(&file, site, &chosen)?;
    let name = resolved.recipe.deploy.launcher.clone().unwrap_or_default();
    let origin = resolved.at("deploy.launcher", "").origin;
    let launcher = launcher::find(&name, file.folder.as_deref(), &origin)?;
    let plan = sources::make(Parts {
        file: &file,
        folder: folder(&file)?,
        site,
        launcher: &launcher,
        stand_in: stand_in.as_ref(),
        chosen,
        resolved: &resolved,
        experiments: experiments(global, site)?.display().to_string(),
        version: crate::flags::VERSION.to_owned(),
    })?;
    published::check(&file, &plan)?;
    if global.rehearse && !plan.simulated {
        let found = format!("launcher {:?} is no simulated engine", plan.launcher.name);
        return Err(InputError::new("--rehearse", found).into());
    }
    Ok(Planned { file, resolved, launcher, plan })
}

/// Where relative paths of a recipe start: its folder, or here.
fn folder(file: &RecipeFile) -> Result<String, InputError> {
    let folder = file.folder.as_deref().filter(|folder| !folder.as_os_str().is_empty());
    std::path::absolute(folder.unwrap_or(Path::new(".")))
        .map(|folder| folder.display().to_string())
        .map_err(|error| InputError::new(&file.document.file, format!("its folder cannot be told: {error}")))
}

/// Renders everything with made-up hosts, so that a template that cannot be is named before anything is made.
pub(crate) fn check_templates(planned: &Planned) -> Result<(), InputErrors> {
    let plan = &planned.plan;
    let mut errors = Vec::new();
    let mut check = |result: Result<(), RenderError>| {
        if let Err(error) = result {
            errors.push(locate(planned, error));
        }
    };
    check(render::script(plan, "/path/to/tokmark", &[]).map(drop));
    for deployment in &plan.deployments {
        let addresses = Addresses::sample(plan, deployment);
        let placed = Placed { plan, deployment, addresses: &addresses };
        for process in &deployment.processes {
            check(placed.process(process).map(drop));
            let role = plan.launcher.role(&process.role);
            if let Some(page) = role.and_then(|role| role.metrics.as_ref()) {
                check(placed.has_page(process, page).map(drop));
            }
            if let Some(rule) = role.and_then(|role| role.ready.as_ref()) {
                check(placed.ready(process, rule).map(drop));
            }
        }
        check(placed.endpoint_urls().map(drop));
    }
    errors.dedup();
    InputErrors::check(errors)
}

/// Says in which file the template is, and under which key.
fn locate(planned: &Planned, error: RenderError) -> InputError {
    let RenderError::Template { what, problem } = error else {
        return InputError::new(&planned.plan.recipe.file, error.to_string());
    };
    let of_launcher = format!("launcher {}: ", planned.plan.launcher.name);
    match what.strip_prefix(&of_launcher) {
        Some(key) => InputError::new(&planned.launcher.file, problem).key(key),
        None if what.starts_with("endpoint") => InputError::new(&planned.launcher.file, problem).key(what),
        None => InputError::new(&planned.plan.recipe.file, problem).key(what),
    }
}

/// Folder of the experiments, absolute: `--experiments`, else the site's, else `./experiments`.
pub(crate) fn experiments(global: &Global, site: &SiteFile) -> Result<PathBuf, InputError> {
    let chosen = global
        .experiments
        .clone()
        .or_else(|| site.site.experiments.clone().map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("experiments"));
    std::path::absolute(&chosen)
        .map_err(|error| InputError::new("--experiments", format!("{}: {error}", chosen.display())))
}

/// Checks that a model given by path is there. A bare name is left to the engine.
pub(crate) fn check_weights(global: &Global, plan: &Plan) -> Result<(), InputErrors> {
    let path = &plan.model.path;
    let here = PathBuf::from(host_path(plan.container.as_ref(), path));
    if !plan.reads_weights() || here.exists() {
        return Ok(());
    }
    let site = SiteFile::load(global.site.as_deref())?;
    let (origin, key) = match plan.origins.get("model.path") {
        Some(origin) => (origin.to_string(), "model.path".to_owned()),
        None => site.place_of_model(&plan.gpu.kind, &plan.model.name),
    };
    let shown = here.display().to_string();
    Err(InputError::new(origin, format!("the weights folder {shown:?} does not exist here"))
        .key(key)
        .expected("a folder with the model's weights")
        .next("correct the path, or leave it out to let the engine find the model by name")
        .into())
}

/// Looks through the weights of plans, a folder once: what may be wrong with them, in words.
///
/// # Errors
/// A folder that is not there or not whole; everything that is wrong with all of them.
pub(crate) fn examine_weights<'a>(
    global: &Global,
    plans: impl IntoIterator<Item = &'a Plan>,
) -> Result<Vec<String>, InputErrors> {
    let tokenizers = TokenizerCache::default();
    let mut seen: Vec<ModelFolder> = Vec::new();
    let (mut remarks, mut errors) = (Vec::new(), Vec::new());
    for plan in plans {
        let Some(subject) = ModelFolder::of(plan).filter(|subject| !seen.contains(subject)) else { continue };
        match check_weights(global, plan) {
            Err(InputErrors(problems)) => errors.extend(problems),
            Ok(()) => {
                let found = weights::examine(&subject, &tokenizers);
                errors.extend(found.problems);
                let told = |remark| format!("weights in {}: {remark}", subject.folder);
                remarks.extend(found.remarks.into_iter().map(told));
            }
        }
        seen.push(subject);
    }
    InputErrors::check(errors).map(|()| remarks)
}

/// Checks that a container image given by path is there and whole.
pub(crate) fn check_image(global: &Global, plan: &Plan) -> Result<(), InputErrors> {
    let Some(image) = plan.container.as_ref().and_then(|container| container.image_file()) else {
        return Ok(());
    };
    let whole = weights::image::verify(image);
    if whole.is_ok() {
        return Ok(());
    }
    let site = SiteFile::load(global.site.as_deref())?;
    let named = plan.resolved["container"]["image"].as_str().unwrap_or_default();
    let (origin, key) = site
        .place_of_image(&plan.gpu.kind, named)
        .unwrap_or_else(|| (plan.place_of("container.image"), "container.image".to_owned()));
    let shown = image.display().to_string();
    let (problem, next) = match whole {
        Err(problem) if image.exists() => {
            (format!("the image {problem}"), "copy or import it again, or correct the path")
        }
        _ => (
            format!("the image {shown:?} does not exist here"),
            "correct the path; if only compute nodes see it, give --no-weights-check",
        ),
    };
    Err(InputError::new(origin, problem).key(key).expected("a whole .sqsh or .sif file").next(next).into())
}

/// Checks what a recipe says about the connection as far as this machine knows it: `secrets` are read where the load runs.
pub(crate) fn check_connection(plan: &Plan, secrets: bool) -> Result<(), InputErrors> {
    for deployment in &plan.deployments {
        let here = deployment.connection.clone();
        let here = if secrets {
            here
        } else {
            Connection { proxy: Proxy::Off, api_key: None, headers: BTreeMap::new(), ..here }
        };
        // The one of a server that is not started yet is not known; any address of its kind does.
        let first = deployment.url.clone().unwrap_or_else(|| "http://127.0.0.1".into());
        let urls = std::iter::once(first).chain(deployment.more_urls.iter().cloned()).collect();
        connection::target(urls, &plan.model.served_name, &here).map_err(|error| plan.locate(error))?;
    }
    Ok(())
}

/// Makes the prompts of every load point ready once: files that are missing or are not what they should be, lengths that cannot
/// be. Before servers are started for them.
pub(crate) fn check_prompts(plan: &Plan) -> Result<(), InputErrors> {
    let points = plan.points().map(|(_, point)| point);
    prompts::check::check(points, &TokenizerCache::default()).map_err(|InputErrors(errors)| {
        InputErrors(errors.into_iter().map(|error| prompts_error(plan, error)).collect())
    })
}

/// Adds the place of the value to an error about prompts that is about a value of the recipe, not about a file of its own.
pub(crate) fn prompts_error(plan: &Plan, error: InputError) -> InputError {
    if error.key.is_none() {
        return error;
    }
    let problem = format!("{} of {}", error.problem, error.origin);
    plan.locate(InputError { problem, ..error })
}

/// Absolute path of this binary, for scripts and the simulated engine.
pub(crate) fn this_binary() -> std::io::Result<String> {
    Ok(std::env::current_exe()?.display().to_string())
}
