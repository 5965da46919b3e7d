//! Merges the layers of a recipe and keeps the origin of each value.
//!
//! Order: defaults < site < recipe < GPU section < scale section < knobs < `--env` < a verb's own options < `--set`. Each
//! layer was parsed and type-checked alone, so that errors name the right file; merging works on plain tables.

use std::sync::LazyLock;

use serde::Deserialize;
use toml::Value;

use super::alternatives::{ARRIVALS, OTHERS};
use super::{Origin, Origins, Recipe};
use crate::document::{InputError, InputErrors, explain_message, join};

/// The lowest layer of every recipe, and in `when` what is added to some. A test parses it.
static DEFAULTS: LazyLock<toml::Table> =
    LazyLock::new(|| toml::from_str(include_str!("defaults.toml")).unwrap_or_default());

/// A recipe section with only the defaults.
pub fn default_section(name: &str) -> toml::Table {
    DEFAULTS.get(name).and_then(Value::as_table).cloned().unwrap_or_default()
}

/// The allowed deviation from a published figure.
pub(super) fn default_tolerance() -> String {
    let tolerance = lookup(&DEFAULTS, "when.published.published.tolerance").and_then(Value::as_str);
    tolerance.unwrap_or_default().to_owned()
}

/// Adds the defaults below `when` in `defaults.toml` whose key the recipe sets. Returns the dotted keys that were added.
pub fn complete(recipe: &mut toml::Table) -> Vec<String> {
    let mut added = Vec::new();
    for (trigger, layer) in DEFAULTS.get("when").and_then(Value::as_table).into_iter().flatten() {
        for (key, value) in leaves(layer, "") {
            let wanted = if key != *trigger && is_within(&key, trigger) {
                // Of several tables in a list only some may lack it.
                lookup(recipe, trigger).is_some() && !is_swept(recipe, &key)
            } else {
                is_set(recipe, trigger)
                    && !is_excluded(recipe, trigger)
                    && !is_set(recipe, &key)
                    && !is_excluded(recipe, &key)
            };
            if wanted && fill(recipe, &key, value) {
                added.push(key);
            }
        }
    }
    added
}

/// Values of a table and of the tables in it, by dotted key.
fn leaves<'a>(table: &'a Value, prefix: &str) -> Vec<(String, &'a Value)> {
    match table {
        Value::Table(inner) if !inner.is_empty() => {
            inner.iter().flat_map(|(key, value)| leaves(value, &join(prefix, key))).collect()
        }
        value => vec![(prefix.to_owned(), value)],
    }
}

/// Whether one dotted key is another one, or below it.
pub fn is_within(key: &str, outer: &str) -> bool {
    key.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Value of a dotted key; of a list of tables that of the first.
fn lookup<'a>(table: &'a toml::Table, key: &str) -> Option<&'a Value> {
    let Some((first, rest)) = key.split_once('.') else { return table.get(key) };
    let value = table.get(first)?;
    let inner = value.as_table().or_else(|| value.as_array()?.first()?.as_table());
    lookup(inner?, rest)
}

/// Whether a recipe sets a dotted key, as one value or as an axis.
fn is_set(recipe: &toml::Table, key: &str) -> bool {
    lookup(recipe, key).is_some() || is_swept(recipe, key)
}

/// Whether a key or one below it is an axis.
fn is_swept(recipe: &toml::Table, key: &str) -> bool {
    let (sweep, key) = match key.split_once('.') {
        Some(("load", key)) => ("sweep.load", key),
        Some(("deploy", key)) => ("sweep.server", key),
        _ => return false,
    };
    let axes = lookup(recipe, sweep).and_then(Value::as_table);
    axes.is_some_and(|axes| axes.keys().any(|axis| is_within(axis, key)))
}

/// Whether a recipe sets a key that excludes this one.
fn is_excluded(recipe: &toml::Table, key: &str) -> bool {
    let Some(key) = key.strip_prefix("load.") else { return false };
    ARRIVALS.iter().chain(&OTHERS).any(|(other, excluded)| {
        excluded.split(' ').any(|excluded| is_within(key, excluded))
            && is_set(recipe, &format!("load.{other}"))
    })
}

