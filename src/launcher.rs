//! Engines as data: which processes an engine is, where each goes, its argv, ports, files, readiness, fatal log lines.
//!
//! A new engine is a new TOML file and no Rust. Arrow: `document` → here → `plan`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::document::{Document, InputError, InputErrors, nearest};
use crate::recipe::MaxTokensField;
use crate::recipe::find::{config_folder, toml_files};

static EMBEDDED: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/launchers");

/// A launcher file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Launcher {
    /// Version of the format: 1.
    pub schema: u32,
    /// Name, equal to the file's.
    pub name: String,
    /// What it starts, in one line.
    pub summary: String,
    /// Results of this engine are simulated.
    #[serde(default)]
    pub simulated: bool,
    /// One replica may span several nodes.
    #[serde(default)]
    pub spans_nodes: bool,
    /// Most replicas behind its one endpoint. Default 1.
    #[serde(default = "one")]
    pub max_replicas: u32,
    /// Engine options: names it knows, and which one is the batch size.
    #[serde(default)]
    pub options: Options,
    /// Where the load goes.
    pub endpoint: EndpointSpec,
    /// Its processes, in start order; stopped in reverse.
    #[serde(default, rename = "role")]
    pub roles: Vec<Role>,
    /// Log lines after which nothing good can follow.
    #[serde(default, rename = "fatal")]
    pub fatal: Vec<Fatal>,
}

fn one() -> u32 {
    1
}

/// `[options]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Names of the options its templates use; any other is an error. Empty: every option becomes a flag.
    pub known: Vec<String>,
    /// The option that bounds the running batch; shown in the experiment's name.
    pub batch_size: Option<String>,
}

/// `[endpoint]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointSpec {
    /// Role that serves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Name of that role's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// Or a URL (template), for an endpoint that runs elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Path that answers 200 when the server is up. Dynamo's answers 200 without any worker: the served model in
    /// `/v1/models` and a generated token are asked for as well, always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// Path of the Prometheus metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
    /// Field of its chat endpoint that bounds the output length. Default `auto`: `max_tokens`, unless the server refuses it.
    #[serde(default)]
    pub max_tokens_field: MaxTokensField,
}

/// `[[role]]`: one kind of process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Name, unique in the launcher.
    pub name: String,
    /// Where it runs.
    pub placement: Placement,
    /// Whether it gets the GPUs of its replica.
    #[serde(default)]
    pub gpus: bool,
    /// Tasks of its step: one, or one for each of its GPUs (MPI).
    #[serde(default)]
    pub tasks: Tasks,
    /// Started under the site's MPI type.
    #[serde(default)]
    pub mpi: bool,
    /// Runs outside the container.
    #[serde(default)]
    pub bare: bool,
    /// Program and arguments, each a template of one argument. Never a shell line.
    pub argv: Vec<Arg>,
    /// Environment; values are templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Ports: name → the preferred number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<String, u16>,
    /// Files rendered before it starts: name → template. `{{ files.NAME }}` is the path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// What must answer before the next role starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
    /// Which of the two log views shows it.
    #[serde(default)]
    pub logs: Vec<LogView>,
}

/// Where a role runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// One process on the first node.
    Head,
    /// One process on each node.
    EachNode,
    /// One process for each replica, on that replica's nodes.
    EachReplica,
}

/// Tasks of a role's step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tasks {
    /// One.
    #[default]
    One,
    /// One for each GPU of the process.
    PerGpu,
}

/// The two log views of an experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogView {
    /// `output_server.log`
    Server,
    /// `output_workers.log`
    Workers,
}

/// What must answer before a role counts as started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ready {
    /// 200 from a path on one of its ports.
    Http {
        /// Name of the port.
        port: String,
        /// Path.
        path: String,
    },
    /// A port that accepts connections.
    Tcp {
        /// Name of the port.
        port: String,
    },
}

/// `[[fatal]]`: a log line that ends the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fatal {
    /// Regular expression matched against each line.
    pub pattern: String,
    /// What it means and what to do.
    pub advice: String,
}

/// One entry of an argv.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Arg {
    /// One argument, a template.
    One(String),
    /// Arguments given only when an expression is true.
    When {
        /// Template expression, e.g. `deploy.pp > 1`.
        when: String,
        /// The arguments.
        args: Vec<String>,
    },
    /// All engine options as flags: `name = value` → `--name value`, `true` → `--name`, `false` → `--no-name`.
    Options {
        /// Options that are not flags of this process.
        options_except: Vec<String>,
    },
}

impl<'de> Deserialize<'de> for Arg {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Arg;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("text, { when = \"EXPRESSION\", args = […] } or { options_except = […] }")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Arg, E> {
                Ok(Arg::One(text.to_owned()))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Arg, A::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Table {
                    when: Option<String>,
                    args: Option<Vec<String>>,
                    options_except: Option<Vec<String>>,
                }
                let table = Table::deserialize(de::value::MapAccessDeserializer::new(map))?;
                match (table.when, table.args, table.options_except) {
                    (Some(when), Some(args), None) => Ok(Arg::When { when, args }),
                    (None, None, Some(options_except)) => Ok(Arg::Options { options_except }),
                    _ => Err(de::Error::custom("either `when` and `args`, or `options_except`")),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Arg {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Arg".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let list = serde_json::json!({"type": "array", "items": {"type": "string"}});
        schemars::json_schema!({"oneOf": [
            {"type": "string"},
            {"type": "object", "required": ["when", "args"], "additionalProperties": false,
             "properties": {"when": {"type": "string"}, "args": list}},
            {"type": "object", "required": ["options_except"], "additionalProperties": false,
             "properties": {"options_except": list}}]})
    }
}

impl Launcher {
    /// The role of that name.
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.iter().find(|role| role.name == name)
    }

