//! Writes a site file from a survey, with the origin of each value in a comment. Pure.

use std::fmt::Write as _;

use itertools::Itertools;

use super::choice::{SiteChoices, best_partition};
use super::{GpuGroup, Survey};
use crate::site::{ContainerRuntime, GresDialect};

/// Column where comments begin.
const COMMENTS: usize = 36;

/// The text of the site file.
pub fn site_file(survey: &Survey, groups: &[GpuGroup], choice: &SiteChoices) -> String {
    let cluster = survey.config.get("ClusterName").map_or("a cluster", String::as_str);
    let version = survey.version.as_deref().unwrap_or("of an unknown version");
    let mut page = Page::default();
    page.comment(&format!("Written by `tokmark init` from Slurm {version} of {cluster}."));
    page.comment("Check it with `tokmark doctor`. All keys: docs/sites.md");
    page.value("schema", "1", "");
    match &choice.name {
        Some(name) => page.text("name", name, "--name"),
        None if cluster != "a cluster" => page.text("name", cluster, "ClusterName"),
        None => {}
    }
    if let Some((gpu, from)) = default_gpu(groups, choice) {
        page.text("gpu", gpu, &from);
    }
    match &choice.experiments {
        Some(folder) => page.text("experiments", folder, "--experiments"),
        None => page.comment(
            "experiments = \"/shared/me/experiments\"   # a folder that every node sees; default ./experiments",
        ),
    }
    slurm(&mut page, survey, groups, choice);
    container(&mut page, survey, choice);
    binaries(&mut page, survey, groups, choice);
    page.section("models", "folders of weights on compute nodes");
    page.comment("\"openai/gpt-oss-120b\" = \"/shared/models/gpt-oss-120b\"");
    let dialect = dialect(groups);
    let partition = choice.site_partition(survey, groups);
    for group in groups {
        gpu_type(&mut page, survey, groups, group, partition, dialect);
    }
    page.0
}

/// How to request GPUs: by type if there are several and GRES names them.
pub fn dialect(groups: &[GpuGroup]) -> GresDialect {
    match groups {
        [] => GresDialect::None,
        [_] => GresDialect::Gres,
        _ if groups.iter().all(|group| group.gres_type.is_some()) => GresDialect::TypedGres,
        _ => GresDialect::Gres,
    }
}

fn default_gpu<'a>(groups: &'a [GpuGroup], choice: &'a SiteChoices) -> Option<(&'a str, String)> {
    if let Some(gpu) = &choice.gpu {
        return Some((gpu, "--gpu".into()));
    }
    let first = groups.first()?;
    let nodes = first.nodes.len();
    let from = if groups.len() == 1 {
        "the only type".into()
    } else {
        format!("the type with most nodes ({nodes})")
    };
    Some((&first.kind, from))
}

fn slurm(page: &mut Page, survey: &Survey, groups: &[GpuGroup], choice: &SiteChoices) {
    page.section("slurm", "");
    if let Some(partition) = choice.site_partition(survey, groups) {
        let from = match &choice.partition {
            Some(_) => "chosen".to_owned(),
            None if survey.default_partition() == Some(partition) => "the default (sinfo)".to_owned(),
            None => format!("has most nodes with GPUs (sinfo); all: {}", survey.partitions().join(", ")),
        };
        page.text("partition", partition, &from);
    }
    let accounts = survey.accounts();
    let others =
        || if accounts.len() > 1 { format!("; yours: {}", accounts.join(", ")) } else { String::new() };
    match (&choice.account, accounts.first()) {
        (Some(account), _) => page.text("account", account, &format!("chosen{}", others())),
        (None, Some(account)) if survey.default_account.as_deref() == Some(*account) => {
            page.text("account", account, &format!("your default (sacctmgr){}", others()));
        }
        (None, Some(account)) => page.text("account", account, &format!("your first (sacctmgr){}", others())),
        (None, None) => page.comment("account = \"…\"   # sacctmgr lists none for you"),
    }
    if let Some(qos) = &choice.qos {
        page.text("qos", qos, "--qos");
    }
    if let Some(reservation) = &choice.reservation {
        page.text("reservation", reservation, "--reservation");
    }
    let (name, from) = match dialect(groups) {
        GresDialect::None => ("none", "no node has GPUs in GRES (sinfo)".to_owned()),
        GresDialect::TypedGres => {
            ("typed-gres", format!("--gres=gpu:TYPE:N; GRES has {} (sinfo)", shown(groups)))
        }
        _ => ("gres", format!("--gres=gpu:N; GRES has {} (sinfo)", shown(groups))),
    };
    page.text("gres", name, &from);
    if let Some(rule) =
        survey.config.get("SelectTypeParameters").filter(|rule| rule.to_uppercase().contains("MEMORY"))
    {
        page.text("mem", "0", &format!("all memory of a node, because Slurm allocates memory ({rule})"));
    }
    let mpi = ["pmix", "pmi2"].into_iter().find(|wanted| survey.mpi.iter().any(|known| known == wanted));
    match mpi {
        Some(mpi) => page.text("mpi", mpi, &format!("srun --mpi=list: {}", survey.mpi.join(", "))),
        None if survey.mpi.is_empty() => {}
        None => page.comment(&format!("mpi = \"…\"   # srun --mpi=list: {}", survey.mpi.join(", "))),
    }
}

