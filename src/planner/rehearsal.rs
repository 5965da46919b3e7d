//! Rehearsals: a share of the load, and servers of another engine in place of the recipe's.

use serde::Deserialize;
use serde_json::Value;
use toml::Table;

use super::parsed::Parsed;
use super::sections::Deploy;
use crate::document::{InputError, explain_message};
use crate::launcher::Launcher;
use crate::plan::choices::Choices;
use crate::plan::prompts::{PromptKind, TokenizerSpec};
use crate::plan::{Arrival, Length, Level, LoadPoint, Model, Pool, Stop};
use crate::recipe::Origin;
use crate::recipe::layers::{assignment, default_section, lay};

/// Fewest requests that are left of a load point which had more: below, not even a median says anything.
const LEAST_REQUESTS: u64 = 10;

/// Time that a token of an answer takes on a busy server, seconds: the time that is left outlasts an answer.
const TOKEN_S: f64 = 0.05;

/// Shortest time that is left of a load point which lasted longer, seconds.
const LEAST_SECONDS: f64 = 1.0;

/// Shortest time that is left of a stage or of a warm-up, seconds.
const LEAST_STAGE_S: f64 = 0.5;

/// Tokens that a chat template and a turn's own marks may add to a prompt, with room to spare.
const TEMPLATE_TOKENS: u32 = 256;

impl LoadPoint {
    /// Leaves `share` of the requests and of the time, warm-up included, but so much that the concurrency is reached and that a stage
    /// outlasts an answer of an engine at this `speed`. Lengths, concurrency and rate stay: the point is the same, and shorter.
    pub(super) fn scale(&mut self, share: f64, speed: f64) {
        let answer_s = f64::from(self.osl.longest()) * TOKEN_S / speed;
        let in_flight = match &self.arrival {
            Arrival::Closed { concurrency: Level::Constant(concurrency) } => u64::from(*concurrency),
            _ => 0,
        };
        let requests = |all: u64, least: u64| {
            // `as` saturates.
            let left = (all as f64 * share).ceil() as u64;
            left.max(all.min(least))
        };
        let seconds = |all: f64, least: f64| (all * share).max(all.min(least));
        let (stop, left) = match (&mut self.arrival, self.stop) {
            (
                Arrival::Closed { concurrency: Level::Ramp(ramp) }
                | Arrival::Open { rate: Level::Ramp(ramp), .. },
                _,
            ) => {
                let all = ramp.duration_s();
                for stage in &mut ramp.stages {
                    stage.duration_s = seconds(stage.duration_s, answer_s.max(LEAST_STAGE_S));
                }
                (Stop::DurationS(ramp.duration_s()), ramp.duration_s() / all)
            }
            (_, Stop::Requests(all)) => {
                let left = requests(all, in_flight.max(LEAST_REQUESTS));
                (Stop::Requests(left), left as f64 / all as f64)
            }
            (_, Stop::DurationS(all)) => {
                let left = seconds(all, answer_s.max(LEAST_SECONDS));
                (Stop::DurationS(left), left / all)
            }
            (_, Stop::TraceEnd) => (Stop::TraceEnd, share),
        };
        self.stop = stop;
        if let PromptKind::Trace(trace) = &mut self.prompts.source {
            trace.share = Some(share);
        }
        self.warmup_requests = requests(self.warmup_requests, 1);
        self.warmup_duration_s = self.warmup_duration_s.map(|all| seconds(all, LEAST_STAGE_S));
        // Three significant digits: what is said of it, not what is computed with it.
        self.scaled = (left < 1.0).then(|| format!("{left:.2e}").parse().unwrap_or(left));
    }
}

/// The engine that stands in counts words, whatever the model's tokenizer is.
pub(super) fn count_words(point: &mut LoadPoint) {
    point.prompts.tokenizer = TokenizerSpec::Builtin;
    point.prompts.token_ids = false;
}

