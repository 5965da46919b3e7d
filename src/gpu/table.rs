//! Tables that the vendors' programs print as CSV, in neutral roles. Which column means what is data: `launchers/metrics/gpus.toml`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::metrics::gpus::{Reading, throttle};

/// Names by role.
type Names = BTreeMap<String, Vec<String>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sources {
    pub dcgm: DcgmNames,
    pub tool: Vec<ToolSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DcgmNames {
    #[serde(default)]
    pub scale: BTreeMap<String, f64>,
    pub roles: Names,
}

/// A program that prints a table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ToolSpec {
    pub name: String,
    pub argv: Vec<String>,
    /// It goes on printing by itself.
    #[serde(default)]
    pub follows: bool,
    /// Arguments that list the GPUs and their MIG instances.
    #[serde(default)]
    pub list: Vec<String>,
    /// Arguments that list the processes on the GPUs: UUID, PID, name.
    #[serde(default)]
    pub processes: Vec<String>,
    #[serde(default)]
    pub scale: BTreeMap<String, f64>,
    pub roles: Names,
}

static SOURCES: LazyLock<Sources> =
    LazyLock::new(|| toml::from_str(include_str!("../../launchers/metrics/gpus.toml")).unwrap_or_default());

pub(super) fn sources() -> &'static Sources {
    &SOURCES
}

/// The head of a table: which column has which role.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Head(BTreeMap<String, usize>);

/// A row: one GPU.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Row {
    pub index: u32,
    pub uuid: Option<String>,
    pub name: Option<String>,
    pub mig: bool,
    pub reading: Reading,
}

impl Head {
    /// The roles of a head line; `None` if it is none.
    pub(super) fn of(spec: &ToolSpec, line: &str) -> Option<Self> {
        let columns = cells(line);
        // `power.draw [W]`
        let plain =
            |column: &String| column.rsplit_once(" [").map_or(column.as_str(), |(name, _)| name).to_owned();
        let place = |names: &Vec<String>| {
            names
                .iter()
                .find_map(|name| columns.iter().position(|column| column == name || plain(column) == *name))
        };
        let roles = spec.roles.iter().filter_map(|(role, names)| Some((role.clone(), place(names)?)));
        let roles: BTreeMap<String, usize> = roles.collect();
        roles.contains_key("index").then_some(Self(roles))
    }

    /// Reads a row; `None` if it is none, such as a head that is repeated.
    pub(super) fn row(&self, spec: &ToolSpec, line: &str) -> Option<Row> {
        let cells = cells(line);
        let cell =
            |role: &str| cells.get(*self.0.get(role)?).map(String::as_str).filter(|cell| is_known(cell));
        let index = cell("index")?;
        let index = index.trim_start_matches(|letter: char| !letter.is_ascii_digit()).parse().ok()?;
        let mut row = Row {
            index,
            uuid: cell("uuid").map(str::to_owned),
            name: cell("name").map(str::to_owned),
            mig: cell("mig") == Some("Enabled"),
            ..Row::default()
        };
        for role in self.0.keys() {
            let scale = spec.scale.get(role).copied().unwrap_or(1.0);
            let Some(cell) = cell(role) else { continue };
            match role.as_str() {
                "throttle" => row.reading.throttle = reasons(cell),
                role => row.reading.set(role, number(cell).map_or(f64::NAN, |value| value * scale)),
            }
        }
        Some(row.without_nonsense())
    }
}

impl Row {
    /// Figures that were no numbers are not known.
    fn without_nonsense(mut self) -> Self {
        let reading = &mut self.reading;
        for figure in [
            &mut reading.util_pct,
            &mut reading.mem_used_mib,
            &mut reading.mem_total_mib,
            &mut reading.temp_c,
            &mut reading.power_w,
            &mut reading.power_limit_w,
            &mut reading.energy_j,
            &mut reading.sm_mhz,
            &mut reading.sm_max_mhz,
            &mut reading.mem_mhz,
        ] {
            *figure = figure.filter(|value| value.is_finite());
        }
        self
    }
}

/// `[N/A]`, `[Not Supported]`, `[Unknown Error]`, `[GPU is lost]`, `N/A`: no figure.
fn is_known(cell: &str) -> bool {
    !cell.is_empty() && !cell.starts_with('[') && !cell.eq_ignore_ascii_case("n/a") && cell != "None"
}

/// The first number of `312.50 W`, `(1502Mhz)`, `66`.
fn number(cell: &str) -> Option<f64> {
    let start = cell.find(|letter: char| letter.is_ascii_digit() || letter == '-')?;
    let rest = &cell[start..];
    let end = rest
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.' && letter != '-')
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// The bits of `0x0000000000000004`; AMD's word says whether, not why.
fn reasons(cell: &str) -> Option<u64> {
    match cell {
        "THROTTLED" => Some(throttle::UNNAMED),
        "UNTHROTTLED" => Some(0),
        cell => u64::from_str_radix(cell.strip_prefix("0x")?, 16).ok(),
    }
}

/// The cells of a line of CSV; quotes may hold commas.
pub(super) fn cells(line: &str) -> Vec<String> {
    let (mut all, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    for letter in line.trim_end_matches(['\r', '\n']).chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(std::mem::take(&mut cell).trim().to_owned()),
            letter => cell.push(letter),
        }
    }
    all.push(cell.trim().to_owned());
    all
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
