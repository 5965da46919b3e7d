//! `submit --parallel N`: the jobs of a sweep in N lanes. Each job waits for the end, good or bad, of the one before it in its lane,
//! so that at most N run, a failed deployment stops no other, and a requeued job keeps its place.

use crate::document::InputError;
use crate::plan::Plan;
use crate::workload::file::SuiteFile;

/// Where in the list of jobs, from 0, the one is that this job waits for.
pub(super) fn before(number: usize, lanes: Option<u32>) -> Option<usize> {
    number.checked_sub(usize::try_from(lanes?).ok()?)
}

/// sbatch's option for a job that waits for the end of another.
pub(super) fn dependency(job: &str) -> String {
    format!("--dependency=afterany:{job}")
}

/// Refuses a dependency of the user's: sbatch keeps only one.
pub(super) fn check(lanes: Option<u32>, options: &[String]) -> Result<(), InputError> {
    let is_dependency = |option: &&String| option.starts_with("--dependency") || option.starts_with("-d");
    match options.iter().find(is_dependency).filter(|_| lanes.is_some()) {
        Some(option) => {
            Err(InputError::new(option, "--parallel sets it, so that each job waits for one before it")
                .next("leave out one of the two"))
        }
        None => Ok(()),
    }
}

/// The suite that joins the jobs.
pub(super) fn suite(plan: &Plan, most: u32) -> SuiteFile {
    let recipe = toml::Value::String(plan.input.recipe.file.clone());
    let text = format!(
        "# The deployments of one recipe as jobs of their own, at most {most} at a time: tokmark submit --parallel {most}\n\
         [[job]]\nrecipe = {recipe}\n"
    );
    let summary = Some(plan.summary.clone()).filter(|summary| !summary.is_empty());
    SuiteFile { name: plan.name.clone(), summary, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_job_waits_for_the_one_before_it_in_its_lane() {
        let waits = |lanes| (0..5).map(|number| before(number, lanes)).collect::<Vec<_>>();
        assert_eq!(waits(Some(2)), [None, None, Some(0), Some(1), Some(2)]);
        assert_eq!(waits(Some(1)), [None, Some(0), Some(1), Some(2), Some(3)], "a chain");
        assert_eq!(waits(Some(9)), [None; 5]);
        assert_eq!(waits(None), [None; 5]);
    }
}
