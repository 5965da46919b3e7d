//! Compares a site file with what Slurm reports about its cluster. Pure.

use std::collections::BTreeSet;

use itertools::Itertools;

use super::Finding;
use crate::site::{ContainerRuntime, GresDialect, Site, SiteGpu};
use crate::slurm::sinfo::{GpuGres, NodeLine};
use crate::survey::Survey;

/// Findings that do not depend on the GPU type.
pub fn site(site: &Site, survey: &Survey) -> Vec<Finding> {
    let mut findings = vec![slurm(survey)];
    let unanswered = survey.unanswered.iter();
    findings.extend(
        unanswered.map(|problem| Finding::warn("slurm", problem, "checks that need it are less exact")),
    );
    findings.extend(default_gpu(site));
    findings.extend(account(site.slurm.account.as_deref(), survey));
    findings.push(container(site, survey));
    findings.extend(mpi(site, survey));
    findings
}

fn slurm(survey: &Survey) -> Finding {
    let cluster = survey.config.get("ClusterName").map(|name| format!(" of {name}")).unwrap_or_default();
    let version = survey.version.as_deref().unwrap_or("of an unknown version");
    let nodes = survey.nodes.iter().map(|line| &line.node).unique().count();
    Finding::ok("slurm", format!("Slurm {version}{cluster} answers; {nodes} nodes"))
}

fn default_gpu(site: &Site) -> Option<Finding> {
    let known = site.gpu_types();
    let gpu = site.gpu.as_ref().filter(|gpu| !known.contains(gpu))?;
    let found = format!("gpu = {gpu:?} is not a GPU type of this site");
    let next = format!("add [gpus.{gpu}] with per_node, or use one of {}", known.join(", "));
    Some(Finding::fail("gpu", found, next))
}

/// Checks that the user may charge the account.
pub fn account(account: Option<&str>, survey: &Survey) -> Option<Finding> {
    let known = survey.accounts();
    let list = known.join(", ");
    match (account, &survey.associations) {
        (None, Some(associations)) if !associations.is_empty() && survey.default_account.is_none() => {
            survey.enforces_accounts().then(|| {
                let found = "no account is set, you have no default account, and Slurm requires one";
                Finding::fail("account", found, format!("set [slurm] account to one of {list}"))
            })
        }
        (None, _) => None,
        (Some(account), None) => Some(Finding::warn(
            "account",
            format!("{account:?} is set, but this cluster keeps no accounts"),
            "leave out [slurm] account",
        )),
        (Some(account), Some(_)) if known.contains(&account) => {
            Some(Finding::ok("account", format!("{account} is one of {}'s", survey.user)))
        }
        (Some(account), Some(_)) => {
            let has = if known.is_empty() { "has none".to_owned() } else { format!("has {list}") };
            let found = format!("{account:?} is not {user}'s: {user} {has}", user = survey.user);
            let next = "set [slurm] account (or [gpus.TYPE] account) to one that `sacctmgr show assoc user=$USER` lists";
            Some(if survey.enforces_accounts() {
                Finding::fail("account", found, next)
            } else {
                Finding::warn("account", format!("{found}; Slurm does not enforce accounts here"), next)
            })
        }
    }
}

fn container(site: &Site, survey: &Survey) -> Finding {
    let apptainer = survey.apptainer.as_deref();
    match site.container.runtime {
        ContainerRuntime::None => Finding::ok("container", "servers run bare"),
        ContainerRuntime::Pyxis if survey.has_old_pyxis => Finding::fail(
            "container",
            "srun has --container-image but not --container-env: its pyxis is older than 0.15",
            "have pyxis 0.15 or later installed, or set [container] runtime = \"apptainer\" or \"none\"",
        ),
        ContainerRuntime::Pyxis if survey.has_pyxis => {
            Finding::ok("container", "pyxis: srun has --container-image")
        }
        ContainerRuntime::Pyxis => {
            let next = match apptainer {
                Some(_) => {
                    "set [container] runtime = \"apptainer\", which is on PATH, or have pyxis installed"
                }
                None => "set [container] runtime = \"none\" or \"apptainer\", or have pyxis installed",
            };
            Finding::fail("container", "runtime = \"pyxis\", but srun has no --container-image", next)
        }
        ContainerRuntime::Apptainer => match apptainer {
            Some(path) => Finding::ok("container", format!("apptainer: {path}")),
            None => Finding::warn(
                "container",
                "runtime = \"apptainer\", which is not on PATH of this machine",
                "fine if [slurm] setup or [bare] modules provide it on compute nodes",
            ),
        },
    }
}

