//! Finds workloads: recipes by name or alias, with the `_<size>` suffix that llmb uses.

use crate::document::InputError;
use crate::recipe::find::{RecipeFile, called, suggestion};

/// The recipes that a workload's name matches.
#[derive(Debug, Clone)]
pub struct Workload {
    /// One recipe, or several that share an alias and differ in size or precision.
    pub recipes: Vec<RecipeFile>,
    /// The size suffix of the name.
    pub size: Option<String>,
}

/// Finds a workload among all recipes: `inference_gpt-oss-dynamo`, `inference_gpt-oss-dynamo_120b`.
pub fn find(name: &str, all: &[RecipeFile], origin: &str) -> Result<Workload, InputError> {
    let sized = name.rsplit_once('_').filter(|(_, size)| is_size(size));
    for (name, size) in std::iter::once((name, None)).chain(sized.map(|(stem, size)| (stem, Some(size)))) {
        let recipes: Vec<RecipeFile> = called(name, all).into_iter().cloned().collect();
        if !recipes.is_empty() {
            return Ok(Workload { recipes, size: size.map(str::to_owned) });
        }
    }
    let guess = suggestion(name, all).or_else(|| suggestion(sized?.0, all));
    let guess = guess.map(|guess| format!("{guess} ")).unwrap_or_default();
    Err(InputError::new(origin, format!("no workload {name:?}"))
        .expected("the name or an alias of a recipe")
        .next(format!("{guess}`tokmark list -w` shows all")))
}

/// Whether `text` is a size as llmb writes it: `120b`, `1.5b`, `1t`.
fn is_size(text: &str) -> bool {
    let number = text.strip_suffix(['b', 't', 'B', 'T']).unwrap_or_default();
    number.parse::<f64>().is_ok() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Document;

    fn recipe(name: &str, alias: &str) -> RecipeFile {
        let text = format!(
            "schema = 1\nname = {name:?}\naliases = [{alias:?}]\n[model]\nname = \"m\"\n[deploy]\nlauncher = \"sim\"\n"
        );
        RecipeFile::parse(Document { file: format!("{name}.toml"), text }, None).unwrap()
    }

    #[test]
    fn a_name_comes_before_an_alias_and_a_size_may_follow_either() {
        let all = [recipe("a-7b", "a"), recipe("a-13b", "a"), recipe("b_1t", "a-7b")];
        let table: [(&str, &[&str], Option<&str>); 6] = [
            ("a-7b", &["a-7b"], None),
            ("a", &["a-7b", "a-13b"], None),
            ("a_13b", &["a-7b", "a-13b"], Some("13b")),
            ("a-7b_7b", &["a-7b"], Some("7b")),
            ("b_1t", &["b_1t"], None),
            ("b_1t_1.5t", &["b_1t"], Some("1.5t")),
        ];
        for (text, names, size) in table {
            let found = find(text, &all, "-w").unwrap();
            let found_names: Vec<_> = found.recipes.iter().map(RecipeFile::name).collect();
            assert_eq!((found_names.as_slice(), found.size.as_deref()), (names, size), "{text}");
        }
    }

    #[test]
    fn an_unknown_one_names_the_nearest() {
        let all = [recipe("gpt-oss", "inference_gpt-oss-dynamo")];
        let error = find("inference_gpt-os-dynamo_120b", &all, "-w").unwrap_err().to_string();
        assert!(error.contains("did you mean `inference_gpt-oss-dynamo`"), "{error}");
        assert!(find("x_y", &all, "-w").unwrap_err().to_string().contains("tokmark list -w"));
    }
}
