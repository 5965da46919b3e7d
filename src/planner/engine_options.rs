//! Checks engine options against the launcher's table, and the longest request against the option that limits it.

use toml::Table;

use super::deployments::json_map;
use super::parsed::Mistakes;
use super::sections::Deploy;
use crate::document::one_of;
use crate::launcher::{Finding, Launcher, PoolName, size};
use crate::plan::{LoadPoint, Plan, Pool, PromptKind};
use crate::recipe::layers::is_same_option;

/// Adds options that the launcher sets itself, misspelt and unknown ones, and values that their options do not take. Options that the table of a launcher lacks are
/// left to [`unknown`], unless its templates would silently ignore them.
pub(super) fn check(section: &Deploy, launcher: &Launcher, mistakes: &mut Mistakes<'_>) {
    let options = &launcher.options;
    let names = options.names();
    let forgives = mistakes.parsed.input.choices.allow_unknown;
    for (prefix, engine, _) in section.engines() {
        check_twins(engine, prefix, mistakes);
        let engine = without_set_by_launcher(engine, prefix, launcher, mistakes);
        if !launcher.passes_all_options() {
            for key in engine.keys().filter(|key| !names.contains(&key.as_str())) {
                let problem = format!("launcher {:?} has no such option", launcher.name);
                let error = mistakes.at(&format!("{prefix}engine.{key}"), problem);
                mistakes.found.push(error.expected(one_of(&names, "no engine options")).suggest(key, &names));
            }
        }
        for (option, finding) in options.findings(&json_map(&engine)) {
            let key = format!("{prefix}engine.{option}");
            let known = table_name(launcher);
            let is_passed_on = launcher.passes_all_options() || option.contains('.');
            let error = match finding {
                Finding::Unknown { near: Some(near) } if is_passed_on && !forgives => {
                    let error = mistakes.at(&key, format!("{known} has no such option"));
                    error.next(format!("did you mean `{near}`? --allow-unknown passes it on as it is"))
                }
                Finding::Refused { found, expected, listed } if !(listed && forgives) => {
                    let error = mistakes.at(&key, format!("found {found}")).expected(expected);
                    match listed {
                        true => error.next(format!(
                            "these are the values of {known}; --allow-unknown passes another one on"
                        )),
                        false => error,
                    }
                }
                _ => continue,
            };
            mistakes.found.push(error);
        }
    }
}

/// Adds options that stand there twice, once with `-` and once with `_`.
fn check_twins(engine: &Table, prefix: &str, mistakes: &mut Mistakes<'_>) {
    for (number, key) in engine.keys().enumerate() {
        if let Some(twin) = engine.keys().take(number).find(|twin| is_same_option(twin, key)) {
            let problem = format!("the same option as `{twin}`");
            let error = mistakes.at(&format!("{prefix}engine.{key}"), problem);
            mistakes.found.push(error.expected("each option once").next("take out one of them"));
        }
    }
}

/// The options without those that the launcher sets itself, which are mistakes.
fn without_set_by_launcher(
    engine: &Table,
    prefix: &str,
    launcher: &Launcher,
    mistakes: &mut Mistakes<'_>,
) -> Table {
    let mut rest = engine.clone();
    for key in engine.keys() {
        if let Some(setter) = launcher.options.setter(key) {
            rest.remove(key);
            let error = mistakes.at(&format!("{prefix}engine.{key}"), SETS_ITSELF);
            mistakes.found.push(error.next(instead(setter, prefix)));
        }
    }
    rest
}

const SETS_ITSELF: &str = "tokmark gives this option to the engine itself";

/// What to set in place of an option that `setter` sets.
fn instead(setter: &str, prefix: &str) -> String {
    match setter.strip_prefix("deploy.") {
        _ if setter.is_empty() => "leave it out".into(),
        Some(size @ ("tp" | "pp" | "dp" | "ep" | "attention_dp")) => {
            format!("set deploy.{prefix}{size} instead")
        }
        _ => format!("set {setter} instead"),
    }
}

