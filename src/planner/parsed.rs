//! The input of a plan, parsed: what every step of planning reads.

use serde::Deserialize;
use toml::{Table, Value};

use super::matrix::{Combination, overlay};
use super::resolve::{Resolved, resolve};
use crate::document::{InputError, InputErrors, explain_message};
use crate::launcher::Launcher;
use crate::plan::{Gpu, Model, PlanInput};
use crate::recipe::find::RecipeFile;
use crate::site::SiteFile;

/// The input of a plan, parsed.
pub(super) struct Parsed<'a> {
    /// The input.
    pub(super) input: &'a PlanInput,
    /// The recipe file.
    pub(super) file: RecipeFile,
    /// The site.
    pub(super) site: SiteFile,
    /// The recipe with all layers merged.
    pub(super) resolved: Resolved,
    /// The GPUs.
    pub(super) gpu: Gpu,
}

impl<'a> Parsed<'a> {
    pub(super) fn of(input: &'a PlanInput) -> Result<Self, InputErrors> {
        let file = RecipeFile::parse(input.recipe.clone(), Some(input.folder.clone().into()))?;
        let site = input.site.clone().map(SiteFile::parse).transpose()?.unwrap_or_default();
        let resolved = resolve(&file, &site, &input.choices)?;
        let (asked, given) = (resolved.launcher(), &input.launcher.launcher);
        if asked != given.name {
            let found = format!("found {asked:?}, and the script was rendered for {:?}", given.name);
            return Err(resolved
                .at("deploy.launcher", found)
                .next("set it when the script is rendered or submitted")
                .into());
        }
        let gpu = gpu(&resolved, &site, given)?;
        Ok(Self { input, file, site, resolved, gpu })
    }

    /// The launcher that the recipe names.
    pub(super) fn launcher(&self) -> &Launcher {
        &self.input.launcher.launcher
    }

    /// An error about the value of a key, with the place that the value comes from.
    pub(super) fn at(&self, key: &str, problem: impl Into<String>) -> InputError {
        self.resolved.at(key, problem)
    }

    /// A section of the merged recipe.
    pub(super) fn section(&self, name: &str) -> Table {
        self.resolved.table.get(name).and_then(Value::as_table).cloned().unwrap_or_default()
    }

    /// A section with a combination of axis values laid over it.
    pub(super) fn typed<S>(
        &self,
        base: &Table,
        combination: &Combination,
        sweep: &str,
    ) -> Result<S, InputError>
    where
        S: for<'de> Deserialize<'de>,
    {
        let with =
            |values: &Combination| overlay(base, values, sweep).map_err(|error| self.resolved.locate(error));
        S::deserialize(with(combination)?).map_err(|error| {
            let alone = |value: &&(String, Value)| {
                with(&vec![(*value).clone()]).is_ok_and(|table| S::deserialize(table).is_err())
            };
            let guilty = combination.iter().find(alone).map_or("", |(key, _)| key);
            self.resolved.locate(explain_message(error.message()).key(format!("{sweep}.{guilty}")))
        })
    }

    /// The model.
    pub(super) fn model(&self) -> Result<Model, InputErrors> {
        let section = &self.resolved.recipe.model;
        let Some(name) = section.name.clone() else {
            return Err(self.at("model.name", "missing").expected("the model's name").into());
        };
        let site_path = self.site.site.model_path(&self.gpu.kind, &name).map(str::to_owned);
        let path = section.path.clone().or(site_path).unwrap_or_else(|| name.clone());
        Ok(Model {
            served_name: section.served_name.clone().unwrap_or_else(|| name.clone()),
            name,
            path,
            size: section.size.clone(),
            precision: section.precision.clone(),
            weights_gib: section.weights_gib,
        })
    }
}

fn gpu(resolved: &Resolved, site: &SiteFile, launcher: &Launcher) -> Result<Gpu, InputErrors> {
    let Some(kind) = resolved.gpu.clone() else {
        if launcher.roles.iter().any(|role| role.gpus) {
            return Err(resolved
                .at("gpu", format!("no GPU type chosen, and launcher {:?} needs GPUs", launcher.name))
                .expected(format!("one of {}", site.site.gpu_types().join(", ")))
                .next("give --gpu TYPE, or set `gpu` in the site file")
                .into());
        }
        return Ok(Gpu { kind: "none".into(), per_node: 0 });
    };
    let Some(per_node) = site.site.gpus_per_node(&kind) else {
        return Err(InputError::new(site.name(), format!("GPUs of a {kind} node are not known"))
            .key(format!("gpus.{kind}.per_node"))
            .next(format!("add [gpus.{kind}] with per_node = N to the site file"))
            .into());
    };
    Ok(Gpu { kind, per_node })
}