/// Sets a dotted key where it is missing, in each table of a list. Returns whether it was missing.
fn fill(table: &mut toml::Table, key: &str, value: &Value) -> bool {
    let Some((first, rest)) = key.split_once('.') else {
        let missing = !table.contains_key(key);
        table.entry(key).or_insert_with(|| value.clone());
        return missing;
    };
    match table.entry(first).or_insert_with(|| Value::Table(toml::Table::new())) {
        Value::Table(inner) => fill(inner, rest, value),
        Value::Array(items) => {
            let inner = items.iter_mut().filter_map(Value::as_table_mut);
            inner.map(|inner| fill(inner, rest, value)).filter(|missing| *missing).count() > 0
        }
        _ => false,
    }
}

/// Layers merged so far.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    table: toml::Table,
    origins: Origins,
    errors: Vec<InputError>,
}

impl Layers {
    /// The embedded defaults.
    pub fn defaults() -> Self {
        let mut layers = Self::default();
        let mut table = DEFAULTS.clone();
        table.remove("when");
        layers.push(&table, &|_| Origin::Default);
        layers
    }

    /// Lays `layer` on top; `origin` names the source of a dotted key.
    pub fn push(&mut self, layer: &toml::Table, origin: &dyn Fn(&str) -> Origin) {
        self.remove_replaced(layer);
        merge(&mut self.table, layer, "", origin, &mut self.origins);
    }

    /// Lays a layer with one origin on top. Keeps its mistake for [`Layers::finish`].
    pub fn push_one(&mut self, layer: Result<toml::Table, InputError>, origin: &Origin) {
        match layer {
            Ok(layer) => self.push(&layer, &|_| origin.clone()),
            Err(error) => self.errors.push(error),
        }
    }

    /// Removes what `layer` replaces: the keys that its keys exclude, and axes below `sweep` whose key now has one value.
    fn remove_replaced(&mut self, layer: &toml::Table) {
        let (load, axes) = (layer.get("load"), lookup(layer, "sweep.load"));
        let in_load = |key: &str| lookup(layer, &format!("load.{key}")).is_some();
        for (key, excluded) in ARRIVALS.iter().chain(&OTHERS) {
            if in_load(key) && !key.contains('.') {
                // The merge inserts it again, at this layer's position.
                self.remove(&["load", key]);
            }
            let sets = in_load(key) || axes.is_some_and(|axes| axes.get(key).is_some());
            for other in excluded.split(' ').filter(|_| sets) {
                let path: Vec<&str> = other.split('.').collect();
                self.remove(&[&["load"], path.as_slice()].concat());
                self.remove(&["sweep", "load", other]);
            }
        }
        for key in load.and_then(Value::as_table).into_iter().flat_map(toml::Table::keys) {
            self.remove(&["sweep", "load", key]);
        }
        if let Some(deploy) = layer.get("deploy").and_then(Value::as_table) {
            for axis in dotted(deploy, "") {
                self.remove(&["sweep", "server", &axis]);
                for twin in twins(at(&self.table, &["sweep", "server"]), &axis) {
                    self.remove(&["sweep", "server", &twin]);
                }
            }
        }
        for engine in ENGINES {
            for option in at(layer, engine).and_then(Value::as_table).into_iter().flat_map(toml::Table::keys)
            {
                for twin in twins(at(&self.table, engine), option) {
                    self.remove(&[engine, &[twin.as_str()]].concat());
                }
            }
        }
    }

    /// Whether every value of a layer stands as the layer has it.
    pub fn hold(&self, layer: &toml::Table) -> bool {
        contains(&self.table, layer)
    }

