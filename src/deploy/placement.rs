//! Decides inside the job where each process of a deployment runs: node addresses, free ports, visible GPUs.
//!
//! One step runs `tokmark node` on every other node. Answers and error output go to separate files, so that they cannot be mixed
//! up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::{DeployError, Place, Setup, log, ports, spawn};
use crate::document::InputError;
use crate::experiment::event::{self, Event};
use crate::node::{self, PortQuery, Query, Report, processes};
use crate::plan::port_map::{self, NoPort, PortMap};
use crate::plan::{Deployment, PortNeed, Process};
use crate::render::{self, Address, Addresses, Placed};
use crate::slurm::srun;

/// Longest wait for the answers of the nodes.
const NODES_TIMEOUT: Duration = Duration::from_secs(120);

/// Where the processes of a deployment run.
pub struct Placement<'a> {
    pub setup: &'a Setup<'a>,
    pub addresses: Addresses,
    /// `CUDA_VISIBLE_DEVICES` of each node.
    pub visible: Vec<Option<String>>,
    /// Locks on ports of this machine, held until drop.
    #[expect(dead_code, reason = "held, never read")]
    pub leases: ports::Leases,
}

impl Placement<'_> {
    /// The deployment with its addresses, as templates see it.
    pub fn placed(&self) -> Placed<'_> {
        Placed { plan: self.setup.plan, deployment: self.setup.deployment, addresses: &self.addresses }
    }
}

/// Decides addresses and ports.
///
/// # Errors
/// Too few nodes, a node that does not answer, missing GPUs, no free port.
pub async fn decide<'a>(setup: &'a Setup<'a>, avoid: &BTreeSet<u16>) -> Result<Placement<'a>, DeployError> {
    let Setup { plan, deployment, place, folders, tokmark, .. } = setup;
    let nodes = place.nodes();
    if nodes.len() < deployment.nodes as usize {
        return Err(DeployError::TooFewNodes { have: nodes.len(), need: deployment.nodes });
    }
    let nodes = &nodes[..deployment.nodes.max(1) as usize];
    let spread = ports::spread(plan, place);
    let fixed = render::fixed_port(plan, deployment);
    let queries = port_queries(&deployment.processes, spread);
    let reports = match nodes {
        [_] if place.is_on_first() => Vec::new(),
        _ => query_nodes(setup, nodes, &queries).await?,
    };
    let visible: Vec<Option<String>> = match reports.as_slice() {
        [] => vec![std::env::var("CUDA_VISIBLE_DEVICES").ok()],
        reports => reports.iter().map(|report| report.cuda_visible_devices.clone()).collect(),
    };
    enough_gpus(setup, nodes, &visible)?;
    let addresses = addresses(plan.network.as_deref(), nodes, &reports, place)?;
    if let Some((process, _, port)) = fixed
        && let Some(host) = node_of(deployment, process, nodes)
        && place.is_here(host)
    {
        ports::must_be_free(host, port)?;
    }
    let free: Vec<BTreeSet<u16>> = reports.iter().map(|report| free_ports(&queries, report)).collect();
    let mut leases = ports::Leases::default();
    let mut is_free = |node: u32, port: u16| {
        let listed = free.get(node as usize).is_none_or(|free| free.contains(&port));
        let here = nodes.get(node as usize).filter(|name| place.is_here(name));
        let mut tried = |name: &String| is_bindable(place, name, port) && leases.take(port);
        listed && !avoid.contains(&port) && here.is_none_or(&mut tried)
    };
    let map = port_map::assign(&deployment.processes, fixed, spread, &mut is_free)
        .map_err(|none| no_port(&none, nodes))?;
    leases.keep(&chosen(deployment, &map));
    if let Place::Local = place {
        name_left_behind(setup, &map);
    }
    let processes = deployment.processes.iter().map(|process| {
        let at = process.nodes.first().map_or(0, |node| *node as usize);
        let (host, ip) = addresses.get(at).cloned().unwrap_or_default();
        (
            process.name.clone(),
            Address { host, ip, ports: map.get(&process.name).cloned().unwrap_or_default() },
        )
    });
    let run_id = format!("{}{}", place.run_id(), if avoid.is_empty() { "" } else { "-again" });
    Ok(Placement {
        setup,
        addresses: Addresses {
            tokmark: (*tokmark).to_owned(),
            run_dir: folders.run.display().to_string(),
            log_dir: folders.logs.display().to_string(),
            scratch_dir: std::env::temp_dir().join(&run_id).display().to_string(),
            run_id,
            nodes: nodes.to_vec(),
            processes: processes.collect(),
        },
        visible,
        leases,
    })
}

