//! One load point, from the first request to the last file in its folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::calibration::{Calibrated, reset_cache};
use super::records::RecordWriter;
use super::refusals::Refusals;
use super::rescue::{Rescue, Unwritten};
use super::server_pages::{ServerPages, add_window};
use super::space;
use crate::analyze::search::hopeless::Hopeless;
use crate::document::{InputError, InputErrors};
use crate::experiment::files;
use crate::export::{ExportError, PointFolder};
use crate::load::body::RequestBody;
use crate::load::{self, LiveCounters, Options, Target};
use crate::metrics::cut_short::CutShort;
use crate::metrics::dialects::aiperf;
use crate::metrics::failures::{Failure, FailureTally};
use crate::metrics::fault::Fault;
use crate::metrics::fold::Fold;
use crate::metrics::gpus::{GpuView, Watch};
use crate::metrics::processes::ProcessView;
use crate::metrics::prompt_facts::PromptFacts;
use crate::metrics::record::{Aborted, Outcome, Phase, PointRun, RequestRecord};
use crate::metrics::request_figures::RequestFigures;
use crate::metrics::server::{ServerView, Watched};
use crate::metrics::summary::{Context, Summary, summarize};
use crate::observe::Pages;
use crate::plan::search::Search;
use crate::plan::{ExportFormat, LoadPoint, MetricsPage};
use crate::prompts::{Prompts, TokenizerCache};
use crate::recipe::secret::is_secret_header;

