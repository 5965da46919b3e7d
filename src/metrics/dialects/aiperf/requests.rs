//! What the figures of one phase need of its requests.

use super::curves::{ChunkCurves, Curves, Span};
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

    fn span(&self, streaming: bool) -> Span {
        let Self { figures, .. } = self;
        let first = figures.first_us().filter(|_| streaming && self.is_good());
        Span {
            start: figures.sent_us as f64,
            first: first.map(|first| first as f64),
            end: figures.end_us.max(figures.sent_us) as f64,
            isl: figures.isl.into(),
            osl: figures.osl.into(),
        }
    }
}

/// Above so many chunk gaps the curves use request-level timing: AIPerf has the same fallback for runs whose chunks do not
/// fit its memory (`LIST_BACKEND=tdigest`), and every chunk is 32 bytes here.
const MAX_GAPS: u64 = 4_000_000;

/// The requests of one phase, in order of ending.
#[derive(Debug)]
pub(super) struct PhaseRequests {
    streaming: bool,
    all: Vec<Request>,
    /// Gaps between the chunks of the good requests.
    gaps: Gaps,
    /// What the chunks of the good requests change, until they are too many.
    by_chunk: Option<ChunkCurves>,
}

impl PhaseRequests {
    pub(super) fn new(streaming: bool) -> Self {
        let by_chunk = streaming.then(ChunkCurves::default);
        Self { streaming, all: Vec::new(), gaps: Gaps::default(), by_chunk }
    }

    pub(super) fn add(&mut self, record: &RequestRecord, request: Request) {
        if self.streaming && request.is_good() {
            record.gaps_us().for_each(|gap| self.gaps.add(gap));
        }
        if self.gaps.count() > MAX_GAPS {
            self.by_chunk = None;
        }
        if let Some(by_chunk) = &mut self.by_chunk {
            by_chunk.add(&request.span(self.streaming), &record.chunks_us);
        }
        self.all.push(request);
    }

    /// The curves of all requests, failed ones included.
    pub(super) fn curves(&mut self) -> Curves {
        let by_chunk = self.by_chunk.take().filter(|_| self.gaps.count() > 0);
        Curves::of(self.all.iter().map(|request| request.span(self.streaming)), by_chunk)
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
