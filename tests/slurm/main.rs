//! Tests on a real Slurm, that of `scripts/slurm-cluster`: the binary (submitted, rendered, cancelled, requeued, timed out,
//! on several nodes, with GPUs and containers, with a node that dies) and, in `executor`, the library's calls.
//!
//! Skipped unless `TOKMARK_TEST_SLURM=1` and `SLURM_CONF` are set:
//! `eval "$(scripts/slurm-cluster up)"; TOKMARK_TEST_SLURM=1 cargo test --test slurm`.
//! Every test has a folder and jobs of its own and asks for little, so they run beside each other; the two that kill a
//! node wait until they are alone.
#![cfg(test)]

mod containers;
mod ends;
mod engines;
mod executor;
mod gpus;
mod lab;
mod llmb;
mod orphans;
mod parallel;
mod roles;
mod site;
mod submits;
#[path = "../it/support/wait.rs"]
mod support;
mod verbs;
#[path = "../it/support/weights.rs"]
mod weights;
mod wreck;