/// GRES of each group in the notation of sinfo.
fn shown(groups: &[GpuGroup]) -> String {
    let one = |group: &GpuGroup| match &group.gres_type {
        Some(kind) => format!("gpu:{kind}:{}", group.per_node),
        None => format!("gpu:{}", group.per_node),
    };
    groups.iter().map(one).join(", ")
}

fn container(page: &mut Page, survey: &Survey, choice: &SiteChoices) {
    let (runtime, from) =
        match (choice.container, survey.has_pyxis && !survey.has_old_pyxis, &survey.apptainer) {
            (Some(chosen), ..) => (chosen, "--container".to_owned()),
            (None, true, _) => (ContainerRuntime::Pyxis, "srun has --container-image".to_owned()),
            (None, false, Some(path)) if survey.has_old_pyxis => {
                (ContainerRuntime::Apptainer, format!("srun's pyxis is older than 0.15; found {path}"))
            }
            (None, false, None) if survey.has_old_pyxis => {
                (ContainerRuntime::None, "srun's pyxis is older than 0.15".to_owned())
            }
            (None, false, Some(path)) => {
                (ContainerRuntime::Apptainer, format!("no pyxis in srun; found {path}"))
            }
            (None, false, None) => {
                (ContainerRuntime::None, "neither pyxis in srun nor apptainer on PATH".to_owned())
            }
        };
    page.section("container", "");
    page.text("runtime", runtime.name(), &from);
    if runtime != ContainerRuntime::None {
        page.comment("mounts = [\"/shared/models:/shared/models:ro\"]");
        page.comment("images = \"/shared/images\"   # registry images are imported here once");
    }
}

fn binaries(page: &mut Page, survey: &Survey, groups: &[GpuGroup], choice: &SiteChoices) {
    let archs = groups.iter().filter_map(|group| group.arch.as_deref());
    let foreign = archs.filter(|arch| *arch != survey.login_arch && ["x86_64", "aarch64"].contains(arch));
    let foreign = foreign.sorted().dedup().collect_vec();
    if foreign.is_empty() && choice.binaries.is_empty() {
        return;
    }
    page.section("binary", "tokmark for nodes of another architecture");
    for (arch, path) in choice.binary() {
        page.text(arch, path, "--binary");
    }
    for arch in foreign.into_iter().filter(|arch| !choice.binary().contains_key(*arch)) {
        page.comment(&format!(
            "{arch} = \"/path/to/tokmark\"   # required: some nodes are {arch}, this machine is {}",
            survey.login_arch
        ));
    }
}

