//! Writes the records of a load point in other tools' formats, next to the records: at the end of a run, and later by the verb
//! `export`.

mod folder;
pub mod records;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use fs_err as fs;

pub use folder::{PointFolder, find};
pub use records::ExportError;

use crate::metrics::dialects::{
    ExportContext, Results, aiperf, genai_perf, in_order_of_sending, vllm_bench, vllm_bench_csv,
};
use crate::metrics::fold::Fold;
use crate::metrics::record::{ClientHealth, Phase, PointRun, RequestRecord};
use crate::plan::ExportFormat;

/// What was written for one load point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Names of the files written.
    pub written: Vec<String>,
    /// Names of files that already existed. An incomplete result replaces no file.
    pub kept: Vec<String>,
    /// Measured requests in the files.
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
        let mut aiperf = match wants(ExportFormat::Aiperf) {
            true => {
                let lines = Draft::new(&self.dir, "profile_export.jsonl")?;
                Some(aiperf::Export::new(&self.point, self.started_at, lines))
            }
            false => None,
        };
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
            written: Vec::new(),
            kept: Vec::new(),
        };
        let context = self.context();
        if let Some(aiperf) = aiperf {
            let (summary, lines) = aiperf.finish(&run, &context).map_err(io::Error::from)?;
            files.write("profile_export_aiperf.csv", |out| out.write_all(summary.csv.as_bytes()))?;
            files.write("profile_export_aiperf.json", |out| out.write_all(summary.json.as_bytes()))?;
            files.place(lines)?;
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
        let Files { written, kept, .. } = files;
        Ok(Exported { written, kept, requests: window.requests, incomplete })
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

/// The export files of one folder.
struct Files<'a> {
    dir: &'a Path,
    replaces: bool,
    written: Vec<String>,
    kept: Vec<String>,
}

impl Files<'_> {
    fn write(&mut self, name: &str, fill: impl FnOnce(&mut Draft) -> io::Result<()>) -> io::Result<()> {
        let mut draft = Draft::new(self.dir, name)?;
        fill(&mut draft)?;
        self.place(draft)
    }

    fn place(&mut self, draft: Draft) -> io::Result<()> {
        if !self.replaces && self.dir.join(&draft.name).exists() {
            self.kept.push(draft.name.clone());
            return Ok(());
        }
        self.written.push(draft.name.clone());
        draft.place()
    }
}

/// A file under a temporary name, removed on drop unless it was moved into place.
struct Draft {
    out: BufWriter<fs::File>,
    temporary: PathBuf,
    name: String,
}

impl Draft {
    fn new(dir: &Path, name: &str) -> io::Result<Self> {
        let temporary = dir.join(format!(".{name}.{}.tmp", std::process::id()));
        let out = BufWriter::with_capacity(1 << 16, fs::File::create(&temporary)?);
        Ok(Self { out, temporary, name: name.to_owned() })
    }

    /// Moves the file into place in one step, replacing an older version.
    fn place(mut self) -> io::Result<()> {
        self.out.flush()?;
        self.out.get_ref().sync_all()?;
        fs::rename(&self.temporary, self.temporary.with_file_name(&self.name))
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Already gone if the file was moved into place.
        let _ = std::fs::remove_file(&self.temporary);
    }
}
