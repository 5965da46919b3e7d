//! From recipe, site, launcher and choices to a [`Plan`](crate::plan::Plan). Pure: same input, same bytes.

mod arrival;
pub mod build;
mod connection;
mod container;
mod experiment_name;
pub mod job;
mod layout;
mod load_points;
pub mod matrix;
mod packing;
pub mod prompts;
mod rehearsal;
pub mod resolve;
pub mod sbatch_env;
pub mod scale;
mod servers;
pub mod sources;
mod stages;
