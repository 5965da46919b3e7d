//! The tera environment: job scripts, argv, config files, reports. Every template renders here and nowhere else.
//!
//! Values reach a shell only through the `sh` filter, and a process only as whole arguments.
//! Arrow: `plan`, `launcher` → here → `deploy`, `commands`.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};
use tera::{Context, Kwargs, State, Tera};

use crate::launcher::{Arg, Role};
use crate::plan::topology::Process;
use crate::plan::{Deployment, Plan};

/// A template that does not render.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The template engine's own words.
    #[error("{what}: {problem}")]
    Template {
        /// Which template.
        what: String,
        /// What is wrong.
        problem: String,
    },
    /// A value that cannot be written where it belongs.
    #[error("{what}: found {found:?}, expected {expected}")]
    Value {
        /// Which value.
        what: String,
        /// What was found.
        found: String,
        /// What would have been right.
        expected: String,
    },
}

const JOB: &str = include_str!("../templates/job.sbatch.tera");

/// A tera environment with the filters every template may use.
fn environment() -> Tera {
    let mut tera = Tera::new();
    tera.register_filter("sh", |text: &str, _: Kwargs, _: &State| quote(text));
    tera.register_filter("oneline", |text: &str, _: Kwargs, _: &State| {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    });
    tera
}

/// `text` as one shell word. NUL cannot be in an argument and is dropped.
pub fn quote(text: &str) -> String {
    let text: String = text.chars().filter(|c| *c != '\0').collect();
    shlex::try_quote(&text).map(std::borrow::Cow::into_owned).unwrap_or_default()
}

fn render(what: &str, template: &str, context: &Context) -> Result<String, RenderError> {
    render_as(what, template, context, false)
}

fn render_as(what: &str, template: &str, context: &Context, escape: bool) -> Result<String, RenderError> {
    let problem = |problem: String| RenderError::Template { what: what.to_owned(), problem };
    // `${#array[@]}` opens a tera comment, and with a later `#}` the text between silently vanishes.
    if template.contains("${#") {
        return Err(problem("`${#` opens a template comment; write it another way".into()));
    }
    environment().render_str(template, context, escape).map_err(|error| {
        // The engine's own report, with the template's line and a caret, minus the names that mean nothing to a user.
        let text = error.to_string().replace("__tera_one_off", "template");
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        let source =
            std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        problem(format!("{text}{source}"))
    })
}

/// Renders an HTML page with `value` as its context; every value is escaped unless the template says `safe`.
pub fn html(what: &str, template: &str, value: &impl Serialize) -> Result<String, RenderError> {
    let context = Context::from_serialize(value)
        .map_err(|error| RenderError::Template { what: what.into(), problem: error.to_string() })?;
    render_as(what, template, &context, true)
}

/// The sbatch script of a plan. `tokmark` is the absolute path of the binary; `extra` are more directives, which win
/// over the plan's because they come later.
pub fn script(plan: &Plan, tokmark: &str, extra: &[String]) -> Result<String, RenderError> {
    let output = format!("{}/slurm-%j.out", plan.experiments.replace('%', "%%"));
    let mut directives = plan.job.directives.clone();
    directives.push(format!("--output={output}"));
    directives.extend(extra.iter().cloned());
    let directives: Vec<String> = directives.iter().map(|line| directive(line)).collect::<Result<_, _>>()?;
    let frozen = serde_json::to_string_pretty(plan)
        .map_err(|error| RenderError::Template { what: "plan".into(), problem: error.to_string() })?;
    let mut context = Context::new();
    context.insert("version", &plan.tokmark);
    context.insert("name", &plan.name);
    context.insert("summary", &plan.summary);
    context.insert("recipe_file", &plan.recipe.file);
    context.insert("stem", &plan.stem);
    context.insert("experiments", &plan.experiments);
    context.insert("directives", &directives);
    context.insert("setup", &plan.job.setup);
    context.insert("modules", &plan.job.modules);
    context.insert("venv", plan.job.venv.as_deref().unwrap_or_default());
    let binaries = plan.job.binary.iter().map(|(arch, path)| json!({"arch": arch, "path": path}));
    context.insert("binaries", &binaries.collect::<Vec<_>>());
    context.insert("tokmark", tokmark);
    context.insert("plan", &frozen);
    render("job.sbatch", JOB, &context)
}

/// A script that does nothing but ask for what directives ask for.
pub fn bare_script(directives: &[String]) -> Result<String, RenderError> {
    let lines: Vec<String> = directives
        .iter()
        .map(|line| Ok(format!("#SBATCH {}\n", directive(line)?)))
        .collect::<Result<_, _>>()?;
    Ok(format!("#!/bin/bash\n{}true\n", lines.concat()))
}

