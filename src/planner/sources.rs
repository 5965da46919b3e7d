//! From everything a plan is made of to the plan, and again from the plan alone: a job whose environment sets a knob
//! otherwise plans again, on the same path as the submission would have.
//!
//! Pure, like all of `planner`.

use std::path::PathBuf;

use super::build::{Input, build};
use super::resolve::{Resolved, resolve};
use super::{sbatch_env, scale};
use crate::document::{Document, InputErrors};
use crate::launcher;
use crate::plan::choices::Choices;
use crate::plan::sources::Sources;
use crate::plan::{Plan, RecipeText};
use crate::recipe::Origin;
use crate::recipe::find::RecipeFile;
use crate::site::SiteFile;

/// All that a plan is made of.
pub struct Parts<'a> {
    /// The recipe file.
    pub file: &'a RecipeFile,
    /// Folder that relative paths of the recipe start at, absolute.
    pub folder: String,
    /// The site.
    pub site: &'a SiteFile,
    /// The launcher file.
    pub launcher: &'a Document,
    /// The file of the launcher that stands in for it.
    pub stand_in: Option<&'a Document>,
    /// What the user chose, of which `resolved` was made.
    pub chosen: Choices,
    /// The merged recipe.
    pub resolved: &'a Resolved,
    /// Folder of the experiments, absolute.
    pub experiments: String,
    /// Version of this tokmark.
    pub version: String,
}

/// Makes the plan, which then remembers what it was made from.
pub fn make(parts: Parts<'_>) -> Result<Plan, InputErrors> {
    let stand_in = parts.stand_in.map(launcher::parse).transpose()?;
    let mut plan = build(Input {
        file: parts.file,
        resolved: parts.resolved,
        site: parts.site,
        launcher: launcher::parse(parts.launcher)?,
        experiments: parts.experiments,
        version: parts.version,
        rehearsal: parts
            .chosen
            .rehearsal
            .clone()
            .zip(stand_in)
            .map(|(rehearsal, launcher)| (launcher, rehearsal)),
        scale_load: parts.chosen.scale_load,
    })?;
    if let Some(scale) = parts.chosen.scale {
        scale::check(&plan, parts.file, scale)?;
    }
    let gpus = plan.gpus_on_a_node();
    let directives = sbatch_env::apply(&mut plan.job, &parts.chosen, gpus).map_err(InputErrors)?;
    let verbatim =
        |document: &Document| RecipeText { file: document.file.clone(), text: document.text.clone() };
    let of_site = |document: &Document| RecipeText {
        file: document.file.clone(),
        text: without_comments(&document.text),
    };
    plan.sources = Some(Sources {
        folder: parts.folder,
        site: parts.site.document.as_ref().map(of_site),
        launcher: verbatim(parts.launcher),
        stand_in: parts.stand_in.map(verbatim),
        chosen: parts.chosen,
        directives,
    });
    Ok(plan)
}

/// A site file is nobody's to publish, and what was commented out in it (an old token, a colleague's path) is not needed: lines
/// that are comments are emptied, unless that would change what the file says.
fn without_comments(text: &str) -> String {
    let kept: Vec<&str> =
        text.lines().map(|line| if line.trim_start().starts_with('#') { "" } else { line }).collect();
    let kept = format!("{}\n", kept.join("\n"));
    let same = matches!((toml::from_str::<toml::Table>(text), toml::from_str::<toml::Table>(&kept)), (Ok(a), Ok(b)) if a == b);
    if same { kept } else { text.to_owned() }
}

/// The plan as the environment of its job wants it: `None` when that says nothing new.
pub fn again(frozen: &Plan, env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Plan>, InputErrors> {
    let Some(sources) = &frozen.sources else { return Ok(None) };
    let document = |text: &RecipeText| Document { file: text.file.clone(), text: text.text.clone() };
    let file = RecipeFile::parse(document(&frozen.recipe), Some(PathBuf::from(&sources.folder)))?;
    let Some(chosen) = sources.chosen.in_job(&file.recipe.knobs, env) else { return Ok(None) };
    let site =
        sources.site.as_ref().map(|text| SiteFile::parse(document(text))).transpose()?.unwrap_or_default();
    let resolved = resolve(&file, &site, &chosen)?;
    let launcher = resolved.recipe.deploy.launcher.as_deref().unwrap_or_default();
    let rendered = launcher::parse(&document(&sources.launcher))?.name;
    if launcher != rendered {
        let found = format!("found {launcher:?}, and the script was rendered for {rendered:?}");
        return Err(resolved
            .at("deploy.launcher", found)
            .next("set it when the script is rendered or submitted")
            .into());
    }
    make(Parts {
        file: &file,
        folder: sources.folder.clone(),
        site: &site,
        launcher: &document(&sources.launcher),
        stand_in: sources.stand_in.as_ref().map(document).as_ref(),
        chosen,
        resolved: &resolved,
        experiments: frozen.experiments.clone(),
        version: frozen.tokmark.clone(),
    })
    .map(Some)
}

/// Variables of the job that the plan was made anew for, as `NAME=VALUE`; not those without effect.
pub fn seen_in_job(plan: &Plan) -> Vec<String> {
    let variables = plan.sources.iter().flat_map(|sources| &sources.chosen.variables);
    variables
        .filter(|(name, seen)| seen.in_job && overrules(plan, name).is_none())
        .map(|(name, seen)| format!("{name}={}", seen.value))
        .collect()
}

/// The option that wins over a knob's variable, as one says it: `--set load.isl`, `--env ISL`.
pub fn overrules(plan: &Plan, knob: &str) -> Option<String> {
    let key = plan.resolved.get("knobs")?.get(knob)?.as_str()?;
    match plan.origins.get(key)? {
        Origin::Set => Some(format!("--set {key}")),
        origin @ (Origin::Env(_) | Origin::Flag(_)) => Some(origin.to_string()),
        Origin::Default | Origin::File { .. } | Origin::Variable { .. } => None,
    }
}

/// What was given for knobs and has no effect, each with its reason, in words. Values are not told: they may be secrets.
pub fn without_effect(plan: &Plan) -> Vec<String> {
    let Some(Sources { chosen, .. }) = &plan.sources else { return Vec::new() };
    let of_variables = chosen
        .variables
        .iter()
        .filter_map(|(name, seen)| Some((seen.origin(name).to_string(), overrules(plan, name)?)));
    let of_env = chosen.env.iter().filter_map(|(name, _)| {
        let origin = format!("--env {name}");
        overrules(plan, name).filter(|option| *option != origin).map(|option| (origin, option))
    });
    let told = of_variables.chain(of_env);
    told.map(|(given, option)| format!("{given} has no effect: {option} was given")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_of_a_site_go_and_its_lines_stay() {
        let text = "schema = 1\n# HF_TOKEN = \"hf_old\"\n\n  # more\n[slurm]\npartition = \"a#b\" # kept\n";
        assert_eq!(without_comments(text), "schema = 1\n\n\n\n[slurm]\npartition = \"a#b\" # kept\n");
        let inside = "[slurm]\nsetup = [\"\"\"\n# no comment\n\"\"\"]\n";
        assert_eq!(without_comments(inside), inside);
    }
}