    /// The role and port name that serve the endpoint; `None` for an endpoint that runs elsewhere.
    pub fn endpoint_port(&self) -> Option<(&Role, &str)> {
        Some((self.role(self.endpoint.role.as_deref()?)?, self.endpoint.port.as_deref()?))
    }

    /// What a launcher file needs beside correct types.
    fn problems(&self, file: &str) -> Vec<InputError> {
        let mut errors = Vec::new();
        let mut wrong = |key: String, problem: String| errors.push(InputError::new(file, problem).key(key));
        if self.schema != 1 {
            wrong("schema".into(), format!("found {}, expected 1", self.schema));
        }
        for (index, role) in self.roles.iter().enumerate() {
            if self.roles[..index].iter().any(|other| other.name == role.name) {
                wrong(format!("role.{}", role.name), "a second role of this name".into());
            }
            if let Some(Ready::Http { port, .. } | Ready::Tcp { port }) = &role.ready
                && !role.ports.contains_key(port)
            {
                wrong(format!("role.{}.ready.port", role.name), format!("the role has no port {port:?}"));
            }
            if role.argv.is_empty() {
                wrong(format!("role.{}.argv", role.name), "empty; the first entry is the program".into());
            }
        }
        match (&self.endpoint.url, &self.endpoint.role, &self.endpoint.port) {
            (Some(_), None, None) => {}
            (None, Some(role), Some(port)) => match self.role(role) {
                Some(found) if found.ports.contains_key(port) => {}
                Some(_) => wrong("endpoint.port".into(), format!("role {role:?} has no port {port:?}")),
                None => wrong("endpoint.role".into(), format!("no role {role:?}")),
            },
            _ => wrong("endpoint".into(), "give either `url`, or `role` and `port`".into()),
        }
        for fatal in &self.fatal {
            if let Err(error) = regex::Regex::new(&fatal.pattern) {
                wrong(
                    "fatal.pattern".into(),
                    format!("{:?} is no regular expression: {error}", fatal.pattern),
                );
            }
        }
        errors
    }
}

/// Parses a launcher file.
pub fn parse(document: &Document) -> Result<Launcher, InputErrors> {
    let launcher: Launcher = document.parse()?;
    InputErrors::check(launcher.problems(&document.file))?;
    Ok(launcher)
}

/// Folders searched before the embedded launchers, nearest first.
fn folders(beside: Option<&Path>) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Some(recipes) = beside {
        folders.push(recipes.join("launchers"));
        folders.push(recipes.join("../launchers"));
    }
    folders.extend(config_folder().map(|config| config.join("launchers")));
    folders
}

/// Every launcher file that can be named: beside the recipe, in the user's configuration, embedded.
pub fn all(beside: Option<&Path>) -> Vec<Document> {
    let mut documents: Vec<Document> = folders(beside)
        .iter()
        .flat_map(|folder| toml_files(folder))
        .filter_map(|path| Document::read(&path).ok())
        .collect();
    documents.extend(EMBEDDED.files().filter_map(|file| {
        let name = file.path().display().to_string();
        name.ends_with(".toml").then_some(())?;
        Some(Document { file: format!("embedded:launchers/{name}"), text: file.contents_utf8()?.to_owned() })
    }));
    documents
}

/// Name of a launcher file: its stem.
fn stem(document: &Document) -> &str {
    let name = document.file.rsplit('/').next().unwrap_or_default();
    name.strip_suffix(".toml").unwrap_or(name)
}

/// The launcher called `name`; `origin` says who asked for it.
pub fn named(name: &str, beside: Option<&Path>, origin: &str) -> Result<Launcher, InputErrors> {
    parse(&find(name, beside, origin)?)
}

/// The file of the launcher called `name`.
pub fn find(name: &str, beside: Option<&Path>, origin: &str) -> Result<Document, InputErrors> {
    let documents = all(beside);
    if let Some(document) = documents.iter().find(|document| stem(document) == name) {
        return Ok(document.clone());
    }
    let mut names: Vec<&str> = documents.iter().map(stem).collect();
    names.sort_unstable();
    names.dedup();
    let mut error = InputError::new(origin, format!("no launcher {name:?}"))
        .key("deploy.launcher")
        .expected(format!("one of {}", names.join(", ")));
    if let Some(near) = nearest(name, names.iter().copied()) {
        error = error.next(format!("did you mean `{near}`?"));
    }
    Err(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_launcher_is_sound_and_named_as_its_file() {
        let documents = all(None);
        assert!(documents.len() >= 3);
        for document in documents {
            let launcher = parse(&document).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(launcher.name, stem(&document));
        }
    }

    #[test]
    fn an_unknown_launcher_names_the_nearest() {
        let error = named("vlm", None, "r.toml").unwrap_err().to_string();
        assert!(error.contains("did you mean `vllm`"), "{error}");
    }
}
