//! Where launchers are found: beside the recipe, in the user's configuration, in the binary.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};
use serde::Deserialize;

use super::{Fatal, Launcher, LauncherFile};
use crate::document::{Document, InputError, InputErrors, one_of};
use crate::recipe::find::{config_folder, toml_files};

static EMBEDDED: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/launchers");

/// Parses a launcher file, and adds the fatal lines of its sets.
pub fn parse(document: &Document) -> Result<Launcher, InputErrors> {
    let mut launcher: Launcher = document.parse()?;
    let mut errors = launcher.problems(document, stem(document));
    errors.extend(shadow(&launcher, document));
    for set in &launcher.fatal_sets {
        match fatal_set(set) {
            Ok(lines) => launcher.fatal.extend(lines),
            Err(error) => errors.push(InputError { origin: document.at("fatal_sets"), ..error }),
        }
    }
    InputErrors::check(errors)?;
    Ok(launcher)
}

/// The error of a file that has the name of a built-in launcher and does not declare that it replaces it.
fn shadow(launcher: &Launcher, document: &Document) -> Option<InputError> {
    let builtin = embedded().find(|builtin| stem(builtin) == launcher.name)?;
    let on_purpose = launcher.replaces_builtin || builtin.text == document.text;
    (!on_purpose).then(|| {
        InputError::new(
            document.at("name"),
            format!("found {:?}, the name of a built-in launcher", launcher.name),
        )
        .key("name")
        .expected("a name of its own, or `replaces_builtin = true`")
        .next("rename the launcher and its file, or say that it replaces the built-in one on purpose")
    })
}

/// Fatal log lines that several engines share.
fn fatal_set(name: &str) -> Result<Vec<Fatal>, InputError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Set {
        fatal: Vec<Fatal>,
    }
    let sets = || EMBEDDED.get_dir("fatal").into_iter().flat_map(Dir::files);
    let named = |wanted: &str| sets().find(|file| file.path().file_stem().is_some_and(|stem| stem == wanted));
    let Some(text) = named(name).and_then(|file| file.contents_utf8()) else {
        let names: Vec<&str> = sets().filter_map(|file| file.path().file_stem()?.to_str()).collect();
        return Err(InputError::new("", format!("no set {name:?} of fatal lines"))
            .key("fatal_sets")
            .expected(one_of(&names, "")));
    };
    let document = Document { file: format!("embedded:launchers/fatal/{name}.toml"), text: text.to_owned() };
    Ok(document.parse::<Set>()?.fatal)
}

/// The tables of engine options by name.
pub(super) fn option_tables() -> impl Iterator<Item = (String, Document)> {
    EMBEDDED.get_dir("options").into_iter().flat_map(Dir::files).filter_map(|file| {
        let name = file.path().file_stem()?.to_str()?.to_owned();
        let document = Document {
            file: format!("embedded:launchers/options/{name}.toml"),
            text: file.contents_utf8()?.into(),
        };
        Some((name, document))
    })
}

/// The launchers in the binary.
fn embedded() -> impl Iterator<Item = Document> {
    EMBEDDED.files().filter_map(|file| {
        let name = file.path().to_str().filter(|name| name.ends_with(".toml"))?;
        Some(Document { file: format!("embedded:launchers/{name}"), text: file.contents_utf8()?.to_owned() })
    })
}

/// Folders searched before the embedded launchers, nearest first.
fn folders(beside: Option<&Path>) -> Vec<PathBuf> {
    let beside = beside.map(|recipes| [recipes.join("launchers"), recipes.join("../launchers")]);
    let config = config_folder().map(|config| config.join("launchers"));
    beside.into_iter().flatten().chain(config).collect()
}

/// Every launcher file: beside the recipe, in the user's configuration, embedded.
pub fn all(beside: Option<&Path>) -> Vec<Document> {
    let mut documents: Vec<Document> = folders(beside)
        .iter()
        .flat_map(|folder| {
            toml_files(folder).into_iter().filter(|path| path.parent() == Some(folder.as_path()))
        })
        .filter_map(|path| Document::read(&path).ok())
        .collect();
    documents.extend(embedded());
    documents
}

/// Name of a launcher file: its stem.
fn stem(document: &Document) -> &str {
    let name = document.file.rsplit('/').next().unwrap_or_default();
    name.strip_suffix(".toml").unwrap_or(name)
}

/// The built-in launcher that stands in for any engine.
pub fn standing_in() -> Option<Launcher> {
    embedded().filter_map(|document| parse(&document).ok()).find(|launcher| launcher.stand_in.is_some())
}

