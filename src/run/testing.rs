//! Shared by the tests of a run: a measurement of one load point.

use tokio_util::sync::CancellationToken;

use super::point::{Measure, PointError, Seen};
use crate::load::{LiveCounters, Target};
use crate::metrics::summary::{Context, Summary};
use crate::plan::LoadPoint;
use crate::prompts::TokenizerCache;

impl Measure {
    /// A measurement of a bare load point, without files.
    pub fn new(target: Target, point: LoadPoint) -> Self {
        Self {
            target,
            point,
            dir: None,
            context: Context::default(),
            benchmark_id: String::new(),
            salt: 0,
            tokenizers: TokenizerCache::default(),
            search: None,
            metrics_pages: Vec::new(),
            deployment: None,
        }
    }

    /// Drives the load and writes the point's files, without a reason for a cut.
    pub fn run(self, progress: &LiveCounters, stop: &CancellationToken) -> Result<Summary, PointError> {
        self.drive(progress, stop, &mut |_| {})?.finish(None, None, Seen::default())
    }
}
