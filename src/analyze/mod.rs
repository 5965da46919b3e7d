//! What measurements say beside each other: measured figures against published ones.
//!
//! Pure: plans, recipes and summaries in, judgements out.

mod conditions;
mod differences;
pub mod metric;
pub mod published;
pub mod verify;
