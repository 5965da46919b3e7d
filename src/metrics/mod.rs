//! From records to figures: the record itself, statistics, the summary, the exports in other tools' dialects.

pub mod dialects;
mod reached;
pub mod record;
#[cfg(test)]
pub(crate) mod samples;
pub mod stats;
pub mod summary;
pub mod verdict;
pub use record::{
    Aborted, ClientHealth, CountSource, Outcome, Phase, PointRun, RequestRecord, Usage, request_id,
};
pub use stats::Distribution;
pub use summary::{Summary, summarize};
pub use verdict::{Rating, Verdict};