fn mpi(site: &Site, survey: &Survey) -> Option<Finding> {
    let wanted = site.slurm.mpi.as_ref()?;
    let list = survey.mpi.join(", ");
    Some(match survey.mpi.iter().any(|known| known == wanted) {
        true => Finding::ok("mpi", format!("srun has {wanted}")),
        false if survey.mpi.is_empty() => Finding::warn(
            "mpi",
            format!("srun does not list its MPI types, so {wanted} is unchecked"),
            "run `srun --mpi=list`",
        ),
        false => Finding::fail(
            "mpi",
            format!("srun has no {wanted:?}: it has {list}"),
            "set [slurm] mpi to one of them, or have Slurm's PMIx plugin installed",
        ),
    })
}

/// The nodes for jobs with a GPU type.
struct NodePool<'a> {
    partition: &'a str,
    nodes: Vec<&'a NodeLine>,
}

impl<'a> NodePool<'a> {
    fn of(site: &'a Site, of_site: &'a SiteGpu, survey: &'a Survey) -> Result<Self, Finding> {
        let partition = of_site.partition.as_deref().or(site.slurm.partition.as_deref());
        let list = || survey.partitions().join(", ");
        let Some(partition) = partition.or(survey.default_partition()) else {
            let next = format!("set [slurm] partition to one of {}", list());
            return Err(Finding::fail("partition", "no partition is set, and Slurm has no default", next));
        };
        let inside: Vec<&NodeLine> = survey.nodes.iter().filter(|line| line.partition == partition).collect();
        if inside.is_empty() {
            let next = format!("set [slurm] partition (or [gpus.TYPE] partition) to one of {}", list());
            return Err(Finding::fail("partition", format!("Slurm has no partition {partition:?}"), next));
        }
        let constraint = of_site.constraint.as_ref().or(site.slurm.constraint.as_ref());
        // Only Slurm can evaluate an expression.
        let plain = constraint.filter(|constraint| is_plain(constraint));
        let fits = |line: &&NodeLine| plain.is_none_or(|feature| line.features.contains(feature));
        let nodes: Vec<&NodeLine> = inside.into_iter().filter(fits).collect();
        match plain {
            Some(feature) if nodes.is_empty() => {
                let found = format!("no node of {partition} has the feature {feature:?}");
                Err(Finding::fail("constraint", found, "`sinfo -o '%N %f'` lists the features of nodes"))
            }
            _ => Ok(Self { partition, nodes }),
        }
    }
}

/// Findings for a GPU type, and how many of its nodes could start a job now. `None` means jobs without GPUs.
pub fn gpu_type(site: &Site, kind: Option<&str>, survey: &Survey) -> (Vec<Finding>, usize) {
    let unset = SiteGpu::default();
    let of_site = kind.and_then(|kind| site.gpus.get(kind)).unwrap_or(&unset);
    let mut findings = Vec::new();
    if of_site.account.is_some() {
        findings.extend(account(of_site.account.as_deref(), survey));
    }
    let NodePool { partition, nodes } = match NodePool::of(site, of_site, survey) {
        Ok(pool) => pool,
        Err(finding) => {
            findings.push(finding);
            return (findings, 0);
        }
    };
    let is_free = |line: &&&NodeLine| line.is_usable() && ["idle", "mixed"].contains(&line.state.as_str());
    let free = |nodes: &[&NodeLine]| nodes.iter().filter(is_free).count();
    let Some(kind) = kind else {
        findings.push(usable(partition, &nodes));
        return (findings, free(&nodes));
    };
    let gres_type = of_site.gres_type.as_deref().unwrap_or(kind);
    let (gres, matching) = gres(site, kind, gres_type, partition, &nodes);
    let gres = ambiguous(site, kind, of_site, partition, &matching).unwrap_or(gres);
    let matching = if matching.is_empty() { nodes } else { matching };
    findings.push(usable(partition, &matching));
    findings.push(gres);
    findings.extend(arch(site, of_site, &matching, survey));
    if of_site.nodes_per_domain.is_some() && !survey.has_segment {
        findings.push(Finding::fail(
            "segment",
            "nodes_per_domain is set, but this Slurm has no --segment (new in 23.11)",
            format!("remove [gpus.{kind}] nodes_per_domain"),
        ));
    }
    let free = free(&matching);
    (findings, free)
}

