//! Scales: how many GPUs a plan has in all, which other numbers its recipe offers, and whether an allocation has them.

use std::collections::BTreeSet;

use crate::document::{InputError, InputErrors};
use crate::plan::choices::Scale;
use crate::plan::{Deployment, Parallel, Plan, Pool};
use crate::recipe::find::{RecipeFile, scale_of};
use crate::recipe::{Origin, Recipe};

/// What an allocation has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocated {
    /// `job 5`
    pub name: String,
    pub nodes: Vec<String>,
    /// GPUs of each of its nodes; `None` when Slurm does not count them.
    pub gpus_per_node: Option<u32>,
}

impl Plan {
    /// Whether an allocation has the nodes and the GPUs.
    pub fn fits(&self, allocated: &Allocated) -> Result<(), InputError> {
        let (have, need) = (allocated.nodes.len(), self.job.nodes);
        let gpus = self.gpus_on_a_node();
        let has_nodes = have >= need as usize;
        if has_nodes && allocated.gpus_per_node.is_none_or(|per_node| per_node >= gpus) {
            return Ok(());
        }
        let largest = self.deployments.iter().max_by_key(|deployment| (deployment.nodes, deployment.gpus));
        let sizes = largest.map(arithmetic).unwrap_or_default();
        let names = allocated.nodes.join(", ");
        let each = allocated.gpus_per_node.map(|each| format!(" with {each} GPUs each")).unwrap_or_default();
        // An environment variable may have made the deployment this large.
        let variable = self.origins.iter().find_map(|(key, origin)| {
            let size = key.strip_prefix("deploy.").filter(|_| is_size(key))?;
            matches!(origin, Origin::Variable { .. }).then(|| format!("; {size} is from {origin}"))
        });
        let variable = variable.unwrap_or_default();
        let problem = format!("has {} ({names}){each}", counted(have, "node"));
        let expected = format!("{} with {gpus} GPUs each: {sizes}{variable}", counted(need as usize, "node"));
        Err(InputError::new(&allocated.name, problem)
            .expected(expected)
            .next("ask Slurm for a larger allocation, or choose a smaller deployment"))
    }
}

/// Whether a dotted key of a recipe says how many GPUs there are: sizes of `[deploy]` and of its pools, not the engine's options.
pub fn is_size(key: &str) -> bool {
    let mut parts = key.rsplit('.');
    let is_size = parts.next().is_some_and(|last| ["tp", "pp", "dp", "replicas"].contains(&last));
    is_size && key.starts_with("deploy.") && !parts.any(|part| part == "engine")
}

/// `1 node`, `2 nodes`
fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// `tp × pp × dp × replicas = 4 × 1 × 1 × 2 = 8 GPUs`; `prefill 6 × 4 + decode 1 × 8 = 32 GPUs`, replicas first.
pub fn arithmetic(deployment: &Deployment) -> String {
    let total = deployment.gpus;
    let gpus = counted(total as usize, "GPU");
    let pools = &deployment.pools;
    if pools.len() > 1 && pools.iter().map(Pool::gpus).sum::<u32>() == total {
        let of = |Pool { name, parallel, .. }: &Pool| {
            format!("{} {} × {}", name.as_str(), parallel.replicas, parallel.gpus_per_replica())
        };
        return format!("{} = {gpus}", pools.iter().map(of).collect::<Vec<_>>().join(" + "));
    }
    let Parallel { tp, pp, dp, replicas, .. } = deployment.parallel;
    match deployment.parallel.gpus_per_replica().saturating_mul(replicas) == total {
        true => format!("tp × pp × dp × replicas = {tp} × {pp} × {dp} × {replicas} = {gpus}"),
        false => gpus,
    }
}

/// The scales a recipe offers, ascending: its own, `base`, and its `[scale.N]`.
pub fn offered(recipe: &Recipe, base: u32) -> Vec<u32> {
    let sections = recipe.scale.keys().filter_map(|key| scale_of(key));
    let scales: BTreeSet<u32> = sections.chain((base > 0).then_some(base)).collect();
    scales.into_iter().collect()
}

/// Checks that the deployments have as many GPUs as the scale.
pub(super) fn check(
    scale: Option<Scale>,
    file: &RecipeFile,
    deployments: &[Deployment],
) -> Result<(), InputErrors> {
    let largest = deployments.iter().max_by_key(|deployment| deployment.gpus);
    let gpus = largest.map_or(0, |largest| largest.gpus);
    let Some(scale) = scale.filter(|scale| scale.total() != gpus) else { return Ok(()) };
    let comes_to = largest.map(arithmetic).unwrap_or_default();
    let (flag, key) = (format!("--scale {}", scale.gpus), format!("scale.{}", scale.gpus));
    Err(if gpus == 0 {
        InputError::new(flag, "nobody says how many GPUs the endpoint has")
            .key("deploy.url")
            .next("leave out --scale, or give deploy.tp, pp, dp and replicas")
    } else if file.recipe.scale.contains_key(&scale.gpus.to_string()) || scale.times > 1 {
        InputError::new(file.document.at(&key), format!("comes to {comes_to}"))
            .key(&key)
            .expected(format!("{} GPUs", scale.total()))
            .next("correct the sizes in this section: GPU counts are derived from them")
    } else {
        let offered: Vec<String> = offered(&file.recipe, gpus).iter().map(ToString::to_string).collect();
        let one_of = if offered.len() > 1 { "one of " } else { "" };
        InputError::new(flag, format!("recipe {:?} does not have this scale", file.name()))
            .expected(format!("{one_of}{}: {comes_to}", offered.join(", ")))
            .next(format!("choose one of them, or add [{key}] to the recipe"))
    }
    .into())
}
