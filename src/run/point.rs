//! One load point, from the first request to the last file in its folder.

use std::path::{Path, PathBuf};

use fs_err as fs;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::calibration::{Calibrated, cache_count, reset_cache};
use super::records::RecordWriter;
use super::refusals::Refusals;
use crate::document::{InputError, InputErrors};
use crate::experiment::files;
use crate::export::{ExportError, PointFolder};
use crate::load::{self, LiveCounters, Options, Target};
use crate::metrics::dialects::aiperf;
use crate::metrics::fold::Fold;
use crate::metrics::record::{Aborted, Outcome, Phase, PointRun, RequestRecord};
use crate::metrics::summary::{Context, Summary, summarize};
use crate::plan::{ExportFormat, LoadPoint};
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

/// How a load ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadEnd {
    /// It was stopped before its own end.
    pub cut: bool,
    /// Requests lost their connection, or it was given up.
    pub lost: bool,
    /// It was given up because the endpoint does not listen any more.
    pub unreachable: bool,
}

impl LoadEnd {
    /// It ended by itself, and no connection was lost.
    pub fn is_whole(self) -> bool {
        !self.cut && !self.lost
    }
}

/// What cut a load short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// A server died.
    ServerDied,
    /// A signal arrived.
    Interrupted,
    /// The endpoint does not listen any more, though no server was seen to end.
    Unreachable,
}

/// A load that has ended, not yet judged.
pub struct Driven {
    measure: Measure,
    refusals: Refusals,
    calibrated: Calibrated,
    run: PointRun,
    fold: Fold,
    lost: bool,
}

/// Why a point gave no summary.
#[derive(Debug, thiserror::Error)]
pub enum PointError {
    /// The load point cannot be sent, or not to this server.
    #[error(transparent)]
    Input(#[from] InputErrors),
    /// The load engine.
    #[error(transparent)]
    Load(#[from] load::LoadError),
    /// Files.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The records could not be read back for the exports, or the exports not be written.
    #[error(transparent)]
    Export(#[from] ExportError),
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
    /// A measurement of nothing but a load point, which leaves no files.
    #[cfg(test)]
    pub fn new(target: Target, point: LoadPoint) -> Self {
        Self {
            target,
            point,
            dir: None,
            context: Context::default(),
            benchmark_id: String::new(),
            salt: 0,
            tokenizers: TokenizerCache::default(),
            metrics_urls: Vec::new(),
            deployment: None,
        }
    }

    /// Drives the load and writes the point's files; for whoever needs no reason why it was cut.
    #[cfg(test)]
    pub fn run(self, progress: &LiveCounters, stop: &CancellationToken) -> Result<Summary, PointError> {
        self.drive(progress, stop)?.finish(None)
    }

    /// Asks the server what it refuses, and drives the load without it. Blocks; meant for a thread of its own. Every record is in
    /// its file when this returns.
    pub fn drive(self, progress: &LiveCounters, stop: &CancellationToken) -> Result<Driven, PointError> {
        let (measure, refusals) = Refusals::reach(self, stop)?;
        let calibrated = Calibrated::make(&measure, stop)?;
        if let Some(path) = &measure.point.prompts.reset_cache {
            reset_cache(&measure.target, path)?;
        }
        let records = match &measure.dir {
            Some(dir) => {
                fs::create_dir_all(dir)?;
                if let Some(config) = &measure.deployment {
                    files::create_once(&dir.join("deployment_config.json"), pretty(config).as_bytes())?;
                }
                Some(RecordWriter::open(&dir.join("records.jsonl"))?)
            }
            None => None,
        };
        let (mut fold, mut lost) = (Fold::new(&measure.point), false);
        let mut sink = |record: &RequestRecord| {
            fold.add(record);
            lost |= matches!(record.outcome, Outcome::Connect | Outcome::Disconnected);
            if let Some(file) = &records {
                file.write(record);
            }
        };
        let (options, prompts) = (Options::default(), &calibrated.prompts);
        let cached = cache_count(&measure.metrics_urls);
        let mut run =
            load::drive(&measure.target, &measure.point, prompts, &options, progress, &mut sink, stop)?;
        run.prefix_cache = cached.and_then(|before| Some(cache_count(&measure.metrics_urls)?.since(before)));
        records.map(RecordWriter::close).transpose()?;
        lost |= run.aborted.is_some();
        Ok(Driven { measure, refusals, calibrated, run, fold, lost })
    }
}

impl Driven {
    /// How the load ended.
    pub fn end(&self) -> LoadEnd {
        let unreachable = matches!(self.run.aborted, Some(Aborted::Unreachable { .. }));
        LoadEnd { cut: self.run.interrupted, lost: self.lost, unreachable }
    }

    /// Computes the figures and writes the point's files. Blocks.
    pub fn finish(mut self, cut: Option<Cut>) -> Result<Summary, PointError> {
        let is_whole = cut.is_none() && !self.run.interrupted && !self.end().unreachable;
        // The reason is named below; that the load was cut adds nothing to it.
        self.run.interrupted = cut.map_or(self.run.interrupted, |cut| cut == Cut::Interrupted);
        let Self { measure, refusals, calibrated, run, fold, .. } = self;
        let mut summary = summarize(&measure.point, &run, &fold, &measure.context);
        refusals.note(&mut summary);
        summary.prompts = Some(calibrated.facts);
        if let Some(aborted) = &run.aborted {
            summary.verdict.invalidate(&aborted.to_string());
        }
        if cut == Some(Cut::ServerDied) {
            summary.verdict.invalidate("a server died during the measurement");
        }
        // The exports need memory of their own.
        drop(fold);
        if let Some(dir) = &measure.dir {
            // After the load: making every prompt once more would keep the first request waiting.
            measure.write_inputs(dir, &calibrated.prompts)?;
            measure.export(dir, run.started_at, summary.requests.total, !is_whole)?;
            // The summary comes last: a folder with one is whole. A point that was cut short will be run again.
            let name = if is_whole { "summary.json" } else { "summary.interrupted.json" };
            files::create_once(&dir.join(name), pretty(&json!(summary)).as_bytes())?;
        }
        Ok(summary)
    }
}

impl Measure {
    fn write_inputs(&self, dir: &Path, prompts: &Prompts) -> Result<(), PointError> {
        let requests = prompts.planned(&self.point);
        let payloads = (0..requests).map(|id| {
            let prompt = prompts.plan(Phase::Measure, id);
            let body = load::body::request_body(&self.point, &self.target.model, &prompt);
            (aiperf::session_id(Phase::Measure, id), body)
        });
        files::create_once_with(&dir.join("inputs.json"), |out| aiperf::write_inputs(out, payloads))?;
        Ok(())
    }

    /// Writes AIPerf's files, and those the load point asks for.
    fn export(
        &self,
        dir: &Path,
        started_at: jiff::Timestamp,
        requests: u64,
        cut: bool,
    ) -> Result<(), ExportError> {
        let folder = PointFolder {
            dir: dir.to_owned(),
            name: self.point.id.clone(),
            point: self.point.clone(),
            started_at,
            model: self.target.model.clone(),
            url: self.target.address(),
            simulated: self.context.simulated,
            benchmark_id: self.benchmark_id.clone(),
            cut,
            counted: Some(requests),
            is_fresh: true,
        };
        folder.export(&[&[ExportFormat::Aiperf], self.point.exports.as_slice()].concat())?;
        Ok(())
    }
}

fn pretty(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}