fn usable(partition: &str, nodes: &[&NodeLine]) -> Finding {
    let usable = nodes.iter().filter(|line| line.is_usable()).count();
    let count = format!("{usable} of {} nodes of {partition} can take jobs", nodes.len());
    let others = nodes.iter().filter(|line| !line.is_usable());
    let states = others.map(|line| line.state.as_str()).sorted().dedup().join(", ");
    if usable == nodes.len() {
        Finding::ok("partition", count)
    } else if usable > 0 {
        Finding::ok("partition", format!("{count} (others: {states})"))
    } else {
        let next = "`sinfo -R` lists the reasons; use another partition, or wait";
        Finding::fail("partition", format!("{count} ({states})"), next)
    }
}

/// Compares the declared GPUs with GRES; also the nodes that have them.
fn gres<'a>(
    site: &Site,
    kind: &str,
    gres_type: &str,
    partition: &str,
    nodes: &[&'a NodeLine],
) -> (Finding, Vec<&'a NodeLine>) {
    let dialect = site.slurm.gres;
    let has = |line: &NodeLine| -> u32 {
        let of_type =
            |gpu: &&GpuGres| dialect != GresDialect::TypedGres || gpu.kind.as_deref() == Some(gres_type);
        line.gpus.iter().filter(of_type).map(|gpu| gpu.count).fold(0, u32::saturating_add)
    };
    let matching: Vec<&NodeLine> = nodes.iter().filter(|line| has(line) > 0).copied().collect();
    let available = written(nodes);
    if dialect == GresDialect::None {
        let finding = if available.is_empty() {
            Finding::ok("gres", "jobs request no GPUs, and Slurm has none")
        } else {
            let found = format!("jobs request no GPUs, but nodes of {partition} have {available}");
            Finding::warn("gres", found, "set [slurm] gres: a job that requests no GPUs may see none")
        };
        return (finding, matching);
    }
    if matching.is_empty() {
        let wanted =
            if dialect == GresDialect::TypedGres { format!("gpu:{gres_type}") } else { "gpu".into() };
        let (has, next) = match available.is_empty() {
            true => ("no GPUs".into(), "set [slurm] gres = \"none\", or use a partition with GPUs".into()),
            false => (
                available,
                format!("set [gpus.{kind}] gres_type to a type that nodes have, or another partition"),
            ),
        };
        let found = format!("no node of {partition} has {wanted} in GRES: they have {has}");
        return (Finding::fail("gres", found, next), matching);
    }
    let Some(declared) = site.gpus_per_node(kind) else {
        let next = format!("add per_node to [gpus.{kind}]: nodes have {available}");
        return (Finding::fail("gres", format!("GPUs of a {kind} node are not declared"), next), matching);
    };
    let with = |count: u32| matching.iter().filter(|line| has(line) == count).count();
    let most = matching.iter().map(|line| has(line)).max().unwrap_or(0);
    let (same, all) = (with(declared), matching.len());
    let next = format!("set [gpus.{kind}] per_node = {most}");
    let finding = if same == all {
        Finding::ok("gres", format!("{declared} GPUs on each of {all} nodes ({})", written(&matching)))
    } else if declared > most {
        let found = format!("per_node = {declared}, but nodes of {partition} have {available}");
        Finding::fail("gres", found, next)
    } else if same == 0 {
        let found =
            format!("per_node = {declared}, but nodes of {partition} have {available}: some stay idle");
        Finding::warn("gres", found, next)
    } else {
        let others = all - same;
        let found =
            format!("per_node = {declared}, but {others} of {all} nodes have another number ({available})");
        Finding::warn("gres", found, format!("separate them with [gpus.{kind}] constraint"))
    };
    (finding, matching)
}

