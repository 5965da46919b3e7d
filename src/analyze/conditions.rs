//! Reasons not to compare a figure with a load point: another GPU, another load, lengths that were not reached.

use serde_json::Value;

use super::metric;
use super::published::{Figure, PlannedPoint, listed};
use super::verify::MeasuredRun;
use crate::metrics::Summary;
use crate::plan::{Arrival, Length, Level, Plan, Spread};
use crate::planner::scale::is_size;

/// Largest deviation of a mean length that still counts as reached, percent. 5 % is AIPerf's own mismatch threshold.
pub(super) const LENGTH_OFF: f64 = 5.0;

/// Whether a plan sends less than the whole load of its recipe.
pub(super) fn is_scaled(plan: &Plan) -> bool {
    plan.points().any(|(_, point)| point.scaled.is_some())
}

impl MeasuredRun<'_> {
    /// Reasons that rule out every comparison with the figure.
    pub(super) fn forbidden(&self, figure: &Figure) -> Vec<String> {
        let published = &figure.published;
        let mut reasons = Vec::new();
        if self.simulated {
            reasons.push(format!(
                "the result is simulated, which is never compared with a {}",
                self.figures.words
            ));
        }
        if published.gpu != self.plan.gpu.kind {
            let here = match self.plan.gpu.kind.as_str() {
                "none" => "a GPU type nobody named",
                kind => kind,
            };
            reasons.push(format!("published for {}, and this is {here}", published.gpu));
        }
        let model = self.figures.own.as_ref().and_then(|own| own["model"]["name"].as_str());
        if let Some(model) = model.filter(|model| *model != self.plan.model.name) {
            reasons.push(format!("published for the model {model}, and this is {}", self.plan.model.name));
        }
        if published.offline {
            reasons.push("an offline figure, measured without a server in between".to_owned());
        }
        if published.value == 0.0 {
            reasons.push("the recipe names no figure yet (value = 0)".to_owned());
        }
        if is_scaled(self.plan) {
            reasons.push("the load was scaled down".to_owned());
        }
        reasons
    }

    /// How the load point's settings differ from the published run. The recipe fills in what the figure does not
    /// state.
    pub(super) fn differing_conditions(&self, figure: &Figure, planned: &PlannedPoint<'_>) -> Vec<String> {
        let (published, summary) = (&figure.published, self.summaries.get(&planned.name));
        let mut reasons = Vec::new();
        let mut lengths = |name: &str, key: &str, stated: Option<u32>, asked: Length, sent: Option<u32>| {
            // If the figure names a point, that name fixes the lengths; otherwise the recipe does.
            let wanted = match stated {
                None if published.point.is_some() => Vec::new(),
                stated => stated.map_or_else(|| self.own_numbers(key), |stated| vec![u64::from(stated)]),
            };
            let here = if asked.mean > 0 { Some(asked.mean) } else { sent };
            let Some(here) = here.filter(|_| !wanted.is_empty()) else { return };
            // Lengths from a file need only be near.
            let near = |wanted: &u64| asked.mean == 0 && is_near(f64::from(here), *wanted as f64, LENGTH_OFF);
            if !wanted.iter().any(|wanted| *wanted == u64::from(here) || near(wanted)) {
                let wanted: Vec<String> = wanted.iter().map(u64::to_string).collect();
                let who = if stated.is_some() { "published with" } else { "the recipe has" };
                reasons.push(format!("{who} {name} {}, and this is {name} {here}", listed(&wanted)));
            }
        };
        lengths("ISL", "isl", published.isl, planned.point.isl, summary.map(|summary| summary.point.isl));
        lengths("OSL", "osl", published.osl, planned.point.osl, summary.map(|summary| summary.point.osl));
        let on = |streaming: bool| if streaming { "on" } else { "off" };
        let streaming = planned.point.streaming;
        let stated = published.streaming.map(|wanted| ("published with", wanted));
        let wanted = stated.or_else(|| Some(("the recipe has", self.own_streaming()?)));
        if let Some((who, wanted)) = wanted.filter(|(_, wanted)| *wanted != streaming) {
            reasons.push(format!("{who} streaming {}, and here it is {}", on(wanted), on(streaming)));
        }
        if let (Some(wanted), true) = (published.concurrency, published.point.is_some())
            && concurrency(planned) != Some(u64::from(wanted))
        {
            let here = planned.point.load_words();
            reasons.push(format!("published with concurrency {wanted}, and this is {here}"));
        }
        if let Some(wanted) = published.gpus.filter(|_| !metric::is_per_gpu(&published.metric)) {
            match planned.deployment.gpus {
                here if here == wanted => {}
                0 => reasons.push(format!("published on {}, and here nobody says", gpus(wanted))),
                here => reasons.push(format!("published on {}, and this is {}", gpus(wanted), gpus(here))),
            }
        }
        if published.gpus.is_none() && !metric::is_per_gpu(&published.metric) {
            reasons.extend(self.resized());
        }
        reasons.extend(self.reshaped());
        reasons
    }

    /// Server sizes that differ from the recipe's.
    fn resized(&self) -> impl Iterator<Item = String> + '_ {
        let changes = self.changes.iter().filter(|change| is_size(&change.key) && !change.narrowed);
        changes.map(|change| format!("{} is not the recipe's own ({})", change.key, change.from))
    }

    /// Load settings that differ from the recipe's and that a figure cannot state as a condition.
    fn reshaped(&self) -> Vec<String> {
        const SHAPES: [&str; 16] = [
            "load.mix",
            "load.length_range",
            "load.prompts.dataset",
            "load.prompts.trace",
            "load.prompts.conversation",
            "load.stages",
            "load.rate",
            "load.arrival",
            "load.max_concurrency",
            "load.when_full",
            "load.isl_stddev",
            "load.osl_stddev",
            "load.endpoint",
            "load.ignore_eos",
            "load.extra_body",
            "load.prompts.prefix",
        ];
        // A file's path differs between machines; its content shows in the lengths.
        let is_shape = |key: &str| {
            let below = |shape: &&str| key == *shape || key.starts_with(&format!("{shape}."));
            SHAPES.iter().any(below) && !key.ends_with(".path")
        };
        let shaped = self.changes.iter().filter(|change| is_shape(&change.key) && !change.narrowed);
        let changed =
            shaped.map(|change| format!("{} is not the recipe's own ({})", change.key, change.from));
        let has =
            |of: &Value, key: &str| key.split('.').try_fold(of, |value, part| value.get(part)).is_some();
        let own = self.figures.own.as_ref();
        let here = serde_json::to_value(&self.plan.recipe).unwrap_or_default();
        let is_lost = |key: &&&str| own.is_some_and(|own| has(own, key)) && !has(&here, key);
        let lost =
            SHAPES.iter().filter(is_lost).map(|key| format!("the recipe has {key}, and it is not here"));
        changed.chain(lost).collect()
    }

    /// Concurrencies that a figure without a point applies to; empty: any.
    pub(super) fn concurrencies(&self, figure: &Figure) -> Vec<u64> {
        match (&figure.published.point, figure.published.concurrency) {
            (Some(_), _) => Vec::new(),
            (None, Some(stated)) => vec![u64::from(stated)],
            (None, None) => self.own_numbers("concurrency"),
        }
    }

    /// The numbers that the recipe itself gives for a key of the load; empty if it gives none.
    fn own_numbers(&self, key: &str) -> Vec<u64> {
        let Some(own) = &self.figures.own else { return Vec::new() };
        let mut numbers = Vec::new();
        for said in [&own["load"][key], &own["sweep"]["load"][key]] {
            match said {
                Value::Array(list) => numbers.extend(list.iter().filter_map(Value::as_u64)),
                one => numbers.extend(one.as_u64()),
            }
        }
        numbers
    }

    /// Whether the recipe itself streams; `None` if it sweeps both.
    fn own_streaming(&self) -> Option<bool> {
        let own = self.figures.own.as_ref()?;
        own["load"]["streaming"].as_bool().filter(|_| own["sweep"]["load"]["streaming"].is_null())
    }
}