/// The launcher called `name`; `origin` is where that name comes from, for messages.
pub fn find(name: &str, beside: Option<&Path>, origin: &str) -> Result<LauncherFile, InputErrors> {
    let documents = all(beside);
    if let Some(document) = documents.iter().find(|document| stem(document) == name) {
        return Ok(LauncherFile { file: document.file.clone(), launcher: parse(document)? });
    }
    let names: BTreeSet<&str> = documents.iter().map(stem).collect();
    let names: Vec<&str> = names.into_iter().collect();
    Err(InputError::new(origin, format!("no launcher {name:?}"))
        .key("deploy.launcher")
        .expected(one_of(&names, ""))
        .suggest(name, &names)
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launcher(text: &str) -> Result<Launcher, InputErrors> {
        parse(&Document { file: "dir/mine.toml".into(), text: text.into() })
    }

    const MINE: &str = r#"
schema = 1
name = "mine"
summary = "s"
[endpoint]
role = "server"
port = "http"
[[role]]
name = "server"
placement = "head"
argv = ["x"]
ports = { http = 8000 }
"#;

    #[test]
    fn every_embedded_launcher_is_sound_and_named_as_its_file() {
        let documents = all(None);
        assert!(documents.len() >= 8, "{}", documents.len());
        for document in documents {
            parse(&document).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    #[test]
    fn weights_that_an_engine_makes_up_are_known_by_its_option() {
        let options = find("vllm", None, "r.toml").unwrap().launcher.options;
        let makes_up = |engine: serde_json::Value| options.makes_up_weights(engine.as_object().unwrap());
        assert!(makes_up(serde_json::json!({"load_format": "dummy"})));
        assert!(makes_up(serde_json::json!({"load-format": "dummy", "dtype": "auto"})));
        assert!(!makes_up(serde_json::json!({"load_format": "safetensors"})));
        assert!(!makes_up(serde_json::json!({"quantization": "dummy"})));
    }

    #[test]
    fn an_unknown_launcher_names_the_nearest() {
        let error = find("vlm", None, "r.toml").unwrap_err().to_string();
        assert!(error.contains("did you mean `vllm`"), "{error}");
    }

    #[test]
    fn a_built_in_name_is_taken_on_purpose_only() {
        assert!(launcher(MINE).is_ok());
        let taken = Document { file: "dir/vllm.toml".into(), text: MINE.replace("\"mine\"", "\"vllm\"") };
        let error = parse(&taken).unwrap_err().to_string();
        assert!(error.contains("dir/vllm.toml:3") && error.contains("replaces_builtin"), "{error}");
        let text = taken.text.replace("schema = 1", "schema = 1\nreplaces_builtin = true");
        assert!(parse(&Document { text, ..taken }).is_ok());
    }

    #[test]
    fn what_is_wrong_is_named_by_key() {
        let sidecar = "[[role]]\nname = \"side\"\nplacement = \"head\"\nargv = [\"x\"]\n";
        let cases = [
            ("name = \"mine\"", "name = \"other\"", "the file is mine.toml"),
            ("http = 8000", "http = { base = 8000, count = 4, stride = 2 }", "stride 2 is less than count 4"),
            ("port = \"http\"", "port = \"htp\"", "no port \"htp\""),
            ("argv = [\"x\"]", "argv = []", "empty"),
            (
                "argv = [\"x\"]",
                "argv = [\"x\", { each = \"nobody\", args = [\"a\"] }]",
                "no role or pool \"nobody\"",
            ),
            ("argv = [\"x\"]", "argv = [\"x\"]\nafter = [\"later\"]", "no earlier role \"later\""),
            ("summary = \"s\"", "summary = \"s\"\nfatal_sets = [\"gpus\"]", "no set \"gpus\""),
            (
                "argv = [\"x\"]",
                "argv = [\"x\", { when = \"settings.kv\", args = [\"a\"] }]",
                "declared nowhere",
            ),
            ("summary = \"s\"", "summary = \"s\"\nprogress = [\"(\"]", "no regular expression"),
            ("ports = {", "ready = { log = { pattern = \"[\" } }\nports = {", "no regular expression"),
            (
                "ports = {",
                "metrics = { port = \"admin\", path = \"/metrics\" }\nports = {",
                "no port \"admin\"",
            ),
            ("ports = {", "ready = { tcp = { port = \"grpc\" } }\nports = {", "no port \"grpc\""),
        ];
        for (from, to, expected) in cases {
            assert!(MINE.contains(from), "{from}");
            let error = launcher(&MINE.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("dir/mine.toml"), "{from} → {to}: {error}");
        }
        let error = launcher(&format!("{MINE}{sidecar}")).unwrap_err().to_string();
        assert!(error.contains("dir/mine.toml:13: `role.side.ready`: missing"), "{error}");
        let ready = format!("{MINE}{sidecar}ready = {{ started = {{}} }}\n");
        assert!(launcher(&ready).is_ok(), "{:?}", launcher(&ready));
    }
}
