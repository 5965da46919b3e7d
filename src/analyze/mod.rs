//! What measurements say beside each other: measured figures against published ones.
//!
//! Pure: plans, recipes and summaries in, judgements out. Arrow: `recipe`, `plan`, `metrics` → here → `commands`.

mod conditions;
mod differences;
pub mod metric;
pub mod published;
pub mod verify;