    /// One `key=value` of an environment variable as a layer. Engine options and body fields have no declared type, so the
    /// recipe's value sets it; otherwise only the engine would find a typo such as text for a number.
    pub fn assignment(&self, path: &str, value: &str, origin: &str) -> Result<toml::Table, InputError> {
        let layer = assignment(path, value, origin)?;
        let keys = split_path(path).map_err(|problem| InputError::new(origin, problem))?;
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let (["deploy", "engine", _, ..] | ["load", "extra_body", _, ..]) = keys[..] else {
            return Ok(layer);
        };
        let Some(current) = self.example(&keys) else { return Ok(layer) };
        let kind = match (current, at(&layer, &keys)) {
            (Value::String(_), Some(Value::String(_))) => return Ok(layer),
            (Value::String(_), _) => return Ok(nest(&keys, Value::String(value.to_owned()))),
            (Value::Integer(_), Some(Value::Integer(_)))
            | (Value::Float(_), Some(Value::Integer(_) | Value::Float(_)))
            | (Value::Boolean(_), Some(Value::Boolean(_)))
            | (Value::Array(_), Some(Value::Array(_)))
            | (Value::Table(_) | Value::Datetime(_), _) => return Ok(layer),
            (Value::Integer(_), _) => "a whole number",
            (Value::Float(_), _) => "a number",
            (Value::Boolean(_), _) => "true or false",
            (Value::Array(_), _) => "a list, e.g. [1, 2]",
        };
        Err(InputError::new(origin, format!("found {value:?}"))
            .key(path)
            .expected(format!("{kind}, as the recipe's own {current}")))
    }

    /// Current value of a key, or the first value of its axis.
    fn example(&self, keys: &[&str]) -> Option<&Value> {
        let axes = at(&self.table, &["sweep", "server"]);
        let axis = || axes?.get(keys.get(1..)?.join("."))?.as_array()?.first();
        at(&self.table, keys).or_else(axis)
    }

    /// Current value of a dotted key, if it is text.
    pub fn text(&self, key: &str) -> Option<String> {
        lookup(&self.table, key).and_then(Value::as_str).map(str::to_owned)
    }

    /// Removes what files set in a section, all but the key `kept`.
    pub fn forget_files(&mut self, section: &str, kept: &str) {
        let Some(Value::Table(table)) = self.table.get(section) else { return };
        let keys: Vec<String> = table.keys().filter(|key| *key != kept).cloned().collect();
        for key in keys {
            let origin = self.origins.get(&join(section, &key));
            if !origin.is_some_and(Origin::is_given) {
                self.remove(&[section, &key]);
            }
        }
    }

    /// Current value of a key, or the first value of its axis, if it is a whole number.
    pub fn integer(&self, keys: &[&str]) -> Option<i64> {
        self.example(keys)?.as_integer()
    }

    fn remove(&mut self, path: &[&str]) {
        let Some((last, parents)) = path.split_last() else { return };
        let mut table = &mut self.table;
        for parent in parents {
            match table.get_mut(*parent).and_then(Value::as_table_mut) {
                Some(inner) => table = inner,
                None => return,
            }
        }
        table.remove(*last);
        let dotted = path.iter().fold(String::new(), |prefix, key| join(&prefix, key));
        let below = format!("{dotted}.");
        self.origins.retain(|key, _| *key != dotted && !key.starts_with(&below));
    }

    /// The merged recipe, its table, and the origin of each value by dotted key.
    pub fn finish(mut self) -> Result<(Recipe, toml::Table, Origins), InputErrors> {
        InputErrors::check(self.errors)?;
        for key in complete(&mut self.table) {
            self.origins.insert(key, Origin::Default);
        }
        let recipe = Recipe::deserialize(self.table.clone()).map_err(|error| InputError {
            origin: "the merged recipe".into(),
            ..explain_message(error.message())
        })?;
        Ok((recipe, self.table, self.origins))
    }
}

/// Tables of engine options.
const ENGINES: [&[&str]; 3] =
    [&["deploy", "engine"], &["deploy", "prefill", "engine"], &["deploy", "decode", "engine"]];

/// Keys of a table that name the same engine option as `key`, with `-` for `_` or the other way round.
fn twins(table: Option<&Value>, key: &str) -> Vec<String> {
    let same = |other: &&String| *other != key && is_same_option(other, key);
    table
        .and_then(Value::as_table)
        .map_or_else(Vec::new, |table| table.keys().filter(same).cloned().collect())
}

/// Whether two names are one engine option: `max-model-len` is `max_model_len`.
pub fn is_same_option(one: &str, other: &str) -> bool {
    one.replace('-', "_") == other.replace('-', "_")
}

fn contains(table: &toml::Table, layer: &toml::Table) -> bool {
    layer.iter().all(|(key, value)| match (table.get(key), value) {
        (Some(Value::Table(inner)), Value::Table(layer)) => contains(inner, layer),
        (found, value) => found == Some(value),
    })
}

