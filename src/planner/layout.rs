//! Roles to processes: which node, which GPUs, how many tasks, which ports.

use std::collections::BTreeMap;

use super::packing::{Apart, Misfit, Packing, ReplicaGpus, pack};
use crate::launcher::{Launcher, Placement, PoolName, Role, Tasks, overlap};
use crate::plan::facts::Facts;
use crate::plan::process::insert_process;
use crate::plan::{Gpu, Pool, PortNeed, Process};
use crate::template::{self, Context};

/// Nodes and processes of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// Nodes in all.
    pub nodes: u32,
    /// Nodes with servers on them.
    pub server_nodes: u32,
    /// Its processes, in start order.
    pub processes: Vec<Process>,
}

/// Lays out a deployment, or says why it does not fit.
///
/// # Errors
/// A topology that does not fit the nodes or GPUs, a condition of the launcher that does not hold, a template that does
/// not render.
pub(super) fn lay_out(
    launcher: &Launcher,
    facts: &Facts<'_>,
    gpu: &Gpu,
    apart: Apart,
) -> Result<Layout, Misfit> {
    let first = pack(launcher, facts.pools, gpu, apart, 0)?;
    let facts = Facts { nodes: first.server_nodes, ..facts.clone() };
    hold(launcher, &facts)?;
    let roles = present(launcher, &facts)?;
    let dedicated = roles.iter().filter(|role| role.placement == Placement::Dedicated).count();
    let packing =
        if dedicated == 0 { first } else { pack(launcher, facts.pools, gpu, apart, dedicated as u32)? };
    // Nodes of dedicated roles count for conditions too.
    let facts = Facts { nodes: packing.server_nodes, ..facts };
    let roles = if dedicated == 0 { roles } else { present(launcher, &facts)? };
    let mut next_dedicated = packing.first_dedicated;
    let mut processes = Vec::new();
    for role in &roles {
        if role.placement.is_per_replica() || role.gpus {
            for pool in facts.pools.iter().filter(|pool| role.pools.contains(&pool.name)) {
                let alone = roles
                    .iter()
                    .filter(|other| other.pools.contains(&pool.name) && is_of_pool(other))
                    .count()
                    == 1;
                of_pool(role, pool, &packing, alone, &facts, &mut processes)?;
            }
            continue;
        }
        let nodes: Vec<u32> = match role.placement {
            Placement::EachNode => (0..packing.nodes).collect(),
            Placement::Client => vec![packing.client],
            Placement::Dedicated => {
                next_dedicated += 1;
                vec![next_dedicated - 1]
            }
            _ => vec![packing.head],
        };
        for (index, node) in nodes.into_iter().enumerate() {
            let index = index as u32;
            let mut process = Process {
                name: format!("{}-{index}", role.name),
                role: role.name.clone(),
                pool: None,
                index,
                replica: index,
                rank: 0,
                ranks: 1,
                follows: false,
                dp_rank: 0,
                dp_local: 1,
                nodes: vec![node],
                tasks: 1,
                gpus: Vec::new(),
                ports: BTreeMap::new(),
            };
            process.ports = ports(role, &process, &facts.context(None))?;
            processes.push(process);
        }
    }
    Ok(Layout { nodes: packing.nodes, server_nodes: packing.server_nodes, processes })
}

fn is_of_pool(role: &Role) -> bool {
    role.placement.is_per_replica() || role.gpus
}

/// The launcher's conditions, for each pool.
fn hold(launcher: &Launcher, facts: &Facts<'_>) -> Result<(), Misfit> {
    for pool in facts.pools {
        let context = facts.context(Some(pool));
        for require in &launcher.requires {
            let of_launcher = |problem: String| Misfit {
                key: String::new(),
                problem: format!("launcher {:?}: require {:?}: {problem}", launcher.name, require.that),
                next: "correct the launcher file".into(),
            };
            if template::truth(&require.that, &context).map_err(of_launcher)? {
                continue;
            }
            let prefix = match pool.name {
                PoolName::Aggregated => String::new(),
                name => format!("{}.", name.as_str()),
            };
            return Err(Misfit {
                key: format!("{prefix}{}", require.key),
                problem: template::expand(&require.message, &context, false).map_err(of_launcher)?,
                next: String::new(),
            });
        }
    }
    Ok(())
}

