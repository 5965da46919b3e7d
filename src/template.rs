//! Tera with this crate's filters and error texts. Values reach a shell only through the `sh` filter.

use include_dir::{Dir, include_dir};

pub use tera::Context;
use tera::{Kwargs, State, Tera};

/// Pieces that several launchers include: `{% include "trtllm-engine.yaml" %}`.
static PARTIALS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/launchers/partials");

/// An environment with the filters and pieces every template may use.
fn environment(with_partials: bool) -> Result<Tera, tera::Error> {
    let mut tera = Tera::new();
    tera.register_filter("sh", |text: &str, _: Kwargs, _: &State| quote(text));
    tera.register_filter("oneline", |text: &str, _: Kwargs, _: &State| {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    });
    // JSON is YAML: tables of a recipe reach an engine's config file this way.
    tera.register_filter("json", |value: &tera::Value, _: Kwargs, _: &State| {
        serde_json::to_string(value).unwrap_or_default()
    });
    let partials = PARTIALS
        .files()
        .filter(|_| with_partials)
        .filter_map(|file| Some((file.path().display().to_string(), file.contents_utf8()?)));
    tera.add_raw_templates(partials)?;
    Ok(tera)
}

/// `text` as one shell word. NUL cannot be in an argument and is dropped.
pub fn quote(text: &str) -> String {
    let text: String = text.chars().filter(|c| *c != '\0').collect();
    shlex::try_quote(&text).map(std::borrow::Cow::into_owned).unwrap_or_default()
}

/// Renders `template`; with `escape` every value is HTML-escaped unless the template says `safe`.
///
/// # Errors
/// Tera's report with the template's line and a caret, without Tera's internal names.
pub fn expand(template: &str, context: &Context, escape: bool) -> Result<String, String> {
    // `${#array[@]}` opens a tera comment, and with a later `#}` the text between silently vanishes.
    if template.contains("${#") {
        return Err("`${#` opens a template comment; write it another way".into());
    }
    let rendered = environment(template.contains("{% include"))
        .and_then(|tera| tera.render_str(template, context, escape));
    rendered.map_err(|error| {
        let text = error.to_string().replace("__tera_one_off", "template");
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        let source =
            std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        format!("{text}{source}")
    })
}

/// Whether an expression such as `deploy.pp > 1` is true.
pub fn truth(expression: &str, context: &Context) -> Result<bool, String> {
    Ok(expand(&format!("{{% if {expression} %}}1{{% endif %}}"), context, false)? == "1")
}

/// The whole number that a template renders to.
pub fn number(template: &str, context: &Context) -> Result<u32, String> {
    let text = expand(template, context, false)?;
    text.trim().parse().map_err(|_| format!("{template:?} gives {text:?}, expected a whole number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn context() -> Context {
        let mut context = Context::new();
        context.insert("deploy", &json!({"tp": 4, "pp": 2}));
        context
    }

    #[test]
    fn a_bash_array_length_is_refused_rather_than_eaten() {
        assert!(expand("${#a[@]} x #}", &Context::new(), false).is_err());
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        assert!(expand("{{ nothing }}", &Context::new(), false).is_err());
        assert!(truth("deploy.nothing > 1", &context()).is_err());
        assert!(truth("nothing > 1", &context()).is_err());
    }

    #[test]
    fn expressions_and_numbers() {
        assert_eq!(truth("deploy.tp * deploy.pp == 8 and not deploy.pp == 1", &context()), Ok(true));
        assert_eq!(number("{{ deploy.tp * 50 }}", &context()), Ok(200));
        assert!(number("{{ deploy.tp }}x", &context()).unwrap_err().contains("4x"));
    }

    #[test]
    fn tables_become_json() {
        assert_eq!(expand("{{ deploy | json }}", &context(), false).unwrap(), "{\"tp\":4,\"pp\":2}");
    }

    #[test]
    fn quoting_survives_everything() {
        let nasty = "a'b\"c $(d) `e`\nf é";
        assert_eq!(shlex::split(&quote(nasty)).unwrap(), [nasty]);
    }
}
