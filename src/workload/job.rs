//! One job of a submission.

use serde_json::{Value, json};

use super::Task;
use crate::plan::Plan;

/// One job of a submission.
#[derive(Debug, Clone)]
pub struct Job {
    pub plan: Plan,
    /// `2/3` for the second of three repeats; `None` without repeats.
    pub number: Option<(u32, u32)>,
    /// How it differs from the other jobs of its order.
    pub differs: Vec<String>,
}

/// Expands tasks into jobs, in order.
pub fn jobs(tasks: Vec<Task>) -> Vec<Job> {
    let repeated = |task: Task| {
        (1..=task.repeats).map(move |number| Job {
            plan: task.plan.clone(),
            number: (task.repeats > 1).then_some((number, task.repeats)),
            differs: task.differs.clone(),
        })
    };
    tasks.into_iter().flat_map(repeated).collect()
}

/// How each job differs from the others of the same recipe and GPU type, in whatever `[[job]]` they are.
pub fn differences(jobs: &[&Job]) -> Vec<Vec<String>> {
    let of_job = |job: &&Job| {
        let alike = |other: &&&Job| other.plan.name == job.plan.name && other.plan.gpu == job.plan.gpu;
        let others: Vec<Vec<String>> = jobs.iter().filter(alike).map(|other| other.settings()).collect();
        let is_apart = |setting: &String| others.iter().any(|other| !other.contains(setting));
        let number = job.number.map(|(number, all)| format!("{number}/{all}"));
        job.settings().into_iter().filter(is_apart).chain(number).collect()
    };
    jobs.iter().map(of_job).collect()
}

impl Job {
    /// Its size and its chosen variables and keys.
    fn settings(&self) -> Vec<String> {
        let mut settings = vec![self.gpus()];
        let choices = &self.plan.input.choices;
        settings.extend(choices.env.iter().map(|(name, value)| format!("{name}={value}")));
        settings.extend(choices.sets.iter().cloned());
        settings.extend(choices.deployment.clone());
        settings
    }

    fn gpus(&self) -> String {
        let scale = self.plan.scale();
        format!("{scale} GPU{}", if scale == 1 { "" } else { "s" })
    }

    /// `gpt-oss-120b-vllm 120b mxfp4, 4 GPUs (h100), STREAMING=false, 2/3`
    pub fn describe(&self) -> String {
        let plan = &self.plan;
        let name = [Some(plan.name.as_str()), plan.model.size.as_deref(), plan.model.precision.as_deref()];
        let mut words = vec![name.into_iter().flatten().collect::<Vec<_>>().join(" ")];
        if plan.scale() > 0 {
            let on = if plan.gpu.kind == "none" { String::new() } else { format!(" ({})", plan.gpu.kind) };
            words.push(format!("{}{on}", self.gpus()));
        }
        words.extend(self.differs.iter().cloned());
        words.extend(self.number.map(|(number, all)| format!("{number}/{all}")));
        words.join(", ")
    }

    /// The object that `submit --json` prints: the keys of `value`, then those of the job.
    pub fn as_json(&self, mut value: Value) -> Value {
        let plan = &self.plan;
        value["recipe"] = json!(plan.name);
        value["size"] = json!(plan.model.size);
        value["dtype"] = json!(plan.model.precision);
        value["scale"] = json!(plan.scale());
        value["gpu"] = json!(plan.gpu.kind);
        value["differs"] = json!(self.differs);
        value["repeat"] = json!(self.number.map_or(1, |(number, _)| number));
        value
    }
}
