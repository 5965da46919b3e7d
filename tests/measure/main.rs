//! Measurements, ignored by default because they need a quiet machine and a release build:
//! `cargo test --release --test measure NAME -- --ignored --nocapture --test-threads=1`.
#![cfg(test)]

mod fold_cost;
mod load_cost;
mod sim_load;
