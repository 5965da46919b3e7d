//! Flags of `bench` for how requests arrive and when a load point ends.

use clap::Args;
use toml::Table;

use super::flag_layer::FlagLayer;
use super::prompt_args::natural;
use crate::plan::load_point::GAMMA_SHAPES;
use crate::plan::{Ramp, Spacing};
use crate::recipe::StageSection;
use crate::recipe::units::{MAX_RATE, Span};

/// How requests arrive, and when a load point ends.
#[derive(Debug, Args)]
pub(super) struct ArrivalArgs {
    /// Requests in flight: a number, or a list for one load point each [default: 1]
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with_all = ["rate", "rate_stages", "trace"], value_parser = clap::value_parser!(u32).range(1..))]
    concurrency: Vec<u32>,
    /// Arrivals per second (open loop) instead of a concurrency: a number, or a list for one load point each
    #[arg(long, value_name = "LIST", group = "open", value_delimiter = ',', value_parser = rate)]
    rate: Vec<f64>,
    /// A ramp of the concurrency, in k6's notation: LENGTH:TARGET, each a straight line from the last target, e.g.
    /// 30s:10,2m:50,1m:50,30s:0. With :hold behind it a stage jumps to its target; :cool-down leaves the last ones out of the
    /// figures
    #[arg(long, value_name = "STAGES", group = "ramp", conflicts_with_all = ["concurrency", "open", "stop"], value_parser = whole_stages)]
    stages: Option<Ramp>,
    /// A ramp of the rate, in the same notation
    #[arg(long, value_name = "STAGES", groups = ["open", "ramp"], conflicts_with = "stop")]
    rate_stages: Option<Ramp>,
    /// Concurrency or rate at the start of the ramp [default: 0]
    #[arg(long, value_name = "N", requires = "ramp", value_parser = rate_or_zero)]
    stages_from: Option<f64>,
    /// How arrivals are spaced: constant, poisson or gamma:SHAPE [default: poisson]
    #[arg(long, value_name = "KIND", requires = "open", value_parser = spacing)]
    arrival: Option<Spacing>,
    /// Limit of the requests in flight in an open loop
    #[arg(long, value_name = "N", requires = "open", value_parser = clap::value_parser!(u32).range(1..))]
    max_concurrency: Option<u32>,
    /// When the limit is reached: queue the arrival, or drop it [default: queue]
    #[arg(long, value_name = "POLICY", requires = "max_concurrency", value_parser = ["queue", "drop"])]
    when_full: Option<String>,
    /// Stop after this many requests; in an open loop after this many arrivals
    #[arg(long, value_name = "N", group = "stop", value_parser = clap::value_parser!(u64).range(1..=i64::MAX as u64))]
    requests: Option<u64>,
    /// Stop after this many requests per unit of concurrency [default: 8]
    #[arg(long, value_name = "K", group = "stop", conflicts_with_all = ["rate", "trace"], value_parser = clap::value_parser!(u32).range(1..))]
    requests_per_concurrency: Option<u32>,
    /// Send for this long [default with --rate: 60s]
    #[arg(long, value_name = "TIME", group = "stop")]
    duration: Option<Span>,
    /// Requests in flight at the end: drain waits for them, cut cancels them [default: drain]
    #[arg(long, value_name = "POLICY", value_parser = ["drain", "cut"])]
    at_end: Option<String>,
    /// Cancel what is still in flight after draining for this long [default: the time limit of each request]
    #[arg(long, value_name = "TIME")]
    drain_timeout: Option<Span>,
    /// Requests before the measured window [default: 0]
    #[arg(long, value_name = "N", value_parser = natural())]
    warmup: Option<u64>,
    /// Warm up for this long instead of a number of requests
    #[arg(long, value_name = "TIME", conflicts_with = "warmup")]
    warmup_duration: Option<Span>,
    /// Objectives for goodput, e.g. ttft:500ms,itl:20ms,e2e:10s
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = objective)]
    slo: Vec<(&'static str, Span)>,
}

