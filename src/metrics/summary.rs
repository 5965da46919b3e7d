//! `summary.json`: one load point in figures (schema 1, DESIGN §4.4).
//!
//! Only measured requests that ended well enter a distribution or a throughput; failed ones enter `requests` and the verdict;
//! warm-up enters nothing.

use super::added_error::AddedError;
use super::cut_short::CutShort;
use super::failures::Failure;
use super::fault::Fault;
use super::fold::Fold;
use super::gpus::GpuView;
use super::intervals::Intervals;
use super::prefix_cache::PrefixCache;
use super::processes::ProcessView;
use super::prompt_facts::PromptFacts;
use super::record::{ClientHealth, MachineHealth, Outcome, PointRun};
use super::repeats::Repeats;
use super::request_figures::RequestFigures;
use super::server::ServerView;
pub use super::server_access::{DroppedExtension, ServerAccess, TlsCheck};
use super::stages::StageFigures;
use super::stats::Distribution;
use super::token_check::TokenCheck;
use super::turns::TurnFigures;
use super::verdict::{Verdict, reasons, speculation_reason};
use crate::plan::{Endpoint, LoadPoint, Slo, Speculation};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the schema this code writes.
pub const SCHEMA: u32 = 1;

/// What a summary needs to know beside the records.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Context {
    /// The answers came from the simulated engine.
    pub simulated: bool,
    /// GPUs of the deployment, when known.
    pub gpus: Option<u32>,
    /// Version that the engine reports.
    pub engine_version: Option<String>,
    /// Speculative decoding of the deployment, when it is known to be on.
    pub speculation: Option<Speculation>,
}

/// One load point in figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Summary {
    /// Version of the schema, [`SCHEMA`].
    pub schema: u32,
    /// The answers came from the simulated engine: the figures say nothing about any hardware.
    pub simulated: bool,
    /// Version that the engine reported; `null` when it was not queried or did not report one.
    #[serde(default)]
    pub engine_version: Option<String>,
    /// Wall-clock time of instant 0 of the records, UTC; `null` in summaries of earlier versions.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub started_at: Option<jiff::Timestamp>,
    /// The requested load.
    pub point: Point,
    /// How the measured requests ended.
    pub requests: Requests,
    /// First measured request sent → last measured request ended, failed ones included, seconds.
    pub duration_s: f64,
    /// Time to first token, ms. `null` without streaming.
    pub ttft_ms: Option<Distribution>,
    /// The same from the intended arrival instead of the send, ms. `null` in a closed loop.
    #[serde(default)]
    pub ttft_scheduled_ms: Option<Distribution>,
    /// Time to first output token: first content that is not reasoning − sent, ms. `null` without streaming.
    #[serde(default)]
    pub ttfo_ms: Option<Distribution>,
    /// Time to second token: second content chunk − first, ms. `null` without streaming.
    #[serde(default)]
    pub ttst_ms: Option<Distribution>,
    /// Inter-token latency, one value per request: (E2E − TTFT) / (OSL − 1), ms, over the tokens that were streamed. `null`
    /// without streaming, and when no answer was streamed as it was generated.
    pub itl_ms: Option<Distribution>,
    /// Inter-chunk latency, gaps between content chunks of all requests pooled, ms. `null` without streaming.
    pub icl_ms: Option<Distribution>,
    /// Decode duration: last content chunk − first, ms. `null` without streaming.
    #[serde(default)]
    pub decode_ms: Option<Distribution>,
    /// Generated tokens per second for one user: 1 / ITL, one value per request (those with ITL 0 are left out). `null`
    /// without streaming.
    #[serde(default)]
    pub tps_per_user: Option<Distribution>,
    /// Sent → last content chunk, ms.
    pub e2e_ms: Option<Distribution>,
    /// The same from the intended arrival instead of the send, ms. `null` in a closed loop.
    #[serde(default)]
    pub e2e_scheduled_ms: Option<Distribution>,
    /// E2E latency ÷ OSL, one value per request, ms per output token. 1000 ÷ its p90 is the E2E-normalized interactivity that
    /// InferenceX draws throughput over. `null` in summaries of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e2e_per_token_ms: Option<Distribution>,
    /// Prompt tokens.
    pub isl: Option<Distribution>,
    /// Generated tokens, reasoning included.
    pub osl: Option<Distribution>,
    /// What came out per second.
    pub throughput: Throughput,
    /// What was offered, open loop only.
    pub offered: Offered,
    /// The stages of a ramp, one after the other; `null` without a ramp. The figures above cover all stages.
    #[serde(default)]
    pub stages: Option<Vec<StageFigures>>,
    /// Conversations that began in the measured phase; `null` when every request stands alone.
    #[serde(default)]
    pub conversations: Option<u64>,
    /// Why a load point of a search ended before its planned end: what was left could not have changed the answer. Absent for any
    /// other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_short: Option<CutShort>,
    /// The turns of the conversations, one after the other; empty when every request stands alone. The figures above are those
    /// of all of them together.
    #[serde(default)]
    pub turns: Vec<TurnFigures>,
    /// Prompt tokens that prefix caches supplied; `null` when neither servers nor `usage` report it.
    #[serde(default)]
    pub prefix_cache: Option<PrefixCache>,
    /// The server's count of output tokens held against the client's; `null` when no answer was counted by both.
    #[serde(default)]
    pub token_check: Option<TokenCheck>,
    /// Speculative decoding as the deployment has it; absent when it is not known to be on. What the servers counted of it stands below
    /// `servers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speculation: Option<Speculation>,
    /// What the servers say of the measured window, from their metrics pages; `null` when they publish nothing that is known.
    #[serde(default)]
    pub servers: Option<ServerView>,
    /// The GPUs of the deployment in the measured window; absent without telemetry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<GpuView>,
    /// The processes of the servers in the measured window; absent for servers that run elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<ProcessView>,
    /// The client itself.
    pub client: Client,
    /// Fields of a request that the server refused before the load, and that were left out of it.
    #[serde(default)]
    pub dropped_extensions: Vec<DroppedExtension>,
    /// How the server was reached; `null` when unknown.
    #[serde(default)]
    pub connection: Option<ServerAccess>,
    /// How the prompts were made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<PromptFacts>,
    /// Intervals of the percentiles of this run; absent without a completed request, and of the mean of repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intervals: Option<Intervals>,
    /// What the figures are the mean of; absent where they are those of one run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeats: Option<Repeats>,
    /// Whose fault the failures were, with the evidence; absent where nothing failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// Whether the figures may be believed.
    pub verdict: Verdict,
}

