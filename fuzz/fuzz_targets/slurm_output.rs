//! What Slurm's tools print, banners of the site included: every parser sees every text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokmark::internals::document::Document;
use tokmark::internals::site::SiteFile;
use tokmark::internals::slurm::{
    JobId, JobState, duration_s, features, sacct, sacctmgr, sbatch, scontrol, sinfo, squeue, unix_s,
};
use tokmark::internals::survey::choice::SiteChoices;
use tokmark::internals::survey::write::site_file;
use tokmark::internals::survey::{Survey, gpu_groups};

fuzz_target!(|text: &str| {
    let _ = squeue::parse(text);
    let _ = scontrol::parse_steps(text);
    let _ = sacct::parse(text);
    let _ = scontrol::parse_jobs(text);
    let _ = scontrol::parse_hostnames(text).inspect(|names| assert!(!names.is_empty()));
    let _ = sbatch::parse(text).map(|submitted| assert!(!submitted.id.as_str().is_empty()));
    let _ = sbatch::advice(text);
    let _ = scontrol::parse_config(text);
    let _ = scontrol::parse_archs(text);
    let _ = sinfo::parse_version(text);
    assert!(sinfo::parse_gres(text).iter().all(|gpus| gpus.count > 0));
    // Whatever nodes there are, they are grouped, and a site file is written that can be read.
    if let Ok(nodes) = sinfo::parse(text) {
        let survey = Survey { nodes, archs: scontrol::parse_archs(text), ..Survey::default() };
        let groups = gpu_groups(&survey.nodes, &survey.archs);
        let text = site_file(&survey, &groups, &SiteChoices::default());
        let document = Document { file: "site.toml".into(), text };
        SiteFile::parse(document).expect("a site file");
    }
    let _ = sacctmgr::parse(text);
    let _ = sacctmgr::parse_default(text, "user");
    let _ = features::parse_mpi(text);
    let _ = (features::has_option(text, "--container-env"), features::has_segment(text));
    for line in text.lines() {
        let _ = (unix_s(line), duration_s(line));
        let state = JobState::parse(line);
        assert_eq!(JobState::parse(state.as_str()), state);
        let id = JobId::try_from(line.to_owned());
        let _ = id.map(|id| assert!(id.as_str().starts_with(id.base())));
    }
});
