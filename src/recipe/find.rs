//! Finds recipes by file, name or alias: embedded, in `./recipes`, and in `~/.config/tokmark/recipes`.

use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};

use super::{Recipe, SCHEMA};
use crate::document::{Document, InputError, InputErrors, nearest};

static EMBEDDED: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/recipes");

/// A recipe file that parsed alone.
#[derive(Debug, Clone)]
pub struct RecipeFile {
    /// The file as written.
    pub document: Document,
    /// Folder it lies in; `None` for an embedded one.
    pub folder: Option<PathBuf>,
    /// Its content.
    pub recipe: Recipe,
}

impl RecipeFile {
    /// The recipe's name.
    pub fn name(&self) -> &str {
        self.recipe.name.as_deref().unwrap_or_default()
    }

    /// Its name and its aliases.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.name()).chain(self.recipe.aliases.iter().map(String::as_str))
    }

    /// Parses a recipe file; `folder` is where its relative paths start.
    pub fn parse(document: Document, folder: Option<PathBuf>) -> Result<Self, InputErrors> {
        let recipe: Recipe = document.parse()?;
        let file = Self { document, folder, recipe };
        InputErrors::check(file.problems())?;
        Ok(file)
    }

    /// Errors that types cannot catch.
    fn problems(&self) -> Vec<InputError> {
        let recipe = &self.recipe;
        let at = |key: &str, problem: &str| InputError::new(self.document.at(key), problem).key(key);
        let mut errors = Vec::new();
        if recipe.schema != Some(SCHEMA) {
            let found = recipe.schema.map_or("missing".into(), |version| format!("found {version}"));
            errors.push(at("schema", &found).expected(format!("schema = {SCHEMA}")));
        }
        if !is_name(self.name()) {
            let found = recipe.name.as_ref().map_or("missing".into(), |name| format!("found {name:?}"));
            errors.push(at("name", &found).expected("lower-case letters, digits, `.`, `_` and `-`"));
        }
        if recipe.model.name.is_none() && recipe.gpu.values().any(|gpu| gpu.model.name.is_none()) {
            errors.push(at("model.name", "missing").expected("the model's name, e.g. openai/gpt-oss-120b"));
        }
        if recipe.deploy.launcher.is_none() {
            let error = at("deploy.launcher", "missing");
            errors.push(error.expected("a launcher, see `tokmark list --launchers`"));
        }
        for scale in recipe.scale.keys().filter(|scale| scale_of(scale).is_none()) {
            let error = at(&format!("scale.{scale}"), &format!("found {scale:?}"));
            errors.push(error.expected("a number of GPUs without leading zeros, e.g. [scale.8]"));
        }
        errors
    }
}

/// GPUs of `[scale.N]`; `None` unless N is a positive number without leading zeros.
pub fn scale_of(key: &str) -> Option<u32> {
    key.parse().ok().filter(|scale: &u32| *scale > 0 && scale.to_string() == key)
}

/// Whether `name` is valid for a recipe or a suite.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-'))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// Folders to search before the embedded recipes, nearest first.
pub fn folders() -> Vec<PathBuf> {
    let mut folders = vec![PathBuf::from("recipes")];
    folders.extend(config_folder().map(|config| config.join("recipes")));
    folders
}

/// `$XDG_CONFIG_HOME/tokmark`, else `~/.config/tokmark`.
pub fn config_folder() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CONFIG_HOME")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".config")))?;
    Some(base.join("tokmark"))
}

/// All recipes, sorted by name; a file on disk shadows an embedded recipe of the same name. Also the errors of files that do
/// not parse.
pub fn all() -> (Vec<RecipeFile>, Vec<InputError>) {
    let mut found: Vec<RecipeFile> = Vec::new();
    let mut errors = Vec::new();
    let mut add = |parsed: Result<RecipeFile, InputErrors>| match parsed {
        Ok(file) if found.iter().any(|known| known.name() == file.name()) => {}
        Ok(file) => found.push(file),
        Err(InputErrors(problems)) => errors.extend(problems),
    };
    for folder in folders() {
        for path in toml_files(&folder) {
            add(read(&path));
        }
    }
    for document in embedded() {
        add(RecipeFile::parse(document, None));
    }
    found.sort_by(|a, b| a.name().cmp(b.name()));
    (found, errors)
}

