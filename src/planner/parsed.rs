//! The input of a plan, parsed: what every step of planning reads.

use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use super::matrix::{Combination, overlay};
use super::resolve::{Resolved, resolve};
use crate::document::{InputError, InputErrors, explain_message};
use crate::launcher::Launcher;
use crate::plan::{Gpu, Model, PlanInput};
use crate::recipe::find::RecipeFile;
use crate::recipe::layers::complete;
use crate::site::SiteFile;

/// The input of a plan, parsed.
pub(super) struct Parsed<'a> {
    pub input: &'a PlanInput,
    pub file: RecipeFile,
    pub site: SiteFile,
    /// The recipe with all layers merged.
    pub resolved: Resolved,
    pub gpu: Gpu,
}

impl<'a> Parsed<'a> {
    pub(super) fn of(input: &'a PlanInput) -> Result<Self, InputErrors> {
        let file = RecipeFile::parse(input.recipe.clone(), Some(input.folder.clone().into()))?;
        let site = input.site.clone().map(SiteFile::parse).transpose()?.unwrap_or_default();
        let resolved = resolve(&file, &site, &input.choices)?;
        let (named, given) = (resolved.launcher(), &input.launcher.launcher);
        if named != given.name {
            let found = format!("found {named:?}, and the script was rendered for {:?}", given.name);
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

    /// A section of the merged recipe with a combination of the values of its axes: as a table, and typed. `sweep` names the axes.
    pub(super) fn section<S>(
        &self,
        name: &str,
        sweep: &str,
        axes: &Combination,
    ) -> Result<(Table, S), InputError>
    where
        S: for<'de> Deserialize<'de>,
    {
        let with = |axes: &[(String, Value)]| -> Result<Table, InputError> {
            let base = self.resolved.table.get(name).and_then(Value::as_table).cloned().unwrap_or_default();
            let section = overlay(base, axes, sweep).map_err(|error| self.resolved.locate(error))?;
            let mut recipe = Table::from_iter([(name.to_owned(), Value::Table(section))]);
            complete(&mut recipe);
            Ok(recipe.remove(name).and_then(|section| section.try_into().ok()).unwrap_or_default())
        };
        let section: Table = with(axes)?;
        let typed = S::deserialize(section.clone()).map_err(|error| {
            let fails = |value: &&(String, Value)| {
                with(std::slice::from_ref(*value)).is_ok_and(|section| S::deserialize(section).is_err())
            };
            let axis = axes.iter().find(fails).map_or("", |(key, _)| key);
            self.resolved.locate(explain_message(error.message()).key(format!("{sweep}.{axis}")))
        })?;
        Ok((section, typed))
    }

    pub(super) fn model(&self) -> Result<Model, InputErrors> {
        let section = self.resolved.recipe.model.clone();
        let Some(name) = section.name else {
            return Err(self.at("model.name", "missing").expected("the model's name").into());
        };
        let texts = [
            ("name", Some(&name)),
            ("served_name", section.served_name.as_ref()),
            ("path", section.path.as_ref()),
        ];
        if let Some((key, _)) = texts.iter().find(|(_, text)| text.is_some_and(|text| text.trim().is_empty()))
        {
            let error = self.at(&format!("model.{key}"), "empty");
            return Err(error.expected("text, e.g. openai/gpt-oss-120b, or leave it out").into());
        }
        let site_path = self.site.site.model_path(&self.gpu.kind, &name).map(str::to_owned);
        Ok(Model {
            served_name: section.served_name.unwrap_or_else(|| name.clone()),
            path: section.path.or(site_path).unwrap_or_else(|| name.clone()),
            name,
            size: section.size,
            precision: section.precision,
            weights_gib: section.weights_gib,
        })
    }
}

/// Mistakes in the keys of one section, so that all of them are reported at once.
pub(super) struct Mistakes<'a> {
    pub parsed: &'a Parsed<'a>,
    section: &'static str,
    pub found: Vec<InputError>,
}

impl<'a> Mistakes<'a> {
    pub(super) fn of(parsed: &'a Parsed<'a>, section: &'static str) -> Self {
        Self { parsed, section, found: Vec::new() }
    }

    /// An error about a key of the section.
    pub(super) fn at(&self, key: &str, problem: impl Into<String>) -> InputError {
        self.parsed.at(&format!("{}.{key}", self.section), problem)
    }

    pub(super) fn add(&mut self, key: &str, problem: impl Into<String>, expected: impl Into<String>) {
        let error = self.at(key, problem).expected(expected);
        self.found.push(error);
    }
}

/// A path written in a file that lies in `folder`, which is absolute: a job may run in any folder.
pub(super) fn absolute(folder: &str, path: &str) -> String {
    let joined = Path::new(folder).join(path);
    std::path::absolute(&joined).unwrap_or(joined).display().to_string()
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
        return Ok(Gpu { kind: "none".into(), per_node: 0, price: None });
    };
    let Some(per_node) = site.site.gpus_per_node(&kind) else {
        return Err(InputError::new(site.name(), format!("GPUs of a {kind} node are not known"))
            .key(format!("gpus.{kind}.per_node"))
            .next(format!("add [gpus.{kind}] with per_node = N to the site file"))
            .into());
    };
    let price = site.site.gpus.get(&kind).and_then(|gpu| gpu.price_per_gpu_hour.clone());
    Ok(Gpu { kind, per_node, price })
}
