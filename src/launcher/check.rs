//! What a launcher file needs beside correct types.

use regex::Regex;

use super::{Arg, Launcher, Placement, PoolName, PortSpec, Ready, Role};
use crate::document::{Document, InputError};

/// Collects what is wrong, each with its place in the file.
struct Findings<'a> {
    document: &'a Document,
    roles: Vec<&'a str>,
    errors: Vec<InputError>,
}

impl Findings<'_> {
    fn add(&mut self, key: &str, problem: impl Into<String>) {
        let at = self.at(key);
        self.errors.push(InputError::new(at, problem).key(key));
    }

    /// Where a key is: a role's is found by its number, since roles are a list in the file.
    fn at(&self, key: &str) -> String {
        let numbered = self.roles.iter().enumerate().find_map(|(index, role)| {
            let rest = key.strip_prefix(&format!("role.{role}"))?;
            (rest.is_empty() || rest.starts_with('.')).then(|| format!("role[{}]{rest}", index + 1))
        });
        self.document.at(numbered.as_deref().unwrap_or(key))
    }

    fn pattern(&mut self, key: &str, pattern: &str) {
        if let Err(error) = Regex::new(pattern) {
            self.add(key, format!("{pattern:?} is no regular expression: {error}"));
        }
    }
}

impl Launcher {
    /// Everything that is wrong with it; `stem` is the name of its file.
    pub(super) fn problems(&self, document: &Document, stem: &str) -> Vec<InputError> {
        let roles = self.roles.iter().map(|role| role.name.as_str()).collect();
        let mut findings = Findings { document, roles, errors: Vec::new() };
        if self.schema != 1 {
            findings.add("schema", format!("found {}, expected 1", self.schema));
        }
        if self.name != stem {
            findings.add(
                "name",
                format!("found {:?}, and the file is {stem}.toml: they must be equal", self.name),
            );
        }
        self.endpoint_problems(&mut findings);
        for (index, role) in self.roles.iter().enumerate() {
            self.role_problems(index, role, &mut findings);
        }
        for pattern in &self.progress {
            findings.pattern("progress", pattern);
        }
        for fatal in &self.fatal {
            findings.pattern("fatal.pattern", &fatal.pattern);
        }
        self.unknown_settings(&mut findings);
        for (name, setting) in &self.settings {
            let of_values =
                setting.default.as_str().is_none_or(|text| setting.values.iter().any(|v| v == text));
            if !setting.values.is_empty() && !of_values {
                findings.add(
                    &format!("settings.{name}.default"),
                    format!("{} is none of {}", setting.default, setting.values.join(", ")),
                );
            }
        }
        findings.errors
    }

    /// Settings that templates read and nobody declared: in a condition they would silently be false.
    fn unknown_settings(&self, findings: &mut Findings<'_>) {
        let Ok(reads) = Regex::new(r"\bsettings\.([A-Za-z0-9_]+)") else { return };
        let mut reported = std::collections::BTreeSet::new();
        for (number, line) in findings.document.text.lines().enumerate() {
            let code = line.split_once('#').map_or(line, |(code, _)| code);
            if code.trim_start().starts_with('[') {
                continue;
            }
            for name in reads.captures_iter(code).filter_map(|found| found.get(1)) {
                if !self.settings.contains_key(name.as_str()) && reported.insert(name.as_str().to_owned()) {
                    let origin = format!("{}:{}", findings.document.file, number + 1);
                    let key = format!("settings.{}", name.as_str());
                    let known = self.settings.keys().cloned().collect::<Vec<_>>().join(", ");
                    findings.errors.push(
                        InputError::new(origin, "read by a template, and declared nowhere")
                            .key(key)
                            .expected(if known.is_empty() {
                                "no settings".into()
                            } else {
                                format!("one of {known}")
                            }),
                    );
                }
            }
        }
    }

    fn endpoint_problems(&self, findings: &mut Findings<'_>) {
        match (&self.endpoint.url, &self.endpoint.role, &self.endpoint.port) {
            (Some(_), None, None) => {}
            (None, Some(_), Some(port)) => {
                for role in self.endpoint_roles() {
                    match self.role(role) {
                        Some(found) if found.ports.contains_key(port) => {}
                        Some(_) => {
                            findings.add("endpoint.port", format!("role {role:?} has no port {port:?}"))
                        }
                        None => findings.add("endpoint.role", format!("no role {role:?}")),
                    }
                }
            }
            _ => findings.add("endpoint", "give either `url`, or `role` and `port`"),
        }
    }