/// Keys of a table and of the tables in it: `engine`, `engine.max_num_seqs`, `prefill.replicas`.
fn dotted(table: &toml::Table, prefix: &str) -> Vec<String> {
    let mut keys = Vec::new();
    for (key, value) in table {
        let path = join(prefix, key);
        if let Value::Table(inner) = value {
            keys.extend(dotted(inner, &path));
        }
        keys.push(path);
    }
    keys
}

/// Deep merge of tables; anything else replaces.
fn merge(
    base: &mut toml::Table,
    layer: &toml::Table,
    prefix: &str,
    origin: &dyn Fn(&str) -> Origin,
    origins: &mut Origins,
) {
    for (key, value) in layer {
        let path = join(prefix, key);
        if let Value::Table(inner) = value {
            let slot = base.entry(key.clone()).or_insert_with(|| Value::Table(toml::Table::new()));
            if let Value::Table(slot) = slot {
                merge(slot, inner, &path, origin, origins);
                if slot.is_empty() {
                    origins.insert(path.clone(), origin(&path));
                }
                continue;
            }
        }
        base.insert(key.clone(), value.clone());
        origins.insert(path.clone(), origin(&path));
    }
}

/// Splits `a.b."c.d"` into its keys.
pub fn split_path(path: &str) -> Result<Vec<String>, String> {
    let table: toml::Table = toml::from_str(&format!("{path} = 0"))
        .map_err(|_| format!("{path:?} is not a dotted key such as load.concurrency"))?;
    let mut keys = Vec::new();
    let mut value = Value::Table(table);
    while let Value::Table(table) = value {
        let Some((key, inner)) = table.into_iter().next() else { break };
        keys.push(key);
        value = inner;
    }
    Ok(keys)
}

/// One `key=value` as a typed layer; errors name `origin` (`--set x=y`, `$STREAMING`). A value that is not valid TOML or not
/// of the key's type is read as text, else as a list without brackets.
pub fn assignment(path: &str, value: &str, origin: &str) -> Result<toml::Table, InputError> {
    split_path(path).map_err(|problem| InputError::new(origin, problem))?;
    let read = |line: String| {
        let table: Option<toml::Table> = toml::from_str(&line).ok();
        table.filter(|table| table.len() == 1)?.remove("value")
    };
    let text = Value::String(value.to_owned());
    let first = read(format!("value = {value}")).unwrap_or_else(|| text.clone());
    let error = match layer_of(path, first, origin) {
        Ok(layer) => return Ok(layer),
        Err(error) => error.key(path),
    };
    for other in [Some(text), read(format!("value = [{value}]"))].into_iter().flatten() {
        if let Ok(layer) = layer_of(path, other, origin) {
            return Ok(layer);
        }
    }
    Err(match path {
        "gpu" => error.next(format!("choose the GPU type with --gpu {value}")),
        "scale" => error.next(format!("choose the scale with --scale {value}")),
        _ => error,
    })
}

/// One key and its value as a layer; errors name `origin` (`--isl`).
pub fn layer_of(path: &str, value: Value, origin: &str) -> Result<toml::Table, InputError> {
    let keys = split_path(path).map_err(|problem| InputError::new(origin, problem))?;
    let layer = nest(&keys, value);
    match Recipe::deserialize(layer.clone()) {
        Ok(_) => Ok(layer),
        Err(error) => Err(InputError { origin: origin.to_owned(), ..explain_message(error.message()) }),
    }
}

/// Lays `layer` on a table, key by key.
pub fn lay(table: &mut toml::Table, layer: &toml::Table) {
    merge(table, layer, "", &|_| Origin::Default, &mut Origins::new());
}

fn at<'a>(table: &'a toml::Table, keys: &[&str]) -> Option<&'a Value> {
    let (first, rest) = keys.split_first()?;
    rest.iter().try_fold(table.get(*first)?, |value, key| value.get(*key))
}

