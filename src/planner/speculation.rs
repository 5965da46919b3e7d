//! Speculative decoding: from `[deploy.speculation]` to the engine's own options, and from these to what is known of it.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use toml::{Table, Value};

use super::parsed::Mistakes;
use super::sections::Deploy;
use crate::launcher::{Launcher, SpeculationNames, SpeculationSpec};
use crate::plan::Speculation;
use crate::recipe::speculation::SpeculationSection;
use crate::template::{self, Context};

/// Writes the section into the engine options and the environment of `[deploy]`, in the words of the launcher.
pub(super) fn expand(section: &mut Deploy, launcher: &Launcher, mistakes: &mut Mistakes<'_>) {
    let Some(speculation) = section.speculation.clone() else { return };
    let Some(spec) = &launcher.speculation else {
        let error = mistakes.at("speculation", format!("launcher {:?} does not speculate", launcher.name));
        return mistakes.found.push(error.next("leave it out, or choose another launcher"));
    };
    let before = mistakes.found.len();
    check(&speculation, mistakes);
    if mistakes.found.len() > before {
        return;
    }
    let context = context(&speculation);
    let (options, env) = match (options(spec, &speculation, &context), environment(spec, &context)) {
        (Ok(options), Ok(env)) => (options, env),
        (Err(problem), _) | (_, Err(problem)) => {
            return mistakes.add("speculation", problem, "the launcher file corrected");
        }
    };
    for (prefix, engine) in section.engines_mut() {
        let root = spec.table.as_deref().map(|table| table.split('.').next().unwrap_or(table));
        // A pool takes the options of the whole deployment, unless it replaces the table that they are in.
        let replaces = root.is_some_and(|root| find(engine, root).is_some());
        if !prefix.is_empty() && !replaces {
            continue;
        }
        if let Err(key) = lay(engine, spec.table.as_deref(), &options) {
            let error = mistakes
                .at(&format!("{prefix}engine.{key}"), "found beside [deploy.speculation], which sets it");
            let next =
                "leave one of them out; further options of speculation go to deploy.speculation.options";
            mistakes.found.push(error.next(next));
        }
    }
    for (name, value) in env {
        if section.env.insert(name.clone(), value).is_some() {
            let problem = "found beside deploy.speculation.synthetic_acceptance, which sets it";
            let error = mistakes.at(&format!("env.{name}"), problem);
            mistakes.found.push(error.next("leave one of them out"));
        }
    }
}

fn check(speculation: &SpeculationSection, mistakes: &mut Mistakes<'_>) {
    if speculation.method.as_deref().is_none_or(|method| method.trim().is_empty()) {
        mistakes.add(
            "speculation.method",
            "missing",
            "the engine's name of the method, e.g. eagle3 or ngram",
        );
    }
    if speculation.tokens == Some(0) {
        mistakes.add("speculation.tokens", "found 0", "1 or more");
    }
    // A step yields one token without any draft, and at most one more than drafted.
    let most = speculation.tokens.map_or(f64::INFINITY, |tokens| f64::from(tokens) + 1.0);
    if let Some(tokens) = speculation.synthetic_acceptance.filter(|tokens| !(1.0..=most).contains(tokens)) {
        let expected = match speculation.tokens {
            Some(drafted) => format!("tokens a step, from 1 to {most} for {drafted} drafted ones"),
            None => "tokens a step, 1 or more".to_owned(),
        };
        mistakes.add("speculation.synthetic_acceptance", format!("found {tokens}"), expected);
    }
}

fn context(speculation: &SpeculationSection) -> Context {
    let mut context = Context::new();
    context.insert("method", &speculation.method);
    context.insert("model", &speculation.model);
    context.insert("tokens", &speculation.tokens);
    context.insert("synthetic_acceptance", &speculation.synthetic_acceptance);
    context
}

/// The options that the launcher sets, then those of the recipe, which win.
fn options(
    spec: &SpeculationSpec,
    speculation: &SpeculationSection,
    context: &Context,
) -> Result<Table, String> {
    let mut options = Table::new();
    for set in &spec.set {
        if set.when.as_ref().map_or(Ok(true), |when| template::truth(when, context))? {
            options.insert(set.option.clone(), typed(&template::expand(&set.value, context, false)?));
        }
    }
    options.extend(speculation.options.clone());
    Ok(options)
}

