//! The tera environment for job scripts, argv, config files and reports. Every template renders here.
//!
//! Values reach a shell only through the `sh` filter, and a process only as whole arguments.

mod check;
mod script;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::launcher::{Arg, Options, PagePort, PoolName, Ready, Role, Spelling, WhenFalse};
use crate::plan::facts;
use crate::plan::port_map;
use crate::plan::process::insert_process;
use crate::plan::{Deployment, LoadPoint, Plan, Process};
pub use crate::template::quote;
use crate::template::{self, Context};
pub use check::check;
pub use script::{directive, script};

/// A template that does not render, or a value that cannot be written in its place.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    #[error("{what}: {problem}")]
    Template { what: String, problem: String },
    /// A template of a launcher.
    #[error("launcher {launcher}: {key}: {problem}")]
    Launcher { launcher: String, key: String, problem: String },
}

fn render(what: &str, template: &str, context: &Context, escape: bool) -> Result<String, RenderError> {
    template::expand(template, context, escape)
        .map_err(|problem| RenderError::Template { what: what.to_owned(), problem })
}

/// Renders an HTML page with `value` as its context; escapes every value unless the template marks it `safe`.
pub fn html(what: &str, template: &str, value: &impl Serialize) -> Result<String, RenderError> {
    let context = Context::from_serialize(value)
        .map_err(|error| RenderError::Template { what: what.into(), problem: error.to_string() })?;
    render(what, template, &context, true)
}

/// The address of one process: its first node and its ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Address {
    /// Address for other processes and the client: the node's name, or the address of the site's network interface.
    pub host: String,
    /// The same as an IPv4 address, for engines that accept no name.
    pub ip: String,
    pub ports: BTreeMap<String, u16>,
}

/// What is known only where the job runs: paths, names, and the address of each process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    pub tokmark: String,
    /// Scratch folder of this run.
    pub run_dir: String,
    pub log_dir: String,
    /// Folder on the node's own disk, for files that must not wait for a shared file system.
    pub scratch_dir: String,
    /// A string that no other run uses, for names that must be unique: namespaces, stores.
    pub run_id: String,
    /// Names of the nodes, in order.
    pub nodes: Vec<String>,
    /// Address of each process, by process name.
    pub processes: BTreeMap<String, Address>,
}

impl Addresses {
    /// Sample addresses with the preferred ports, for `check` and `render --explain`.
    pub fn sample(plan: &Plan, deployment: &Deployment) -> Self {
        let nodes: Vec<String> = (1..=deployment.nodes).map(|n| format!("node{n}")).collect();
        let fixed = fixed_port(plan, deployment);
        let map = port_map::assign(&deployment.processes, fixed, 0, &mut |_, _| true).unwrap_or_default();
        let processes = deployment.processes.iter().filter_map(|process| {
            let node = *process.nodes.first()?;
            let host = nodes.get(node as usize)?.clone();
            let ports = map.get(&process.name).cloned().unwrap_or_default();
            Some((process.name.clone(), Address { host, ip: format!("10.0.0.{}", node + 1), ports }))
        });
        Self {
            tokmark: "tokmark".into(),
            run_dir: "RUN_DIR".into(),
            log_dir: "LOG_DIR".into(),
            scratch_dir: "SCRATCH_DIR".into(),
            run_id: "tokmark-JOB".into(),
            processes: processes.collect(),
            nodes,
        }
    }
}

/// The endpoint's port if the user fixed it: process, port name, number.
pub fn fixed_port<'a>(plan: &'a Plan, deployment: &'a Deployment) -> Option<port_map::Fixed<'a>> {
    let first = *serving(plan, deployment).first()?;
    Some((first.name.as_str(), plan.launcher().endpoint.port.as_deref()?, deployment.port?))
}

/// Processes that serve the endpoint, in order.
pub fn serving<'a>(plan: &Plan, deployment: &'a Deployment) -> Vec<&'a Process> {
    let of_role = |role: &str| -> Vec<&'a Process> {
        deployment.processes.iter().filter(|process| process.role == role && !process.follows).collect()
    };
    plan.launcher().endpoint_roles().map(of_role).find(|found| !found.is_empty()).unwrap_or_default()
}

