//! Submission the llmb way: a workload by its name, its size, its precision and its number of GPUs, one job for each
//! combination, or a file of such jobs. All of it is planned before anything is submitted.

pub mod catalogue;
pub mod file;
mod job;
pub mod order;
mod task;

pub use job::{Job, differences, jobs};
pub use order::{Order, Scales};
pub use task::{Task, tasks};

use crate::document::InputErrors;
use crate::plan::Plan;
use crate::plan::choices::Choices;
use crate::recipe::find::RecipeFile;

/// Plans a recipe with what was chosen.
pub type Planner<'a> = &'a dyn Fn(&RecipeFile, Choices) -> Result<Plan, InputErrors>;

/// Most jobs of one submission; more is a typo.
const MAX_JOBS: usize = 1000;