#[derive(Debug, Clone)]
pub struct Measure {
    pub target: Target,
    pub point: LoadPoint,
    /// Folder of its files; `None` writes no files.
    pub dir: Option<PathBuf>,
    /// Whether the engine is simulated, and the number of GPUs.
    pub context: Context,
    /// Name of the experiment or run, for the exports.
    pub benchmark_id: String,
    /// Salt for the first words of the prompts, unless the point sets its own.
    pub salt: u64,
    /// Tokenizers that earlier points loaded.
    pub tokenizers: TokenizerCache,
    /// The search that the point belongs to: a point that cannot keep its objectives any more is cut short.
    pub search: Option<Search>,
    /// Metrics pages of the servers.
    pub metrics_pages: Vec<MetricsPage>,
    /// `deployment_config.json`, if there is a deployment to describe.
    pub deployment: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadEnd {
    /// The load was stopped before its end.
    pub cut: bool,
    /// Requests lost their connection, or the load was given up.
    pub lost: bool,
    /// The load was given up because the endpoint stopped listening.
    pub unreachable: bool,
}

impl LoadEnd {
    /// The load ended by itself and lost no connection.
    pub fn is_whole(self) -> bool {
        !self.cut && !self.lost
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    ServerDied,
    Interrupted,
    /// The endpoint stopped listening although no server was seen to end.
    Unreachable,
}

/// A load that has ended, not yet judged.
pub struct Driven {
    measure: Measure,
    refusals: Refusals,
    calibrated: Calibrated,
    run: PointRun,
    watched: Watched,
    fold: Fold,
    lost: bool,
    rescue: Arc<Rescue>,
    /// Why `records.jsonl` took no more.
    unwritten: Option<std::io::Error>,
    /// Why the point was cut short although nothing was wrong.
    hopeless: Option<CutShort>,
}

/// What was seen beside the records.
#[derive(Debug, Default)]
pub struct Seen {
    /// The servers' pages that were read during the load.
    pub servers: Vec<Pages>,
    /// What the servers' processes used in the measured window.
    pub processes: Vec<ProcessView>,
    /// What was sampled of the GPUs.
    pub gpus: Option<Watch>,
}

#[derive(Debug, thiserror::Error)]
pub enum PointError {
    #[error(transparent)]
    Input(#[from] InputErrors),
    #[error(transparent)]
    Load(#[from] load::LoadError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error(transparent)]
    Unwritten(Box<Unwritten>),
}

impl From<InputError> for PointError {
    fn from(error: InputError) -> Self {
        Self::Input(error.into())
    }
}

/// Moves the files of an interrupted attempt aside: `NAME` becomes `NAME.interrupted-N`.
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
    /// Learns what the server refuses, and drives the load without it. Blocks, so give it a thread of its own. Calls `failed` with
    /// each way in which a request failed, once. When it returns, every record is in its file.
    pub fn drive(
        self,
        progress: &LiveCounters,
        stop: &CancellationToken,
        failed: &mut dyn FnMut(&Failure),
    ) -> Result<Driven, PointError> {
        let (measure, refusals) = Refusals::reach(self, stop)?;
        let calibrated = Calibrated::make(&measure, stop)?;
        if let Some(path) = &measure.point.prompts.reset_cache {
            reset_cache(&measure.target, path)?;
        }
        let rescue = Arc::new(Rescue::of(&measure.benchmark_id));
        let records = match &measure.dir {
            Some(dir) => {
                fs::create_dir_all(dir)?;
                if let Some(config) = &measure.deployment {
                    files::create_once(&dir.join("deployment_config.json"), pretty(config).as_bytes())?;
                }
                space::enough(dir, &measure.point, calibrated.prompts.planned(&measure.point))?;
                let rescue = Arc::clone(&rescue);
                Some(RecordWriter::open(&dir.join("records.jsonl"), stop.clone(), rescue)?)
            }
            None => None,
        };
        let (mut fold, mut lost) = (Fold::new(&measure.point), false);
        let (mut seen, secrets) = (FailureTally::default(), secrets(&measure.target));
        let mut rule = measure.search.as_ref().and_then(|search| Hopeless::new(search, &measure.point));
        let (mut hopeless, halt) = (None, stop.child_token());
        let mut sink = |record: &RequestRecord| {
            let redacted = without(&secrets, record);
            let record = redacted.as_ref().unwrap_or(record);
            fold.add(record);
            if let Some(reason) = rule.as_mut().and_then(|rule| rule.add(&RequestFigures::of(record))) {
                (hopeless, rule) = (Some(reason), None);
                halt.cancel();
            }
            seen.add(record).iter().for_each(&mut *failed);
            lost |= matches!(record.outcome, Outcome::Connect | Outcome::Disconnected);
            if let Some(file) = &records {
                file.write(record);
            }
        };
        let prompts = &calibrated.prompts;
        let pages = ServerPages::start(&measure.target, &measure.metrics_pages, measure.point.warms_up());
        let begin = pages.clone();
        let options = Options { threads: None, before_measuring: Some(Arc::new(move || begin.begin())) };
        let (target, point) = (&measure.target, &measure.point);
        let mut run = load::drive(target, point, prompts, &options, progress, &mut sink, &halt)?;
        let good = fold.after_warmup().filter(|request| request.outcome == Outcome::Ok);
        let watched = pages.end(good.count() as u64);
        run.prefix_cache = watched.prefix_cache();
        let unwritten = records.map(RecordWriter::close).and_then(Result::err);
        lost |= run.aborted.is_some();
        let hopeless = hopeless.filter(|_| !stop.is_cancelled());
        run.interrupted &= hopeless.is_none();
        Ok(Driven { measure, refusals, calibrated, run, watched, fold, lost, rescue, unwritten, hopeless })
    }
}

impl Driven {
    pub fn end(&self) -> LoadEnd {
        if self.unwritten.is_some() {
            // Cut by tokmark itself, for a reason that is known.
            return LoadEnd::default();
        }
        let unreachable = matches!(self.run.aborted, Some(Aborted::Unreachable { .. }));
        LoadEnd { cut: self.run.interrupted, lost: self.lost, unreachable }
    }

    /// Instant 0 of its records, and the end of its measured window: µs since 1970.
    pub fn load_us(&self) -> (i64, i64) {
        (self.run.at_us(0), self.run.at_us(self.run.window_end_us))
    }

    /// Its measured window, µs since 1970.
    pub fn window_us(&self) -> (i64, i64) {
        (self.run.at_us(self.run.window_start_us), self.run.at_us(self.run.window_end_us))
    }

