//! `tokmark bench --url URL`: the load engine alone, against any OpenAI-compatible endpoint.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::printer::Printer;
use super::progress::Display;
use super::prompt_args::PromptArgs;
use super::ramp_args::RampArgs;
use super::target_args::{RequestArgs, TargetArgs};
use super::{output, results};
use crate::document::{InputError, InputErrors};
use crate::error::{self, Ended};
use crate::flags::Global;
use crate::load::{LiveCounters, Target, probe};
use crate::metrics::summary::Context;
use crate::plan::load_point::GAMMA_SHAPES;
use crate::plan::{Arrival, AtEnd, Level, Limit, LoadPoint, Slo, Spacing, Stop, WhenFull, point_id};
use crate::planner::prompts::Said;
use crate::prompts::{TokenizerCache, drawn_salt};
use crate::recipe::units::{MAX_RATE, Span};
use crate::report::{self, Row, Subject, closing};
use crate::run::point::Measure;
use crate::run::{LivePoint, Signals};

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    to: TargetArgs,
    /// Model name [default: the only one the server lists]
    #[arg(long)]
    model: Option<String>,
    #[command(flatten)]
    request: RequestArgs,
    /// Requests in flight: a number, or a list for one load point each
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    concurrency: Vec<u32>,
    /// Arrivals per second (open loop) instead of a concurrency: a number, or a list for one load point each
    #[arg(long, value_name = "LIST", group = "open", value_delimiter = ',', conflicts_with_all = ["concurrency", "requests_per_concurrency"], value_parser = rate)]
    rate: Vec<f64>,
    #[command(flatten)]
    ramp: RampArgs,
    /// How arrivals are spaced: constant, poisson or gamma:SHAPE [default: poisson]
    #[arg(long, value_name = "KIND", requires = "open", value_parser = spacing)]
    arrival: Option<Spacing>,
    /// Most requests in flight of an open loop
    #[arg(long, value_name = "N", requires = "open", value_parser = clap::value_parser!(u32).range(1..))]
    max_concurrency: Option<u32>,
    /// What an arrival does that finds them in flight: wait (queue) or not be sent (drop) [default: queue]
    #[arg(long, value_name = "POLICY", requires = "max_concurrency", value_parser = ["queue", "drop"])]
    when_full: Option<String>,
    /// Stop after this many requests; in an open loop after this many arrivals
    #[arg(long, value_name = "N", group = "stop", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// Stop after this many requests per unit of concurrency [default: 8]
    #[arg(long, value_name = "K", group = "stop", value_parser = clap::value_parser!(u32).range(1..))]
    requests_per_concurrency: Option<u32>,
    /// Send for this long [default with --rate: 60s]
    #[arg(long, value_name = "TIME", group = "stop")]
    duration: Option<Span>,
    /// What happens to requests in flight at the end [default: drain]
    #[arg(long, value_name = "POLICY", value_parser = ["drain", "cut"])]
    at_end: Option<String>,
    /// Cut what is still in flight after draining for this long [default: the time limit of each request]
    #[arg(long, value_name = "TIME")]
    drain_timeout: Option<Span>,
    /// Requests before the measured window
    #[arg(long, value_name = "N", default_value_t = 0)]
    warmup: u64,
    /// Warm-up for this long instead of a number of requests
    #[arg(long, value_name = "TIME", conflicts_with = "warmup")]
    warmup_duration: Option<Span>,
    /// Seed of prompts and lengths
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Objectives for goodput, e.g. ttft:500ms,itl:20ms,e2e:10s
    #[arg(long, value_name = "LIST", value_parser = slo)]
    slo: Option<Slo>,
    /// Folder for records, summary and exports
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the summary (with several points, the array of them) as JSON and nothing else
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    prompts: PromptArgs,
}

pub(super) fn rate(text: &str) -> Result<f64, String> {
    let wrong = || format!("{text:?} is not a rate above 0 and at most {MAX_RATE} per second");
    text.trim().parse().ok().filter(|rate| *rate > 0.0 && *rate <= MAX_RATE).ok_or_else(wrong)
}