/// The requested load point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Point {
    /// Name of the point and of its folder.
    pub id: String,
    /// Which repeat of the load it is, from 1; absent where the load is measured once, and of the mean of repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<u32>,
    /// Which of several jobs of one plan measured it, from 1; only where they are shown together, never in a file.
    #[serde(skip)]
    pub job: Option<u32>,
    /// Requested mean prompt length, tokens; for prompts from a file, the mean of those sent.
    pub isl: u32,
    /// Requested mean output length, tokens; for prompts from a file, the mean of those sent.
    pub osl: u32,
    /// Requests in flight, of a ramp their highest number; in an open loop the most that may be, `null` without such a limit.
    pub concurrency: Option<u32>,
    /// Requests per second, of a ramp their highest number; `null` in a closed loop.
    pub request_rate: Option<f64>,
    /// Whether answers were streamed.
    pub streaming: bool,
    /// Which endpoint was driven.
    pub endpoint: Endpoint,
}

impl Point {
    /// Which measurement of the load it is: `2`, or `1.2` for the second of the first of several jobs; `None` where there is one.
    pub fn measurement(&self) -> Option<String> {
        let numbers: Vec<String> =
            self.job.into_iter().chain(self.repeat).map(|number| number.to_string()).collect();
        (!numbers.is_empty()).then(|| numbers.join("."))
    }
}

/// How the measured requests ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Requests {
    /// Measured requests.
    pub total: u64,
    /// Of those, complete answers with content.
    pub completed: u64,
    /// Of those, all others but the ones that tokmark cut itself (`cancelled` in `by_outcome`).
    pub failed: u64,
    /// Count by outcome (`ok`, `http_503`, `timeout` …); outcomes that did not occur are absent.
    pub by_outcome: BTreeMap<String, u64>,
    /// The ways in which they failed, the most frequent first; of the warm-up when no measured request failed.
    #[serde(default)]
    pub errors: Vec<Failure>,
}

