//! tokmark: a Slurm-integrated LLM inference benchmark recipe runner.
//!
//! ```text
//! recipe.toml ─layers─▶ Recipe ─expand─▶ Plan ─render─▶ job.sbatch ─sbatch─▶ JobId        login node
//! Plan (in the script) ─▶ Deployment ─spawn─▶ processes ─ready─▶ endpoint             inside the allocation
//!                         LoadPoint ─drive─▶ RequestRecord ─fold─▶ Summary ─▶ Report   anywhere, any time later
//! ```
//! CONTRIBUTING.md has the map of the modules.

mod analyze;
pub mod cli;
mod commands;
mod deploy;
mod doctor;
mod document;
pub mod error;
mod executor;
mod experiment;
mod export;
mod gpu;
mod history;
mod launcher;
mod load;
mod metrics;
mod node;
mod observe;
mod plan;
mod planner;
mod prompts;
mod recipe;
mod render;
mod report;
mod run;
mod sim;
mod site;
mod slurm;
mod survey;
mod template;
mod weights;
mod workload;

/// What tests, benchmarks and fuzz targets use beside the command line. Nobody else may: it changes with the code. Whatever is
/// neither here nor called is dead code, and the compiler says so.
pub mod internals {
    pub mod document {
        pub use crate::document::Document;
    }
    pub mod executor {
        pub use crate::executor::{Slurm, SlurmError};
    }
    pub mod experiment {
        pub use crate::experiment::Event;
        pub mod event {
            pub use crate::experiment::event::{Event, read};
        }
    }
    pub mod launcher {
        pub use crate::launcher::{all, parse};
    }
    pub mod load {
        pub use crate::load::{
            Answer, End, LiveCounters, Options, ResponseReader, Sink, Target, drive, request_body,
        };
        pub mod chunk {
            pub use crate::load::chunk::{Payload, classify};
        }
        pub mod sse {
            pub use crate::load::sse::Parser;
        }
    }
    pub mod metrics {
        pub use crate::metrics::{
            ClientHealth, CountSource, Fold, Outcome, Phase, PointRun, RequestRecord, Usage,
        };
        pub mod dialects {
            pub use crate::metrics::dialects::{ExportContext, Results, in_order_of_sending};
            pub mod aiperf {
                pub use crate::metrics::dialects::aiperf::{
                    Export, ExportContext, SummaryFiles, write_inputs,
                };
            }
            pub mod genai_perf {
                pub use crate::metrics::dialects::genai_perf::{SummaryFiles, summary_files};
            }
            pub mod read {
                pub use crate::metrics::dialects::read::{ForeignSummary, Tool, parse};
            }
            pub mod vllm_bench {
                pub use crate::metrics::dialects::vllm_bench::write;
            }
        }
        pub mod summary {
            pub use crate::metrics::summary::{Context, summarize};
        }
    }
    pub mod plan {
        pub use crate::plan::{Arrival, AtEnd, Endpoint, Length, LoadPoint, Plan, PromptSpec, Slo, Stop};
    }
    pub mod planner {
        pub mod scale {
            pub use crate::planner::scale::Allocated;
        }
        pub use crate::planner::{knobs, plan_in_job};
    }
    pub mod prompts {
        pub use crate::prompts::{Learned, Prompts, TokenizerCache};
    }
    pub mod recipe {
        pub use crate::recipe::{Origin, Recipe};
        pub mod find {
            pub use crate::recipe::find::embedded;
        }
        pub mod layers {
            pub use crate::recipe::layers::{Layers, assignment, split_path};
        }
    }
    pub mod render {
        pub use crate::render::script;
    }
    pub mod site {
        pub use crate::site::{Arch, ContainerRuntime, GresDialect, Site, SiteFile};
    }
    pub mod slurm {
        pub use crate::slurm::{ExitCode, JobId, JobState, JobStatus, StepId, duration_s, unix_s};
        pub mod features {
            pub use crate::slurm::features::{has_option, parse_mpi};
        }
        pub mod sacct {
            pub use crate::slurm::sacct::parse;
        }
        pub mod sacctmgr {
            pub use crate::slurm::sacctmgr::{parse, parse_default};
        }
        pub mod sbatch {
            pub use crate::slurm::sbatch::{advice, parse};
        }
        pub mod scontrol {
            pub use crate::slurm::scontrol::{parse_archs, parse_config, parse_hostnames, parse_jobs};
        }
        pub mod sinfo {
            pub use crate::slurm::sinfo::{parse, parse_gres, parse_version};
        }
        pub mod squeue {
            pub use crate::slurm::squeue::{argv, parse};
        }
        pub mod srun {
            pub use crate::slurm::srun::{
                CLEARED_ENV, Container, Step, StepOutput, replaces_patterns_twice, task_log,
            };
        }
    }
    pub mod survey {
        pub use crate::survey::{Survey, gpu_groups};
        pub mod choice {
            pub use crate::survey::choice::SiteChoices;
        }
        pub mod write {
            pub use crate::survey::write::site_file;
        }
    }
    pub mod weights {
        pub mod shard {
            pub use crate::weights::shard::read;
        }
    }
}
