//! Judges measurements: against published figures, and as the capacity of a deployment.
//!
//! Pure: takes plans, recipes and summaries, and returns judgements.

pub mod best;
pub mod compare;
mod conditions;
pub mod cost;
mod differences;
pub mod effects;
pub mod metric;
pub mod pareto;
pub mod published;
pub mod references;
pub mod repeats;
pub mod search;
pub mod trend;
pub mod verify;
pub mod zones;
