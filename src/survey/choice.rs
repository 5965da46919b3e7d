//! The user's choices for a site file, and questions about what the cluster leaves open. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use itertools::Itertools;

use super::{GpuGroup, Survey};
use crate::document::{InputError, InputErrors, nearest};
use crate::site::ContainerRuntime;

/// Flags of `tokmark init` for values of the site file; the rest follows from the survey.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct SiteChoices {
    /// Name of the site [default: the cluster's]
    #[arg(long)]
    pub name: Option<String>,
    /// Partition [default: Slurm's, or the one with most GPU nodes]
    #[arg(long)]
    pub partition: Option<String>,
    /// Account [default: yours]
    #[arg(long)]
    pub account: Option<String>,
    /// QOS
    #[arg(long)]
    pub qos: Option<String>,
    /// Reservation
    #[arg(long)]
    pub reservation: Option<String>,
    /// none, pyxis or apptainer [default: what the cluster has]
    #[arg(long, value_name = "RUNTIME", value_parser = container)]
    pub container: Option<ContainerRuntime>,
    /// tokmark binary for nodes of an architecture, e.g. aarch64=/shared/bin/tokmark (repeatable)
    #[arg(long = "binary", value_name = "ARCH=PATH", value_parser = binary)]
    pub binaries: Vec<(String, String)>,
    /// GPU type that jobs use when none is named [default: the one of the partition]
    #[arg(long, value_name = "TYPE")]
    pub gpu: Option<String>,
    /// Folder of the experiments [default: ./experiments]
    #[arg(long, value_name = "DIR")]
    pub experiments: Option<String>,
}

fn container(text: &str) -> Result<ContainerRuntime, &'static str> {
    let known = [ContainerRuntime::None, ContainerRuntime::Pyxis, ContainerRuntime::Apptainer];
    known.into_iter().find(|runtime| runtime.name() == text).ok_or("expected none, pyxis or apptainer")
}

fn binary(text: &str) -> Result<(String, String), &'static str> {
    let (arch, path) = text.split_once('=').ok_or("expected ARCH=PATH")?;
    Ok((arch.to_owned(), path.to_owned()))
}

/// A choice that the cluster leaves open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The flag that answers it.
    pub flag: &'static str,
    pub text: String,
    /// The possible answers; the first is the default.
    pub options: Vec<String>,
}

impl SiteChoices {
    /// tokmark binaries by architecture.
    pub(super) fn binary(&self) -> BTreeMap<&str, &str> {
        self.binaries.iter().map(|(arch, path)| (arch.as_str(), path.as_str())).collect()
    }

    /// The open choices: several partitions with GPUs, or several accounts, without a default.
    pub fn questions(&self, survey: &Survey, groups: &[GpuGroup]) -> Vec<Question> {
        let mut questions = Vec::new();
        let candidates = groups.first().map(partitions_of).unwrap_or_default();
        let settled = candidates.iter().any(|(_, place)| place.is_default);
        if self.partition.is_none() && candidates.len() > 1 && !settled {
            questions.push(Question {
                flag: "--partition",
                text: format!("Which partition do jobs with {} go to?", groups[0].kind),
                options: candidates.iter().map(|(name, _)| (*name).to_owned()).collect(),
            });
        }
        let accounts = survey.accounts();
        if self.account.is_none() && accounts.len() > 1 && survey.default_account.is_none() {
            questions.push(Question {
                flag: "--account",
                text: "Which account do jobs charge?".into(),
                options: accounts.iter().map(|account| (*account).to_owned()).collect(),
            });
        }
        questions
    }

    /// Stores the answer to a question.
    pub fn answer(&mut self, question: &Question, answer: &str) {
        match question.flag {
            "--partition" => self.partition = Some(answer.to_owned()),
            _ => self.account = Some(answer.to_owned()),
        }
    }

    /// Checks the choices against the cluster.
    ///
    /// # Errors
    /// Each choice that the cluster lacks.
    pub fn check(&self, survey: &Survey, groups: &[GpuGroup]) -> Result<(), InputErrors> {
        let mut errors = Vec::new();
        let mut one_of = |flag: &str, chosen: &Option<String>, known: Vec<&str>| {
            let Some(chosen) = chosen else { return };
            if !known.is_empty() && !known.contains(&chosen.as_str()) {
                let mut error = InputError::new(flag, format!("found {chosen:?}"))
                    .expected(format!("one of {}", known.join(", ")));
                if let Some(near) = nearest(chosen, known.iter().copied()) {
                    error = error.next(format!("did you mean `{near}`?"));
                }
                errors.push(error);
            }
        };
        let mut partitions = survey.partitions();
        partitions.extend(survey.hidden.iter().map(String::as_str));
        one_of("--partition", &self.partition, partitions);
        one_of("--account", &self.account, survey.accounts());
        one_of("--gpu", &self.gpu, groups.iter().map(|group| group.kind.as_str()).collect());
        let archs = ["x86_64", "aarch64"];
        for arch in self.binary().keys().filter(|arch| !archs.contains(arch)) {
            let error = InputError::new("--binary", format!("found {arch:?}"));
            errors.push(error.expected("x86_64=PATH or aarch64=PATH"));
        }
        InputErrors::check(errors)
    }

    /// Partition of the whole site: the chosen one, else the default if it has GPUs, else the best of the largest group.
    pub fn site_partition<'a>(&'a self, survey: &'a Survey, groups: &'a [GpuGroup]) -> Option<&'a str> {
        if let Some(chosen) = &self.partition {
            return Some(chosen);
        }
        let default = survey.default_partition();
        let has_gpus = |name: &&str| {
            groups.is_empty() || groups.iter().any(|group| group.partitions.contains_key(*name))
        };
        default.filter(has_gpus).or_else(|| best_partition(groups.first()?))
    }
}

/// The best partition of a group.
pub fn best_partition(group: &GpuGroup) -> Option<&str> {
    partitions_of(group).first().map(|(name, _)| *name)
}

/// Partitions of a group that accept jobs: the default first, then by number of nodes, then by name.
fn partitions_of(group: &GpuGroup) -> Vec<(&str, &super::groups::GroupPartition)> {
    let up = group.partitions.iter().filter(|(_, place)| place.is_up);
    let places = up.map(|(name, place)| (name.as_str(), place));
    places.sorted_by_key(|(_, place)| (!place.is_default, Reverse(place.nodes))).collect()
}