fn environment(spec: &SpeculationSpec, context: &Context) -> Result<BTreeMap<String, String>, String> {
    let mut env = BTreeMap::new();
    for (name, template) in &spec.env {
        let value = template::expand(template, context, false)?;
        if !value.is_empty() {
            env.insert(name.clone(), value);
        }
    }
    Ok(env)
}

fn typed(text: &str) -> Value {
    let integer = text.parse().map(Value::Integer).ok();
    let float = || text.parse().map(Value::Float).ok();
    let truth = || text.parse().map(Value::Boolean).ok();
    integer.or_else(float).or_else(truth).unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Names that engines take for the same.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

fn find<'a>(table: &'a Table, name: &str) -> Option<(&'a String, &'a Value)> {
    table.iter().find(|(key, _)| plain(key) == plain(name))
}

/// Puts the options into a table of engine options. `Err`: the key that has one of them already.
fn lay(engine: &mut Table, into: Option<&str>, options: &Table) -> Result<(), String> {
    let Some(path) = into else {
        if let Some((key, _)) = options.keys().find_map(|name| find(engine, name)) {
            return Err(key.clone());
        }
        engine.extend(options.clone());
        return Ok(());
    };
    if options.is_empty() {
        return Ok(());
    }
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let key = find(engine, name).map_or_else(|| name.to_owned(), |(key, _)| key.clone());
    let Some(rest) = rest else {
        return match engine.insert(key.clone(), Value::Table(options.clone())) {
            Some(_) => Err(key),
            None => Ok(()),
        };
    };
    match engine.entry(key.clone()).or_insert_with(|| Value::Table(Table::new())) {
        Value::Table(inner) => lay(inner, Some(rest), options).map_err(|inner| format!("{key}.{inner}")),
        _ => Err(key),
    }
}

/// What engine options and environment say of speculation; `None` when they do not switch it on.
pub(super) fn known(
    launcher: &Launcher,
    section: &SpeculationSection,
    engine: &serde_json::Map<String, Json>,
    env: &BTreeMap<String, String>,
) -> Option<Speculation> {
    let spec = launcher.speculation.as_ref()?;
    let engine = Json::Object(engine.clone());
    let own = match &spec.table {
        Some(table) => at(&engine, table).map(|table| (&spec.names, table)),
        None => Some((&spec.names, engine.clone())),
    };
    let also = spec.also.iter().map(|names| (names, engine.clone()));
    let found = own.into_iter().chain(also).filter_map(|(names, options)| read(names, &options));
    let found = found.reduce(|first, other| Speculation {
        method: first.method.or(other.method),
        model: first.model.or(other.model),
        tokens: first.tokens.or(other.tokens),
        ..first
    });
    // An endpoint that runs elsewhere has no options: the section says what runs there.
    let said = || {
        section.method.clone().map(|method| Speculation { method: Some(method), ..Speculation::default() })
    };
    let found = found.or_else(said)?;
    let synthetic =
        |(option, value): (&String, &String)| at(&engine, option).is_some_and(|found| text(&found) == *value);
    let is_synthetic = section.synthetic_acceptance.is_some()
        || spec.synthetic.iter().any(synthetic)
        || spec.env.keys().any(|name| env.contains_key(name));
    Some(Speculation {
        method: section.method.clone().or(found.method),
        model: section.model.clone().or(found.model),
        tokens: section.tokens.or(found.tokens),
        synthetic: is_synthetic,
        synthetic_acceptance: section.synthetic_acceptance,
    })
}

fn read(names: &SpeculationNames, options: &Json) -> Option<Speculation> {
    let value = |name: &Option<String>| at(options, name.as_ref()?).filter(|value| !value.is_null());
    let (method, model, tokens) = (value(&names.method), value(&names.model), value(&names.tokens));
    if method.is_none() && model.is_none() && tokens.is_none() {
        return None;
    }
    Some(Speculation {
        method: method.as_ref().map(text),
        model: model.as_ref().map(text),
        tokens: tokens.and_then(|tokens| u32::try_from(tokens.as_u64()?).ok()),
        ..Speculation::default()
    })
}

/// The value below a dotted name. A table may be written as JSON in text.
fn at(options: &Json, name: &str) -> Option<Json> {
    name.split('.').try_fold(options.clone(), |options, name| {
        let options = match options {
            Json::String(text) => serde_json::from_str(&text).ok()?,
            other => other,
        };
        let found = options.as_object()?.iter().find(|(key, _)| plain(key) == plain(name))?;
        Some(found.1.clone())
    })
}

fn text(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
#[path = "speculation_tests.rs"]
mod tests;
