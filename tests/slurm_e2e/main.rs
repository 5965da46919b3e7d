//! The built binary against a real Slurm, that of `scripts/slurm-cluster`: submitted, rendered, cancelled, requeued,
//! timed out, on several nodes, with GPUs and containers, and with a node that dies.
//!
//! Skipped unless `TOKMARK_TEST_SLURM=1` and `SLURM_CONF` are set:
//! `eval "$(scripts/slurm-cluster up)"; TOKMARK_TEST_SLURM=1 cargo test --test slurm_e2e`.
//! Every test has a folder and jobs of its own and asks for little, so they run beside each other; the one that kills a
//! node waits until it is alone.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot prepare its ground has failed")]
#![expect(clippy::print_stdout, reason = "a skipped test says so")]

mod ends;
mod engines;
mod lab;
mod llmb;
mod roles;
mod site;
mod submits;
#[path = "../support/mod.rs"]
mod support;
mod verbs;
#[path = "../support/weights.rs"]
mod weights;
mod wreck;