/// Per second of `duration_s`; successful requests only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Throughput {
    /// Completed requests per second.
    pub requests_per_s: f64,
    /// Generated tokens per second.
    pub output_tokens_per_s: f64,
    /// Prompt and generated tokens per second.
    pub total_tokens_per_s: f64,
    /// Generated tokens per second and GPU; `null` when the number of GPUs is not known.
    pub output_tokens_per_s_per_gpu: Option<f64>,
    /// Prompt and generated tokens per second and GPU; `null` when the number of GPUs is not known.
    #[serde(default)]
    pub total_tokens_per_s_per_gpu: Option<f64>,
    /// Mean over requests of 1 / ITL (AIPerf's definition; requests with ITL 0 are left out). `null` without streaming.
    pub output_tokens_per_s_per_user: Option<f64>,
    /// Requests per second that met every SLO; `null` without SLOs.
    pub goodput_per_s: Option<f64>,
}

/// What was offered against what was sent; `null` in a closed loop, where nothing is scheduled.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Offered {
    /// Intended arrivals per second, as the schedule was drawn: (arrivals − 1) / (last − first intended instant).
    pub requests_per_s: Option<f64>,
    /// How long after its intended arrival a measured request was sent, ms; waiting for a free place included.
    pub schedule_lag_ms: Option<Distribution>,
    /// Requests sent per second, by the same formula over the instants they were sent at.
    #[serde(default)]
    pub sent_per_s: Option<f64>,
    /// Intended arrivals: sent, dropped and unsent ones.
    #[serde(default)]
    pub arrivals: Option<u64>,
    /// Arrivals that were not sent because the most allowed requests were in flight.
    #[serde(default)]
    pub dropped: Option<u64>,
    /// Arrivals that still waited when the load point ended, and were not sent.
    #[serde(default)]
    pub unsent: Option<u64>,
}

/// What the client measured of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Client {
    /// CPU time over the window, user + system, seconds.
    pub cpu_s: f64,
    /// Peak resident set size, MiB.
    pub max_rss_mib: f64,
    /// How late the driving threads noticed what another thread sent them, ms. `null` without samples.
    pub loop_lag_ms: Option<Distribution>,
    /// How far an instant may be off on the client's account: p99 of the loop lag, µs. `null` without samples.
    pub error_bound_us: Option<f64>,
    /// What the client added to its time stamps, ms. `null` without samples.
    #[serde(default)]
    pub added_error_ms: Option<AddedError>,
    /// The machine under it.
    #[serde(default)]
    pub machine: MachineHealth,
}

/// The figures of one load point as it ran.
pub fn summarize(point: &LoadPoint, run: &PointRun, fold: &Fold, context: &Context) -> Summary {
    let when = |applies: bool, value: fn(&RequestFigures) -> Option<f64>| {
        if applies { fold.distribution(value) } else { None }
    };
    let (streamed, open) = (point.streaming, run.arrivals.is_some());
    let tps_per_user = when(streamed, RequestFigures::tokens_per_s);
    let mut judged = reasons(point, run, fold);
    judged.extend(speculation_reason(point, run, context.speculation.as_ref()));
    Summary {
        schema: SCHEMA,
        simulated: context.simulated,
        engine_version: context.engine_version.clone(),
        started_at: Some(run.started_at),
        point: describe(point, fold),
        requests: requests(fold),
        duration_s: run.window_s(),
        ttft_ms: when(streamed, RequestFigures::ttft_ms),
        ttft_scheduled_ms: when(open && streamed, RequestFigures::ttft_scheduled_ms),
        ttfo_ms: when(streamed, RequestFigures::ttfo_ms),
        ttst_ms: when(streamed, RequestFigures::ttst_ms),
        itl_ms: when(streamed, RequestFigures::itl_ms),
        icl_ms: fold.gaps.distribution_ms().filter(|_| streamed),
        decode_ms: when(streamed, RequestFigures::decode_ms),
        tps_per_user,
        e2e_ms: when(true, RequestFigures::e2e_ms),
        e2e_scheduled_ms: when(open, RequestFigures::e2e_scheduled_ms),
        e2e_per_token_ms: when(true, RequestFigures::e2e_per_token_ms),
        isl: when(true, |request| Some(request.isl.into())),
        osl: when(true, |request| Some(request.osl.into())),
        throughput: throughput(point, run, fold, context.gpus, tps_per_user),
        offered: offered(run, fold),
        stages: fold.stages(),
        conversations: fold.turns.conversations(),
        cut_short: None,
        turns: fold.turns.figures(&fold.requests, streamed),
        prefix_cache: PrefixCache::of(run, &fold.cache),
        token_check: fold.counted.check(),
        speculation: context.speculation.clone(),
        servers: run.servers.clone(),
        gpus: run
            .gpus
            .clone()
            .map(|gpus| gpus.with_tokens(tokens(fold, |r| r.osl), tokens(fold, |r| r.isl), run.window_s())),
        processes: run.processes.clone(),
        client: client(&run.client),
        dropped_extensions: Vec::new(),
        connection: None,
        prompts: None,
        intervals: intervals(fold, streamed),
        repeats: None,
        faults: Fault::of(&fold.failures.ranked()),
        verdict: Verdict::of(&judged),
    }
}

