//! From records to figures: the record itself, statistics, the summary, the exports in other tools' dialects.

pub mod added_error;
pub mod cut_short;
pub mod dialects;
pub mod failures;
pub mod fault;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod fold;
pub mod gaps;
pub mod gpus;
pub mod intervals;
pub mod prefix_cache;
pub mod processes;
pub mod prompt_facts;
pub mod record;
pub mod repeats;
pub mod request_figures;
pub mod server;
mod server_access;
pub mod stages;
pub mod stats;
pub mod streamed;
pub mod student;
mod subset;
pub mod summary;
pub mod token_check;
pub mod turns;
pub mod verdict;
pub use fold::Fold;
pub use record::{ClientHealth, CountSource, Outcome, Phase, PointRun, RequestRecord, Usage};
pub use stats::Distribution;
pub use summary::Summary;
pub use verdict::Rating;
