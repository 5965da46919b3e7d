//! Compares measured figures with published ones.
//!
//! Pure: takes plans, recipes and summaries, and returns judgements.

mod conditions;
mod differences;
pub mod metric;
pub mod published;
pub mod verify;