fn spacing(text: &str) -> Result<Spacing, String> {
    match text.split_once(':') {
        None if text == "constant" => Ok(Spacing::Constant),
        None if text == "poisson" => Ok(Spacing::Poisson),
        Some(("gamma", shape)) => {
            let shape = shape.parse().ok().filter(|shape| GAMMA_SHAPES.contains(shape));
            let (low, high) = GAMMA_SHAPES.into_inner();
            shape
                .map(|shape| Spacing::Gamma { shape })
                .ok_or_else(|| format!("the shape in {text:?} is not a number from {low} to {high}"))
        }
        _ => Err(format!("unknown spacing {text:?}; expected constant, poisson or gamma:SHAPE")),
    }
}

fn slo(text: &str) -> Result<Slo, String> {
    let mut slo = Slo::default();
    for part in text.split(',') {
        let (name, limit) =
            part.split_once(':').ok_or_else(|| format!("{part:?} is not name:limit, e.g. ttft:500ms"))?;
        let limit = Some(limit.parse::<Span>()?.millis());
        match name.trim() {
            "ttft" => slo.ttft_ms = limit,
            "itl" => slo.itl_ms = limit,
            "e2e" => slo.e2e_ms = limit,
            other => return Err(format!("unknown objective {other:?}; expected ttft, itl or e2e")),
        }
    }
    Ok(slo)
}

impl BenchArgs {
    fn points(&self) -> Result<Vec<LoadPoint>, InputErrors> {
        let Said { isl, osl, prompts } = self.prompts.said(self.request.endpoint())?;
        let points = self.arrivals().into_iter().map(|arrival| {
            let stop = self.stop(&arrival);
            let mut point = LoadPoint {
                id: point_id(isl, osl, &prompts, &arrival),
                isl,
                osl,
                prompts: prompts.clone(),
                arrival,
                warmup_requests: self.warmup,
                warmup_duration_s: self.warmup_duration.map(Span::seconds).filter(|seconds| *seconds > 0.0),
                at_end: self.at_end(),
                seed: self.seed,
                slo: self.slo.unwrap_or_default(),
                ..LoadPoint::plain(1, stop)
            };
            self.request.apply(&mut point);
            point
        });
        Ok(points.collect())
    }

    /// One a load point; a value that is given twice counts once.
    fn arrivals(&self) -> Vec<Arrival> {
        let mut seen = Vec::new();
        let when_full = match self.when_full.as_deref() {
            Some("drop") => WhenFull::Drop,
            _ => WhenFull::Queue,
        };
        let limit = Limit { max_concurrency: self.max_concurrency, when_full };
        let spacing = self.arrival.unwrap_or(Spacing::Poisson);
        let open = |rate: &f64| Arrival::Open { rate: Level::Constant(*rate), spacing, limit };
        let closed = |concurrency: &u32| Arrival::closed(*concurrency);
        if self.prompts.has_trace() {
            return vec![Arrival::Trace { limit }];
        }
        if let Some(arrival) = self.ramp.arrival(spacing, limit) {
            return vec![arrival];
        }
        let arrivals: Vec<Arrival> = match self.rate[..] {
            [] => self.concurrency.iter().map(closed).collect(),
            _ => self.rate.iter().map(open).collect(),
        };
        for arrival in arrivals {
            if !seen.contains(&arrival) {
                seen.push(arrival);
            }
        }
        seen
    }

    fn stop(&self, arrival: &Arrival) -> Stop {
        if let Some(ramp) = arrival.ramp() {
            return Stop::DurationS(ramp.duration_s());
        }
        match (self.requests, self.duration, arrival) {
            (Some(requests), ..) => Stop::Requests(requests),
            (None, Some(span), _) => Stop::DurationS(span.seconds()),
            (None, None, Arrival::Closed { concurrency: Level::Constant(concurrency) }) => Stop::Requests(
                u64::from(self.requests_per_concurrency.unwrap_or(8)) * u64::from(*concurrency),
            ),
            (None, None, Arrival::Trace { .. }) => Stop::TraceEnd,
            (None, None, _) => Stop::DurationS(60.0),
        }
    }