fn gpu_type(
    page: &mut Page,
    survey: &Survey,
    groups: &[GpuGroup],
    group: &GpuGroup,
    site_partition: Option<&str>,
    dialect: GresDialect,
) {
    let nodes = group.nodes.len();
    let plural = if nodes == 1 { "" } else { "s" };
    page.section(&format!("gpus.{}", group.kind), &format!("{nodes} node{plural}"));
    let odd = if group.odd > 0 { format!("; {} have another number", group.odd) } else { String::new() };
    page.value("per_node", &group.per_node.to_string(), &format!("GRES (sinfo){odd}"));
    if group.kind == "gpu" {
        page.comment("Slurm does not name the type: rename the section, e.g. [gpus.h100]");
    }
    if let Some(kind) = group.gres_type.as_ref().filter(|kind| **kind != group.kind) {
        page.text("gres_type", kind, "GRES (sinfo)");
    }
    let in_site = site_partition.filter(|name| group.partitions.contains_key(*name));
    let partition = in_site.or_else(|| best_partition(group));
    if let (None, Some(partition)) = (in_site, partition) {
        page.text("partition", partition, "has most of these nodes (sinfo)");
    }
    let shares = |other: &GpuGroup| partition.is_some_and(|name| other.partitions.contains_key(name));
    let alone = groups.iter().filter(|other| *other != group).all(|other| !shares(other));
    if dialect != GresDialect::TypedGres && !alone {
        match &group.feature {
            Some(feature) => page.text("constraint", feature, "a feature of only these nodes (sinfo)"),
            None => page.comment(
                "constraint = \"…\"   # other GPUs share the partition, and no feature separates them",
            ),
        }
    }
    if let Some(arch) = group.arch.as_deref().filter(|arch| ["x86_64", "aarch64"].contains(arch)) {
        page.text("arch", arch, "scontrol show node");
    }
    let is_rack = ["gb200", "gb300"].contains(&group.kind.as_str());
    let block = survey.config.get("TopologyPlugin").is_some_and(|plugin| plugin.contains("block"));
    if is_rack && survey.has_segment && block {
        page.value("nodes_per_domain", "18", "NVL72: 72 GPUs, 4 a node (Slurm has topology/block)");
    } else if is_rack {
        page.comment("nodes_per_domain = 18   # NVL72, if Slurm knows racks (topology/block, --segment)");
    }
}

/// The text so far.
#[derive(Default)]
struct Page(String);

impl Page {
    fn comment(&mut self, text: &str) {
        let _ = writeln!(self.0, "# {}", one_line(text));
    }

    fn section(&mut self, name: &str, from: &str) {
        let line = format!("[{name}]");
        self.0.push('\n');
        self.line(&line, from);
    }

    fn text(&mut self, key: &str, value: &str, from: &str) {
        self.value(key, &toml::Value::String(value.to_owned()).to_string(), from);
    }

    fn value(&mut self, key: &str, value: &str, from: &str) {
        self.line(&format!("{key} = {value}"), from);
    }

    fn line(&mut self, line: &str, from: &str) {
        let _ = if from.is_empty() {
            writeln!(self.0, "{line}")
        } else {
            writeln!(self.0, "{line:COMMENTS$} # {}", one_line(from))
        };
    }
}

/// Without line breaks, because a comment ends with its line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::document::Document;
    use crate::site::SiteFile;
    use crate::slurm::sinfo;
    use crate::survey::gpu_groups;

    proptest! {
        /// With arbitrary names.
        #[test]
        fn any_cluster_gives_a_readable_site_file(
            names in proptest::collection::vec("\\PC{0,6}", 5),
            counts in proptest::collection::vec(0_u32..9, 3),
        ) {
            let name = |at: usize| names[at].replace('|', "");
            let lines: String = counts
                .iter()
                .enumerate()
                .map(|(at, count)| {
                    let (kind, other) = (name(at), name(at + 1));
                    format!("n{at}|{other}*|up|idle|1:00|8|1|gpu:{kind}:{count},gpu:{count}|{kind},{other}\n")
                })
                .collect();
            let survey = Survey {
                nodes: sinfo::parse(&lines).unwrap(),
                config: [("ClusterName".to_owned(), names[3].clone())].into(),
                default_account: Some(names[4].clone()),
                has_segment: true,
                ..Survey::default()
            };
            let groups = gpu_groups(&survey.nodes, &survey.archs);
            let text = site_file(&survey, &groups, &SiteChoices::default());
            let read = SiteFile::parse(Document { file: "site.toml".into(), text: text.clone() });
            prop_assert!(read.is_ok(), "{text}\n{read:?}");
            prop_assert_eq!(read.unwrap().site.gpus.len(), groups.len());
        }
    }
}