fn nest(keys: &[impl AsRef<str>], value: Value) -> toml::Table {
    let Some((first, rest)) = keys.split_first() else { return toml::Table::new() };
    let value = if rest.is_empty() { value } else { Value::Table(nest(rest, value)) };
    toml::Table::from_iter([(first.as_ref().to_owned(), value)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(name: &str) -> Origin {
        Origin::Flag(name.to_owned())
    }

    fn layered(layers: &[(&str, &str)]) -> (Recipe, Origins) {
        let mut merged = Layers::defaults();
        for (name, text) in layers {
            merged.push(&toml::from_str(text).unwrap(), &|_| from(name));
        }
        let (recipe, _, origins) = merged.finish().unwrap();
        (recipe, origins)
    }

    #[test]
    fn higher_layers_win_and_origins_tell() {
        let (recipe, origins) = layered(&[
            ("site", "[deploy]\ntp = 2\n"),
            ("recipe", "[deploy]\ntp = 4\npp = 2\n"),
            ("set", "[deploy]\npp = 1"),
        ]);
        assert_eq!((recipe.deploy.tp, recipe.deploy.pp), (Some(4), Some(1)));
        assert_eq!((&origins["deploy.tp"], &origins["deploy.pp"]), (&from("recipe"), &from("set")));
        assert_eq!(origins["load.streaming"], Origin::Default);
    }

    #[test]
    fn an_alternative_replaces_what_lower_layers_said() {
        let (recipe, origins) = layered(&[
            ("recipe", "[load]\nrequests_per_concurrency = 8\n"),
            ("set", "[load]\nduration = \"5s\""),
        ]);
        assert_eq!(recipe.load.requests_per_concurrency, None);
        assert!(!origins.contains_key("load.requests_per_concurrency"));
        assert_eq!(recipe.load.duration.unwrap().seconds(), 5.0);
    }

    #[test]
    fn a_rate_replaces_a_concurrency_and_the_other_way_round() {
        let (recipe, origins) =
            layered(&[("recipe", "[load]\nrate = 12.5\n[load.arrival.gamma]\nshape = 2.0")]);
        assert_eq!((recipe.load.concurrency, recipe.load.requests_per_concurrency), (None, None));
        assert!(!origins.contains_key("load.concurrency") && origins["load.rate"] == from("recipe"));
        let open = (
            "recipe",
            "[load]\nmax_concurrency = 8\n[load.arrival.gamma]\nshape = 2.0\n[sweep.load]\nrate = [1, 2]",
        );
        let (recipe, origins) = layered(&[open, ("set", "[load]\nconcurrency = 4")]);
        assert!(recipe.sweep.load.is_empty() && recipe.load.rate.is_none(), "{recipe:?}");
        assert_eq!((recipe.load.arrival, recipe.load.max_concurrency), (None, None));
        assert!(!origins.contains_key("load.arrival.gamma.shape"));
        let (recipe, _) = layered(&[open, ("set", "[load.arrival.constant]")]);
        let arrival = recipe.load.arrival.unwrap();
        assert!(arrival.constant.is_some() && arrival.gamma.is_none());
        let (recipe, _) = layered(&[open, ("set", "[load]\nrate = 3")]);
        assert!(recipe.sweep.load.is_empty() && recipe.load.max_concurrency == Some(8));
    }

    #[test]
    fn stages_replace_what_they_tell_and_a_plain_load_replaces_stages() {
        let staged = "[load]\nstart_concurrency = 2\n[[load.stages]]\nduration = \"30s\"\nconcurrency = 10\n";
        let (recipe, origins) =
            layered(&[("site", "[load]\nduration = \"5s\"\n[sweep.load]\nrate = [1]"), ("recipe", staged)]);
        let load = &recipe.load;
        assert_eq!(
            (load.concurrency.as_ref(), load.requests_per_concurrency, load.duration),
            (None, None, None)
        );
        assert!(recipe.sweep.load.is_empty() && origins["load.stages"] == from("recipe"));
        assert_eq!(load.stages.as_ref().map(Vec::len), Some(1));
        for plain in ["[load]\nconcurrency = 4", "[load]\nrate = 4", "[sweep.load]\nconcurrency = [1, 2]"] {
            let (recipe, _) = layered(&[("recipe", staged), ("set", plain)]);
            assert_eq!((recipe.load.stages, recipe.load.start_concurrency), (None, None), "{plain}");
        }
        let (recipe, _) =
            layered(&[("recipe", staged), ("set", "[[load.stages]]\nduration = 1\nrate = 0.5")]);
        let stages = recipe.load.stages.unwrap();
        assert_eq!((stages.len(), stages[0].rate, stages[0].duration.seconds()), (1, Some(0.5), 1.0));
    }

    #[test]
    fn the_embedded_defaults_are_layers_of_a_recipe() {
        let table: toml::Table = toml::from_str(include_str!("defaults.toml")).unwrap();
        assert_eq!(table, *DEFAULTS);
        assert_eq!(default_tolerance(), "10%");
        let common = table.iter().filter(|(key, _)| *key != "when");
        let common: toml::Table = common.map(|(key, value)| (key.clone(), value.clone())).collect();
        Recipe::deserialize(common).unwrap();
        for (trigger, layer) in table["when"].as_table().unwrap() {
            let keys = leaves(layer, "");
            assert!(keys.iter().all(|(key, _)| split_path(&format!("{trigger}.{key}")).is_ok()), "{trigger}");
        }
    }

    #[test]
    fn some_defaults_come_with_the_key_that_needs_them() {
        let values = |recipe: &str, key: &str| {
            let (recipe, origins) = layered(&[("recipe", recipe)]);
            let value = toml::Table::try_from(&recipe).ok();
            let value = value.and_then(|table| Some(lookup(&table, key)?.to_string()));
            (value.unwrap_or_default(), origins.get(key).map(ToString::to_string).unwrap_or_default())
        };
        let default = |value: &str| (value.to_owned(), "default".to_owned());
        let absent = (String::new(), String::new());
        for (recipe, key, expected) in [
            ("", "load.requests_per_concurrency", default("8")),
            ("[load]\nduration = 5", "load.requests_per_concurrency", absent.clone()),
            ("[load]\nrate = 1", "load.duration", default("\"1m\"")),
            ("[load]\nrate = 1\nrequests = 5", "load.duration", absent.clone()),
            ("[sweep.load]\nrate = [1, 2]", "load.duration", default("\"1m\"")),
            ("[load]\nrate = 1\nmax_concurrency = 2", "load.when_full", default("\"queue\"")),
            ("[load]\nrate = 1", "load.when_full", absent.clone()),
            ("[load.prompts.conversation]", "load.prompts.conversation.turns", default("4")),
            ("[load]\nisl = 1", "load.prompts.conversation.turns", absent.clone()),
            ("[deploy.prefill]\ntp = 2", "deploy.prefill.replicas", default("1")),
            ("[load]\nstages = [{duration = 1, rate = 2}]", "load.start_rate", default("0.0")),
            ("[load]\nstages = [{duration = 1, rate = 2}]", "load.start_concurrency", absent.clone()),
        ] {
            assert_eq!(values(recipe, key), expected, "{recipe}: {key}");
        }
        let poisson = |recipe: &str| layered(&[("recipe", recipe)]).0.load.arrival;
        assert!(poisson("[load]\nrate = 1").unwrap().poisson.is_some());
        assert_eq!(poisson("[load]\nrate = 1\n[sweep.load]\n\"arrival.gamma.shape\" = [1, 2]"), None);
        assert!(poisson("[load]\nrate = 1\n[load.arrival.constant]").unwrap().poisson.is_none());
        let (recipe, _) =
            layered(&[("recipe", "[load]\nmix = [{isl = 1, osl = 1, weight = 3}, {isl = 2, osl = 2}]")]);
        let mix = recipe.load.mix.unwrap();
        assert_eq!([mix[0].weight, mix[1].weight], [Some(3.0), Some(1.0)], "each table of a list");
    }

    #[test]
    fn dashes_and_underscores_name_the_same_engine_option() {
        let (recipe, origins) = layered(&[
            (
                "recipe",
                "[deploy.engine]\nmax_model_len = 4096\n[sweep.server]\n\"engine.max_num_seqs\" = [1, 2]",
            ),
            ("set", "[deploy.engine]\nmax-model-len = 20\nmax-num-seqs = 3"),
        ]);
        assert_eq!(recipe.deploy.engine, toml::from_str("max-model-len = 20\nmax-num-seqs = 3").unwrap());
        assert!(recipe.sweep.server.is_empty() && !origins.contains_key("deploy.engine.max_model_len"));
    }

    #[test]
    fn setting_a_value_ends_its_axis() {
        let (recipe, _) = layered(&[
            (
                "recipe",
                "[sweep.load]\nconcurrency = [1, 2]\n[sweep.server]\n\"engine.x\" = [1, 2]\ntp = [1, 2]",
            ),
            ("set", "[load]\nconcurrency = 7\n[deploy]\ntp = 1\n[deploy.engine]\nx = 3"),
        ]);
        assert!(recipe.sweep.load.is_empty() && recipe.sweep.server.is_empty(), "{recipe:?}");
    }

    #[test]
    fn an_engine_option_takes_the_kind_of_the_recipes_own_value() {
        let mut layers = Layers::defaults();
        let recipe = "[deploy.engine]\nn = 8\nf = 0.8\nb = true\ns = \"x\"\nl = [1]\n[sweep.server]\n\"engine.axis\" = [1, 2]";
        layers.push(&toml::from_str(recipe).unwrap(), &|_| from("recipe"));
        let given = |key: &str, value: &str| {
            let layer = layers.assignment(&format!("deploy.engine.{key}"), value, "$X");
            layer.map(|layer| layer["deploy"]["engine"][key].to_string()).map_err(|error| error.to_string())
        };
        for (key, value, expected) in [
            ("n", "16", "16"),
            ("f", "1", "1"),
            ("f", "0.5", "0.5"),
            ("b", "false", "false"),
            ("s", "16", "\"16\""),
            ("s", "a b", "\"a b\""),
            ("l", "[2, 3]", "[2, 3]"),
            ("axis", "4", "4"),
            ("new", "lots", "\"lots\""),
        ] {
            assert_eq!(given(key, value).as_deref(), Ok(expected), "{key}={value}");
        }
        for (key, value, expected) in [
            ("n", "lots", "expected: a whole number, as the recipe's own 8"),
            ("n", "1.5", "a whole number"),
            ("n", "8,16", "a whole number"),
            ("f", "much", "a number"),
            ("b", "1", "true or false"),
            ("l", "3", "a list"),
            ("axis", "many", "as the recipe's own 1"),
        ] {
            let error = given(key, value).unwrap_err();
            assert!(
                error.contains(expected) && error.starts_with("$X: `deploy.engine."),
                "{key}={value}: {error}"
            );
        }
        assert!(
            layers.assignment("load.concurrency", "1,2", "$X").is_ok(),
            "a typed key takes what its type takes"
        );
    }

    #[test]
    fn assignments_take_the_type_of_the_key() {
        let get =
            |path: &str, value: &str| Recipe::deserialize(assignment(path, value, "--set").unwrap()).unwrap();
        assert_eq!(get("deploy.tp", "4").deploy.tp, Some(4));
        assert_eq!(get("model.size", "120").model.size.as_deref(), Some("120"));
        assert_eq!(get("model.name", "a b'\"$(x)").model.name.as_deref(), Some("a b'\"$(x)"));
        assert_eq!(get("load.streaming", "false").load.streaming, Some(false));
        assert_eq!(get("load.concurrency", "[1, 2]").load.concurrency.unwrap().0, [1, 2]);
        assert_eq!(get("load.rate", "12.5").load.rate.unwrap().0, [12.5]);
        assert_eq!(get("load.rate", "[1, 2.5]").load.rate.unwrap().0, [1.0, 2.5]);
        assert_eq!(get("load.arrival.gamma.shape", "2").load.arrival.unwrap().gamma.unwrap().shape, 2.0);
        assert!(get("load.arrival.poisson", "{}").load.arrival.unwrap().poisson.is_some());
        assert_eq!(get("load.concurrency", "1,2").load.concurrency.unwrap().0, [1, 2]);
        let error = assignment("deploy.tpp", "4", "--set deploy.tpp=4").unwrap_err().to_string();
        assert!(error.contains("--set deploy.tpp=4") && error.contains("did you mean `tp`"), "{error}");
        let error = assignment("deploy.tp", "four", "--set deploy.tp=four").unwrap_err().to_string();
        assert!(error.contains("found string \"four\""), "{error}");
    }
}
