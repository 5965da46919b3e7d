//! What the job asks of Slurm: resources and `#SBATCH` directives.

use super::sections::Slurm;
use crate::plan::Job;
use crate::site::{Arch, Site, SiteGpu};

/// Seconds before the time limit at which Slurm signals the job to wrap up.
const WARNING_S: u64 = 120;

/// What the plan knows when it asks for a job.
#[derive(Debug, Clone, Copy)]
pub struct Needs<'a> {
    pub name: &'a str,
    pub nodes: u32,
    pub gpu: &'a str,
    /// GPUs wanted on each node; 0 for none.
    pub gpus_per_node: u32,
}

/// Directives in a fixed order: name, size, place, GPUs, limits, signals, then the site's, the GPU type's and the
/// recipe's own, which win because they come later.
pub fn job(site: &Site, recipe: &Slurm, needs: &Needs<'_>) -> Job {
    let unknown = SiteGpu::default();
    let gpu = site.gpus.get(needs.gpu).unwrap_or(&unknown);
    let of_site = &site.slurm;
    let time_s = recipe.time.seconds().ceil().max(60.0) as u64;
    let placed = |flag: &str, of_gpu: &Option<String>, of_site: &Option<String>| {
        Some(format!("--{flag}={}", of_gpu.as_ref().or(of_site.as_ref())?))
    };
    let gres_type = gpu.gres_type.as_deref().unwrap_or(needs.gpu);
    let options = [
        Some(format!("--job-name=tokmark-{}", needs.name)),
        Some(format!("--nodes={}", needs.nodes)),
        placed("partition", &gpu.partition, &of_site.partition),
        placed("account", &gpu.account, &of_site.account),
        placed("qos", &gpu.qos, &of_site.qos),
        placed("reservation", &gpu.reservation, &of_site.reservation),
        placed("constraint", &gpu.constraint, &of_site.constraint),
        segment(needs.nodes, gpu.nodes_per_domain).map(|nodes| format!("--segment={nodes}")),
        recipe.mem.as_ref().map(|mem| format!("--mem={mem}")),
        of_site.gres.option(gres_type, needs.gpus_per_node),
        recipe.exclusive.then(|| "--exclusive".to_owned()),
        Some(format!("--time={}", clock(time_s))),
        Some(format!("--signal=B:USR1@{}", WARNING_S.min(time_s / 2))),
        Some("--requeue".to_owned()),
        Some("--open-mode=append".to_owned()),
    ];
    let own = of_site.directives.iter().chain(&gpu.directives).chain(&recipe.directives).cloned();
    let directives = options.into_iter().flatten().chain(own).collect();
    let binary = [(Arch::X86, &site.binary.x86_64), (Arch::Arm, &site.binary.aarch64)]
        .into_iter()
        .filter_map(|(arch, path)| Some((arch.name().to_owned(), path.clone()?)));
    Job {
        name: format!("tokmark-{}", needs.name),
        nodes: needs.nodes,
        time_s,
        directives,
        from_variables: Vec::new(),
        setup: of_site.setup.clone(),
        modules: site.bare.modules.clone(),
        venv: site.bare.venv.clone(),
        binary: binary.collect(),
        mpi: of_site.mpi.clone(),
        clear_env: of_site.clear_env.clone(),
        srun: of_site.srun.clone(),
    }
}

/// Nodes of each segment of a job: the greatest number that divides its nodes and fits into a domain, so that no engine
/// is cut by the edge of one. A job of one node has nothing to keep together. Source: sbatch(1), `--segment`.
fn segment(nodes: u32, nodes_per_domain: Option<u32>) -> Option<String> {
    let most = nodes_per_domain.filter(|_| nodes > 1)?;
    (1..=most.min(nodes)).rev().find(|size| nodes.is_multiple_of(*size)).map(|size| size.to_string())
}