/// A process ready to be spawned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spawn {
    /// Program and arguments, verbatim.
    pub argv: Vec<String>,
    /// Environment to set. Values may be references (`env:NAME`, `file:PATH`), resolved only at the start.
    pub env: BTreeMap<String, String>,
    /// Files to write before the start: path and content.
    pub files: Vec<(String, String)>,
}

/// A deployment with known addresses, as its templates see it.
#[derive(Debug, Clone, Copy)]
pub struct Placed<'a> {
    pub plan: &'a Plan,
    pub deployment: &'a Deployment,
    pub addresses: &'a Addresses,
}

impl Placed<'_> {
    /// An error in a template of the launcher.
    fn wrong(&self, key: &str, problem: String) -> RenderError {
        let launcher = self.plan.launcher().name.clone();
        RenderError::Launcher { launcher, key: key.to_owned(), problem }
    }

    /// Renders a template of the launcher.
    fn render(&self, key: &str, template: &str, context: &Context) -> Result<String, RenderError> {
        template::expand(template, context, false).map_err(|problem| self.wrong(key, problem))
    }

    /// Whether an expression of the launcher holds.
    fn holds(&self, key: &str, expression: &str, context: &Context) -> Result<bool, RenderError> {
        template::truth(expression, context).map_err(|problem| self.wrong(key, problem))
    }

    /// Renders one process.
    pub fn process(&self, process: &Process) -> Result<Spawn, RenderError> {
        let Self { plan, deployment, addresses } = *self;
        let key = |part: &str| format!("role.{}.{part}", process.role);
        let Some(role) = plan.launcher().role(&process.role) else {
            return Err(self.wrong(&key("lookup"), "no such role".into()));
        };
        let mut context = self.context_of(process);
        let address = addresses.processes.get(&process.name);
        context.insert("host", address.map_or("127.0.0.1", |address| address.host.as_str()));
        context.insert("ip", address.map_or("127.0.0.1", |address| address.ip.as_str()));
        context.insert("port", &address.map(|address| address.ports.clone()).unwrap_or_default());
        context.insert("name", &process.name);
        let leads = |other: &&Process| {
            other.rank == 0
                && (&other.role, other.pool, other.replica) == (&process.role, process.pool, process.replica)
        };
        let leader = deployment.processes.iter().find(leads).unwrap_or(process);
        context.insert("leader", &place_of(leader, addresses));
        let paths: BTreeMap<&String, String> = role
            .files
            .keys()
            .map(|name| (name, format!("{}/{}.{name}", addresses.run_dir, process.name)))
            .collect();
        context.insert("files", &paths);
        let mut files = Vec::new();
        for (name, template) in &role.files {
            let text = self.render(&key(&format!("files.{name}")), template, &context)?;
            files.push((paths.get(name).cloned().unwrap_or_default(), text));
        }
        let argv = self.argv(process, role, &context)?;
        let mut env = BTreeMap::new();
        let common =
            plan.launcher().env.iter().filter(|(name, _)| role.common_env && !role.env.contains_key(*name));
        let common = common.map(|(name, template)| (name, template, format!("env.{name}")));
        let own = role.env.iter().map(|(name, template)| (name, template, key(&format!("env.{name}"))));
        for (name, template, key) in common.chain(own) {
            let value = self.render(&key, template, &context)?;
            if !value.is_empty() {
                env.insert(name.clone(), value);
            }
        }
        let pool = process.pool.and_then(|pool| deployment.pool(pool));
        env.extend(pool.map_or(&deployment.env, |pool| &pool.env).clone());
        Ok(Spawn { argv, env, files })
    }

    fn argv(&self, process: &Process, role: &Role, context: &Context) -> Result<Vec<String>, RenderError> {
        let key = format!("role.{}.argv", role.name);
        let mut argv = if role.gpus { self.deployment.prefix.clone() } else { Vec::new() };
        let rendered = |args: &[String], context: &Context| {
            args.iter().map(|template| self.render(&key, template, context)).collect::<Result<Vec<_>, _>>()
        };
        for arg in &role.argv {
            match arg {
                Arg::One(template) => argv.push(self.render(&key, template, context)?),
                Arg::When { when, args } => {
                    if self.holds(&key, when, context)? {
                        argv.extend(rendered(args, context)?);
                    }
                }
                Arg::Each { each, args } => {
                    let all = replicas(self.deployment, self.addresses);
                    for item in all.get(each).and_then(Value::as_array).into_iter().flatten() {
                        let mut context = context.clone();
                        context.insert("item", item);
                        argv.extend(rendered(args, &context)?);
                    }
                }
                Arg::Options { options_except, when } => {
                    if when.as_ref().map_or(Ok(true), |when| self.holds(&key, when, context))? {
                        argv.extend(self.flags(process, options_except));
                    }
                }
            }
        }
        Ok(argv)
    }

    fn flags(&self, process: &Process, except: &[String]) -> Vec<String> {
        let pool = process.pool.and_then(|pool| self.deployment.pool(pool));
        let engine = pool.map_or(&self.deployment.engine, |pool| &pool.engine);
        let given = engine.iter().filter(|(name, _)| !except.contains(&name.replace('-', "_")));
        given.flat_map(|(name, value)| flag(&self.plan.launcher().options, name, value)).collect()
    }

    /// Whether a process serves the page that its role names.
    pub fn has_page(&self, process: &Process, page: &PagePort) -> Result<bool, RenderError> {
        let key = format!("role.{}.metrics.when", process.role);
        page.when.as_ref().map_or(Ok(true), |when| self.holds(&key, when, &self.context_of(process)))
    }

    /// A role's readiness rule with its templates rendered for one process.
    pub fn ready(&self, process: &Process, rule: &Ready) -> Result<Ready, RenderError> {
        let mut rule = rule.clone();
        if let Ready::Http { entries, at_least, equals, .. } = &mut rule {
            let context = self.context_of(process);
            let key = format!("role.{}.ready.http", process.role);
            let values = entries.values_mut().flatten();
            for text in values.chain(at_least.as_mut()).chain(equals.as_mut()) {
                *text = self.render(&key, text, &context)?;
            }
        }
        Ok(rule)
    }

    /// The endpoint's URLs: one, or several that share the load; none if the user has yet to give the URL of a running one.
    pub fn endpoint_urls(&self) -> Result<Vec<String>, RenderError> {
        let Self { plan, deployment, addresses } = *self;
        if let Some(template) = &plan.launcher().endpoint.url {
            if deployment.url.is_none() {
                return Ok(Vec::new());
            }
            let url = self.render("endpoint.url", template, &self.context(None))?;
            return Ok(vec![url]);
        }
        let port = plan.launcher().endpoint.port.as_deref().unwrap_or_default();
        let urls = serving(plan, deployment).into_iter().filter_map(|process| {
            let address = addresses.processes.get(&process.name)?;
            Some(format!("http://{}:{}", address.host, address.ports.get(port)?))
        });
        let urls: Vec<String> = urls.collect();
        if urls.is_empty() {
            return Err(self.wrong("endpoint", "no process serves it".into()));
        }
        Ok(urls)
    }

    /// The template context of a process.
    fn context_of(&self, process: &Process) -> Context {
        let mut context = self.context(process.pool);
        insert_process(&mut context, process);
        context
    }

    /// The template context of a deployment, without the process itself.
    fn context(&self, pool: Option<PoolName>) -> Context {
        let Self { plan, deployment, addresses } = *self;
        let pool = pool.and_then(|name| deployment.pool(name));
        let mut context = deployment.context(&plan.gpu, pool);
        context.insert("model", &plan.model);
        if pool.is_none() {
            context.insert("engine", &facts::as_names(&deployment.engine));
        }
        context.insert("replicas", &replicas(deployment, addresses));
        let of_pool =
            || deployment.processes.iter().filter(|process| process.pool == pool.map(|pool| pool.name));
        context.insert("processes", &of_pool().count());
        context.insert("leaders", &of_pool().filter(|process| !process.follows).count());
        let most = |of: fn(&LoadPoint) -> u32| deployment.points.iter().map(of).max().unwrap_or(0);
        context.insert(
            "load",
            &json!({
                "isl_max": most(|point| point.isl.longest()),
                "osl_max": most(|point| point.osl.longest()),
                "concurrency_max": most(|point| point.concurrency().unwrap_or_else(|| point.wave())),
            }),
        );
        context.insert("tokmark", &addresses.tokmark);
        context.insert("run_id", &addresses.run_id);
        context.insert("nodes", &addresses.nodes);
        context.insert(
            "dirs",
            &json!({"run": addresses.run_dir, "logs": addresses.log_dir, "scratch": addresses.scratch_dir}),
        );
        context.insert("peers", &peers(deployment, addresses));
        context
    }
}