/// Whether a server could listen on a port of this node; in a job on any address, because a server may use any.
fn is_bindable(place: &Place, host: &str, port: u16) -> bool {
    let everywhere = || TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, port)).is_ok();
    TcpListener::bind((host, port)).is_ok() && (matches!(place, Place::Local) || everywhere())
}

/// Every port assigned to a process.
fn chosen(deployment: &Deployment, map: &PortMap) -> BTreeSet<u16> {
    let of_process = |process: &Process| -> Vec<u16> {
        let ports = map.get(&process.name);
        let firsts = process.ports.iter().filter_map(|(name, need)| Some((*ports?.get(name)?, need.count)));
        firsts.flat_map(|(first, count)| (0..count).map(move |more| first.saturating_add(more))).collect()
    };
    deployment.processes.iter().flat_map(of_process).collect()
}

/// Names the servers that earlier runs left behind on ports that this one would have preferred.
fn name_left_behind(setup: &Setup<'_>, map: &PortMap) {
    for process in &setup.deployment.processes {
        let taken = |(name, need): (&String, &PortNeed)| {
            let moved = map.get(&process.name).is_some_and(|ports| ports.get(name) != Some(&need.base));
            moved.then_some(need.base)
        };
        for port in process.ports.iter().filter_map(taken) {
            let Some(pid) = processes::holder(port) else { continue };
            let log = std::fs::read_link(format!("/proc/{pid}/fd/1")).unwrap_or_default();
            let dir = log.parent().filter(|logs| logs.ends_with("server_logs")).and_then(Path::parent);
            let Some(dir) = dir else { continue };
            let started = event::read(dir).into_iter().rev().find_map(|stamped| match stamped.event {
                Event::Started { pid, .. } => Some(pid),
                _ => None,
            });
            if started.is_some_and(|run| processes::Process::of(run).is_none()) {
                let experiment = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let command = processes::command(pid);
                setup.events.emit(Event::LeftBehind { port, pid, command, experiment });
            }
        }
    }
}

fn node_of<'a>(deployment: &Deployment, process: &str, nodes: &'a [String]) -> Option<&'a String> {
    let process = deployment.processes.iter().find(|known| known.name == process)?;
    nodes.get(*process.nodes.first()? as usize)
}

fn no_port(none: &NoPort, nodes: &[String]) -> DeployError {
    let host = nodes.get(none.node as usize).map_or("the node", String::as_str);
    DeployError::Input(
        InputError::new(
            host,
            format!(
                "{} needs {} free port(s) for {:?}, and there are none from {} to {}",
                none.process, none.count, none.port, none.tried.0, none.tried.1
            ),
        )
        .next("free some ports on the node, or set deploy.port"),
    )
}

