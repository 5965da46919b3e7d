//! Writes the records of a load point in other tools' formats, next to the records: at the end of a run, and later by the verb
//! `export`.

mod folder;
pub mod records;

use std::fs::Permissions;
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::NamedTempFile;

pub use folder::{PointFolder, find};
pub use records::ExportError;

use crate::metrics::dialects::{
    ExportContext, Results, aiperf, genai_perf, in_order_of_sending, vllm_bench, vllm_bench_csv,
};
use crate::metrics::fold::Fold;
use crate::metrics::record::{ClientHealth, Phase, PointRun, RequestRecord};
use crate::plan::ExportFormat;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Names of the files written.
    pub written: Vec<String>,
    /// Names of files that already existed. An incomplete result replaces no file.
    pub kept: Vec<String>,
    pub requests: u64,
    /// Why the result is incomplete; `None` if it is complete. The files carry the mark if their format has a place for it.
    pub incomplete: Option<String>,
}

impl PointFolder {
    /// Writes the files of these formats. Names depend only on the point and its start, so writing again replaces the files.
    ///
    /// # Errors
    /// An invalid line in the records; a file operation that fails.
    // Called once per point. `cargo bench --bench load -- instructions` counts what runs inside it.
    #[inline(never)]
    pub fn export(&self, formats: &[ExportFormat]) -> Result<Exported, ExportError> {
        let wants = |format| formats.contains(&format);
        let keeps = wants(ExportFormat::Vllm) || wants(ExportFormat::VllmBench);
        let lines = wants(ExportFormat::Aiperf).then(|| draft(&self.dir)).transpose()?;
        let mut aiperf = lines.map(|lines| aiperf::Export::new(&self.point, self.started_at, lines));
        let (mut fold, mut kept, mut window) = (Fold::default(), Vec::new(), Window::default());
        let whole = records::read(&self.dir.join(records::RECORDS), |record| {
            window.add(&record);
            if let Some(aiperf) = &mut aiperf {
                aiperf.add(&record)?;
            }
            if wants(ExportFormat::GenaiPerf) {
                fold.add(&record);
            }
            if keeps && record.phase == Phase::Measure {
                kept.push(record);
            }
            Ok(())
        })?;
        let incomplete = self.incomplete(whole, window.requests);
        let run = self.run(&window, incomplete.is_some());
        let mut files = Files {
            dir: &self.dir,
            replaces: incomplete.is_none() || self.is_fresh,
            exported: Exported {
                written: Vec::new(),
                kept: Vec::new(),
                requests: window.requests,
                incomplete,
            },
        };
        let context = self.context();
        if let Some(aiperf) = aiperf {
            let (summary, lines) = aiperf.finish(&run, &context).map_err(io::Error::from)?;
            files.write("profile_export_aiperf.csv", |out| out.write_all(summary.csv.as_bytes()))?;
            files.write("profile_export_aiperf.json", |out| out.write_all(summary.json.as_bytes()))?;
            files.place("profile_export.jsonl", lines)?;
        }
        if wants(ExportFormat::GenaiPerf) {
            let summary = genai_perf::summary_files(&self.point, &run, &fold, &context);
            files.write("profile_export_genai_perf.csv", |out| out.write_all(summary.csv.as_bytes()))?;
            files.write("profile_export_genai_perf.json", |out| out.write_all(summary.json.as_bytes()))?;
        }
        let measured = in_order_of_sending(&kept);
        let results = Results { point: &self.point, run: &run, records: &measured };
        if wants(ExportFormat::Vllm) {
            let name = vllm_bench::file_name(&self.point, &run, &self.model);
            files.write(&name, |out| vllm_bench::write(out, &results, &context))?;
        }
        if wants(ExportFormat::VllmBench) {
            let name = vllm_bench_csv::file_name(&self.point, &run);
            files.write(&name, |out| vllm_bench_csv::write(out, &results))?;
        }
        Ok(files.exported)
    }

    fn context(&self) -> ExportContext<'_> {
        ExportContext {
            model: &self.model,
            url: &self.url,
            version: env!("CARGO_PKG_VERSION"),
            simulated: self.simulated,
            benchmark_id: &self.benchmark_id,
        }
    }

    fn run(&self, window: &Window, interrupted: bool) -> PointRun {
        PointRun {
            started_at: self.started_at,
            window_start_us: window.start_us.unwrap_or(0),
            window_end_us: window.end_us,
            client: ClientHealth::default(),
            interrupted,
            aborted: None,
            arrivals: None,
            prefix_cache: None,
            servers: None,
            gpus: None,
            processes: Vec::new(),
        }
    }

    fn incomplete(&self, whole: bool, requests: u64) -> Option<String> {
        if !whole {
            return Some("the last line of records.jsonl is torn".into());
        }
        match self.counted {
            Some(counted) if requests < counted => Some(format!(
                "records.jsonl has {requests} of the {counted} requests that summary.json counts"
            )),
            _ => self.cut.then(|| "the load point was cut short".into()),
        }
    }
}

/// First sent and last ended of the measured requests, µs, and their number.
#[derive(Debug, Default)]
struct Window {
    start_us: Option<u64>,
    end_us: u64,
    requests: u64,
}

impl Window {
    fn add(&mut self, record: &RequestRecord) {
        if record.phase == Phase::Measure {
            self.start_us = Some(self.start_us.map_or(record.sent_us, |start| start.min(record.sent_us)));
            self.end_us = self.end_us.max(record.end_us);
            self.requests += 1;
        }
    }
}

struct Files<'a> {
    dir: &'a Path,
    replaces: bool,
    exported: Exported,
}

/// A file under a temporary name until it is complete.
type Draft = BufWriter<NamedTempFile>;

fn draft(dir: &Path) -> io::Result<Draft> {
    // As for any new file, the process's mask takes away from it.
    let file = tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(dir)?;
    Ok(BufWriter::with_capacity(1 << 16, file))
}

impl Files<'_> {
    fn write(&mut self, name: &str, fill: impl FnOnce(&mut Draft) -> io::Result<()>) -> io::Result<()> {
        let mut draft = draft(self.dir)?;
        fill(&mut draft)?;
        self.place(name, draft)
    }

    /// Moves a complete file into place in one step, replacing an older version.
    fn place(&mut self, name: &str, draft: Draft) -> io::Result<()> {
        let path = self.dir.join(name);
        if !self.replaces && path.exists() {
            self.exported.kept.push(name.to_owned());
            return Ok(());
        }
        self.exported.written.push(name.to_owned());
        let file = draft.into_inner()?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    }
}