/// `host:port` of the first process of each role and pool, keyed by its name and the port's.
fn peers(deployment: &Deployment, addresses: &Addresses) -> Map<String, Value> {
    let mut peers = Map::new();
    for process in &deployment.processes {
        let Some(address) = addresses.processes.get(&process.name) else { continue };
        let ports: Map<String, Value> = address
            .ports
            .iter()
            .map(|(name, port)| (name.clone(), json!(format!("{}:{port}", address.host))))
            .collect();
        let names = [Some(process.role.as_str()), process.pool.map(|pool| pool.as_str())];
        for name in names.into_iter().flatten().filter(|_| process.index == 0) {
            peers.entry(name).or_insert_with(|| Value::Object(ports.clone()));
        }
    }
    peers
}

/// The processes that follow no other, by role and by pool.
fn replicas(deployment: &Deployment, addresses: &Addresses) -> Map<String, Value> {
    let mut replicas = Map::new();
    for process in deployment.processes.iter().filter(|process| !process.follows) {
        let mut names = vec![process.role.as_str()];
        names.extend(process.pool.map(|pool| pool.as_str()).filter(|pool| *pool != process.role));
        for name in names {
            let list = replicas.entry(name).or_insert_with(|| json!([]));
            if let Value::Array(list) = list {
                list.push(place_of(process, addresses));
            }
        }
    }
    replicas
}