/// Name or address of each node, and its IPv4 address.
fn addresses(
    network: Option<&str>,
    nodes: &[String],
    reports: &[Report],
    place: &Place,
) -> Result<Vec<(String, String)>, DeployError> {
    if matches!(place, Place::Local) {
        return Ok(nodes.iter().map(|node| (node.clone(), node.clone())).collect());
    }
    let own;
    let reports = if reports.is_empty() {
        own = [node::report(&Query {
            names: nodes.to_vec(),
            interface: network.map(str::to_owned),
            ..Query::default()
        })];
        &own
    } else {
        reports
    };
    let mut addresses = Vec::new();
    for (at, (node, report)) in nodes.iter().zip(reports).enumerate() {
        if let Some(interface) = network {
            let ip = report.address.clone().ok_or_else(|| {
                let known: Vec<&str> =
                    report.addresses.iter().map(|address| address.interface.as_str()).collect();
                DeployError::Input(
                    InputError::new(node, format!("interface {interface:?} has no IPv4 address"))
                        .key("network.interface")
                        .expected(format!("one of {}", known.join(", ")))
                        .next("correct network.interface in the site file"),
                )
            })?;
            addresses.push((ip.clone(), ip));
            continue;
        }
        // A host often resolves itself to 127.0.1.1. Another node knows better; if they disagree, the name cannot serve as
        // address.
        let other = if at == 0 { reports.get(1) } else { reports.first() };
        let resolved = |report: &Report| report.resolved.get(node).cloned().flatten();
        let ip = resolved(other.unwrap_or(report)).ok_or_else(|| {
            DeployError::Input(InputError::new(node, "its name cannot be resolved by the other nodes").next(
                "set network.interface in the site file to the interface whose addresses the nodes reach",
            ))
        })?;
        let agreed = reports.iter().all(|report| resolved(report).as_ref() == Some(&ip));
        addresses.push((if agreed { node.clone() } else { ip.clone() }, ip));
    }
    Ok(addresses)
}

/// Whether every process finds its GPUs. Unknown unless something restricts the visible ones.
fn enough_gpus(setup: &Setup<'_>, nodes: &[String], visible: &[Option<String>]) -> Result<(), DeployError> {
    if matches!(setup.place, Place::Local) {
        return Ok(());
    }
    for process in &setup.deployment.processes {
        let Some(last) = process.gpus.iter().max() else { continue };
        let lists: BTreeSet<_> =
            process.nodes.iter().filter_map(|node| visible.get(*node as usize)).collect();
        let first = lists.iter().next().and_then(|list| list.as_deref()).unwrap_or_default();
        if lists.len() > 1 && first.split(',').count() != process.gpus.len() {
            return Err(DeployError::Input(
                InputError::new(
                    &process.name,
                    format!("its nodes have different GPUs for this job: {lists:?}"),
                )
                .expected("whole nodes for a step over several of them")
                .next("submit with slurm.exclusive = true"),
            ));
        }
        for node in &process.nodes {
            let Some(list) = visible.get(*node as usize).and_then(Option::as_ref) else { continue };
            let have = list.split(',').filter(|gpu| !gpu.trim().is_empty()).count();
            if have <= *last as usize {
                let host = nodes.get(*node as usize).cloned().unwrap_or_default();
                return Err(DeployError::Input(
                    InputError::new(host, format!("the job has {have} GPUs there ({list}), {} needs number {last}", process.name))
                        .expected(format!("{} GPUs", last + 1))
                        .next("submit with the script's own directives, or correct gpus.TYPE.per_node and slurm.gres in the site file"),
                ));
            }
        }
    }
    Ok(())
}

/// Every port that a node reports as free.
fn free_ports(queries: &[PortQuery], report: &Report) -> BTreeSet<u16> {
    let ranges = queries.iter().zip(&report.free);
    ranges
        .flat_map(|(query, starts)| {
            starts.iter().flat_map(|start| (0..query.count).map(|more| start.saturating_add(more)))
        })
        .collect()
}

/// One query per kind of port. Each asks for more ports than processes, because kinds may overlap.
fn port_queries(processes: &[Process], spread: u16) -> Vec<PortQuery> {
    let mut kinds: BTreeMap<(u16, u16, u16), u16> = BTreeMap::new();
    for need in processes.iter().flat_map(|process| process.ports.values()) {
        *kinds.entry((need.base.saturating_add(spread), need.count, need.stride)).or_default() += 1;
    }
    kinds
        .into_iter()
        .map(|((base, count, stride), processes)| PortQuery {
            base,
            count,
            stride,
            want: processes.saturating_mul(2) + 8,
        })
        .collect()
}

