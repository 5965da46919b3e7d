//! Rehearsals: a load of which only a share is driven, and a deployment on an engine that stands in for the recipe's.
//!
//! Pure, like all of `plan`.

use serde_json::Value;
use toml::Table;

use crate::document::InputError;
use crate::launcher::StandIn;
use crate::plan::choices::Rehearsal;
use crate::plan::prompts::{PromptKind, TokenizerSpec};
use crate::plan::{Deployment, LoadPoint, Pool, Stop};
use crate::recipe::DeploySection;
use crate::recipe::layers::assignment;

/// Fewest requests that are left of a load point which had more: below, not even a median says anything.
const LEAST_REQUESTS: u64 = 10;

/// Shortest time that is left of a load point which lasted longer, seconds.
const LEAST_SECONDS: f64 = 1.0;

/// Shortest time that is left of a stage or of a warm-up, seconds.
const LEAST_STAGE_S: f64 = 0.5;

/// Tokens that a chat template and a turn's own marks may add to a prompt, with room to spare.
const TEMPLATE_TOKENS: u32 = 256;

impl LoadPoint {
    /// Leaves `share` of the requests and of the time, warm-up included. Lengths, concurrency and rate stay: the point is the same,
    /// and shorter.
    pub(super) fn scale(&mut self, share: f64) {
        let requests = |all: u64, least: u64| {
            // `as` saturates.
            let left = (all as f64 * share).ceil() as u64;
            left.max(all.min(least))
        };
        let seconds = |all: f64, least: f64| (all * share).max(all.min(least));
        let length_s = self.arrival.ramp_mut().map(|ramp| {
            for stage in &mut ramp.stages {
                stage.duration_s = seconds(stage.duration_s, LEAST_STAGE_S);
            }
            ramp.duration_s()
        });
        self.stop = match (self.stop, length_s) {
            (_, Some(length_s)) => Stop::DurationS(length_s),
            (Stop::Requests(all), None) => Stop::Requests(requests(all, LEAST_REQUESTS)),
            (Stop::DurationS(all), None) => Stop::DurationS(seconds(all, LEAST_SECONDS)),
            (Stop::TraceEnd, None) => Stop::TraceEnd,
        };
        if let PromptKind::Trace(trace) = &mut self.prompts.source {
            trace.share = Some(share);
        }
        self.warmup_requests = requests(self.warmup_requests, 1);
        self.warmup_duration_s = self.warmup_duration_s.map(|all| seconds(all, LEAST_STAGE_S));
        self.scaled = Some(share);
    }

    /// The engine that stands in counts words, whatever the model's tokenizer is.
    fn count_words(&mut self) {
        self.prompts.tokenizer = TokenizerSpec::Builtin;
        self.prompts.token_ids = false;
    }
}

/// The load points of a rehearsal.
pub(super) fn points(real: &Deployment) -> Vec<LoadPoint> {
    let mut points = real.points.clone();
    points.iter_mut().for_each(LoadPoint::count_words);
    points
}

/// The deployment that stands in for `real`, with a model on a GPU type, as a recipe would say it.
pub(super) fn section(
    real: &Deployment,
    (gpu, model): (&str, &str),
    stand_in: &StandIn,
    rehearsal: &Rehearsal,
) -> Result<DeploySection, InputError> {
    let (tp, replicas) = match real.pools.as_slice() {
        [only] => (only.parallel.gpus_per_replica(), only.parallel.replicas),
        pools => (pools.iter().map(Pool::gpus).sum(), 1),
    };
    let mut engine = Table::new();
    for (option, names) in &stand_in.options {
        let needed = (stand_in.context.as_ref() == Some(option)).then(|| context(&real.points)).flatten();
        let per_rank = stand_in.per_rank.contains(option);
        let said =
            real.pools.iter().filter_map(|pool| said(pool, names, per_rank, real.pools.len() > 1)).max();
        let value = match (said, needed) {
            (Some(said), Some(needed)) => Some(said.min(needed)),
            (said, needed) => said.or(needed),
        };
        if let Some(value) = value {
            engine.insert(option.clone(), toml::Value::Integer(i64::from(value)));
        }
    }
    let profile = stand_in.gpus.get(gpu).unwrap_or(&stand_in.other_gpus);
    let profile = stand_in.models.get(model).map_or(profile.clone(), |model| format!("{profile}/{model}"));
    engine.insert(stand_in.gpu_option.clone(), toml::Value::String(profile));
    for set in &rehearsal.engine {
        let (key, value) = set.split_once('=').unwrap_or((set, "true"));
        let layer = assignment(key.trim(), value, &format!("--set {set}"))?;
        let options =
            layer.get("deploy").and_then(|deploy| deploy.get("engine")).and_then(toml::Value::as_table);
        engine.extend(options.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
    }
    Ok(DeploySection {
        launcher: Some(rehearsal.launcher.clone()),
        tp: Some(tp.max(1)),
        replicas: Some(replicas),
        engine,
        ..DeploySection::default()
    })
}

/// The first of `names` that a pool has a whole number for; of all data-parallel ranks together where it is said for one, and of
/// all replicas where they become one.
fn said(pool: &Pool, names: &[String], per_rank: bool, merged: bool) -> Option<u32> {
    let value = names.iter().find_map(|name| pool.engine.get(name).and_then(Value::as_u64))?;
    let value = u32::try_from(value).ok()?;
    let sizes = &pool.parallel;
    let ranks = if sizes.attention_dp { sizes.tp.max(sizes.dp) } else { sizes.dp };
    let times = if per_rank { ranks * if merged { sizes.replicas } else { 1 } } else { 1 };
    Some(value.saturating_mul(times.max(1)))
}

/// Tokens that the longest request of all points has; `None` when a file decides.
fn context(points: &[LoadPoint]) -> Option<u32> {
    let of_point = |point: &LoadPoint| {
        let PromptKind::Synthetic(_) = point.prompts.source else { return None };
        let shapes = point.prompts.mix.iter().map(|shape| (shape.isl, shape.osl));
        let longest = shapes
            .chain([(point.isl, point.osl)])
            .map(|(isl, osl)| isl.longest().saturating_add(osl.longest()));
        let first = longest
            .max()?
            .saturating_add(point.prompts.prefix.system_tokens)
            .saturating_add(point.prompts.prefix.pool_tokens);
        let all = match point.prompts.conversation {
            None => first,
            Some(talk) => talk.max_context.unwrap_or_else(|| {
                let turns = talk.turns.saturating_add(talk.turns_stddev.saturating_mul(4));
                let turn = talk
                    .turn_isl
                    .longest()
                    .saturating_add(point.osl.longest())
                    .saturating_add(TEMPLATE_TOKENS);
                first.saturating_add(turns.saturating_mul(turn))
            }),
        };
        Some(all.saturating_add(TEMPLATE_TOKENS))
    };
    points.iter().map(of_point).try_fold(0, |most, tokens| Some(most.max(tokens?))).filter(|most| *most > 0)
}

#[cfg(test)]
#[path = "rehearsal_tests.rs"]
mod tests;
