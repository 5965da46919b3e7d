//! Roles to processes: which node, which GPUs, how many tasks, which ports.

use std::collections::BTreeMap;

use super::packing::{Packing, ReplicaGpus, pack};
use super::sections::Deploy;
use crate::document::InputError;
use crate::launcher::{Launcher, Placement, PoolName, Role, Tasks, overlap};
use crate::plan::process::insert_process;
use crate::plan::{Deployment, Gpu, Pool, PortNeed, Process};
use crate::template::{self, Context};

/// Adds nodes and processes to a deployment that has pools and settings.
pub(super) fn lay_out(
    deployment: &mut Deployment,
    section: &Deploy,
    launcher: &Launcher,
    gpu: &Gpu,
) -> Result<(), InputError> {
    let mut packing = pack(section, launcher, &deployment.pools, gpu, 0)?;
    deployment.server_nodes = packing.server_nodes;
    check_conditions(launcher, deployment, gpu)?;
    let mut roles = present(launcher, deployment, gpu)?;
    let dedicated = roles.iter().filter(|role| role.placement == Placement::Dedicated).count();
    if dedicated > 0 {
        packing = pack(section, launcher, &deployment.pools, gpu, dedicated as u32)?;
        // Nodes of dedicated roles count for conditions too.
        deployment.server_nodes = packing.server_nodes;
        roles = present(launcher, deployment, gpu)?;
    }
    deployment.nodes = packing.nodes;
    let mut dedicated = packing.first_dedicated..;
    for role in &roles {
        if is_per_pool(role) {
            for pool in deployment.pools.iter().filter(|pool| role.pools.contains(&pool.name)) {
                let of_pool = |other: &&Role| other.pools.contains(&pool.name) && is_per_pool(other);
                let base = match pool.name {
                    PoolName::Aggregated => role.name.clone(),
                    name if roles.iter().filter(of_pool).count() == 1 => name.as_str().to_owned(),
                    name => format!("{}-{}", name.as_str(), role.name),
                };
                let processes = of_replicas(role, pool, &packing)?;
                let context = deployment.context(gpu, Some(pool));
                deployment.processes.extend(finished(processes, role, &base, &context)?);
            }
            continue;
        }
        let nodes: Vec<u32> = match role.placement {
            Placement::EachNode => (0..packing.nodes).collect(),
            Placement::Client => vec![0],
            Placement::Dedicated => dedicated.by_ref().take(1).collect(),
            _ => vec![packing.head],
        };
        let process =
            |(replica, node)| Process { replica, nodes: vec![node], dp_local: 1, ..blank(role, None) };
        let processes = (0..).zip(nodes).map(process).collect();
        let context = deployment.context(gpu, None);
        deployment.processes.extend(finished(processes, role, &role.name, &context)?);
    }
    Ok(())
}

fn is_per_pool(role: &Role) -> bool {
    role.placement.is_per_replica() || role.gpus
}

/// An error in the launcher file.
fn in_launcher(launcher: &str, problem: String) -> InputError {
    InputError::new("", format!("launcher{launcher}: {problem}"))
        .key("deploy.launcher")
        .next("correct the launcher file")
}

/// Checks the launcher's conditions for each pool.
fn check_conditions(launcher: &Launcher, deployment: &Deployment, gpu: &Gpu) -> Result<(), InputError> {
    for pool in &deployment.pools {
        let context = deployment.context(gpu, Some(pool));
        for require in &launcher.requires {
            let wrong = |problem: String| {
                let problem = format!("require {:?}: {problem}", require.that);
                in_launcher(&format!(" {:?}", launcher.name), problem)
            };
            if !template::truth(&require.that, &context).map_err(wrong)? {
                let problem = template::expand(&require.message, &context, false).map_err(wrong)?;
                let key = format!("deploy.{}{}", pool.name.prefix(), require.key);
                return Err(InputError::new("", problem).key(key));
            }
        }
    }
    Ok(())
}

/// The roles whose condition holds, each with the placement that holds.
fn present(launcher: &Launcher, deployment: &Deployment, gpu: &Gpu) -> Result<Vec<Role>, InputError> {
    let context = deployment.context(gpu, None);
    let mut roles = Vec::new();
    for role in &launcher.roles {
        let holds = |when: &String| {
            template::truth(when, &context).map_err(|problem| {
                let problem = format!("role.{}.when: {problem}", role.name);
                in_launcher(&format!(" {:?}", launcher.name), problem)
            })
        };
        if !role.when.as_ref().map_or(Ok(true), holds)? {
            continue;
        }
        let mut role = role.clone();
        for placed in &role.placed {
            if holds(&placed.when)? {
                role.placement = placed.placement;
                break;
            }
        }
        roles.push(role);
    }
    Ok(roles)
}

/// A process of a role, which has no place yet.
fn blank(role: &Role, pool: Option<PoolName>) -> Process {
    Process {
        name: String::new(),
        role: role.name.clone(),
        pool,
        index: 0,
        replica: 0,
        rank: 0,
        ranks: 1,
        follows: false,
        dp_rank: 0,
        dp_local: 0,
        nodes: Vec::new(),
        tasks: 1,
        gpus: Vec::new(),
        ports: BTreeMap::new(),
    }
}