fn rate(text: &str) -> Result<f64, String> {
    let wrong = || format!("{text:?} is not a rate above 0 and at most {MAX_RATE} per second");
    text.trim().parse().ok().filter(|rate| *rate > 0.0 && *rate <= MAX_RATE).ok_or_else(wrong)
}

fn rate_or_zero(text: &str) -> Result<f64, String> {
    if text.trim().parse() == Ok(0.0) { Ok(0.0) } else { rate(text) }
}

fn whole_stages(text: &str) -> Result<Ramp, String> {
    let ramp: Ramp = text.parse()?;
    let broken = ramp.stages.iter().find(|stage| stage.target.fract() != 0.0);
    match broken {
        Some(stage) => Err(format!("{} is not a number of requests; rates are --rate-stages", stage.target)),
        None => Ok(ramp),
    }
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

/// Parses an objective into its key below `load.slo` and its limit.
fn objective(text: &str) -> Result<(&'static str, Span), String> {
    let (name, limit) =
        text.split_once(':').ok_or_else(|| format!("{text:?} is not name:limit, e.g. ttft:500ms"))?;
    let key = match name.trim() {
        "ttft" => "load.slo.ttft",
        "itl" => "load.slo.itl",
        "e2e" => "load.slo.e2e",
        other => return Err(format!("unknown objective {other:?}; expected ttft, itl or e2e")),
    };
    Ok((key, limit.parse()?))
}

impl ArrivalArgs {
    /// Applies the flags to a recipe.
    pub(super) fn lay(&self, layer: &mut FlagLayer) {
        layer.list("--concurrency", "load.concurrency", &self.concurrency);
        layer.list("--rate", "load.rate", &self.rate);
        layer.set("--stages", "load.stages", self.stages.as_ref().map(|ramp| stages(ramp, false)));
        layer.set("--rate-stages", "load.stages", self.rate_stages.as_ref().map(|ramp| stages(ramp, true)));
        match self.stages_from {
            // Keep a fraction, so that the recipe rejects it.
            Some(from) if self.stages.is_some() && from.fract() == 0.0 => {
                layer.set("--stages-from", "load.start_concurrency", Some(from as i64));
            }
            from if self.stages.is_some() => layer.set("--stages-from", "load.start_concurrency", from),
            from => layer.set("--stages-from", "load.start_rate", from),
        }
        if let Some(spacing) = self.arrival {
            let (kind, table) = match spacing {
                Spacing::Constant => ("constant", Table::new()),
                Spacing::Poisson => ("poisson", Table::new()),
                Spacing::Gamma { shape } => ("gamma", Table::from_iter([("shape".to_owned(), shape.into())])),
            };
            layer.set("--arrival", &format!("load.arrival.{kind}"), Some(table));
        }
        layer.set("--max-concurrency", "load.max_concurrency", self.max_concurrency);
        layer.set("--when-full", "load.when_full", self.when_full.as_ref());
        layer.set("--requests", "load.requests", self.requests);
        layer.set(
            "--requests-per-concurrency",
            "load.requests_per_concurrency",
            self.requests_per_concurrency,
        );
        layer.set("--duration", "load.duration", self.duration);
        layer.set("--at-end", "load.at_end", self.at_end.as_ref());
        layer.set("--drain-timeout", "load.drain_timeout", self.drain_timeout);
        layer.set("--warmup", "load.warmup_requests", self.warmup);
        layer.set("--warmup-duration", "load.warmup_duration", self.warmup_duration);
        for (key, limit) in &self.slo {
            layer.set("--slo", key, Some(limit));
        }
    }
}

fn stages(ramp: &Ramp, of_rate: bool) -> Vec<StageSection> {
    let stage = |stage: &crate::plan::Stage| StageSection {
        name: stage.name.clone(),
        duration: Span(stage.duration_s),
        concurrency: (!of_rate).then_some(stage.target as u32),
        rate: of_rate.then_some(stage.target),
        shape: stage.shape,
        cool_down: stage.cool_down,
    };
    ramp.stages.iter().map(stage).collect()
}
