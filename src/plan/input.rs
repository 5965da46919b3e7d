//! What a plan is made from.

use serde::{Deserialize, Serialize};

use super::choices::Choices;
use crate::document::Document;
use crate::launcher::{Launcher, LauncherFile};

/// All that a plan is made from: the same input gives the same plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanInput {
    pub recipe: Document,
    /// Folder that relative paths of the recipe start at, absolute.
    pub folder: String,
    /// The site file. Comment lines are blank: they may hold old tokens or private paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<Document>,
    /// Folder that relative paths of the site file start at, absolute; empty without a site file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub site_folder: String,
    /// The launcher that the recipe names.
    pub launcher: LauncherFile,
    /// The launcher that runs in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stand_in: Option<LauncherFile>,
    pub choices: Choices,
    /// Folder of the experiments, absolute.
    pub experiments: String,
    /// Version of the tokmark that plans.
    pub version: String,
}

impl PlanInput {
    /// The file of the launcher that runs.
    pub fn engine(&self) -> &LauncherFile {
        self.stand_in.as_ref().unwrap_or(&self.launcher)
    }
}

impl super::Plan {
    /// The launcher that runs.
    pub fn launcher(&self) -> &Launcher {
        &self.input.engine().launcher
    }
}