    /// Computes the figures and writes the point's files; `death` says how the server ended that cut it. Blocks.
    pub fn finish(
        mut self,
        cut: Option<Cut>,
        death: Option<&str>,
        Seen { servers, processes, gpus }: Seen,
    ) -> Result<Summary, PointError> {
        let is_whole = cut.is_none() && !self.run.interrupted && !self.end().unreachable;
        // `cut` names the reason below; a second one for the interruption would add nothing.
        self.run.interrupted = cut.map_or(self.run.interrupted, |cut| cut == Cut::Interrupted);
        add_window(&mut self.watched, &self.run, servers);
        self.run.servers = ServerView::of(&self.watched, &self.run, &self.fold);
        self.run.gpus = gpus.and_then(|gpus| GpuView::of(&gpus, self.window_us()));
        self.run.processes = processes;
        let Self { measure, refusals, calibrated, run, watched, fold, rescue, unwritten, hopeless, .. } =
            self;
        let mut summary = summarize(&measure.point, &run, &fold, &measure.context);
        summary.stages.iter_mut().flatten().for_each(|stage| stage.add_servers(&watched));
        drop(watched);
        refusals.note(&mut summary);
        let notes = calibrated.prompts.notes();
        summary.prompts = Some(PromptFacts { notes, ..calibrated.facts });
        if let Some(aborted) = &run.aborted {
            summary.verdict.invalidate(&aborted.to_string());
        }
        if let Some(cut) = &hopeless {
            summary.verdict.suspect(cut.reason.clone());
        }
        summary.cut_short = hopeless;
        if cut == Some(Cut::ServerDied) {
            let how = death.unwrap_or("its end is not known");
            summary.verdict.invalidate(&format!("a server died during the measurement: {how}"));
            summary.faults.insert(0, Fault::death(how));
        }
        // Frees the memory for the exports.
        drop(fold);
        let Some(dir) = &measure.dir else { return Ok(summary) };
        let written = unwritten.map_or_else(
            || measure.write(dir, &calibrated.prompts, run.started_at, &summary, is_whole),
            |error| Err(error.into()),
        );
        let error = match written {
            Ok(()) => return Ok(as_read(summary)),
            Err(PointError::Io(error) | PointError::Export(ExportError::Io(error))) => error,
            Err(error) => return Err(error),
        };
        summary.verdict.invalidate(&format!("the results could not be written: {error}"));
        drop(rescue.keep("summary.interrupted.json", pretty(&json!(summary)).as_bytes()));
        let rescued = rescue.folder().map(Path::to_path_buf);
        let summary = Some(Box::new(summary));
        Err(PointError::Unwritten(Box::new(Unwritten { dir: dir.clone(), error, rescued, summary })))
    }
}

impl Measure {
    /// Writes the point's files.
    fn write(
        &self,
        dir: &Path,
        prompts: &Prompts,
        started_at: jiff::Timestamp,
        summary: &Summary,
        is_whole: bool,
    ) -> Result<(), PointError> {
        // Only after the load, because making every prompt again before it would delay the first request.
        self.write_inputs(dir, prompts)?;
        self.export(dir, started_at, summary.requests.total, !is_whole)?;
        // Write the summary last, because a folder that has one counts as whole. A point that was cut short runs again.
        let name = if is_whole { "summary.json" } else { "summary.interrupted.json" };
        files::create_once(&dir.join(name), pretty(&json!(summary)).as_bytes())?;
        Ok(())
    }

    fn write_inputs(&self, dir: &Path, prompts: &Prompts) -> Result<(), PointError> {
        let requests = prompts.planned(&self.point);
        let payloads = (0..requests).map(|id| {
            let prompt = prompts.plan(Phase::Measure, id);
            let body = RequestBody { point: &self.point, model: &self.target.model, prompt };
            (aiperf::session_id(Phase::Measure, id), body)
        });
        files::create_once_with(&dir.join("inputs.json"), |out| aiperf::write_inputs(out, payloads))?;
        Ok(())
    }

    /// Writes AIPerf's files and those the load point requests.
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

/// What a request carries that no file may hold: the key, and the words of headers whose names mark them as secret. Shorter words
/// are placeholders such as `EMPTY`.
fn secrets(target: &Target) -> Vec<String> {
    const SHORTEST: usize = 8;
    let headers = target.headers.iter().filter(|(name, _)| is_secret_header(name)).map(|(_, value)| value);
    let words = headers.chain(&target.api_key).flat_map(|value| value.split_whitespace());
    words.filter(|word| word.len() >= SHORTEST).map(str::to_owned).collect()
}

/// The record with `***` for the secrets in its error, because some servers repeat a wrong key; `None` when it holds none.
fn without(secrets: &[String], record: &RequestRecord) -> Option<RequestRecord> {
    let error = record.error.as_ref()?;
    let found = secrets.iter().filter(|secret| error.contains(*secret));
    let redacted = found.fold(error.clone(), |error, secret| error.replace(secret, "***"));
    (redacted != *error).then(|| RequestRecord { error: Some(redacted), ..record.clone() })
}

/// The summary as its file is read again, so that reports written now and later are the same bytes: reading a number may change
/// its last digit.
fn as_read(summary: Summary) -> Summary {
    serde_json::from_str(&pretty(&json!(summary))).unwrap_or(summary)
}

fn pretty(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}