/// Requests in flight, if the load keeps them constant or a trace bounds them.
pub(super) fn concurrency(planned: &PlannedPoint<'_>) -> Option<u64> {
    match &planned.point.arrival {
        Arrival::Closed { concurrency: Level::Constant(concurrency) } => Some(u64::from(*concurrency)),
        Arrival::Trace { limit } => limit.max_concurrency.map(u64::from),
        Arrival::Closed { concurrency: Level::Ramp(_) } | Arrival::Open { .. } => None,
    }
}

/// Requested lengths that were not reached.
pub(super) fn not_reached(planned: &PlannedPoint<'_>, summary: &Summary) -> Vec<String> {
    // Later turns contain the earlier ones, so their prompt length depends on the answers.
    let grows = planned.point.prompts.conversation.is_some();
    let lengths = [
        ("ISL", planned.point.isl, summary.point.isl, summary.isl.filter(|_| !grows)),
        ("OSL", planned.point.osl, summary.point.osl, summary.osl),
    ];
    let missed = lengths.into_iter().filter_map(|(name, asked, sent, found)| {
        let (asked, found) = (expected(asked, sent), found?.avg);
        let is_reached = is_near(found, asked, LENGTH_OFF);
        (!is_reached).then(|| format!("{name} not reached: {found:.1} on average for {asked:.1} asked for"))
    });
    missed.collect()
}

/// The expected mean length; if a file decides the lengths, the mean of those sent.
fn expected(asked: Length, sent: u32) -> f64 {
    match asked.spread {
        Spread::Uniform { low, high } => f64::midpoint(f64::from(low), f64::from(high)),
        _ if asked.mean == 0 => f64::from(sent),
        Spread::None | Spread::Normal { .. } => f64::from(asked.mean),
    }
}

/// Whether `found` is within `percent` of `expected`.
pub(super) fn is_near(found: f64, expected: f64, percent: f64) -> bool {
    (found - expected).abs() <= expected.abs() * percent / 100.0
}

/// `1 GPU`, `4 GPUs`.
pub(super) fn gpus(number: u32) -> String {
    if number == 1 { "1 GPU".to_owned() } else { format!("{number} GPUs") }
}