/// A directive as sbatch reads it: words with blanks or quotes are quoted; a line break would end it.
fn directive(line: &str) -> Result<String, RenderError> {
    if line.contains(['\n', '\r', '\0']) {
        return Err(RenderError::Value {
            what: "an #SBATCH directive".into(),
            found: line.to_owned(),
            expected: "one line".into(),
        });
    }
    let plain = |c: char| !c.is_whitespace() && !matches!(c, '"' | '\'' | '\\' | '#');
    if line.chars().all(plain) {
        return Ok(line.to_owned());
    }
    match line.split_once('=') {
        Some((flag, value)) => Ok(format!("{flag}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))),
        None => Ok(line.to_owned()),
    }
}

/// Where one process is: the address of its first node and its ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seat {
    /// Address other processes and the client reach it at.
    pub host: String,
    /// Ports by name.
    pub ports: BTreeMap<String, u16>,
}

/// All that is known only where the job runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    /// Path of the tokmark binary.
    pub tokmark: String,
    /// Scratch folder of this run.
    pub run_dir: String,
    /// Folder of the logs.
    pub log_dir: String,
    /// Names of the nodes, in order.
    pub nodes: Vec<String>,
    /// Seat of each process, by process name.
    pub seats: BTreeMap<String, Seat>,
}

impl Scene {
    /// A made-up scene with the preferred ports: what `check` and `render --explain` show before a job runs.
    pub fn sample(plan: &Plan, deployment: &Deployment) -> Self {
        let nodes: Vec<String> = (1..=deployment.nodes).map(|n| format!("node{n}")).collect();
        let seats = deployment.processes.iter().filter_map(|process| {
            let role = plan.launcher.role(&process.role)?;
            let host = nodes.get(*process.nodes.first()? as usize)?.clone();
            Some((process.name.clone(), Seat { host, ports: role.ports.clone() }))
        });
        Self {
            tokmark: "tokmark".into(),
            run_dir: "RUN_DIR".into(),
            log_dir: "LOG_DIR".into(),
            seats: seats.collect(),
            nodes,
        }
    }
}

/// A process ready to be spawned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spawn {
    /// Program and arguments, whole and verbatim.
    pub argv: Vec<String>,
    /// Environment to set. Values may be references (`env:NAME`, `file:PATH`), read only when it starts.
    pub env: BTreeMap<String, String>,
    /// Files to write before: path and content.
    pub files: Vec<(String, String)>,
}

/// Renders one process of a deployment.
pub fn process(
    plan: &Plan,
    deployment: &Deployment,
    process: &Process,
    scene: &Scene,
) -> Result<Spawn, RenderError> {
    let what = |part: &str| format!("launcher {}: role.{}.{part}", plan.launcher.name, process.role);
    let Some(role) = plan.launcher.role(&process.role) else {
        return Err(RenderError::Template { what: what("lookup"), problem: "no such role".into() });
    };
    let mut context = context(plan, deployment, scene);
    let seat = scene.seats.get(&process.name);
    context.insert("host", seat.map_or("127.0.0.1", |seat| seat.host.as_str()));
    context.insert("port", &seat.map(|seat| seat.ports.clone()).unwrap_or_default());
    context.insert("index", &process.index);
    context.insert("gpus", &process.gpus);
    let paths: BTreeMap<&String, String> =
        role.files.keys().map(|name| (name, format!("{}/{}.{name}", scene.run_dir, process.name))).collect();
    context.insert("files", &paths);
    let mut files = Vec::new();
    for (name, template) in &role.files {
        let text = render(&what(&format!("files.{name}")), template, &context)?;
        files.push((paths.get(name).cloned().unwrap_or_default(), text));
    }
    let argv = argv(role, deployment, &context, &what("argv"))?;
    let mut env = BTreeMap::new();
    for (name, template) in &role.env {
        env.insert(name.clone(), render(&what(&format!("env.{name}")), template, &context)?);
    }
    env.extend(deployment.env.clone());
    Ok(Spawn { argv, env, files })
}

/// The endpoint's URL.
pub fn endpoint_url(plan: &Plan, deployment: &Deployment, scene: &Scene) -> Result<String, RenderError> {
    if let Some(template) = &plan.launcher.endpoint.url {
        return render("endpoint.url", template, &context(plan, deployment, scene));
    }
    let seat = plan.launcher.endpoint_port().and_then(|(role, port)| {
        let process = deployment.processes.iter().find(|process| process.role == role.name)?;
        let seat = scene.seats.get(&process.name)?;
        Some(format!("http://{}:{}", seat.host, seat.ports.get(port)?))
    });
    seat.ok_or_else(|| RenderError::Template {
        what: "endpoint".into(),
        problem: "no process serves it".into(),
    })
}