fn intervals(fold: &Fold, streamed: bool) -> Option<Intervals> {
    let values = |of: fn(&RequestFigures) -> Option<f64>| fold.values(fold.good().filter_map(of));
    let when_streamed = |of| if streamed { values(of) } else { Vec::new() };
    let (ttft, itl) = (when_streamed(RequestFigures::ttft_ms), when_streamed(RequestFigures::itl_ms));
    Intervals::of(ttft, itl, values(RequestFigures::e2e_ms))
}

fn describe(point: &LoadPoint, fold: &Fold) -> Point {
    // Lengths that a file decides are known once its prompts were sent.
    let or_mean = |requested: u32, mean: &dyn Fn() -> f64| match requested {
        0 => mean().round() as u32,
        requested => requested,
    };
    let [_, planned, _] = fold.prompts.means();
    let asked = || fold.distribution(|request| Some(request.osl_requested.into())).unwrap_or_default().avg;
    Point {
        id: point.id.clone(),
        repeat: point.repeat.as_ref().map(|repeat| repeat.number),
        job: None,
        isl: or_mean(point.isl.mean, &|| planned),
        osl: or_mean(point.osl.mean, &asked),
        concurrency: point.concurrency(),
        request_rate: point.request_rate(),
        streaming: point.streaming,
        endpoint: point.endpoint,
    }
}

fn requests(fold: &Fold) -> Requests {
    let mut by_outcome: BTreeMap<Outcome, u64> = BTreeMap::new();
    fold.measured().for_each(|request| *by_outcome.entry(request.outcome).or_default() += 1);
    let total = by_outcome.values().sum();
    let count = |outcome| by_outcome.get(&outcome).copied().unwrap_or(0);
    let (completed, cut) = (count(Outcome::Ok), count(Outcome::Cancelled));
    let by_outcome = by_outcome.into_iter().map(|(outcome, count)| (outcome.to_string(), count)).collect();
    let errors = fold.failures.ranked();
    Requests { total, completed, failed: total - completed - cut, by_outcome, errors }
}

/// The offered load beside the load that was sent, from the arrivals and the records of the measured phase.
fn offered(run: &PointRun, fold: &Fold) -> Offered {
    let Some(arrivals) = run.arrivals else {
        return Offered::default();
    };
    let mut lags = fold.values(fold.measured().map(RequestFigures::schedule_lag_ms));
    Offered {
        requests_per_s: arrivals.rate_per_s(),
        schedule_lag_ms: Distribution::of(&mut lags),
        sent_per_s: fold.sent_per_s(),
        arrivals: Some(arrivals.total),
        dropped: Some(arrivals.dropped),
        unsent: Some(arrivals.unsent),
    }
}

/// Tokens of all requests that ended well.
fn tokens(fold: &Fold, of: fn(&RequestFigures) -> u32) -> f64 {
    fold.good().map(|request| u64::from(of(request))).sum::<u64>() as f64
}