/// A process in the form that other processes' templates see.
fn place_of(process: &Process, addresses: &Addresses) -> Value {
    let address = addresses.processes.get(&process.name);
    json!({
        "name": process.name,
        "host": address.map(|address| &address.host),
        "ip": address.map(|address| &address.ip),
        "port": address.map(|address| &address.ports),
        "replica": process.replica,
        "rank": process.rank,
        "dp_rank": process.dp_rank,
    })
}

/// One engine option in the engine's command-line syntax: `true` becomes the bare flag, `false` its `--no-` form or nothing, a
/// list repeats its values, a table becomes JSON.
fn flag(options: &Options, name: &str, value: &Value) -> Vec<String> {
    let name = match options.spelling {
        Spelling::Kebab => name.replace('_', "-"),
        Spelling::Snake => name.replace('-', "_"),
    };
    match value {
        Value::Bool(true) => vec![format!("--{name}")],
        Value::Bool(false) => match options.when_false {
            WhenFalse::NoFlag => vec![format!("--no-{name}")],
            WhenFalse::Omit => Vec::new(),
        },
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
            assert_eq!(flag(&Options::default(), name, &value), expected);
        }
    }

    #[test]
    fn flags_of_engines_with_other_habits() {
        let options =
            Options { spelling: Spelling::Snake, when_false: WhenFalse::Omit, ..Options::default() };
        assert_eq!(flag(&options, "max-batch-size", &json!(8)), ["--max_batch_size", "8"]);
        assert_eq!(flag(&options, "enable_chunked_prefill", &json!(false)), Vec::<String>::new());
    }
}
