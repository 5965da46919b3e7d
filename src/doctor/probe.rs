//! The short job on compute nodes: one GPU, at most two nodes, `tokmark node` on each.
//!
//! It requests the partition, account and so on of real jobs, but few resources, so that it need not wait for whole nodes. Pure.

use crate::document::InputErrors;
use crate::node::{PortQuery, Query, WeightsQuery};
use crate::plan::container::host_path;
use crate::plan::{Container, Plan};
use crate::planner::job::{Needs, job};
use crate::planner::resolve::slurm_of_site;
use crate::site::{Arch, ContainerRuntime, Site};
use crate::weights::drafts_of_plan;

/// Free ports that a node needs for servers.
const PORTS: PortQuery = PortQuery { base: 8000, count: 16, stride: 16, want: 1 };

/// Directives that the probe sets itself, or that srun lacks.
const NOT_PASSED_ON: &str = "job-name nodes ntasks ntasks-per-node gres gpus-per-node gpus mem exclusive segment time signal \
    requeue no-requeue open-mode output error input array wrap parsable export export-file get-user-env \
    ignore-pbs wait wait-all-nodes test-only switches contiguous";

/// A path of the site, and the key that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedPath {
    /// The path, or the name of a program.
    pub path: String,
    /// The key.
    pub key: String,
    /// It may be missing, because shell lines of the site may provide it.
    pub optional: bool,
}

/// The job and its query.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// The call, `srun` first.
    pub argv: Vec<String>,
    /// The tokmark it starts.
    pub binary: String,
    /// Paths that it checks.
    pub paths: Vec<KeyedPath>,
    /// Model folders that it checks.
    pub weights: Vec<WeightsQuery>,
}

/// The directives of a job at this site for a GPU type, as `submit` would write them: one node and all of its GPUs.
pub fn directives(site: &Site, kind: Option<&str>) -> Result<Vec<String>, InputErrors> {
    let slurm = slurm_of_site(site, kind)?;
    let gpus_per_node = kind.and_then(|kind| site.gpus_per_node(kind)).unwrap_or(0);
    let needs = Needs { name: "doctor", nodes: 1, gpu: kind.unwrap_or("none"), gpus_per_node };
    Ok(job(site, &slurm, &needs).directives)
}

/// Limits of the probe.
#[derive(Debug, Clone, Copy)]
pub struct ProbeSize {
    /// Nodes: two if two are free, so that their clocks can be compared.
    pub nodes: u32,
    /// Seconds it may wait in the queue.
    pub wait_s: u64,
}

/// The probe of a GPU type. `own_binary` is this machine's tokmark; `more` are paths besides the site's, `weights` the recipes' model
/// folders.
pub fn probe(
    site: &Site,
    kind: Option<&str>,
    own_binary: &str,
    size: ProbeSize,
    more: &[KeyedPath],
    weights: Vec<WeightsQuery>,
) -> Result<Probe, InputErrors> {
    let of_site = kind.and_then(|kind| site.gpus.get(kind));
    let arch = of_site.and_then(|gpu| gpu.arch).map_or(std::env::consts::ARCH, Arch::name);
    let of_arch = if arch == "aarch64" { &site.binary.aarch64 } else { &site.binary.x86_64 };
    let binary = of_arch.clone().unwrap_or_else(|| own_binary.to_owned());
    let mut paths = paths(site, kind);
    paths.extend(more.iter().cloned());
    let ask = Query {
        paths: paths.iter().map(|named| named.path.clone()).collect(),
        ports: vec![PORTS],
        interface: site.network.interface.clone(),
        weights: weights.clone(),
        ..Query::default()
    };
    let mut argv = call(site, kind, size, 5)?;
    argv.extend([binary.clone(), "node".to_owned(), ask.to_arg()]);
    Ok(Probe { argv, binary, paths, weights })
}