    fn at_end(&self) -> AtEnd {
        match self.at_end.as_deref() {
            Some("cut") => AtEnd::Cut,
            _ => AtEnd::Drain { limit_s: self.drain_timeout.map(|span| span.seconds()) },
        }
    }
}

/// Runs the verb.
pub fn run(global: &Global, args: BenchArgs) -> anyhow::Result<()> {
    let mut target = args.to.target(args.model.as_deref().unwrap_or_default())?;
    // An unusable URL or CA file is a mistake to name before anything else.
    target.urls("/").map_err(|error| {
        InputError::new("--url", error.to_string()).expected("an address such as http://127.0.0.1:8000")
    })?;
    target.check()?;
    args.request.check()?;
    if args.duration.is_some_and(|duration| duration.seconds() <= 0.0) {
        return Err(InputError::new("--duration", "found 0: nothing would be sent")
            .expected("more than 0")
            .into());
    }
    args.ramp.check()?;
    if args.prompts.has_trace() && (!args.rate.is_empty() || args.concurrency != [1] || args.ramp.is_given())
    {
        return Err(InputError::new("--trace", "found beside --concurrency, --rate or a ramp")
            .expected("a trace alone: it says when requests arrive")
            .next("limit the requests in flight with --max-concurrency")
            .into());
    }
    let points = args.points()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let display = Display::new(Printer::new(global, args.json));
    runtime.block_on(async {
        let simulated = identify(&mut target, args.model.is_some()).await?;
        let stop = CancellationToken::new();
        let (current, watching) = watch::channel(None);
        let shown = tokio::spawn(display.follow(watching));
        let signals = tokio::spawn(interrupted(stop.clone()));
        let rows = measure(&args, points, &target, simulated, &stop, &current).await;
        signals.abort();
        shown.abort();
        conclude(&args, &target, &rows?, stop.is_cancelled())
    })
}

/// Finds the model's name and whether a server is tokmark's simulated engine. A server without `/v1/models` is fine when the
/// name was given. Of several, each must list the same.
async fn identify(target: &mut Target, named: bool) -> anyhow::Result<bool> {
    let mut simulated = false;
    for server in target.each().collect::<Vec<_>>() {
        let Some(models) = listed(&server, named).await? else { continue };
        if named {
            simulated |= models.iter().any(|model| model.simulated);
            continue;
        }
        let [model] = models.as_slice() else {
            let names: Vec<&str> = models.iter().map(|model| model.id.as_str()).collect();
            let problem = "not given, and the server does not list exactly one model";
            return Err(InputError::new("--model", problem)
                .expected(format!("one of {}", names.join(", ")))
                .into());
        };
        if !target.model.is_empty() && target.model != model.id {
            let problem = format!("not given, and the servers list {:?} and {:?}", target.model, model.id);
            return Err(InputError::new("--model", problem).expected("servers of one model").into());
        }
        target.model.clone_from(&model.id);
        simulated |= model.simulated;
    }
    Ok(simulated)
}

/// The models a server lists; `None` when it does not tell and need not.
async fn listed(server: &Target, named: bool) -> anyhow::Result<Option<Vec<probe::Model>>> {
    match probe::models(server, Duration::from_secs(10)).await {
        Ok(models) => Ok(Some(models)),
        Err(probe::ProbeError::Target(error)) => Err(error.into()),
        Err(probe::ProbeError::Status { .. } | probe::ProbeError::Answer(_)) if named => Ok(None),
        Err(error) => {
            let message = format!(
                "{}: {error}\n  next: is the server up? A model list at /v1/models is asked for first",
                server.address()
            );
            Err(Ended { code: error::SERVER, message }.into())
        }
    }
}

