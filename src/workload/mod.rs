//! Submission as in llmb: a workload by name, size, precision and number of GPUs, with one job per combination, or a
//! file of such jobs. tokmark plans every job before it submits the first.

pub mod catalogue;
pub mod file;
mod job;
pub mod order;
mod parallel;
mod task;

pub use job::{Job, differences, jobs};
pub use order::{Order, Scales};
pub use parallel::apart;
pub use task::{Task, tasks};

use crate::document::InputErrors;
use crate::plan::Plan;
use crate::plan::choices::Choices;
use crate::recipe::find::RecipeFile;

/// Plans a recipe with the given choices.
pub type Planner<'a> = &'a dyn Fn(&RecipeFile, Choices) -> Result<Plan, InputErrors>;

/// Most jobs of one submission; more is probably a typo.
const MAX_JOBS: usize = 1000;
