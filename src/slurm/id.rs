//! Ids of jobs and steps.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Text that is not the id of a job or step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a Slurm {1} id (expected {2})")]
pub struct BadId(String, &'static str, &'static str);

/// A job's id, kept as given: `123`, an array task `123_4`, `123_[5-9%2]`, a component of a heterogeneous job `123+1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(String);

impl JobId {
    /// `123` of `123_4` and of `123+1`.
    pub fn base(&self) -> &str {
        self.0.split(['_', '+']).next().unwrap_or_default()
    }
}

/// A step's id: `123.0`, `123.batch`, `123.extern`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StepId(String);

impl StepId {
    /// What follows the dot: a number, or `batch`, `extern`, `interactive`.
    pub fn step(&self) -> &str {
        self.0.rsplit_once('.').map_or("", |(_, step)| step)
    }
}

fn is_number(text: &str) -> bool {
    (1..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_task_list(text: &str) -> bool {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.is_some_and(|list| {
        !list.is_empty() && list.bytes().all(|b| b.is_ascii_digit() || b",-:%.".contains(&b))
    })
}

fn is_job_id(text: &str) -> bool {
    match text.split_once(['_', '+']) {
        None => is_number(text),
        Some((job, part)) => is_number(job) && (is_number(part) || is_task_list(part) || part == "*"),
    }
}

impl TryFrom<String> for JobId {
    type Error = BadId;
    fn try_from(text: String) -> Result<Self, BadId> {
        if is_job_id(&text) { Ok(Self(text)) } else { Err(BadId(text, "job", "digits, as in 123 or 123_4")) }
    }
}

impl TryFrom<String> for StepId {
    type Error = BadId;
    fn try_from(text: String) -> Result<Self, BadId> {
        let is_step = |s: &str| is_number(s) || matches!(s, "batch" | "extern" | "interactive");
        let good = text.rsplit_once('.').is_some_and(|(job, step)| is_job_id(job) && is_step(step));
        if good {
            Ok(Self(text))
        } else {
            Err(BadId(text, "step", "a job id, a dot and a step, as in 123.0"))
        }
    }
}

macro_rules! id_text {
    ($type:ty) => {
        impl $type {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl std::str::FromStr for $type {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                Self::try_from(text.trim().to_owned())
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl From<$type> for String {
            fn from(id: $type) -> Self {
                id.0
            }
        }
    };
}
id_text!(JobId);
id_text!(StepId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_kept_as_given() {
        for text in ["1", "4294901760", "12_3", "12_[0-3,7%2]", "12_*", "3+1"] {
            let id: JobId = text.parse().unwrap();
            assert_eq!(id.to_string(), text);
        }
        assert_eq!("12_3".parse::<JobId>().unwrap().base(), "12");
        for text in ["", "a", "12;lab", "12.0", "-1", "12_", "_3", "12_[]", "1 2", "12345678901"] {
            assert!(text.parse::<JobId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn steps() {
        for text in ["1.0", "12_3.batch", "3+1.extern"] {
            assert_eq!(text.parse::<StepId>().unwrap().to_string(), text);
        }
        for text in ["1", "1.", "1.x", ".0", "1.0.0"] {
            assert!(text.parse::<StepId>().is_err(), "{text:?}");
        }
        assert_eq!("1.batch".parse::<StepId>().unwrap().step(), "batch");
    }

    #[test]
    fn a_bad_id_says_what_was_expected() {
        let message = "x".parse::<JobId>().unwrap_err().to_string();
        assert_eq!(message, "'x' is not a Slurm job id (expected digits, as in 123 or 123_4)");
        assert!(serde_json::from_str::<JobId>("\"x\"").is_err());
        assert_eq!(serde_json::to_string(&"7".parse::<JobId>().unwrap()).unwrap(), "\"7\"");
    }
}