/// The roles whose condition holds, each with the placement that holds.
fn present(launcher: &Launcher, facts: &Facts<'_>) -> Result<Vec<Role>, Misfit> {
    let context = facts.context(None);
    let mut roles = Vec::new();
    for role in &launcher.roles {
        let holds = |when: &String| {
            template::truth(when, &context).map_err(|problem| Misfit {
                key: String::new(),
                problem: format!("launcher {:?}: role.{}.when: {problem}", launcher.name, role.name),
                next: "correct the launcher file".into(),
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

/// Processes of a role for every replica of a pool.
fn of_pool(
    role: &Role,
    pool: &Pool,
    packing: &Packing,
    alone: bool,
    facts: &Facts<'_>,
    processes: &mut Vec<Process>,
) -> Result<(), Misfit> {
    let base = match pool.name {
        PoolName::Aggregated => role.name.clone(),
        name if alone => name.as_str().to_owned(),
        name => format!("{}-{}", name.as_str(), role.name),
    };
    let context = facts.context(Some(pool));
    let replicas = packing.of(pool.name).iter().enumerate();
    let replicas = replicas.take(if role.placement == Placement::Head { 1 } else { usize::MAX });
    let mut index = 0;
    for (replica, place) in replicas {
        let parts = parts(role, pool, place)?;
        let ranks = parts.len() as u32;
        for (rank, part) in parts.into_iter().enumerate() {
            let rank = rank as u32;
            let name =
                if ranks == 1 { format!("{base}-{replica}") } else { format!("{base}-{replica}-r{rank}") };
            let gpus = if role.gpus { part.gpus } else { Vec::new() };
            let tasks = match role.tasks {
                Tasks::One => part.nodes.len(),
                Tasks::PerGpu => part.nodes.len() * gpus.len().max(1),
            };
            let mut process = Process {
                name,
                role: role.name.clone(),
                pool: Some(pool.name),
                index,
                replica: replica as u32,
                rank,
                ranks,
                follows: rank > 0 && role.placement == Placement::EachReplicaNode,
                dp_rank: part.dp_rank,
                dp_local: part.dp_local,
                nodes: part.nodes,
                tasks: tasks as u32,
                gpus,
                ports: BTreeMap::new(),
            };
            process.ports = ports(role, &process, &context)?;
            processes.push(process);
            index += 1;
        }
    }
    Ok(())
}

/// A process of a replica.
struct ReplicaShare {
    nodes: Vec<u32>,
    gpus: Vec<u32>,
    dp_rank: u32,
    dp_local: u32,
}

/// How a replica is cut into processes.
fn parts(role: &Role, pool: &Pool, place: &ReplicaGpus) -> Result<Vec<ReplicaShare>, Misfit> {
    let gpus = |from: u32, count: u32| -> Vec<u32> { (from..from + count).collect() };
    let dp = pool.parallel.dp;
    let rank_gpus = pool.parallel.tp.saturating_mul(pool.parallel.pp).max(1);
    Ok(match role.placement {
        Placement::EachReplicaNode => {
            if dp > 1 && place.nodes.len() > 1 && !place.gpus_each.is_multiple_of(rank_gpus) {
                return Err(uneven(pool, rank_gpus, place.gpus_each));
            }
            // Ranks that fit on a node; one that spans nodes is the same on each of them.
            let local = if place.gpus_each == 0 { dp } else { (place.gpus_each / rank_gpus).clamp(1, dp) };
            let node = |(at, node): (usize, &u32)| ReplicaShare {
                nodes: vec![*node],
                gpus: gpus(place.first_gpu, place.gpus_each),
                dp_rank: (at as u32 * local) % dp,
                dp_local: local,
            };
            place.nodes.iter().enumerate().map(node).collect()
        }
        Placement::EachRank | Placement::EachGpu => {
            let (count, each) =
                if role.placement == Placement::EachRank { (dp, rank_gpus) } else { (dp * rank_gpus, 1) };
            if place.gpus_each > 0 && (each > place.gpus_each || !place.gpus_each.is_multiple_of(each)) {
                return Err(uneven(pool, each, place.gpus_each));
            }
            let per_node = place.gpus_each.checked_div(each).unwrap_or(count).max(1);
            let part = |at: u32| ReplicaShare {
                nodes: place
                    .nodes
                    .get((at / per_node) as usize)
                    .or(place.nodes.first())
                    .copied()
                    .into_iter()
                    .collect(),
                gpus: if place.gpus_each == 0 {
                    Vec::new()
                } else {
                    gpus(place.first_gpu + at % per_node * each, each)
                },
                dp_rank: if role.placement == Placement::EachRank { at } else { at / rank_gpus },
                dp_local: 1,
            };
            (0..count).map(part).collect()
        }
        _ => vec![ReplicaShare {
            nodes: if role.gpus {
                place.nodes.clone()
            } else {
                place.nodes.first().copied().into_iter().collect()
            },
            gpus: gpus(place.first_gpu, place.gpus_each),
            dp_rank: 0,
            dp_local: dp,
        }],
    })
}

/// Data-parallel ranks that would not fill a node evenly.
fn uneven(pool: &Pool, each: u32, on_node: u32) -> Misfit {
    let prefix =
        if pool.name == PoolName::Aggregated { String::new() } else { format!("{}.", pool.name.as_str()) };
    Misfit {
        key: format!("{prefix}tp"),
        problem: format!(
            "a data-parallel rank needs tp × pp = {} × {} = {each} GPUs, and {each} does not divide the {on_node} GPUs that a replica has on a node",
            pool.parallel.tp, pool.parallel.pp
        ),
        next: "choose tp × pp so that whole ranks fill a node".into(),
    }
}

/// The ports a process needs, their numbers worked out.
fn ports(role: &Role, process: &Process, context: &Context) -> Result<BTreeMap<String, PortNeed>, Misfit> {
    let mut context = context.clone();
    insert_process(&mut context, process);
    let mut needs = BTreeMap::new();
    for (name, spec) in &role.ports {
        let misfit = |problem: String| Misfit {
            key: String::new(),
            problem: format!("launcher: role.{}.ports.{name}: {problem}", role.name),
            next: "correct the launcher file".into(),
        };
        let number = |text: &str| {
            let number = template::number(text, &context)?;
            u16::try_from(number)
                .ok()
                .filter(|number| *number > 0)
                .ok_or(format!("{number} is no number of ports"))
        };
        let count = number(&spec.count).map_err(misfit)?;
        let stride = spec.stride.as_deref().map_or(Ok(count), number).map_err(misfit)?;
        if let Some(problem) = overlap(count.into(), stride.into()) {
            return Err(misfit(problem));
        }
        needs.insert(name.clone(), PortNeed { base: spec.base, count, stride });
    }
    Ok(needs)
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