/// `[deploy]` of the launcher that stands in for servers with these pools and this load.
pub(super) fn section(
    pools: &[Pool],
    points: &[LoadPoint],
    parsed: &Parsed<'_>,
    model: &Model,
    launcher: &Launcher,
) -> Result<Deploy, InputError> {
    let Some(stand_in) = &launcher.stand_in else {
        return Err(parsed.at("deploy.launcher", format!("launcher {:?} stands in for none", launcher.name)));
    };
    let (tp, replicas) = match pools {
        [only] => (only.parallel.gpus_per_replica(), only.parallel.replicas),
        pools => (pools.iter().map(Pool::gpus).sum(), 1),
    };
    let mut engine = Table::new();
    for (option, names) in &stand_in.options {
        let needed = (stand_in.context.as_ref() == Some(option)).then(|| context(points)).flatten();
        let per_rank = stand_in.per_rank.contains(option);
        let given = pools.iter().filter_map(|pool| option_of(pool, names, per_rank, pools.len() > 1)).max();
        let value = match (given, needed) {
            (Some(given), Some(needed)) => Some(given.min(needed)),
            (given, needed) => given.or(needed),
        };
        if let Some(value) = value {
            engine.insert(option.clone(), toml::Value::Integer(i64::from(value)));
        }
    }
    let profile = stand_in.gpus.get(&parsed.gpu.kind).unwrap_or(&stand_in.other_gpus);
    let profile =
        stand_in.models.get(&model.name).map_or(profile.clone(), |model| format!("{profile}/{model}"));
    engine.insert(stand_in.gpu_option.clone(), toml::Value::String(profile));
    let mut section = default_section("deploy");
    section.insert("launcher".into(), launcher.name.clone().into());
    section.insert("tp".into(), i64::from(tp.max(1)).into());
    section.insert("replicas".into(), i64::from(replicas).into());
    section.insert("engine".into(), engine.into());
    let mut recipe = Table::from_iter([("deploy".to_owned(), section.into())]);
    for set in &parsed.input.choices.sets {
        let (key, value) = set.split_once('=').unwrap_or((set, "true"));
        if key.trim().starts_with("deploy.engine.") {
            lay(&mut recipe, &assignment(key.trim(), value, &format!("--set {set}"))?);
        }
    }
    let section = recipe.remove("deploy").unwrap_or_else(|| Table::new().into());
    Deploy::deserialize(section).map_err(|error| parsed.resolved.locate(explain_message(error.message())))
}

/// Errors about what `--set` gave to the engine that stands in, with that option as their origin.
pub(super) fn blame_sets(mut errors: Vec<InputError>, choices: &Choices) -> Vec<InputError> {
    for error in &mut errors {
        if error.key.as_deref().is_some_and(|key| choices.set(key).is_some()) {
            error.origin = Origin::Set.to_string();
        }
    }
    errors
}

/// The first of the options `names` that a pool sets to a whole number. `per_rank`: the sum over its data-parallel ranks;
/// `merged`: over its replicas too, because they become one.
fn option_of(pool: &Pool, names: &[String], per_rank: bool, merged: bool) -> Option<u32> {
    let value = names.iter().find_map(|name| pool.engine.get(name).and_then(Value::as_u64))?;
    let value = u32::try_from(value).ok()?;
    let sizes = &pool.parallel;
    let ranks = if sizes.attention_dp { sizes.tp.max(sizes.dp) } else { sizes.dp };
    let times = if per_rank { ranks * if merged { sizes.replicas } else { 1 } } else { 1 };
    Some(value.saturating_mul(times.max(1)))
}

/// Tokens that the longest request of all points has; `None` when a file decides.
fn context(points: &[LoadPoint]) -> Option<u32> {
    let both = |isl: Length, osl: Length| isl.longest().saturating_add(osl.longest());
    let of_point = |point: &LoadPoint| {
        let prompts = &point.prompts;
        let PromptKind::Synthetic(_) = prompts.source else { return None };
        let shapes = prompts.mix.iter().map(|shape| both(shape.isl, shape.osl));
        let longest = shapes.chain([both(point.isl, point.osl)]).max()?;
        let prefix = prompts.prefix.system_tokens.saturating_add(prompts.prefix.pool_tokens);
        let first = longest.saturating_add(prefix);
        let all = prompts.conversation.map_or(first, |talk| {
            let turns = talk.turns.saturating_add(talk.turns_stddev.saturating_mul(4));
            let turn = both(talk.turn_isl, point.osl).saturating_add(TEMPLATE_TOKENS);
            talk.max_context.unwrap_or_else(|| first.saturating_add(turns.saturating_mul(turn)))
        });
        Some(all.saturating_add(TEMPLATE_TOKENS))
    };
    points.iter().map(of_point).try_fold(0, |most, tokens| Some(most.max(tokens?))).filter(|most| *most > 0)
}

#[cfg(test)]
#[path = "rehearsal_tests.rs"]
mod tests;