async fn interrupted(stop: CancellationToken) {
    if let Ok(signals) = Signals::listen() {
        signals.first().await;
        stop.cancel();
    }
    std::future::pending().await
}

async fn measure(
    args: &BenchArgs,
    points: Vec<LoadPoint>,
    target: &Target,
    simulated: bool,
    stop: &CancellationToken,
    current: &watch::Sender<Option<LivePoint>>,
) -> anyhow::Result<Vec<Row>> {
    let sweep = points.len() > 1;
    let (mut rows, tokenizers, salt) = (Vec::new(), TokenizerCache::default(), drawn_salt());
    let subject = subject(target, points.first());
    for point in points {
        if stop.is_cancelled() {
            break;
        }
        let dir = args.out.as_ref().map(|out| if sweep { out.join(&point.id) } else { out.clone() });
        if let Some(dir) = &dir {
            refuse_used(dir)?;
        }
        let name = point.id.clone();
        let progress = LiveCounters::default();
        current.send_replace(Some(LivePoint {
            point: name.clone(),
            load: point.clone(),
            progress: progress.clone(),
        }));
        let measure = Measure {
            target: target.clone(),
            point,
            dir,
            context: Context { simulated, ..Context::default() },
            benchmark_id: name.clone(),
            salt,
            tokenizers: tokenizers.clone(),
            metrics_urls: target
                .base_urls
                .iter()
                .map(|url| format!("{}/metrics", url.trim_end_matches('/')))
                .collect(),
            deployment: None,
        };
        let stop = stop.clone();
        let measured = tokio::task::spawn_blocking(move || measure.run(&progress, &stop)).await?;
        current.send_replace(None);
        rows.push(Row { point: name, deployment: String::new(), gpus: 0, summary: measured? });
        if let (Some(out), true) = (&args.out, sweep) {
            report::write(out, &subject, &rows)?;
        }
    }
    Ok(rows)
}

/// A folder that holds a measurement is never written into again.
fn refuse_used(dir: &std::path::Path) -> Result<(), InputErrors> {
    if dir.join("records.jsonl").exists() || report::summary_in(dir).is_some() {
        return Err(InputError::new("--out", format!("{} already holds a measurement", dir.display()))
            .next("give another folder; nothing is ever overwritten")
            .into());
    }
    Ok(())
}

fn subject(target: &Target, point: Option<&LoadPoint>) -> Subject {
    let mut facts = vec![("url", target.address()), ("model", target.model.clone())];
    facts.extend(point.map(|point| ("load", report::load_fact(point))));
    facts.push(("tokmark", crate::flags::VERSION.to_owned()));
    Subject { name: format!("bench of {}", target.model), summary: String::new(), facts, recipe: None }
}