/// The srun call of a short job at this site, without its command.
pub(super) fn call(
    site: &Site,
    kind: Option<&str>,
    size: ProbeSize,
    minutes: u32,
) -> Result<Vec<String>, InputErrors> {
    let of_site = kind.and_then(|kind| site.gpus.get(kind));
    let mut argv: Vec<String> =
        ["srun", "--job-name=tokmark-doctor", "--ntasks-per-node=1"].map(str::to_owned).into();
    argv.push(format!("--time={minutes}"));
    argv.push("--input=none".to_owned());
    argv.push(format!("--nodes={}", size.nodes));
    argv.push(format!("--immediate={}", size.wait_s));
    argv.extend(directives(site, kind)?.into_iter().filter(|directive| is_passed_on(directive)));
    if let Some(kind) = kind {
        let name = of_site.and_then(|gpu| gpu.gres_type.as_deref()).unwrap_or(kind);
        argv.extend(site.slurm.gres.option(name, 1));
    }
    argv.extend(site.slurm.srun.iter().cloned());
    Ok(argv)
}

fn is_passed_on(directive: &str) -> bool {
    let Some(name) = directive.strip_prefix("--") else { return false };
    let name = name.split(['=', ' ']).next().unwrap_or(name);
    !NOT_PASSED_ON.split(' ').any(|known| known == name)
}

/// Paths that a site names for nodes of a GPU type.
fn paths(site: &Site, kind: Option<&str>) -> Vec<KeyedPath> {
    let of_gpu = kind.and_then(|kind| site.gpus.get(kind));
    let mut paths = Vec::new();
    let mut add = |path: &str, key: String| {
        if path.starts_with('/') {
            paths.push(KeyedPath { path: path.to_owned(), key, optional: false });
        }
    };
    for (model, path) in &site.models {
        if of_gpu.is_none_or(|gpu| !gpu.models.contains_key(model)) {
            add(&outside_path(site, path), format!("models.{model:?}"));
        }
    }
    if let (Some(gpu), Some(kind)) = (of_gpu, kind) {
        for (model, path) in &gpu.models {
            add(&outside_path(site, path), format!("gpus.{kind}.models.{model:?}"));
        }
        for (image, path) in gpu.images.iter().filter(|_| site.container.runtime != ContainerRuntime::None) {
            add(path, format!("gpus.{kind}.images.{image:?}"));
        }
    }
    if site.container.runtime != ContainerRuntime::None {
        if let Some(folder) = &site.container.images {
            add(folder, "container.images".into());
        }
        for mount in &site.container.mounts {
            add(mount.split(':').next().unwrap_or_default(), "container.mounts".into());
        }
    }
    if let Some(venv) = &site.bare.venv {
        add(&format!("{venv}/bin/activate"), "bare.venv".into());
    }
    for (name, value) in &site.env {
        if let Some(path) = value.strip_prefix("file:") {
            add(path, format!("env.{name}"));
        }
    }
    if site.container.runtime == ContainerRuntime::Apptainer {
        let optional = !site.slurm.setup.is_empty() || !site.bare.modules.is_empty();
        paths.push(KeyedPath { path: "apptainer".into(), key: "container.runtime".into(), optional });
    }
    if site.container.runtime == ContainerRuntime::Pyxis {
        // pyxis has its own PATH; tokmark imports images and removes containers with it.
        paths.push(KeyedPath { path: "enroot".into(), key: "container.runtime".into(), optional: true });
    }
    paths
}

/// The host path of a path inside containers, by the site's mounts.
fn outside_path(site: &Site, path: &str) -> String {
    if site.container.runtime == ContainerRuntime::None {
        return path.to_owned();
    }
    let mounts = Container {
        runtime: site.container.runtime,
        image: String::new(),
        mounts: site.container.mounts.clone(),
        mount_home: false,
        writable: true,
        env: Vec::new(),
        options: Vec::new(),
        images: None,
        reuse: false,
    };
    host_path(Some(&mounts), path)
}

