//! Refuses secrets that are written out where only references may stand.

use toml::{Table, Value};

use super::parsed::Mistakes;
use super::sections::Deploy;
use crate::document::{InputError, join};
use crate::recipe::secret::{is_reference, is_secret_name};

pub(super) const WRITTEN: &str = "a secret written out; it would end up in scripts and results";

/// Checks the environment and the engine options of `[deploy]`, and the site's environment.
pub(super) fn check(section: &Deploy, mistakes: &mut Mistakes<'_>) {
    let is_written = |(name, value): &(&String, &String)| is_secret_name(name) && !is_reference(value);
    let reference = |name: &str| format!("a reference such as \"env:{name}\" or \"file:/path\"");
    for (prefix, engine, env) in section.engines() {
        for (name, _) in env.iter().filter(is_written) {
            mistakes.add(&format!("{prefix}env.{name}"), WRITTEN, reference(name));
        }
        for key in secret_keys(engine, "") {
            let problem =
                "a secret among engine options, which become arguments and files that anybody can read";
            let error = mistakes.at(&format!("{prefix}engine.{key}"), problem);
            let error = error.expected("the engine's environment variable for it");
            let next = "set it below deploy.env, by reference: NAME = \"env:NAME\" or \"file:/path\"";
            mistakes.found.push(error.next(next));
        }
    }
    let site = &mistakes.parsed.site;
    let written = site.site.env.iter().filter(is_written).map(|(name, _)| {
        InputError::new(site.name(), WRITTEN).key(format!("env.{name}")).expected(reference(name))
    });
    mistakes.found.extend(written);
}

/// Keys of a table, and of the tables in it, whose names say that their value is a secret.
fn secret_keys(table: &Table, prefix: &str) -> Vec<String> {
    let of_key = |(key, value): (&String, &Value)| match value {
        Value::Table(inner) => secret_keys(inner, &join(prefix, key)),
        _ if is_secret_name(&key.replace('-', "_")) => vec![join(prefix, key)],
        _ => Vec::new(),
    };
    table.iter().flat_map(of_key).collect()
}