    fn role_problems(&self, index: usize, role: &Role, findings: &mut Findings<'_>) {
        let earlier = &self.roles[..index];
        let key = |part: &str| format!("role.{}.{part}", role.name);
        if earlier.iter().any(|other| other.name == role.name) {
            findings.add(&format!("role.{}", role.name), "a second role of this name");
        }
        if role.argv.is_empty() {
            findings.add(&key("argv"), "empty; the first entry is the program");
        }
        let placements =
            || std::iter::once(role.placement).chain(role.placed.iter().map(|placed| placed.placement));
        if role.gpus && placements().any(|place| !place.is_per_replica() && place != Placement::Head) {
            findings.add(&key("gpus"), "GPUs belong to replicas; this placement has none");
        }
        for arg in &role.argv {
            if let Arg::Each { each, .. } = arg
                && !self
                    .roles
                    .iter()
                    .any(|other| other.name == *each || other.pools.iter().any(|p| p.as_str() == each))
            {
                findings.add(&key("argv"), format!("no role or pool {each:?}"));
            }
        }
        for name in role.after.iter().flatten() {
            if !earlier.iter().any(|other| other.name == *name) {
                findings.add(&key("after"), format!("no earlier role {name:?}"));
            }
        }
        for (name, port) in &role.ports {
            if let Some(problem) = stride_problem(port) {
                findings.add(&key(&format!("ports.{name}")), problem);
            }
        }
        if let Some(page) = role.metrics.as_ref().filter(|page| !role.ports.contains_key(&page.port)) {
            findings.add(&key("metrics.port"), format!("role {:?} has no port {:?}", role.name, page.port));
        }
        self.ready_problems(role, findings);
    }

    fn ready_problems(&self, role: &Role, findings: &mut Findings<'_>) {
        let key = |part: &str| format!("role.{}.ready{part}", role.name);
        let serves = self.endpoint_roles().any(|name| name == role.name);
        let no_port = |port: &str, role: &Role| {
            (!role.ports.contains_key(port)).then(|| format!("role {:?} has no port {port:?}", role.name))
        };
        let mut problems = Vec::new();
        match &role.ready {
            None if serves => {}
            None => findings.errors.push(
                InputError::new(findings.at(&key("")), "missing")
                    .key(key(""))
                    .expected("one of http, tcp, log, started")
                    .next("say what must be seen before this role counts as ready, e.g. ready = { tcp = { port = \"…\" } }"),
            ),
            Some(Ready::Tcp { port }) => problems.extend(no_port(port, role).map(|text| (".tcp.port", text))),
            Some(Ready::Http { role: other, port, json, entries, at_least, equals, .. }) => {
                let asked = other.as_ref().map_or(Some(role), |name| self.role(name));
                match asked {
                    Some(asked) => problems.extend(no_port(port, asked).map(|text| (".http.port", text))),
                    None => problems.push((".http.role", format!("no role {:?}", other.as_deref().unwrap_or("")))),
                }
                let about_json = !entries.is_empty() || at_least.is_some() || equals.is_some();
                if json.is_none() && about_json {
                    problems.push((".http.json", "missing: `where`, `at_least` and `equals` look at it".into()));
                }
                if json.is_some() && at_least.is_none() && equals.is_none() {
                    problems.push((".http", "`json` without `at_least` or `equals` says nothing".into()));
                }
            }
            Some(Ready::Log { pattern }) => findings.pattern(&key(".log.pattern"), pattern),
            Some(Ready::Started {}) => {}
        }
        for (part, problem) in problems {
            findings.add(&key(part), problem);
        }
    }
}

/// Ports of two processes that would overlap, as far as the numbers are written out.
fn stride_problem(port: &PortSpec) -> Option<String> {
    let (count, stride) = (port.count.parse::<u32>().ok()?, port.stride.as_ref()?.parse::<u32>().ok()?);
    overlap(count, stride)
}

/// Why ports of `count` at a distance of `stride` overlap, if they do.
pub fn overlap(count: u32, stride: u32) -> Option<String> {
    (stride < count).then(|| {
        format!(
            "stride {stride} is less than count {count}: the ports of two processes on a node would overlap"
        )
    })
}

impl Launcher {
    /// Whether a pool's replicas get GPUs from any role.
    pub fn uses_gpus(&self, pool: PoolName) -> bool {
        self.roles.iter().any(|role| role.gpus && role.pools.contains(&pool))
    }
}