/// Paths of a recipe: weights and an image.
pub fn paths_of(plan: &Plan) -> Vec<KeyedPath> {
    let named =
        |path: String, key: &str| KeyedPath { path, key: format!("{key} of {}", plan.name), optional: false };
    let weights = plan
        .reads_weights()
        .then(|| named(host_path(plan.container.as_ref(), &plan.model.path), "model.path"));
    let drafts = drafts_of_plan(plan).into_iter();
    let drafts = drafts.map(|draft| named(draft.folder, "deploy.speculation.model"));
    let image = plan.container.as_ref().and_then(Container::image_file);
    let image = image.map(|image| named(image.display().to_string(), "container.image"));
    weights.into_iter().chain(drafts).chain(image).filter(|named| named.path.starts_with('/')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(text: &str) -> Site {
        toml::from_str(&format!("schema = 1\n{text}")).unwrap()
    }

    #[test]
    fn the_job_requests_the_partition_and_few_resources() {
        let site = site(
            r#"
            [slurm]
            partition = "batch"
            account = "a"
            gres = "typed-gres"
            mem = "0"
            directives = ["--comment=x", "--mail-type=END"]
            srun = ["--network=no_vni"]
            [binary]
            aarch64 = "/arm/tokmark"
            [gpus.gb200]
            per_node = 4
            partition = "gb"
            gres_type = "GB"
            nodes_per_domain = 18
            arch = "aarch64"
            [gpus.h100]
            per_node = 8
            "#,
        );
        let found =
            probe(&site, Some("gb200"), "/x86/tokmark", ProbeSize { nodes: 2, wait_s: 60 }, &[], vec![])
                .unwrap();
        let expected = "srun --job-name=tokmark-doctor --ntasks-per-node=1 --time=5 --input=none --nodes=2 --immediate=60 \
                        --partition=gb --account=a --comment=x --mail-type=END --gres=gpu:GB:1 --network=no_vni \
                        /arm/tokmark node";
        let (ask, argv) = found.argv.split_last().unwrap();
        assert_eq!(argv.join(" "), expected);
        assert_eq!(Query::parse(ask).unwrap().ports, [PORTS]);
        assert_eq!(
            probe(&site, None, "/here", ProbeSize { nodes: 1, wait_s: 5 }, &[], vec![]).unwrap().argv[7..12]
                .join(" "),
            "--partition=batch --account=a --comment=x --mail-type=END --network=no_vni"
        );
    }

    #[test]
    fn directives_equal_those_of_a_job() {
        let site = site(
            "[slurm]\nmem = \"0\"\n[gpus.h100]\nper_node = 4\nmem = \"9G\"\n[defaults.slurm]\ntime = \"00:05:00\"\n",
        );
        let requested = directives(&site, Some("h100")).unwrap().join(" ");
        for part in ["--nodes=1", "--mem=9G", "--gres=gpu:4", "--exclusive", "--time=00:05:00"] {
            assert!(requested.split(' ').any(|word| word == part), "{part} in {requested}");
        }
        assert!(!directives(&site, None).unwrap().iter().any(|word| word.contains("gpu")));
    }

    #[test]
    fn every_path_a_site_names_for_a_gpu_type() {
        let site = site(
            r#"
            [container]
            runtime = "apptainer"
            images = "/shared/images"
            mounts = ["/lustre/models:/models:ro"]
            [bare]
            venv = "/venv"
            modules = ["apptainer"]
            [env]
            HF_TOKEN = "file:/home/me/token"
            PLAIN = "/not/a/path/here"
            [models]
            a = "/models/a"
            b = "/models/b"
            c = "org/name"
            [gpus.h100.models]
            b = "/local/b"
            [gpus.h100.images]
            "vllm:1" = "/images/vllm.sif"
            "#,
        );
        let found = paths(&site, Some("h100"));
        let found: Vec<_> =
            found.iter().map(|named| (named.path.as_str(), named.key.as_str(), named.optional)).collect();
        assert_eq!(
            found,
            [
                ("/lustre/models/a", "models.\"a\"", false),
                ("/local/b", "gpus.h100.models.\"b\"", false),
                ("/images/vllm.sif", "gpus.h100.images.\"vllm:1\"", false),
                ("/shared/images", "container.images", false),
                ("/lustre/models", "container.mounts", false),
                ("/venv/bin/activate", "bare.venv", false),
                ("/home/me/token", "env.HF_TOKEN", false),
                ("apptainer", "container.runtime", true),
            ]
        );
    }
}