/// A request without a GPU type on nodes with several types, of which Slurm would give any.
fn ambiguous(
    site: &Site,
    kind: &str,
    of_site: &SiteGpu,
    partition: &str,
    nodes: &[&NodeLine],
) -> Option<Finding> {
    let constraint = of_site.constraint.as_ref().or(site.slurm.constraint.as_ref());
    // Only Slurm knows which nodes a directive or an expression selects.
    let narrowed = constraint.is_some_and(|constraint| !is_plain(constraint))
        || site.slurm.directives.iter().chain(&of_site.directives).any(|line| chooses_nodes(line));
    let untyped = matches!(site.slurm.gres, GresDialect::Gres | GresDialect::GpusPerNode);
    let types: BTreeSet<&str> =
        nodes.iter().flat_map(|line| &line.gpus).filter_map(|gpu| gpu.kind.as_deref()).collect();
    (untyped && !narrowed && types.len() > 1).then(|| {
        let found =
            format!("the request names no GPU type, but nodes of {partition} have {}", written(nodes));
        let next = format!(
            "set [slurm] gres = \"typed-gres\", or a [gpus.{kind}] constraint or partition that only its nodes have"
        );
        Finding::fail("gres", found, next)
    })
}

/// Whether a directive selects nodes or GPUs.
fn chooses_nodes(directive: &str) -> bool {
    let option = directive.trim().split(['=', ' ']).next().unwrap_or_default();
    ["--constraint", "--gres", "--gpus", "--gpus-per-node", "--nodelist", "--partition"].contains(&option)
        || ["-C", "-G", "-w", "-p"].iter().any(|short| option.starts_with(short))
}

/// Whether a constraint is one feature, not an expression of several (`a&b`, `[x|y]`).
fn is_plain(constraint: &str) -> bool {
    constraint.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

/// GPUs of nodes in GRES notation.
fn written(nodes: &[&NodeLine]) -> String {
    let one = |gpu: &GpuGres| match &gpu.kind {
        Some(kind) => format!("gpu:{kind}:{}", gpu.count),
        None => format!("gpu:{}", gpu.count),
    };
    nodes.iter().flat_map(|line| &line.gpus).map(one).sorted().dedup().join(", ")
}

fn arch(site: &Site, of_site: &SiteGpu, nodes: &[&NodeLine], survey: &Survey) -> Option<Finding> {
    let known: BTreeSet<&str> =
        nodes.iter().filter_map(|line| survey.archs.get(&line.node)).map(String::as_str).collect();
    if let Some(declared) = of_site.arch.filter(|arch| !known.is_empty() && !known.contains(arch.name())) {
        let found = format!("arch = {:?}, but the nodes are {}", declared.name(), known.iter().join(", "));
        return Some(Finding::fail("arch", found, "correct arch in [gpus.TYPE]"));
    }
    let needed = of_site.arch.map(|arch| arch.name()).or(known.first().copied())?;
    let binary = match needed {
        "aarch64" => &site.binary.aarch64,
        _ => &site.binary.x86_64,
    };
    if needed != survey.login_arch && binary.is_none() {
        let found = format!("nodes are {needed}, but this tokmark is for {}", survey.login_arch);
        let next = format!("set {needed} in [binary] to a tokmark built for it");
        return Some(Finding::fail("arch", found, next));
    }
    Some(Finding::ok("arch", needed))
}
