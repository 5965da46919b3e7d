//! Tests without a cluster, one module for each subject. They share one process: a test changes neither the environment
//! nor the working directory of this process.
#![cfg(test)]

mod addresses_e2e;
mod aiperf_oracle;
mod architecture;
mod bad_input;
mod cli;
mod compare_e2e;
mod disk_e2e;
mod engine_options;
mod export;
mod fault_e2e;
mod foreign_summaries;
mod genai_perf_oracle;
mod gpus_e2e;
mod hostile;
mod job_script;
mod knobs;
mod launchers;
mod local_e2e;
mod lost_jobs;
mod prompts_e2e;
mod ramp_e2e;
mod recipes;
mod rehearsal;
mod repeats_e2e;
mod report_e2e;
mod resume_e2e;
mod search_e2e;
mod shapes;
mod site_fake;
mod slurm_fake;
mod slurm_fake_cli;
mod start_e2e;
mod suites;
mod support;
mod vendored;
mod verify_e2e;
mod vllm_bench_oracle;
mod weights_e2e;
mod workloads;
mod zones_e2e;
mod zones_model_e2e;