fn conclude(args: &BenchArgs, _target: &Target, rows: &[Row], interrupted: bool) -> anyhow::Result<()> {
    match (args.json, rows) {
        (true, [row]) => output::json(&row.summary)?,
        (true, rows) => output::json(&rows.iter().map(|row| &row.summary).collect::<Vec<_>>())?,
        (false, rows) => {
            output::text(&closing::table(rows))?;
            if let Some(out) = &args.out {
                output::line(&format!("\nresults: {}", out.display()))?;
            }
        }
    }
    if interrupted {
        return Err(Ended {
            code: error::INTERRUPTED,
            message: "interrupted; what was measured until then is kept".into(),
        }
        .into());
    }
    results::gate(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn points(args: &str) -> Result<Vec<LoadPoint>, String> {
        let words = ["bench", "--url", "http://127.0.0.1:1"].into_iter().chain(args.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        line.bench.points().map_err(|error| error.to_string())
    }

    #[test]
    fn rates_make_open_loops() {
        let found = points("--rate 12.5,3,3 --isl 8 --osl 4").unwrap();
        let ids: Vec<&str> = found.iter().map(|point| point.id.as_str()).collect();
        assert_eq!(ids, ["isl8_osl4_rate12.5", "isl8_osl4_rate3"]);
        let (rate, limit) = (Level::Constant(12.5), Limit::default());
        assert_eq!(found[0].arrival, Arrival::Open { rate, spacing: Spacing::Poisson, limit });
        assert_eq!((found[0].stop, found[0].at_end), (Stop::DurationS(60.0), AtEnd::default()));
        let all =
            "--rate 2 --arrival gamma:0.5 --max-concurrency 4 --when-full drop --at-end cut --requests 9";
        let found = points(all).unwrap().remove(0);
        let open = Arrival::Open {
            rate: Level::Constant(2.0),
            spacing: Spacing::Gamma { shape: 0.5 },
            limit: Limit { max_concurrency: Some(4), when_full: WhenFull::Drop },
        };
        assert_eq!((&found.arrival, found.stop, found.at_end), (&open, Stop::Requests(9), AtEnd::Cut));
    }

    #[test]
    fn stages_make_ramps() {
        let found = points("--stages 30s:10,1m:50:hold,10s:0:cool-down --stages-from 2").unwrap().remove(0);
        assert_eq!((found.id.as_str(), found.stop), ("isl128_osl128_ramp50", Stop::DurationS(100.0)));
        let ramp = found.arrival.ramp().unwrap();
        assert_eq!((ramp.start, ramp.measured_s(), ramp.stages.len()), (2.0, 90.0, 3));
        let found = points("--rate-stages 1s:0.5 --arrival constant --max-concurrency 3").unwrap().remove(0);
        assert_eq!((found.id.as_str(), found.concurrency()), ("isl128_osl128_ramprate0.5", Some(3)));
        let Arrival::Open { rate: Level::Ramp(ramp), spacing, .. } = found.arrival else {
            panic!("{found:?}")
        };
        assert_eq!((ramp.duration_s(), spacing), (1.0, Spacing::Constant));
    }

    #[test]
    fn a_ramp_that_cannot_be_is_refused() {
        let check = |args: &str| {
            let words = ["bench", "--url", "http://127.0.0.1:1"].into_iter().chain(args.split_whitespace());
            Line::try_parse_from(words).unwrap().bench.ramp.check().unwrap_err().to_string()
        };
        assert!(check("--stages 1s:0").contains("nothing would be sent"));
        assert!(check("--stages 1s:5 --stages-from 0.5").contains("a number of requests"));
        assert!(check("--stages-from 2").contains("--rate-stages"));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (args, word) in [
            ("--rate 1 --concurrency 2", "--concurrency"),
            ("--rate 1 --requests-per-concurrency 2", "--requests-per-concurrency"),
            ("--arrival poisson", "--rate"),
            ("--max-concurrency 4", "--rate"),
            ("--rate 1 --when-full drop", "--max-concurrency"),
            ("--rate 0", "a rate above 0"),
            ("--rate inf", "a rate above 0"),
            ("--rate 1 --arrival gamma", "gamma:SHAPE"),
            ("--rate 1 --arrival gamma:0", "0.01 to 1000"),
            ("--rate 1 --warmup 3 --warmup-duration 3s", "--warmup"),
            ("--stages 1s:2 --concurrency 2", "--concurrency"),
            ("--stages 1s:2 --rate 2", "--rate"),
            ("--stages 1s:2 --rate-stages 1s:2", "--rate-stages"),
            ("--stages 1s:2 --requests 9", "--requests"),
            ("--rate-stages 1s:2 --duration 9s", "--duration"),
            ("--stages 1s:2 --arrival poisson", "--rate"),
            ("--stages 1s:2.5", "--rate-stages"),
            ("--rate-stages 0s:2", ":hold"),
            ("--rate-stages 1s:2:cool-down", "no stage would be measured"),
        ] {
            let error = points(args).unwrap_err();
            assert!(error.contains(word), "{args}: {error}");
        }
        let closed = points("").unwrap();
        assert_eq!((closed.len(), closed[0].id.as_str()), (1, "isl128_osl128_con1"));
    }
}
