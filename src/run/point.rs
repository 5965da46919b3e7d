//! One load point, from the first request to the last file in its folder.

use std::path::{Path, PathBuf};

use fs_err as fs;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::calibration::{Calibrated, cache_count, reset_cache};
use super::exports;
use super::records::RecordWriter;
use super::refusals::Refusals;
use crate::document::{InputError, InputErrors};
use crate::experiment::files;
use crate::load::{self, LiveCounters, Options, Target};
use crate::metrics::dialects::{ExportContext, Results, aiperf};
use crate::metrics::fold::Fold;
use crate::metrics::record::{Aborted, Outcome, Phase, RequestRecord};
use crate::metrics::summary::{Context, Summary, summarize};
use crate::plan::LoadPoint;
use crate::prompts::{Prompts, TokenizerCache};

/// What a point is measured with and for.
#[derive(Debug, Clone)]
pub struct Measure {
    /// The endpoint.
    pub target: Target,
    /// The point.
    pub point: LoadPoint,
    /// Folder of its files; `None` writes none.
    pub dir: Option<PathBuf>,
    /// Simulated, GPUs.
    pub context: Context,
    /// Name of the experiment or run, for the exports.
    pub benchmark_id: String,
    /// Stirs the first words of the prompts, unless the point has a salt of its own.
    pub salt: u64,
    /// Tokenizers that were loaded for other points.
    pub tokenizers: TokenizerCache,
    /// Metrics pages of the servers, for the counters of their prefix caches.
    pub metrics_urls: Vec<String>,
    /// `deployment_config.json`, when there is a deployment to describe.
    pub deployment: Option<Value>,
}

/// A point that was driven.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Its figures.
    pub summary: Summary,
    /// Nobody listened any more: the endpoint is gone.
    pub unreachable: bool,
}

/// Why a point gave no summary.
#[derive(Debug, thiserror::Error)]
pub enum PointError {
    /// What was asked for cannot be sent, or not to this server.
    #[error(transparent)]
    Input(#[from] InputErrors),
    /// The load engine.
    #[error(transparent)]
    Load(#[from] load::LoadError),
    /// Files.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl From<InputError> for PointError {
    fn from(error: InputError) -> Self {
        Self::Input(error.into())
    }
}

/// Moves what an interrupted attempt left out of the way: `NAME` becomes `NAME.interrupted-N`.
pub fn set_aside(dir: &Path, whole: bool) -> std::io::Result<()> {
    if !dir.join("records.jsonl").exists() {
        return Ok(());
    }
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let free = |n: &u32| !dir.with_file_name(format!("{name}.interrupted-{n}")).exists();
    let Some(number) = (1..).find(free) else { return Ok(()) };
    let aside = dir.with_file_name(format!("{name}.interrupted-{number}"));
    if whole {
        return fs::rename(dir, aside);
    }
    fs::create_dir(&aside)?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::rename(entry.path(), aside.join(entry.file_name()))?;
        }
    }
    Ok(())
}

impl Measure {
    /// Asks the server what it refuses, drives the load without it and writes the point's files. Blocks; meant for a thread
    /// of its own. `cut_reason` is asked once the load has ended, told whether requests lost their connection, and names
    /// what cut it short.
    pub fn run(
        &self,
        progress: &LiveCounters,
        stop: &CancellationToken,
        cut_reason: &dyn Fn(bool) -> Option<String>,
    ) -> Result<Measured, PointError> {
        let (measure, agreement) = Refusals::reach(self, stop)?;
        let prepared = Calibrated::make(&measure, stop)?;
        if let Some(path) = &measure.point.prompts.reset_cache {
            reset_cache(&measure.target, path)?;
        }
        measure.drive((agreement, prepared), progress, stop, cut_reason)
    }

    fn drive(
        &self,
        (agreement, prepared): (Refusals, Calibrated),
        progress: &LiveCounters,
        stop: &CancellationToken,
        cut_reason: &dyn Fn(bool) -> Option<String>,
    ) -> Result<Measured, PointError> {
        let records = match &self.dir {
            Some(dir) => {
                fs::create_dir_all(dir)?;
                if let Some(config) = &self.deployment {
                    files::create_once(&dir.join("deployment_config.json"), pretty(config).as_bytes())?;
                }
                Some(RecordWriter::open(&dir.join("records.jsonl"))?)
            }
            None => None,
        };
        let (mut fold, mut lost) = (Fold::new(&self.point), false);
        let mut sink = |record: &RequestRecord| {
            fold.add(record);
            lost |= matches!(record.outcome, Outcome::Connect | Outcome::Disconnected);
            if let Some(file) = &records {
                file.write(record);
            }
        };
        let (options, prompts) = (Options::default(), &prepared.prompts);
        let cached = cache_count(&self.metrics_urls);
        let mut run = load::drive(&self.target, &self.point, prompts, &options, progress, &mut sink, stop)?;
        run.prefix_cache = cached.and_then(|before| Some(cache_count(&self.metrics_urls)?.since(before)));
        let records = records.map(RecordWriter::close).transpose()?;
        lost |= run.aborted.is_some();
        let cut = cut_reason(lost);
        run.interrupted |= lost && stop.is_cancelled();
        let interrupted = run.interrupted;
        // What cut it short is named below; the cut itself is no news then.
        run.interrupted &= cut.is_none();
        let mut summary = summarize(&self.point, &run, &fold, &self.context);
        agreement.note(&mut summary);
        summary.prompts = Some(prepared.facts);
        let unreachable = matches!(run.aborted, Some(Aborted::Unreachable { .. }));
        if let Some(aborted) = &run.aborted {
            summary.verdict.invalidate(&aborted.to_string());
        }
        if let Some(reason) = &cut {
            summary.verdict.invalidate(reason);
        }
        if let (Some(dir), Some(records)) = (&self.dir, &records) {
            let results = Results { point: &self.point, run: &run, fold: &fold, records };
            // After the load: making every prompt once more would keep the first request waiting.
            self.write_inputs(dir, &prepared.prompts)?;
            self.export(dir, &results, &summary, cut.is_some() || unreachable || interrupted)?;
        }
        Ok(Measured { summary, unreachable })
    }

    fn write_inputs(&self, dir: &Path, prompts: &Prompts) -> Result<(), PointError> {
        let requests = prompts.planned(&self.point);
        let payloads = (0..requests).filter_map(|id| {
            let prompt = prompts.plan(Phase::Measure, id);
            let body = load::body::request_body(&self.point, &self.target.model, &prompt);
            Some((aiperf::session_id(Phase::Measure, id), serde_json::from_slice(&body).ok()?))
        });
        files::create_once_with(&dir.join("inputs.json"), |out| aiperf::write_inputs(out, payloads))?;
        Ok(())
    }

    fn export(
        &self,
        dir: &Path,
        results: &Results<'_>,
        summary: &Summary,
        cut: bool,
    ) -> Result<(), PointError> {
        let export = ExportContext {
            model: &self.target.model,
            url: &self.target.address(),
            version: env!("CARGO_PKG_VERSION"),
            simulated: self.context.simulated,
            benchmark_id: &self.benchmark_id,
        };
        exports::write(dir, results, &export)?;
        let text = pretty(&json!(summary));
        // The summary comes last: a folder with one is whole. A point that was cut short will be run again.
        let name = if cut { "summary.interrupted.json" } else { "summary.json" };
        files::create_once(&dir.join(name), text.as_bytes())?;
        Ok(())
    }
}

fn pretty(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}
