//! Errors in a launcher file that types cannot catch.

use regex::Regex;

use super::{Arg, Launcher, Placement, PortSpec, Ready, Role, Setting};
use crate::document::{Document, InputError, one_of};

/// Errors found so far, each with its place in the file.
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

    fn extend(&mut self, key: &str, problem: Option<String>) {
        problem.into_iter().for_each(|problem| self.add(key, problem));
    }

    /// Line of a key; a role is found by its number, because roles are a list in the file.
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

/// What the names of roles and their files look like, because logs, steps and files are named after them.
const FILE_NAME: &str = "letters, digits, `.`, `_` and `-`, beginning with a letter or a digit";

fn is_file_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    name.len() <= 100 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.bytes().all(is_plain)
}

impl Launcher {
    /// All its errors; `stem` is the name of its file.
    pub(super) fn problems(&self, document: &Document, stem: &str) -> Vec<InputError> {
        let roles = self.roles.iter().map(|role| role.name.as_str()).collect();
        let mut findings = Findings { document, roles, errors: Vec::new() };
        if self.schema != 1 {
            findings.add("schema", format!("found {}, expected 1", self.schema));
        }
        if self.name != stem {
            let found = format!("found {:?}, and the file is {stem}.toml: they must be equal", self.name);
            findings.add("name", found);
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
        if let (Some(table), None) = (&self.options.table, self.options.known_options()) {
            findings.add("options.table", format!("no table {table:?} of engine options"));
        }
        self.unknown_settings(&mut findings);
        for (name, setting) in &self.settings {
            let Setting { default, values, .. } = setting;
            let is_valid = default.as_str().is_none_or(|text| values.iter().any(|value| value == text));
            if !values.is_empty() && !is_valid {
                let problem = format!("{default} is none of {}", values.join(", "));
                findings.add(&format!("settings.{name}.default"), problem);
            }
        }
        findings.errors
    }

    /// Settings that templates read and the file does not declare: in a condition they would silently be false.
    fn unknown_settings(&self, findings: &mut Findings<'_>) {
        let Ok(reads) = Regex::new(r"\bsettings\.([A-Za-z0-9_]+)") else { return };
        let known: Vec<&str> = self.settings.keys().map(String::as_str).collect();
        for (number, line) in (1..).zip(findings.document.text.lines()) {
            let code = line.split_once('#').map_or(line, |(code, _)| code);
            if code.trim_start().starts_with('[') {
                continue;
            }
            for name in reads.captures_iter(code).filter_map(|found| found.get(1)) {
                let key = format!("settings.{}", name.as_str());
                let is_new = findings.errors.iter().all(|error| error.key.as_deref() != Some(&key));
                if !known.contains(&name.as_str()) && is_new {
                    let origin = format!("{}:{number}", findings.document.file);
                    let error = InputError::new(origin, "read by a template, and declared nowhere");
                    findings.errors.push(error.key(key).expected(one_of(&known, "no settings")));
                }
            }
        }
    }

    fn endpoint_problems(&self, findings: &mut Findings<'_>) {
        match (&self.endpoint.url, &self.endpoint.role, &self.endpoint.port) {
            (Some(_), None, None) => {}
            (None, Some(_), Some(port)) => {
                for name in self.endpoint_roles() {
                    match self.role(name) {
                        Some(role) => findings.extend("endpoint.port", no_port(role, port)),
                        None => findings.add("endpoint.role", format!("no role {name:?}")),
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
        if !is_file_name(&role.name) {
            findings.add(&format!("role.{}", role.name), format!("{:?} is no name: {FILE_NAME}", role.name));
        }
        for name in role.files.keys().filter(|name| !is_file_name(name)) {
            findings.add(&key("files"), format!("{name:?} is no name: {FILE_NAME}"));
        }
        if role.argv.is_empty() {
            findings.add(&key("argv"), "empty; the first entry is the program");
        }
        let mut placements =
            std::iter::once(role.placement).chain(role.placed.iter().map(|other| other.placement));
        if role.gpus && placements.any(|place| !place.is_per_replica() && place != Placement::Head) {
            findings.add(&key("gpus"), "GPUs belong to replicas; this placement has none");
        }
        let is_known = |name: &str| {
            let pools = self.roles.iter().flat_map(|role| &role.pools);
            self.role(name).is_some() || pools.into_iter().any(|pool| pool.as_str() == name)
        };
        for arg in &role.argv {
            if let Arg::Each { each, .. } = arg
                && !is_known(each)
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
            findings.extend(&key(&format!("ports.{name}")), stride_problem(port));
        }
        if let Some(page) = &role.metrics {
            findings.extend(&key("metrics.port"), no_port(role, &page.port));
        }
        self.ready_problems(role, findings);
    }

    fn ready_problems(&self, role: &Role, findings: &mut Findings<'_>) {
        let key = |part: &str| format!("role.{}.ready{part}", role.name);
        match &role.ready {
            None if self.endpoint_roles().any(|name| name == role.name) => {}
            None => {
                let next = "say what must be seen before this role counts as ready, e.g. ready = { tcp = { port = \"…\" } }";
                let error = InputError::new(findings.at(&key("")), "missing").key(key(""));
                findings.errors.push(error.expected("one of http, tcp, log, started").next(next));
            }
            Some(Ready::Tcp { port }) => findings.extend(&key(".tcp.port"), no_port(role, port)),
            Some(Ready::Http { role: other, port, json, entries, at_least, equals, .. }) => {
                match other.as_ref().map_or(Some(role), |name| self.role(name)) {
                    Some(role) => findings.extend(&key(".http.port"), no_port(role, port)),
                    None => {
                        let name = other.as_deref().unwrap_or_default();
                        findings.add(&key(".http.role"), format!("no role {name:?}"));
                    }
                }
                let compares = at_least.is_some() || equals.is_some();
                if json.is_none() && (compares || !entries.is_empty()) {
                    findings.add(&key(".http.json"), "missing: `where`, `at_least` and `equals` look at it");
                }
                if json.is_some() && !compares {
                    findings.add(&key(".http"), "`json` without `at_least` or `equals` says nothing");
                }
            }
            Some(Ready::Log { pattern }) => findings.pattern(&key(".log.pattern"), pattern),
            Some(Ready::Started {}) => {}
        }
    }
}

fn no_port(role: &Role, port: &str) -> Option<String> {
    (!role.ports.contains_key(port)).then(|| format!("role {:?} has no port {port:?}", role.name))
}

/// Why ports of two processes overlap, if they do and their numbers are no templates.
fn stride_problem(port: &PortSpec) -> Option<String> {
    overlap(port.count.parse().ok()?, port.stride.as_ref()?.parse().ok()?)
}

/// Why ports of `count` at a distance of `stride` overlap, if they do.
pub fn overlap(count: u32, stride: u32) -> Option<String> {
    (stride < count).then(|| {
        format!(
            "stride {stride} is less than count {count}: the ports of two processes on a node would overlap"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_becomes_a_path_leads_nowhere_else() {
        for name in ["server", "prefill-0", "Engine_1", "config.yaml", "0"] {
            assert!(is_file_name(name), "{name}");
        }
        let long = "x".repeat(101);
        for name in
            ["", ".", "..", "../../srv", "a/b", "/etc/passwd", ".hidden", "-x", "a b", "a\nb", "é", &long]
        {
            assert!(!is_file_name(name), "{name:?}");
        }
        let launcher = |role: &str, files: &str| {
            let text = format!(
                "schema = 1\nname = \"x\"\nsummary = \"s\"\n[endpoint]\nurl = \"http://h\"\n[[role]]\nname = {role:?}\n\
                 placement = \"head\"\nargv = [\"true\"]\n{files}"
            );
            let document = Document { file: "x.toml".into(), text };
            let problems = document.parse::<Launcher>().unwrap().problems(&document, "x");
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        assert!(!launcher("server", "").contains("is no name"));
        assert!(launcher("../../srv", "").contains("\"../../srv\" is no name"));
        assert!(launcher("server", "files = { \"../x\" = \"y\" }").contains("\"../x\" is no name"));
    }
}
