//! The samplers of a deployment's GPUs: a child on this machine, or a step on each node of the allocation.

use std::collections::{BTreeMap, BTreeSet};

use tokio::process::Command;

use super::place::visible_gpus;
use super::placement::Placement;
use super::{Place, spawn};
use crate::gpu::Ask;
use crate::observe::gpus::SamplerCommand;
use crate::slurm::srun;

/// Lower than the servers and the client, and not so low that a busy machine starves it.
const NICE: &str = "5";

/// The samplers for the GPUs that processes of a deployment use, one per node; none if it uses none, or does not want them.
pub fn commands(placement: &Placement<'_>) -> Vec<SamplerCommand> {
    let setup = placement.setup;
    if !setup.plan.telemetry.gpu {
        return Vec::new();
    }
    gpus(placement).into_iter().map(|(node, gpus)| command(placement, node, gpus)).collect()
}

/// The GPUs of each node, by its number.
fn gpus(placement: &Placement<'_>) -> BTreeMap<u32, Vec<String>> {
    let mut numbers: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for process in placement.setup.deployment.processes.iter().filter(|process| !process.gpus.is_empty()) {
        for node in &process.nodes {
            numbers.entry(*node).or_default().extend(&process.gpus);
        }
    }
    let names = |(node, numbers): (u32, BTreeSet<u32>)| {
        let visible = placement.visible.get(node as usize).and_then(Option::as_deref);
        let numbers: Vec<u32> = numbers.into_iter().collect();
        let names = visible_gpus(&numbers, visible);
        (node, names.split(',').map(str::to_owned).collect())
    };
    numbers.into_iter().map(names).collect()
}

fn command(placement: &Placement<'_>, node: u32, gpus: Vec<String>) -> SamplerCommand {
    let setup = placement.setup;
    let name = placement.addresses.nodes.get(node as usize).cloned().unwrap_or_default();
    let telemetry = &setup.plan.telemetry;
    let ask =
        Ask { gpus: gpus.clone(), interval_s: telemetry.interval_s, dcgm_url: telemetry.dcgm_url.clone() };
    let argv = ["nice", "-n", NICE, setup.tokmark, "node", "--gpus", &ask.to_arg()].map(str::to_owned);
    let argv = match setup.place {
        Place::Local => argv.to_vec(),
        Place::Allocation(_) => {
            let step_name = setup.place.step_name(&format!("tokmark-gpus-{node}"));
            let step =
                srun::Step::new(&step_name, std::slice::from_ref(&name), srun::StepOutput::Piped, &argv);
            srun::Step { stdin: true, extra: setup.plan.job.srun.clone(), ..step }.to_argv()
        }
    };
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]);
    if let Place::Allocation(_) = setup.place {
        spawn::clear(&mut command, &setup.plan.job.clear_env);
    }
    let is_here = setup.place.is_here(&name);
    SamplerCommand { node: name, is_here, gpus, command }
}