/// Engine and version of a launcher's table.
fn table_name(launcher: &Launcher) -> String {
    let table = launcher.options.known_options();
    table.map_or_else(
        || launcher.name.clone(),
        |table| format!("{} {}", table.engine, table.version).trim_end().to_owned(),
    )
}

/// Options that the table lacks and that resemble none, each as a warning.
pub fn unknown(plan: &Plan) -> Vec<String> {
    let launcher = plan.launcher();
    let mut warnings = Vec::new();
    if plan.input.choices.allow_unknown {
        return warnings;
    }
    for pool in plan.deployments.iter().flat_map(|deployment| &deployment.pools) {
        for (key, finding) in launcher.options.findings(&pool.engine) {
            let Finding::Unknown { near: None } = finding else { continue };
            let of_pool = format!("deploy.{}engine.{key}", pool.name.prefix());
            let key =
                if plan.origins.contains_key(&of_pool) { of_pool } else { format!("deploy.engine.{key}") };
            let warning = format!(
                "{}: `{key}`: {} has no such option; --allow-unknown silences this",
                plan.place_of(&key),
                table_name(launcher)
            );
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
    }
    warnings
}

/// Adds pools whose longest request does not fit the option that limits prompt plus answer.
pub(super) fn check_context(
    launcher: &Launcher,
    section: &Deploy,
    pools: &[Pool],
    points: &[LoadPoint],
    mistakes: &mut Mistakes<'_>,
) {
    let Some(option) = launcher.options.context.as_deref() else { return };
    for pool in pools {
        let is_option = |key: &&String| key.replace('-', "_") == option;
        let Some(key) = pool.engine.keys().find(is_option) else { continue };
        // -1 and `auto` leave it to the engine.
        let limit = size(&pool.engine[key]).filter(|limit| *limit >= 0.0);
        let longest = points.iter().filter_map(|point| Some((longest(point, pool.name)?, point)));
        let Some((limit, (needed, point))) = limit.zip(longest.max_by_key(|(tokens, _)| *tokens)) else {
            continue;
        };
        if limit < f64::from(needed) {
            let is_own =
                |(prefix, engine): (&str, &Table)| prefix == pool.name.prefix() && engine.contains_key(key);
            let own = section.engines().any(|(prefix, engine, _)| is_own((prefix, engine)));
            let prefix = if own { pool.name.prefix() } else { "" };
            let found = format!("found {limit}, and the longest request of {} has {needed} tokens", point.id);
            let expected = format!("{needed} or more: prompt and answer together");
            mistakes.add(&format!("{prefix}engine.{key}"), found, expected);
        }
    }
}

/// Tokens that the longest request of a point certainly has in a pool; `None` when a file decides. Prefill generates one token.
fn longest(point: &LoadPoint, pool: PoolName) -> Option<u32> {
    let answer = |osl: u32| if pool == PoolName::Prefill { osl.min(1) } else { osl };
    let prompts = &point.prompts;
    let prefix = prompts.prefix.system_tokens.saturating_add(prompts.prefix.pool_tokens);
    let shapes = prompts.mix.iter().map(|shape| (shape.isl.longest(), shape.osl.longest()));
    let (isl, osl) = match &prompts.source {
        PromptKind::Synthetic(_) => (point.isl.longest(), point.osl.longest()),
        PromptKind::Dataset(dataset) if !dataset.own_lengths => {
            (dataset.min_tokens.unwrap_or(1), point.osl.longest())
        }
        PromptKind::Dataset(_) | PromptKind::Trace(_) => return None,
    };
    let shapes = shapes.chain([(isl, osl)]);
    let first = shapes.map(|(isl, osl)| isl.saturating_add(answer(osl))).max()?.saturating_add(prefix);
    let Some(talk) = prompts.conversation else { return Some(first) };
    let turns = talk.turns.saturating_add(talk.turns_stddev.saturating_mul(4)).max(1);
    let turn = talk.turn_isl.longest().saturating_add(osl);
    let last = first.saturating_add((turns - 1).saturating_mul(turn));
    Some(talk.max_context.map_or(last, |limit| last.min(limit)))
}