fn context(plan: &Plan, deployment: &Deployment, scene: &Scene) -> Context {
    let mut context = Context::new();
    context.insert("model", &plan.model);
    let mut deploy = serde_json::to_value(deployment.parallel).unwrap_or_default();
    if let Value::Object(deploy) = &mut deploy {
        deploy.insert("url".into(), json!(deployment.url));
    }
    context.insert("deploy", &deploy);
    context.insert("engine", &deployment.engine);
    let most = |of: fn(&crate::plan::LoadPoint) -> u32| deployment.points.iter().map(of).max().unwrap_or(0);
    context.insert(
        "load",
        &json!({
            "isl_max": most(|point| point.isl.longest()),
            "osl_max": most(|point| point.osl.longest()),
            "concurrency_max": most(|point| point.concurrency().unwrap_or_else(|| point.wave())),
        }),
    );
    context.insert("tokmark", &scene.tokmark);
    context.insert("nodes", &scene.nodes);
    context.insert("dirs", &json!({"run": scene.run_dir, "logs": scene.log_dir}));
    context.insert("peers", &peers(deployment, scene));
    context
}

/// `host:port` of the first process of each role, by role and port name.
fn peers(deployment: &Deployment, scene: &Scene) -> Map<String, Value> {
    let mut peers = Map::new();
    for process in deployment.processes.iter().filter(|process| process.index == 0) {
        let Some(seat) = scene.seats.get(&process.name) else { continue };
        let ports: Map<String, Value> = seat
            .ports
            .iter()
            .map(|(name, port)| (name.clone(), json!(format!("{}:{port}", seat.host))))
            .collect();
        peers.insert(process.role.clone(), Value::Object(ports));
    }
    peers
}

fn argv(
    role: &Role,
    deployment: &Deployment,
    context: &Context,
    what: &str,
) -> Result<Vec<String>, RenderError> {
    let mut argv = Vec::new();
    for arg in &role.argv {
        match arg {
            Arg::One(template) => argv.push(render(what, template, context)?),
            Arg::When { when, args } => {
                if render(what, &format!("{{% if {when} %}}1{{% endif %}}"), context)? == "1" {
                    for template in args {
                        argv.push(render(what, template, context)?);
                    }
                }
            }
            Arg::Options { options_except } => {
                for (name, value) in
                    deployment.engine.iter().filter(|(name, _)| !options_except.contains(name))
                {
                    argv.extend(flag(name, value));
                }
            }
        }
    }
    Ok(argv)
}

/// One engine option as the engine's command line writes it: `true` is the bare flag, `false` its `--no-` form, a list
/// repeats its values, a table is JSON.
fn flag(name: &str, value: &Value) -> Vec<String> {
    let name = name.replace('_', "-");
    match value {
        Value::Bool(true) => vec![format!("--{name}")],
        Value::Bool(false) => vec![format!("--no-{name}")],
        Value::String(text) => vec![format!("--{name}"), text.clone()],
        Value::Array(values) => std::iter::once(format!("--{name}"))
            .chain(values.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
            .collect(),
        other => vec![format!("--{name}"), other.to_string()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_every_kind() {
        let cases = [
            ("enforce_eager", json!(true), vec!["--enforce-eager"]),
            ("enable-prefix-caching", json!(false), vec!["--no-enable-prefix-caching"]),
            ("max_num_seqs", json!(512), vec!["--max-num-seqs", "512"]),
            ("x", json!("a $(b) 'c'\n\"é\""), vec!["--x", "a $(b) 'c'\n\"é\""]),
            ("l", json!([1, "b"]), vec!["--l", "1", "b"]),
            (
                "compilation_config",
                json!({"pass_config": {"a": true}}),
                vec!["--compilation-config", "{\"pass_config\":{\"a\":true}}"],
            ),
        ];
        for (name, value, expected) in cases {
            assert_eq!(flag(name, &value), expected);
        }
    }

    #[test]
    fn a_bash_array_length_is_refused_rather_than_eaten() {
        assert!(render("t", "${#a[@]} x #}", &Context::new()).is_err());
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        assert!(render("t", "{{ nothing }}", &Context::new()).is_err());
    }

    #[test]
    fn quoting_survives_everything() {
        let nasty = "a'b\"c $(d) `e`\nf é";
        assert_eq!(shlex::split(&quote(nasty)).unwrap(), [nasty]);
    }

    #[test]
    fn directives_are_one_line() {
        assert_eq!(directive("--comment=a b\"c").unwrap(), "--comment=\"a b\\\"c\"");
        assert!(directive("--comment=a\n#SBATCH x").is_err());
    }
}
