//! The processes of the servers: CPU, memory, descriptors and sockets, a row per process.

use std::collections::BTreeMap;

use super::PointResult;
use super::parts::Part;
use super::table::{Table, maybe, number};
use crate::metrics::processes::{MemoryUse, ProcessView};

/// What the columns of the table are.
pub const ABOUT: &str = "In the measured windows, the highest of all load points: cores in use on average and between two samples; the \
                         busiest thread of the process that answers clients; resident memory; the limit of the cgroup, or the memory of \
                         the machine, and how much of it was in use; open descriptors and sockets. `summary.json` has them by load point.";

/// Rows for the processes that used most cores: `summary.json` has all of them.
const MOST: usize = 16;

/// A row per process; `None` without samples.
pub fn table(rows: &[PointResult]) -> Option<Table> {
    let mut deployments: BTreeMap<(&str, &str), Vec<&ProcessView>> = BTreeMap::new();
    for row in rows {
        let of = deployments.entry((&row.configuration, &row.deployment)).or_default();
        of.extend(&row.summary.processes);
    }
    deployments.retain(|_, views| !views.is_empty());
    let several = deployments.len() > 1;
    let mut found: Vec<(String, ProcessView)> = deployments
        .into_iter()
        .flat_map(|((configuration, deployment), views)| {
            let of = if several {
                format!("{configuration} {deployment}").trim().to_owned()
            } else {
                String::new()
            };
            ProcessView::highest(views).into_iter().map(move |view| (of.clone(), view))
        })
        .collect();
    if found.len() > MOST {
        found.sort_by(|a, b| {
            b.1.cpu_avg_cores.partial_cmp(&a.1.cpu_avg_cores).unwrap_or(std::cmp::Ordering::Equal)
        });
        found.truncate(MOST);
    }
    if found.is_empty() {
        return None;
    }
    let keys = ["deployment", "process", "node"].iter().skip(usize::from(!several));
    let mut table = Table::keyed(keys.map(|key| (*key).to_owned()).collect());
    let heads = ["cores", "max", "thread %", "RSS MiB", "limit MiB", "used %", "files", "of", "sockets"];
    table.head.extend(heads.map(str::to_owned));
    for (of, view) in found {
        let memory = view.memory.as_ref();
        let figures = [
            maybe(view.cpu_avg_cores),
            maybe(view.cpu_max_cores),
            maybe(view.front_busy.map(|share| 100.0 * share)),
            number(view.rss_max_mib),
            maybe(memory.map(|memory| memory.limit_mib)),
            maybe(memory.map(MemoryUse::share).map(|share| 100.0 * share)),
            view.open_files_max.to_string(),
            maybe(view.open_files_limit.map(|limit| limit as f64)),
            view.sockets_max.to_string(),
        ];
        let names = [of, view.process, view.node].into_iter().skip(usize::from(!several));
        table.push(names.chain(figures).collect());
    }
    Some(table)
}

/// The table and what it says.
pub(super) fn part(rows: &[PointResult]) -> Part {
    Part::table("Server processes", table(rows), ABOUT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::{point, run, sound};
    use crate::metrics::summary::{Context, summarize};

    fn row(deployment: &str, processes: Vec<ProcessView>) -> PointResult {
        let ran = run(sound());
        let mut summary = summarize(&point(), &ran, &ran.fold(), &Context::default());
        summary.processes = processes;
        PointResult {
            point: "isl100_osl10_con1".into(),
            series: "isl100_osl10".into(),
            deployment: deployment.into(),
            workload: "isl100_osl10".into(),
            model: String::new(),
            configuration: String::new(),
            axes: Vec::new(),
            gpus: 0,
            price: None,
            summary,
        }
    }

    fn view(cores: f64, rss_max_mib: f64) -> ProcessView {
        let memory = MemoryUse { of: "/job_7".into(), used_mib: 250.0, limit_mib: 1000.0, is_clients: false };
        ProcessView {
            process: "server-0".into(),
            node: "n1".into(),
            cpu_avg_cores: Some(cores),
            rss_max_mib,
            memory: Some(memory),
            open_files_max: 12,
            open_files_limit: Some(1024),
            ..ProcessView::default()
        }
    }

    #[test]
    fn a_process_has_a_row_with_the_highest_figures_of_its_load_points() {
        let found = table(&[row("", vec![view(1.5, 200.0)]), row("", vec![view(0.5, 300.0)])]).unwrap();
        let expected = ["server-0", "n1", "1.50", "N/A", "N/A", "300", "1,000", "25.0", "12", "1,024", "0"];
        assert_eq!(found.rows, [expected.map(str::to_owned).to_vec()]);
        assert!(found.fitted(&[0, 1], 80).lines().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn deployments_are_told_apart_and_servers_of_others_have_no_table() {
        let found = table(&[row("tp1", vec![view(1.0, 1.0)]), row("tp2", vec![view(2.0, 1.0)])]).unwrap();
        assert_eq!(found.rows.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), ["tp1", "tp2"]);
        assert!(table(&[row("", Vec::new())]).is_none());
    }
}
