//! What a plan was made from, beside the recipe.

use serde::{Deserialize, Serialize};

use super::RecipeText;
use super::choices::Choices;
use crate::recipe::Origin;

/// A directive, and the variable that made it.
pub type Made = (String, Origin);

/// What a plan was made from, beside the recipe's text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sources {
    /// Folder that relative paths of the recipe start at, absolute.
    pub folder: String,
    /// The site file without its comments, its lines where they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<RecipeText>,
    /// The launcher file, verbatim.
    pub launcher: RecipeText,
    /// The file of the launcher that stands in for it, verbatim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stand_in: Option<RecipeText>,
    /// Options and environment variables.
    pub chosen: Choices,
    /// Directives that environment variables of sbatch made, each with its variable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub directives: Vec<Made>,
}
