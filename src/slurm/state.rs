//! The state of a job. A state unknown to this version of tokmark is data, not an error.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! states {
    ($($variant:ident $name:literal $code:literal $doc:literal,)*) => {
        /// A job's state. Source: squeue(1) and sacct(1), JOB STATE CODES.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub enum JobState {
            $(#[doc = $doc] $variant,)*
            /// Any other state, as Slurm wrote it.
            Unknown(String),
        }

        impl JobState {
            pub const NAMED: &[Self] = &[$(Self::$variant,)*];

            /// Slurm's long name, or the unknown text.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Unknown(text) => text,
                }
            }

            /// Slurm's compact code, as `squeue -o %t` prints it.
            fn code(&self) -> &str {
                match self {
                    $(Self::$variant => $code,)*
                    Self::Unknown(_) => "",
                }
            }
        }
    };
}

states! {
    Pending "PENDING" "PD" "In the queue.",
    Configuring "CONFIGURING" "CF" "Has its nodes, which are booting.",
    Running "RUNNING" "R" "Running.",
    Suspended "SUSPENDED" "S" "Has its nodes, execution stopped.",
    Stopped "STOPPED" "ST" "Has its nodes, stopped by SIGSTOP.",
    Resizing "RESIZING" "RS" "About to change size.",
    Signaling "SIGNALING" "SI" "Being signalled.",
    StageOut "STAGE_OUT" "SO" "Staging out files.",
    Completing "COMPLETING" "CG" "Ending; some processes may still run.",
    Requeued "REQUEUED" "RQ" "Put back into the queue.",
    RequeueHold "REQUEUE_HOLD" "RH" "Put back into the queue and held.",
    SpecialExit "SPECIAL_EXIT" "SE" "Put back, held and marked by its exit code.",
    Completed "COMPLETED" "CD" "Ended with exit code 0.",
    Cancelled "CANCELLED" "CA" "Cancelled by its user or an administrator.",
    Failed "FAILED" "F" "Ended with another exit code.",
    Timeout "TIMEOUT" "TO" "Reached its time limit.",
    Deadline "DEADLINE" "DL" "Ended at its deadline.",
    NodeFail "NODE_FAIL" "NF" "One of its nodes failed.",
    BootFail "BOOT_FAIL" "BF" "Its nodes did not boot.",
    OutOfMemory "OUT_OF_MEMORY" "OOM" "Ran out of memory.",
    Preempted "PREEMPTED" "PR" "Pushed out by another job.",
    Revoked "REVOKED" "RV" "Taken over by another cluster.",
}

impl JobState {
    /// Reads `RUNNING`, `CANCELLED by 0`, the truncated `CANCELLED+` and `OUT_OF_ME+`, the code `R`; any case.
    /// Never fails: anything else is [`JobState::Unknown`].
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        let word = text.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        if let Some(state) = Self::NAMED.iter().find(|s| s.as_str() == word || s.code() == word) {
            return state.clone();
        }
        if let Some(start) = word.strip_suffix('+').filter(|start| !start.is_empty()) {
            let mut fitting = Self::NAMED.iter().filter(|s| s.as_str().starts_with(start));
            if let (Some(state), None) = (fitting.next(), fitting.next()) {
                return state.clone();
            }
        }
        Self::Unknown(text.to_owned())
    }

    /// Whether the job has ended.
    ///
    /// `NODE_FAIL` and `PREEMPTED` are terminal; a requeued job is `PENDING` at the next poll. Unknown states are not terminal,
    /// so that waiting continues.
    pub fn is_terminal(&self) -> bool {
        matches!(
            self,
            Self::Completed
                | Self::Cancelled
                | Self::Failed
                | Self::Timeout
                | Self::Deadline
                | Self::NodeFail
                | Self::BootFail
                | Self::OutOfMemory
                | Self::Preempted
                | Self::Revoked
        )
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<String> for JobState {
    fn from(text: String) -> Self {
        Self::parse(&text)
    }
}

impl From<JobState> for String {
    fn from(state: JobState) -> Self {
        state.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::JobState::{self, *};

    #[test]
    fn states_as_slurm_writes_them() {
        let table = [
            ("RUNNING", Running),
            (" PENDING\n", Pending),
            ("CANCELLED by 0", Cancelled),
            ("CANCELLED by 1000", Cancelled),
            ("CANCELLED+", Cancelled),
            ("OUT_OF_ME+", OutOfMemory),
            ("REQUEUE_H+", RequeueHold),
            ("completed", Completed),
            ("CG", Completing),
            ("OOM", OutOfMemory),
            ("COMPLE+", Unknown("COMPLE+".into())),
            ("LAUNCH_FAILED", Unknown("LAUNCH_FAILED".into())),
            ("", Unknown(String::new())),
            ("+", Unknown("+".into())),
        ];
        for (text, state) in table {
            assert_eq!(JobState::parse(text), state, "{text:?}");
        }
    }

    #[test]
    fn names_and_codes_lead_back_to_the_state() {
        for state in JobState::NAMED {
            assert_eq!(&JobState::parse(state.as_str()), state);
            assert_eq!(&JobState::parse(state.code()), state);
        }
    }

    #[test]
    fn endings() {
        let ended: Vec<_> =
            JobState::NAMED.iter().filter(|s| s.is_terminal()).map(JobState::as_str).collect();
        assert_eq!(ended.len(), 10, "{ended:?}");
        for state in [Pending, Running, Completing, Requeued, SpecialExit, Unknown("NEW".into())] {
            assert!(!state.is_terminal(), "{state}");
        }
    }

    #[test]
    fn an_unknown_state_survives_json() {
        let text = serde_json::to_string(&Unknown("NEW_STATE".into())).unwrap();
        assert_eq!(text, "\"NEW_STATE\"");
        assert_eq!(serde_json::from_str::<JobState>(&text).unwrap(), Unknown("NEW_STATE".into()));
        assert_eq!(serde_json::from_str::<JobState>("\"NODE_FAIL\"").unwrap(), NodeFail);
    }

    proptest! {
        #[test]
        fn parse_is_total(text in "\\PC*") {
            let state = JobState::parse(&text);
            prop_assert_eq!(JobState::parse(state.as_str()), state);
        }
    }
}