fn throughput(
    point: &LoadPoint,
    run: &PointRun,
    fold: &Fold,
    gpus: Option<u32>,
    tps_per_user: Option<Distribution>,
) -> Throughput {
    let duration_s = run.window_s();
    let per_s = |amount: f64| if duration_s > 0.0 { amount / duration_s } else { 0.0 };
    let (isl, osl) = (tokens(fold, |request| request.isl), tokens(fold, |request| request.osl));
    let per_gpu = |amount| gpus.filter(|gpus| *gpus > 0).map(|gpus| per_s(amount) / f64::from(gpus));
    let met = fold.good().filter(|request| meets(request, &point.slo, point.streaming)).count();
    Throughput {
        requests_per_s: per_s(fold.good().count() as f64),
        output_tokens_per_s: per_s(osl),
        total_tokens_per_s: per_s(isl + osl),
        output_tokens_per_s_per_gpu: per_gpu(osl),
        total_tokens_per_s_per_gpu: per_gpu(isl + osl),
        output_tokens_per_s_per_user: tps_per_user.map(|speed| speed.avg),
        goodput_per_s: (!point.slo.is_empty()).then(|| per_s(met as f64)),
    }
}

/// Whether a request meets every SLO that is set. A metric the request does not have (streaming off, OSL < 2) is not met.
pub fn meets(request: &RequestFigures, slo: &Slo, streaming: bool) -> bool {
    within(slo.ttft_ms, request.ttft_ms().filter(|_| streaming))
        && within(slo.itl_ms, request.itl_ms().filter(|_| streaming))
        && within(slo.e2e_ms, request.e2e_ms())
}

/// Whether a value keeps a bound; without a bound anything does.
pub(super) fn within(bound: Option<f64>, value: Option<f64>) -> bool {
    bound.is_none_or(|bound| value.is_some_and(|value| value <= bound))
}

