//! What the figures of one phase need of its requests.

use super::curves::{Chunks, MAX_GAPS};
use crate::metrics::gaps::Gaps;
use crate::metrics::record::{Outcome, RequestRecord, Usage};
use crate::metrics::request_figures::RequestFigures;
use crate::metrics::stats::Distribution;

/// One request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) figures: RequestFigures,
    /// The server's own counts, when it sent them.
    pub(super) usage: Option<Usage>,
}

impl Request {
    pub(super) fn of(record: &RequestRecord) -> Self {
        Self { figures: RequestFigures::of(record), usage: record.usage }
    }

    /// Whether AIPerf would call the request valid.
    pub(super) fn is_good(&self) -> bool {
        self.figures.outcome == Outcome::Ok
    }
}

/// The requests of one phase, in order of ending.
#[derive(Debug)]
pub(super) struct PhaseRequests {
    streaming: bool,
    all: Vec<Request>,
    /// Gaps between the chunks of the good requests.
    gaps: Gaps,
    /// The chunks of the good requests, until they are too many.
    chunks: Option<Chunks>,
}

impl PhaseRequests {
    pub(super) fn new(streaming: bool) -> Self {
        Self { streaming, all: Vec::new(), gaps: Gaps::default(), chunks: streaming.then(Chunks::default) }
    }

    pub(super) fn add(&mut self, record: &RequestRecord, request: Request) {
        if self.streaming && request.is_good() {
            record.gaps_us().for_each(|gap| self.gaps.add(gap));
        }
        if self.gaps.count() > MAX_GAPS {
            self.chunks = None;
        }
        if let Some(chunks) = &mut self.chunks {
            chunks.push(if request.is_good() { &record.chunks_us } else { &[] });
        }
        self.all.push(request);
    }

    pub(super) fn all(&self) -> &[Request] {
        &self.all
    }

    pub(super) fn good(&self) -> impl Iterator<Item = &Request> {
        self.all.iter().filter(|request| request.is_good())
    }

    pub(super) fn failures(&self) -> usize {
        self.all.iter().filter(|request| !request.is_good()).count()
    }

    pub(super) fn gaps(&self) -> &Gaps {
        &self.gaps
    }

    /// The chunks of the good requests; `None` when there is no gap between any, or too many.
    pub(super) fn chunks(&self) -> Option<&Chunks> {
        self.chunks.as_ref().filter(|_| self.gaps.count() > 0)
    }

    /// First sent and last ended, µs; `None` without a request.
    pub(super) fn window(&self) -> Option<(u64, u64)> {
        let first = self.all.iter().map(|request| request.figures.sent_us).min()?;
        Some((first, self.all.iter().map(|request| request.figures.end_us).max()?))
    }

    /// `values`, at most one a request, in memory of the right size.
    pub(super) fn values(&self, values: impl Iterator<Item = f64>) -> Vec<f64> {
        let mut kept = Vec::with_capacity(self.all.len());
        kept.extend(values);
        kept
    }

    pub(super) fn distribution(&self, values: impl Iterator<Item = f64>) -> Option<Distribution> {
        Distribution::of(&mut self.values(values))
    }
}
