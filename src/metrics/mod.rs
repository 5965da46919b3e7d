//! From records to figures: the record itself, statistics, the summary, the exports in other tools' dialects.

pub mod record;
pub use record::{
    Aborted, ClientHealth, CountSource, Outcome, Phase, PointRun, RequestRecord, Usage, request_id,
};
