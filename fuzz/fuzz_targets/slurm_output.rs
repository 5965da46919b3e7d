//! What Slurm's tools print, banners of the site included: every parser sees every text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokmark::slurm::{JobId, JobState, duration_s, sacct, sbatch, scontrol, squeue, unix_s};

fuzz_target!(|text: &str| {
    let _ = squeue::parse(text);
    let _ = squeue::parse_steps(text);
    let _ = sacct::parse(text);
    let _ = scontrol::parse_jobs(text);
    let _ = scontrol::parse_hostnames(text).inspect(|names| assert!(!names.is_empty()));
    let _ = sbatch::parse(text).map(|submitted| assert!(!submitted.id.as_str().is_empty()));
    let _ = sbatch::advice(text);
    for line in text.lines() {
        let _ = (unix_s(line), duration_s(line));
        let state = JobState::parse(line);
        assert_eq!(JobState::parse(state.as_str()), state);
        let id = JobId::try_from(line.to_owned());
        let _ = id.map(|id| assert!(id.as_str().starts_with(id.base())));
    }
});