/// Prefix of embedded files' names.
pub const BUILT_IN: &str = "embedded:";

/// The embedded recipe files.
pub fn embedded() -> Vec<Document> {
    EMBEDDED
        .files()
        .filter(|file| file.path().extension().is_some_and(|extension| extension == "toml"))
        .filter_map(|file| {
            Some(Document {
                file: format!("{BUILT_IN}recipes/{}", file.path().display()),
                text: file.contents_utf8()?.to_owned(),
            })
        })
        .collect()
}

/// `*.toml` in a folder, sorted; none if the folder is missing.
pub fn toml_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = walkdir::WalkDir::new(folder)
        .max_depth(2)
        .into_iter()
        .filter_map(Result::ok)
        .map(walkdir::DirEntry::into_path)
        .filter(|path| path.is_file() && path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    files
}

/// Reads one recipe file.
pub fn read(path: &Path) -> Result<RecipeFile, InputErrors> {
    let folder = path.parent().map(Path::to_path_buf);
    RecipeFile::parse(Document::read(path)?, folder)
}

/// The recipe a user named: a path (it has a `/`, ends in `.toml`, or is a file), a name, or an alias.
pub fn named(text: &str) -> Result<RecipeFile, InputErrors> {
    let path = Path::new(text);
    if text.contains('/') || text.ends_with(".toml") {
        return read(path);
    }
    let (recipes, errors) = all();
    match &called(text, &recipes)[..] {
        [file] => return Ok((*file).clone()),
        [] => {}
        several => {
            let names = several.iter().map(|file| file.name()).collect::<Vec<_>>().join(", ");
            let error = InputError::new(text, format!("is an alias of several recipes: {names}"));
            return Err(error.next("name one of them").into());
        }
    }
    if path.is_file() {
        return read(path);
    }
    Err(unknown(text, &recipes, errors))
}

/// The recipe of this name, else all with this alias.
pub fn called<'a>(name: &str, all: &'a [RecipeFile]) -> Vec<&'a RecipeFile> {
    match all.iter().find(|file| file.name() == name) {
        Some(file) => vec![file],
        None => all.iter().filter(|file| file.names().any(|alias| alias == name)).collect(),
    }
}

/// Most names of a suggestion.
const MOST_SUGGESTED: usize = 6;

/// The names and aliases that begin with `text`, else the nearest one.
pub fn suggestion(text: &str, recipes: &[RecipeFile]) -> Option<String> {
    let names = || recipes.iter().flat_map(RecipeFile::names);
    let begin: Vec<&str> = names().filter(|name| !text.is_empty() && name.starts_with(text)).collect();
    match begin.as_slice() {
        [] => nearest(text, names()).map(|near| format!("did you mean `{near}`?")),
        [only] => Some(format!("did you mean `{only}`?")),
        several => {
            let named: Vec<&str> = several.iter().take(MOST_SUGGESTED).copied().collect();
            let more = several.len() - named.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            Some(format!("these begin so: {}{more}.", named.join(", ")))
        }
    }
}

fn unknown(text: &str, recipes: &[RecipeFile], broken: Vec<InputError>) -> InputErrors {
    let advice = match suggestion(text, recipes) {
        Some(suggestion) => format!("{suggestion} `tokmark list` shows all recipes"),
        None => "`tokmark list` shows all recipes; a file is named by its path".into(),
    };
    let mut errors = vec![
        InputError::new(text, "no recipe of this name, alias or file")
            .expected("a recipe file, name or alias")
            .next(advice),
    ];
    errors.extend(broken);
    InputErrors(errors)
}