/// Queries every node.
async fn query_nodes(
    setup: &Setup<'_>,
    nodes: &[String],
    queries: &[PortQuery],
) -> Result<Vec<Report>, DeployError> {
    let Setup { plan, folders, tokmark, .. } = setup;
    let query = Query {
        names: nodes.to_vec(),
        ports: queries.to_vec(),
        interface: plan.network.clone(),
        ..Query::default()
    };
    let attempt = std::process::id();
    let answers = folders.run.join(format!("nodes-{attempt}.json"));
    let errors = folders.run.join(format!("nodes-{attempt}.log"));
    let argv = [(*tokmark).to_owned(), "node".into(), query.to_arg()];
    let output = srun::StepOutput::PerTask(answers.clone());
    let step = srun::Step::new("tokmark-nodes", nodes, output, &argv);
    let step = srun::Step { error: Some(errors.clone()), extra: plan.job.srun.clone(), ..step };
    let replaces_twice = setup.place.allocation().is_some_and(|allocation| allocation.replaces_twice);
    let argv = srun::Step { replaces_twice, ..step }.to_argv();
    let mut command = Command::new("srun");
    command
        .args(&argv[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    spawn::clear(&mut command, &plan.job.clear_env);
    let failed = |problem: String, printed: &str| DeployError::Nodes {
        problem,
        output: format!("{}\n{printed}", log::tail(&errors, 10)).trim().to_owned(),
        tokmark: (*tokmark).to_owned(),
    };
    let late = |_| failed(format!("no answer within {} s", NODES_TIMEOUT.as_secs()), "");
    let output = tokio::time::timeout(NODES_TIMEOUT, command.output()).await.map_err(late)??;
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(failed(format!("the step ended with {}", output.status), &printed));
    }
    let mut reports = Vec::new();
    for (task, node) in nodes.iter().enumerate() {
        let path = srun::task_log(&answers.display().to_string(), &task.to_string());
        let report = read_report(Path::new(&path));
        reports.push(report.ok_or_else(|| failed(format!("no answer from {node} in {path}"), &printed))?);
    }
    // Slurm places tasks in the allocation's order; an answer from the wrong node would swap addresses.
    for (node, report) in nodes.iter().zip(&reports) {
        let short = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
        let known = report.node.as_deref().unwrap_or(&report.host);
        if short(known) != short(node) {
            return Err(failed(format!("{known} answered for {node}"), &printed));
        }
    }
    Ok(reports)
}

/// Finds the report in a file that may hold other lines, because a site's task prolog prints to the same file.
fn read_report(path: &Path) -> Option<Report> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().rev().find_map(|line| serde_json::from_str(line).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::slurm::Slurm;

    fn place(nodes: &[String]) -> Place {
        Place::Allocation(Box::new(super::super::place::Allocation {
            job: "7".parse().unwrap(),
            nodes: nodes.to_vec(),
            restarts: 0,
            cluster: None,
            submitted: None,
            replaces_twice: false,
            slurm: Slurm::default(),
            on_first: true,
            run: None,
        }))
    }

    fn report(resolved: &[(&str, &str)]) -> Report {
        let mut report = node::report(&Query::default());
        report.resolved =
            resolved.iter().map(|(name, ip)| ((*name).to_owned(), Some((*ip).to_owned()))).collect();
        report
    }

    /// Debian's installer writes `127.0.1.1 HOST` into every /etc/hosts.
    #[test]
    fn a_node_known_to_itself_as_loopback_gets_its_routable_address() {
        let nodes = ["n1".to_owned(), "n2".to_owned()];
        let reports = [
            report(&[("n1", "127.0.1.1"), ("n2", "10.0.0.2")]),
            report(&[("n1", "10.0.0.1"), ("n2", "10.0.0.2")]),
        ];
        let found = addresses(None, &nodes, &reports, &place(&nodes)).unwrap();
        let pair = |host: &str, ip: &str| (host.to_owned(), ip.to_owned());
        assert_eq!(found, [pair("10.0.0.1", "10.0.0.1"), pair("n2", "10.0.0.2")]);
    }
}
