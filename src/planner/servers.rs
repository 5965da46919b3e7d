//! The servers of a deployment: sizes, pools, settings, processes, with every mistake named by its key.

use serde_json::{Map, Value, json};
use toml::Table;

use super::deployments::json_map;
use super::layout::{Layout, lay_out};
use super::packing::{Apart, Misfit};
use super::parsed::Parsed;
use super::sections::Deploy;
use crate::document::{InputError, nearest};
use crate::launcher::{Arg, Launcher, PoolName};
use crate::plan::facts::Facts;
use crate::plan::{Parallel, Pool};
use crate::recipe::{PoolSection, secret};

/// The servers of a deployment.
pub(super) struct Servers {
    pub(super) parallel: Parallel,
    pub(super) pools: Vec<Pool>,
    pub(super) settings: Map<String, Value>,
    pub(super) layout: Layout,
}

/// The servers of `[deploy]` on a launcher. The site's environment is laid under theirs.
pub(super) fn servers(
    section: &Deploy,
    launcher: &Launcher,
    parsed: &Parsed<'_>,
) -> Result<Servers, Vec<InputError>> {
    let gpu = &parsed.gpu;
    let mut errors = Vec::new();
    let parallel = parallel(section, parsed, &mut errors);
    let mut env = parsed.site.site.env.clone();
    env.extend(section.env.clone());
    let pools = pools(section, launcher, &parallel, &env, parsed, &mut errors);
    for pool in &pools {
        let prefix = prefix(pool.name);
        if pool.parallel.replicas > launcher.max_replicas {
            let found = format!("found {}", pool.parallel.replicas);
            errors.push(parsed.at(&format!("deploy.{prefix}replicas"), found).expected(format!(
                "at most {} replicas behind launcher {:?}",
                launcher.max_replicas, launcher.name
            )));
        }
    }
    for (prefix, engine) in engines(section) {
        errors.extend(unknown_options(launcher, prefix, engine, parsed));
    }
    for pool in &pools {
        let missing = launcher.options.needed.iter().filter(|option| !pool.engine.contains_key(*option));
        errors.extend(missing.map(|option| {
            let at = format!("deploy.{}engine.{option}", prefix(pool.name));
            parsed.at(&at, format!("missing, and launcher {:?} needs it", launcher.name))
        }));
    }
    let settings = settings(launcher, &section.settings, parsed, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let facts = Facts { parallel: &parallel, pools: &pools, settings: &settings, gpu, nodes: 1, url: None };
    let apart = Apart { client: section.client_node, head: section.head_node, colocate: section.colocate };
    match lay_out(launcher, &facts, gpu, apart) {
        Ok(layout) => Ok(Servers { layout, parallel, pools, settings }),
        Err(misfit) => Err(vec![misfitting(misfit, parsed)]),
    }
}

fn misfitting(misfit: Misfit, parsed: &Parsed<'_>) -> InputError {
    let key = if misfit.key.is_empty() { "deploy.launcher".into() } else { format!("deploy.{}", misfit.key) };
    let error = parsed.at(&key, misfit.problem);
    if misfit.next.is_empty() { error } else { error.next(misfit.next) }
}

fn prefix(pool: PoolName) -> String {
    match pool {
        PoolName::Aggregated => String::new(),
        name => format!("{}.", name.as_str()),
    }
}

/// One pool, or prefill and decode.
fn pools(
    section: &Deploy,
    launcher: &Launcher,
    parallel: &Parallel,
    env: &std::collections::BTreeMap<String, String>,
    parsed: &Parsed<'_>,
    errors: &mut Vec<InputError>,
) -> Vec<Pool> {
    let engine = json_map(&section.engine);
    let both = [(PoolName::Prefill, &section.prefill), (PoolName::Decode, &section.decode)];
    let given: Vec<_> = both.iter().filter(|(_, pool)| pool.is_some()).collect();
    if given.is_empty() {
        return vec![Pool { name: PoolName::Aggregated, parallel: *parallel, engine, env: env.clone() }];
    }
    if let [(only, _)] = given.as_slice() {
        let missing = if *only == PoolName::Prefill { "decode" } else { "prefill" };
        errors.push(
            parsed
                .at(&format!("deploy.{}", only.as_str()), format!("without [deploy.{missing}]"))
                .expected("both, or neither for aggregated serving"),
        );
    } else if !launcher.disaggregates() {
        errors.push(
            parsed
                .at(
                    "deploy.prefill",
                    format!("launcher {:?} does not serve prefill and decode apart", launcher.name),
                )
                .next("leave out [deploy.prefill] and [deploy.decode], or choose a launcher that does"),
        );
    }
    if parallel.replicas > 1 {
        errors.push(
            parsed
                .at("deploy.replicas", format!("found {} beside prefill and decode", parallel.replicas))
                .expected("deploy.prefill.replicas and deploy.decode.replicas"),
        );
    }
    let nothing = PoolSection::default();
    let pool = |(name, section): &(PoolName, &Option<PoolSection>)| {
        let section = section.as_ref().unwrap_or(&nothing);
        let mut engine = engine.clone();
        engine.extend(json_map(&section.engine));
        let mut env = env.clone();
        env.extend(section.env.clone());
        let at = |key: &str| format!("deploy.{}.{key}", name.as_str());
        let parallel = Parallel {
            tp: section.tp.unwrap_or(parallel.tp),
            pp: section.pp.unwrap_or(parallel.pp),
            dp: section.dp.unwrap_or(parallel.dp),
            ep: section.ep.unwrap_or(parallel.ep),
            attention_dp: section.attention_dp.unwrap_or(parallel.attention_dp),
            replicas: section.replicas.unwrap_or(1),
        };
        let sizes = [
            ("tp", parallel.tp),
            ("pp", parallel.pp),
            ("dp", parallel.dp),
            ("ep", parallel.ep),
            ("replicas", parallel.replicas),
        ];
        let zero = sizes.iter().filter(|(_, size)| *size == 0);
        (zero.map(|(key, _)| at(key)).collect::<Vec<_>>(), Pool { name: *name, parallel, engine, env })
    };
    let mut pools = Vec::new();
    for (zero, mut pool) in both.iter().map(pool) {
        errors.extend(zero.iter().map(|key| parsed.at(key, "found 0").expected("1 or more")));
        for size in [
            &mut pool.parallel.tp,
            &mut pool.parallel.pp,
            &mut pool.parallel.dp,
            &mut pool.parallel.ep,
            &mut pool.parallel.replicas,
        ] {
            *size = (*size).max(1);
        }
        pools.push(pool);
    }
    pools
}

/// The sizes, each at least 1.
fn parallel(section: &Deploy, parsed: &Parsed<'_>, errors: &mut Vec<InputError>) -> Parallel {
    let mut size = |key: &str, value: u32| {
        if value == 0 {
            errors.push(parsed.at(&format!("deploy.{key}"), "found 0").expected("1 or more"));
        }
        value.max(1)
    };
    Parallel {
        tp: size("tp", section.tp),
        pp: size("pp", section.pp),
        dp: size("dp", section.dp),
        ep: size("ep", section.ep),
        attention_dp: section.attention_dp,
        replicas: size("replicas", section.replicas),
    }
}

/// Every setting of the launcher with its value.
fn settings(
    launcher: &Launcher,
    chosen: &Table,
    parsed: &Parsed<'_>,
    errors: &mut Vec<InputError>,
) -> Map<String, Value> {
    let names = || launcher.settings.keys().map(String::as_str);
    for key in chosen.keys().filter(|key| !launcher.settings.contains_key(*key)) {
        let at = format!("deploy.settings.{key}");
        let error = parsed.at(&at, format!("launcher {:?} has no such setting", launcher.name));
        let known = names().collect::<Vec<_>>().join(", ");
        let error = if known.is_empty() {
            error.expected("no settings")
        } else {
            error.expected(format!("one of {known}"))
        };
        errors.push(match nearest(key, names()) {
            Some(near) => error.next(format!("did you mean `{near}`?")),
            None => error,
        });
    }
    let chosen = json_map(chosen);
    let mut settings = Map::new();
    for (name, setting) in &launcher.settings {
        let value = chosen.get(name).unwrap_or(&setting.default);
        let at = format!("deploy.settings.{name}");
        if std::mem::discriminant(value) != std::mem::discriminant(&setting.default) {
            errors.push(
                parsed
                    .at(&at, format!("found {value}"))
                    .expected(format!("a value like {}", setting.default)),
            );
        }
        let text = value.as_str().unwrap_or_default();
        if !setting.values.is_empty() && !setting.values.iter().any(|known| known == text) {
            let error = parsed
                .at(&at, format!("found {value}"))
                .expected(format!("one of {}", setting.values.join(", ")));
            errors.push(match nearest(text, setting.values.iter().map(String::as_str)) {
                Some(near) => error.next(format!("did you mean `{near}`?")),
                None => error,
            });
        }
        settings.insert(name.clone(), json!(value));
    }
    settings
}

/// Engine options a launcher's templates would silently ignore.
fn unknown_options(
    launcher: &Launcher,
    prefix: &str,
    engine: &Table,
    parsed: &Parsed<'_>,
) -> Vec<InputError> {
    let takes_flags =
        launcher.roles.iter().flat_map(|role| &role.argv).any(|arg| matches!(arg, Arg::Options { .. }));
    if takes_flags {
        return Vec::new();
    }
    let known = &launcher.options.known;
    let unknown = engine.keys().filter(|key| !known.contains(key));
    unknown
        .map(|key| {
            let at = format!("deploy.{prefix}engine.{key}");
            let error = parsed.at(&at, format!("launcher {:?} has no such option", launcher.name));
            let error = if known.is_empty() {
                error.expected("no engine options")
            } else {
                error.expected(format!("one of {}", known.join(", ")))
            };
            match nearest(key, known.iter().map(String::as_str)) {
                Some(near) => error.next(format!("did you mean `{near}`?")),
                None => error,
            }
        })
        .collect()
}

/// The tables of engine options, by the prefix of their key.
fn engines(section: &Deploy) -> Vec<(&'static str, &Table)> {
    let pools = [("prefill.", &section.prefill), ("decode.", &section.decode)];
    let of_pools = pools.into_iter().filter_map(|(prefix, pool)| Some((prefix, &pool.as_ref()?.engine)));
    std::iter::once(("", &section.engine)).chain(of_pools).collect()
}

/// Secrets written out in a recipe.
pub(super) fn written_secrets(section: &Deploy, parsed: &Parsed<'_>) -> Vec<InputError> {
    let pools = [("prefill.", &section.prefill), ("decode.", &section.decode)];
    let of_pools = pools.into_iter().filter_map(|(prefix, pool)| Some((prefix, &pool.as_ref()?.env)));
    let sections: Vec<_> = std::iter::once(("", &section.env)).chain(of_pools).collect();
    let mut errors = Vec::new();
    for (prefix, env) in sections {
        for name in env.iter().filter(|(name, value)| is_written(name, value)).map(|(name, _)| name) {
            let error = parsed.at(&format!("deploy.{prefix}env.{name}"), WRITTEN);
            errors.push(error.expected(by_reference(name)));
        }
    }
    for (prefix, engine) in engines(section) {
        for key in secret_keys(engine, "") {
            let at = format!("deploy.{prefix}engine.{key}");
            errors.push(
                parsed
                    .at(&at, "a secret among engine options, which become arguments and files that anybody can read")
                    .expected("the engine's environment variable for it")
                    .next("set it below deploy.env, by reference: NAME = \"env:NAME\" or \"file:/path\""),
            );
        }
    }
    errors
}

/// Keys of a table, and of the tables in it, whose names say that their value is a secret.
fn secret_keys(table: &Table, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (key, value) in table {
        let path = crate::document::join(prefix, key);
        match value {
            toml::Value::Table(inner) => found.extend(secret_keys(inner, &path)),
            _ if secret::is_secret_name(&key.replace('-', "_")) => found.push(path),
            _ => {}
        }
    }
    found
}

pub(super) const WRITTEN: &str = "a secret written out; it would end up in scripts and results";

pub(super) fn is_written(name: &str, value: &str) -> bool {
    secret::is_secret_name(name) && !secret::is_reference(value)
}

pub(super) fn by_reference(name: &str) -> String {
    format!("a reference such as \"env:{name}\" or \"file:/path\"")
}
