//! One order: what a command's options or a `[[job]]` request, before any recipe is read.

use crate::document::InputError;

/// An order. Each list is an axis; each combination becomes a job.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Order {
    /// `jobs.toml:3`, or empty on the command line.
    pub origin: String,
    /// A recipe by file, name or alias, in place of workloads.
    pub recipe: Option<String>,
    pub workloads: Vec<String>,
    pub size: Option<String>,
    /// Precisions; empty: the recipe's own.
    pub dtypes: Vec<String>,
    pub scales: Scales,
    /// GPU types; empty: the site's.
    pub gpus: Vec<String>,
    /// Number of jobs per combination.
    pub repeats: u32,
    /// `--env`: variables, each with its values.
    pub env: Vec<(String, Vec<String>)>,
    /// `--set`: keys, each with its values.
    pub sets: Vec<(String, Vec<String>)>,
    /// Run the recipe as it is, even if precision or scale do not match.
    pub force: bool,
}

/// Which numbers of GPUs to run on.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Scales {
    /// The recipe's own.
    #[default]
    Own,
    These(Vec<u32>),
    /// Every offered scale between two bounds; with an upper bound also doublings of the largest one, unless `exact`.
    Within {
        min: Option<u32>,
        max: Option<u32>,
        exact: bool,
    },
}

impl Order {
    /// Name of a value in messages: the option, or the job in the file.
    pub fn place(&self, option: &str) -> String {
        if self.origin.is_empty() { format!("--{option}") } else { self.origin.clone() }
    }

    /// An error about a value of the order.
    pub(super) fn wrong(&self, option: &str, problem: impl Into<String>) -> InputError {
        let error = InputError::new(self.place(option), problem);
        if self.origin.is_empty() { error } else { error.key(option) }
    }

    /// Mistakes in the order itself.
    pub fn problems(&self) -> Vec<InputError> {
        let mut errors = Vec::new();
        let mut once = |option: &str, values: &[String]| {
            let twice = values.iter().enumerate().find(|(at, value)| values[..*at].contains(value));
            if let Some((_, value)) = twice {
                let error = self.wrong(option, format!("{value:?} occurs twice")).expected("each value once");
                errors.push(error.next("repeats (-r) submits a job several times"));
            }
        };
        once("workload", &self.workloads);
        once("dtype", &self.dtypes.iter().map(|dtype| dtype.to_lowercase()).collect::<Vec<_>>());
        once("gpu", &self.gpus);
        if let Scales::These(scales) = &self.scales {
            once("scale", &scales.iter().map(ToString::to_string).collect::<Vec<_>>());
        }
        for (name, values) in &self.env {
            once(&format!("env.{name}"), values);
        }
        for (key, values) in &self.sets {
            once(&format!("set.{key}"), values);
        }
        if let Scales::Within { min: Some(min), max: Some(max), .. } = self.scales
            && min > max
        {
            let error = self.wrong("min-scale", format!("found {min}"));
            errors.push(error.expected(format!("at most {max}, the --max-scale")));
        }
        let scales = match &self.scales {
            Scales::Own => 1,
            Scales::These(scales) => scales.len(),
            Scales::Within { .. } => usize::MAX,
        };
        if self.force && [self.workloads.len(), self.dtypes.len(), scales].iter().any(|count| *count > 1) {
            let error = self.wrong("force", "several jobs");
            errors.push(error.expected("one workload, one precision, one scale"));
        }
        errors
    }
}