/// `HH:MM:SS`
fn clock(seconds: u64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use crate::recipe::layers::default_section;

    fn job_of(site: &str, recipe: &str, nodes: u32, gpus_per_node: u32) -> Job {
        let site: Site = toml::from_str(site).unwrap();
        let mut slurm = default_section("slurm");
        slurm.extend(toml::from_str::<toml::Table>(recipe).unwrap());
        job(&site, &slurm.try_into().unwrap(), &Needs { name: "q", nodes, gpu: "h100", gpus_per_node })
    }

    fn directives(site: &str, recipe: &str, gpus_per_node: u32) -> Vec<String> {
        job_of(site, recipe, 2, gpus_per_node).directives
    }

    #[test]
    fn a_gpu_type_overrides_the_partition_and_speaks_the_site_dialect() {
        let site = "schema = 1\n[slurm]\npartition = \"gpu\"\naccount = \"a\"\ngres = \"typed-gres\"\n\
                    [gpus.h100]\npartition = \"hopper\"\ngres_type = \"H100\"\n";
        assert_eq!(
            directives(site, "time = \"00:10:00\"\nexclusive = false\n", 4),
            [
                "--job-name=tokmark-q",
                "--nodes=2",
                "--partition=hopper",
                "--account=a",
                "--gres=gpu:H100:4",
                "--time=00:10:00",
                "--signal=B:USR1@120",
                "--requeue",
                "--open-mode=append"
            ]
        );
    }

    #[test]
    fn a_gpu_type_that_differs_in_everything() {
        let site = r#"
            schema = 1
            [slurm]
            partition = "p"
            account = "a"
            qos = "q"
            reservation = "r"
            constraint = "c"
            directives = ["--comment=all"]
            [gpus.h100]
            partition = "hp"
            account = "ha"
            qos = "hq"
            reservation = "hr"
            constraint = "hc"
            nodes_per_domain = 18
            directives = ["--comment=h100"]
        "#;
        assert_eq!(
            directives(site, "mem = \"0\"\ndirectives = [\"--comment=mine\"]", 8),
            [
                "--job-name=tokmark-q",
                "--nodes=2",
                "--partition=hp",
                "--account=ha",
                "--qos=hq",
                "--reservation=hr",
                "--constraint=hc",
                "--segment=2",
                "--mem=0",
                "--gres=gpu:8",
                "--exclusive",
                "--time=01:00:00",
                "--signal=B:USR1@120",
                "--requeue",
                "--open-mode=append",
                "--comment=all",
                "--comment=h100",
                "--comment=mine"
            ]
        );
        let plain = site.split("[gpus.h100]").next().unwrap();
        let place: Vec<String> = directives(plain, "", 8).drain(2..7).collect();
        assert_eq!(
            place,
            ["--partition=p", "--account=a", "--qos=q", "--reservation=r", "--constraint=c"],
            "what it does not say is the site's"
        );
    }

    #[test]
    fn every_dialect_of_asking_for_gpus() {
        let table = [
            ("none", 4, None),
            ("gres", 4, Some("--gres=gpu:4")),
            ("typed-gres", 4, Some("--gres=gpu:h100:4")),
            ("gpus-per-node", 4, Some("--gpus-per-node=4")),
            ("gres", 0, None),
            ("typed-gres", 0, None),
            ("gpus-per-node", 0, None),
        ];
        for (dialect, gpus, expected) in table {
            let asked = directives(&format!("schema = 1\n[slurm]\ngres = \"{dialect}\"\n"), "", gpus);
            let about: Vec<&str> =
                asked.iter().map(String::as_str).filter(|line| line.contains("gpu")).collect();
            assert_eq!(about, expected.into_iter().collect::<Vec<_>>(), "{dialect} {gpus}");
        }
    }

    #[test]
    fn segments_divide_the_nodes_and_fit_into_a_domain() {
        let table = [
            (1, Some(18), None),
            (2, None, None),
            (2, Some(18), Some("2")),
            (18, Some(18), Some("18")),
            (20, Some(18), Some("10")),
            (36, Some(18), Some("18")),
            (19, Some(18), Some("1")),
            (24, Some(9), Some("8")),
            (4, Some(1), Some("1")),
        ];
        for (nodes, domain, expected) in table {
            assert_eq!(segment(nodes, domain).as_deref(), expected, "{nodes} nodes, {domain:?} a domain");
        }
    }

    #[test]
    fn what_the_shell_and_the_steps_need_is_carried() {
        let site = r#"
            schema = 1
            [slurm]
            setup = ["module use /sw"]
            clear_env = ["SBATCH_*"]
            srun = ["--network=no_vni"]
            [bare]
            modules = ["cuda/12.8"]
            venv = "/venv"
            [binary]
            aarch64 = "/arm/tokmark"
        "#;
        let job = job_of(site, "", 1, 1);
        assert_eq!(
            (job.setup, job.modules, job.venv),
            (vec!["module use /sw".into()], vec!["cuda/12.8".into()], Some("/venv".into()))
        );
        assert_eq!((job.clear_env, job.srun), (vec!["SBATCH_*".into()], vec!["--network=no_vni".into()]));
        assert_eq!(job.binary, BTreeMap::from([("aarch64".to_owned(), "/arm/tokmark".to_owned())]));
    }
}