/// The processes of a role with their names, numbers, tasks and ports.
fn finished(
    mut processes: Vec<Process>,
    role: &Role,
    base: &str,
    context: &Context,
) -> Result<Vec<Process>, InputError> {
    for (index, process) in (0..).zip(&mut processes) {
        process.index = index;
        process.name = match process.ranks {
            1 => format!("{base}-{}", process.replica),
            _ => format!("{base}-{}-r{}", process.replica, process.rank),
        };
        process.follows = process.rank > 0 && role.placement == Placement::EachReplicaNode;
        let tasks = match role.tasks {
            Tasks::One => process.nodes.len(),
            Tasks::PerGpu => process.nodes.len() * process.gpus.len().max(1),
        };
        process.tasks = tasks as u32;
        process.ports = ports(role, process, context)?;
    }
    Ok(processes)
}

/// Where the processes of a role run, for every replica of a pool.
fn of_replicas(role: &Role, pool: &Pool, packing: &Packing) -> Result<Vec<Process>, InputError> {
    let replicas = packing.of(pool.name);
    let replicas =
        if role.placement == Placement::Head { &replicas[..replicas.len().min(1)] } else { replicas };
    let mut processes = Vec::new();
    for (replica, place) in (0..).zip(replicas) {
        let of_replica = of_replica(role, pool, place)?;
        let ranks = of_replica.len() as u32;
        processes.extend((0..).zip(of_replica).map(|(rank, process)| {
            let gpus = if role.gpus { process.gpus } else { Vec::new() };
            Process { replica, rank, ranks, gpus, ..process }
        }));
    }
    Ok(processes)
}

/// How a replica is cut into processes.
fn of_replica(role: &Role, pool: &Pool, place: &ReplicaGpus) -> Result<Vec<Process>, InputError> {
    let ReplicaGpus { nodes, first_gpu, gpus_each } = place;
    let (first_gpu, gpus_each) = (*first_gpu, *gpus_each);
    let gpus = |from: u32, count: u32| -> Vec<u32> { (from..from + count).collect() };
    let first_node = || nodes.first().copied();
    let blank = || blank(role, Some(pool.name));
    let dp = pool.parallel.dp;
    let rank_gpus = pool.parallel.tp.saturating_mul(pool.parallel.pp).max(1);
    Ok(match role.placement {
        Placement::EachReplicaNode => {
            if dp > 1 && nodes.len() > 1 && !gpus_each.is_multiple_of(rank_gpus) {
                return Err(uneven(pool, rank_gpus, gpus_each));
            }
            // Ranks that fit on a node; one that spans nodes is the same on each of them.
            let dp_local = if gpus_each == 0 { dp } else { (gpus_each / rank_gpus).clamp(1, dp) };
            let on_node = |(at, node): (u32, &u32)| Process {
                nodes: vec![*node],
                gpus: gpus(first_gpu, gpus_each),
                dp_rank: at * dp_local % dp,
                dp_local,
                ..blank()
            };
            (0..).zip(nodes).map(on_node).collect()
        }
        Placement::EachRank | Placement::EachGpu => {
            let each_rank = role.placement == Placement::EachRank;
            let (count, each) = if each_rank { (dp, rank_gpus) } else { (dp * rank_gpus, 1) };
            if gpus_each > 0 && (each > gpus_each || !gpus_each.is_multiple_of(each)) {
                return Err(uneven(pool, each, gpus_each));
            }
            let per_node = gpus_each.checked_div(each).unwrap_or(count).max(1);
            let numbered = |at: u32| Process {
                nodes: nodes.get((at / per_node) as usize).copied().or_else(first_node).into_iter().collect(),
                gpus: gpus(first_gpu + at % per_node * each, if gpus_each == 0 { 0 } else { each }),
                dp_rank: if each_rank { at } else { at / rank_gpus },
                dp_local: 1,
                ..blank()
            };
            (0..count).map(numbered).collect()
        }
        _ => vec![Process {
            nodes: if role.gpus { nodes.clone() } else { first_node().into_iter().collect() },
            gpus: gpus(first_gpu, gpus_each),
            dp_local: dp,
            ..blank()
        }],
    })
}

/// Data-parallel ranks that would not fill a node evenly.
fn uneven(pool: &Pool, each: u32, on_node: u32) -> InputError {
    let problem = format!(
        "a data-parallel rank needs tp × pp = {} × {} = {each} GPUs, and {each} does not divide the {on_node} GPUs that a replica has on a node",
        pool.parallel.tp, pool.parallel.pp
    );
    InputError::new("", problem)
        .key(format!("deploy.{}tp", pool.name.prefix()))
        .next("choose tp × pp so that whole ranks fill a node")
}

/// The ports that a process needs, with their numbers computed.
fn ports(
    role: &Role,
    process: &Process,
    context: &Context,
) -> Result<BTreeMap<String, PortNeed>, InputError> {
    let mut context = context.clone();
    insert_process(&mut context, process);
    let mut needs = BTreeMap::new();
    for (name, spec) in &role.ports {
        let wrong = |problem: String| in_launcher("", format!("role.{}.ports.{name}: {problem}", role.name));
        let number = |text: &str| {
            let number = template::number(text, &context)?;
            u16::try_from(number)
                .ok()
                .filter(|number| *number > 0)
                .ok_or(format!("{number} is no number of ports"))
        };
        let count = number(&spec.count).map_err(wrong)?;
        let stride = spec.stride.as_deref().map_or(Ok(count), number).map_err(wrong)?;
        if let Some(problem) = overlap(count.into(), stride.into()) {
            return Err(wrong(problem));
        }
        needs.insert(name.clone(), PortNeed { base: spec.base, count, stride });
    }
    Ok(needs)
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