fn client(health: &ClientHealth) -> Client {
    let lag = Distribution::of(&mut health.loop_lag_us.iter().map(|lag| f64::from(*lag) / 1e3).collect());
    Client {
        cpu_s: health.cpu_s,
        max_rss_mib: health.max_rss_mib,
        loop_lag_ms: lag,
        error_bound_us: lag.map(|lag| lag.p99 * 1e3),
        added_error_ms: AddedError::of(health),
        machine: health.machine.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::{Ran, failed, point, record, run, sound};
    use crate::metrics::record::{Arrivals, CacheCount, Phase, RequestRecord, TurnMark};
    use crate::metrics::verdict::Rating;
    use crate::plan::{Arrival, Level, Limit, Spacing, WhenFull};

    fn summarize(point: &LoadPoint, ran: &Ran, context: &Context) -> Summary {
        super::summarize(point, ran, &ran.fold(), context)
    }

    /// Two measured requests side by side, one failure and a warm-up request that would spoil every figure.
    fn small() -> Ran {
        let mut slow = record(1, 1_000_000);
        slow.chunks_us.iter_mut().for_each(|at| *at += 50_000);
        slow.end_us += 50_000;
        let warmup = RequestRecord { phase: Phase::Warmup, isl: 9_999, osl: 9_999, ..record(0, 0) };
        run(vec![warmup, record(0, 1_000_000), slow, failed(2, 1_300_000, Outcome::Http(503))])
    }

    #[test]
    fn worked_by_hand() {
        let context = Context { simulated: true, gpus: Some(4), ..Context::default() };
        let summary = summarize(&point(), &small(), &context);
        assert_eq!(summary.requests.by_outcome, BTreeMap::from([("http_503".into(), 1), ("ok".into(), 2)]));
        assert_eq!((summary.requests.total, summary.requests.completed, summary.requests.failed), (3, 2, 1));
        // 1.0 s (first sent) → 1.32 s (the failed one ended)
        assert_eq!(summary.duration_s, 0.32);
        let ttft = summary.ttft_ms.expect("ttft");
        assert_eq!((ttft.min, ttft.avg, ttft.max, ttft.count), (50.0, 75.0, 100.0, 2));
        assert_eq!(summary.e2e_ms.expect("e2e").avg, 165.0);
        assert_eq!(summary.itl_ms.expect("itl").avg, 10.0);
        assert_eq!(summary.icl_ms.expect("icl").count, 18);
        assert_eq!(summary.isl.expect("isl").sum, 200.0);
        let throughput = &summary.throughput;
        assert_eq!(throughput.requests_per_s, 2.0 / 0.32);
        assert_eq!(throughput.output_tokens_per_s, 20.0 / 0.32);
        assert_eq!(throughput.total_tokens_per_s, 220.0 / 0.32);
        assert_eq!(throughput.output_tokens_per_s_per_gpu, Some(20.0 / 0.32 / 4.0));
        assert_eq!(throughput.total_tokens_per_s_per_gpu, Some(220.0 / 0.32 / 4.0));
        assert_eq!(throughput.output_tokens_per_s_per_user, Some(100.0));
        assert_eq!(throughput.goodput_per_s, None);
        assert_eq!(summary.client.error_bound_us, Some(100.0));
        assert_eq!(summary.verdict.result, Rating::Invalid);
    }

    #[test]
    fn what_tokmark_cut_did_not_fail() {
        let mut records = sound();
        records[3] = failed(3, records[3].sent_us, Outcome::Timeout);
        records[4].outcome = Outcome::Cancelled;
        let requests = summarize(&point(), &run(records), &Context::default()).requests;
        assert_eq!((requests.total, requests.completed, requests.failed), (20, 18, 1));
        assert_eq!(requests.by_outcome["cancelled"], 1);
    }

    #[test]
    fn goodput_counts_requests_that_meet_every_objective() {
        let goodput = |slo: Slo, streaming| {
            let point = LoadPoint { slo, streaming, ..point() };
            summarize(&point, &small(), &Context::default()).throughput.goodput_per_s.expect("goodput") * 0.32
        };
        let ttft = Slo { ttft_ms: Some(60.0), ..Slo::default() };
        let e2e = Slo { e2e_ms: Some(190.0), ..Slo::default() };
        assert_eq!(goodput(ttft, true), 1.0);
        assert_eq!(goodput(e2e, true), 2.0, "the bound itself is met");
        assert_eq!(goodput(Slo { itl_ms: Some(9.0), ..e2e }, true), 0.0, "all of them, not one of them");
        assert_eq!(goodput(ttft, false), 0.0, "no TTFT without streaming, so it is not met");
        assert_eq!(goodput(e2e, false), 2.0);
    }

    #[test]
    fn streaming_off_has_no_token_times() {
        let point = LoadPoint { streaming: false, ..point() };
        let summary = summarize(&point, &small(), &Context::default());
        assert_eq!((summary.ttft_ms, summary.itl_ms, summary.icl_ms), (None, None, None));
        assert_eq!(summary.throughput.output_tokens_per_s_per_user, None);
        assert_eq!(summary.e2e_ms.expect("e2e").count, 2);
        let json = serde_json::to_value(&summary).expect("json");
        assert_eq!(json["ttft_ms"], serde_json::Value::Null);
    }

    #[test]
    fn an_empty_run_has_figures_without_division_by_zero() {
        let summary = summarize(&point(), &run(vec![]), &Context::default());
        assert_eq!(summary.duration_s, 0.0);
        assert_eq!((summary.e2e_ms, summary.isl, summary.osl), (None, None, None));
        assert_eq!(summary.throughput.requests_per_s, 0.0);
        assert_eq!(summary.verdict.result, Rating::Invalid);
        let mut text = serde_json::to_string(&summary).expect("json");
        let again: Summary = serde_json::from_str(&text).expect("parse");
        text = serde_json::to_string(&again).expect("json");
        assert!(!text.contains("NaN"));
    }

    #[test]
    fn one_token_answers_have_no_itl() {
        let mut records = sound();
        records.iter_mut().for_each(|record| {
            (record.osl, record.osl_requested) = (1, 1);
            record.chunks_us.truncate(1);
        });
        let summary = summarize(&point(), &run(records), &Context::default());
        assert_eq!((summary.itl_ms, summary.icl_ms), (None, None));
        assert_eq!(summary.throughput.output_tokens_per_s_per_user, None);
        assert_eq!(summary.ttft_ms.expect("ttft").count, 20);
    }

    /// Three arrivals at 1.0, 1.1 and 1.3 s; one sent in time, one 40 ms late, one dropped. And a warm-up request.
    fn open() -> (LoadPoint, Ran) {
        let limit = Limit { max_concurrency: Some(2), when_full: WhenFull::Drop };
        let arrival = Arrival::Open { rate: Level::Constant(8.0), spacing: Spacing::Poisson, limit };
        let point = LoadPoint { arrival, ..point() };
        let late = RequestRecord { scheduled_us: 1_100_000, ..record(1, 1_140_000) };
        let warmup = RequestRecord { phase: Phase::Warmup, scheduled_us: 0, ..record(0, 900_000) };
        let arrivals = Arrivals { total: 3, dropped: 1, unsent: 0, first_us: 1_000_000, last_us: 1_300_000 };
        let mut ran = run(vec![warmup, record(0, 1_000_000), late]);
        ran.arrivals = Some(arrivals);
        (point, ran)
    }

    #[test]
    fn an_open_loop_by_hand() {
        let (point, run) = open();
        let summary = summarize(&point, &run, &Context::default());
        assert_eq!((summary.point.concurrency, summary.point.request_rate), (Some(2), Some(8.0)));
        let offered = &summary.offered;
        // two gaps in 0.3 s; one gap between the sends in 0.14 s
        assert_eq!(offered.requests_per_s, Some(2.0 / 0.3));
        assert_eq!(offered.sent_per_s, Some(1.0 / 0.14));
        assert_eq!((offered.arrivals, offered.dropped, offered.unsent), (Some(3), Some(1), Some(0)));
        let lag = offered.schedule_lag_ms.expect("lag");
        assert_eq!((lag.min, lag.avg, lag.max, lag.count), (0.0, 20.0, 40.0, 2));
        // TTFT is 50 ms, E2E 140 ms from the send
        let (ttft, e2e) = (summary.ttft_scheduled_ms.expect("ttft"), summary.e2e_scheduled_ms.expect("e2e"));
        assert_eq!((ttft.min, ttft.max), (50.0, 90.0));
        assert_eq!((e2e.min, e2e.max), (140.0, 180.0));
        assert_eq!(summary.ttft_ms.expect("plain").max, 50.0);
        let whole = LoadPoint { streaming: false, ..point };
        assert_eq!(summarize(&whole, &run, &Context::default()).ttft_scheduled_ms, None);
    }

    #[test]
    fn goodput_counts_from_the_send() {
        let (point, run) = open();
        let slo = Slo { ttft_ms: Some(60.0), ..Slo::default() };
        let goodput =
            summarize(&LoadPoint { slo, ..point }, &run, &Context::default()).throughput.goodput_per_s;
        assert_eq!(goodput.map(|rate| (rate * run.window_s()).round()), Some(2.0));
    }

    #[test]
    fn a_closed_loop_offers_nothing() {
        let summary = summarize(&point(), &run(sound()), &Context::default());
        assert_eq!((summary.ttft_scheduled_ms, summary.e2e_scheduled_ms), (None, None));
        assert_eq!((summary.offered.requests_per_s, summary.offered.dropped), (None, None));
    }

    #[test]
    fn conversations_caches_and_counts_have_their_place() {
        let mut records = sound();
        for (record, conversation) in records.iter_mut().zip(0..) {
            record.turn = Some(TurnMark { conversation: conversation / 2, turn: (conversation % 2) as u32 });
            record.osl_counted = Some(10);
        }
        let mut ran = run(records);
        ran.prefix_cache = Some(CacheCount { queried: 2_000, hit: 40 });
        let whole = LoadPoint { streaming: false, ..point() };
        let summary = summarize(&whole, &ran, &Context::default());
        assert_eq!((summary.conversations, summary.turns.len()), (Some(10), 2));
        assert_eq!((summary.turns[1].requests, summary.turns[1].ttft_ms), (10, None));
        assert_eq!(summary.prefix_cache.and_then(|cache| cache.hit_rate), Some(0.02));
        assert_eq!(summary.token_check.map(|check| check.requests), Some(20));
        let text = serde_json::to_string(&summary).expect("json");
        let again: Summary = serde_json::from_str(&text).expect("parse");
        assert_eq!(serde_json::to_string(&again).expect("json"), text);
    }

    #[test]
    fn the_schema_of_the_file() {
        let alone = LoadPoint { arrival: Arrival::closed(1), ..point() };
        insta::assert_json_snapshot!(summarize(
            &alone,
            &run(sound()),
            &Context { simulated: true, gpus: Some(1), ..Context::default() }
        ));
    }
}
