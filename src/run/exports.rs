//! A load point in the files of other tools, one after the other so that only one is in memory; those that grow with the
//! records are written as the records are read again.
//!
//! Arrow: `metrics::dialects`, `experiment::files` → here → `point`.

use std::io::{BufWriter, Write};
use std::path::Path;

use fs_err as fs;

use crate::experiment::files;
use crate::metrics::dialects::{ExportContext, Results, aiperf, genai_perf, vllm_bench, vllm_bench_csv};

/// Writes every export into `dir`. Names depend on the point and on the start of the run alone: writing them again
/// replaces them.
pub(super) fn write(dir: &Path, results: &Results<'_>, context: &ExportContext<'_>) -> std::io::Result<()> {
    let Results { point, run, fold, .. } = *results;
    {
        let aiperf = aiperf::summary_files(results, context)?;
        files::replace(&dir.join("profile_export_aiperf.csv"), aiperf.csv.as_bytes())?;
        files::replace(&dir.join("profile_export_aiperf.json"), aiperf.json.as_bytes())?;
    }
    stream(dir, "profile_export.jsonl", |out| aiperf::write_jsonl(out, results))?;
    {
        let genai = genai_perf::summary_files(point, fold, context);
        files::replace(&dir.join("profile_export_genai_perf.csv"), genai.csv.as_bytes())?;
        files::replace(&dir.join("profile_export_genai_perf.json"), genai.json.as_bytes())?;
    }
    let vllm = vllm_bench::file_name(point, run, context.model);
    stream(dir, &vllm, |out| vllm_bench::write(out, results, context))?;
    let rows = vllm_bench_csv::file_name(point, run);
    stream(dir, &rows, |out| vllm_bench_csv::write(out, results))
}

/// Puts `name` in place in one step, written by `fill` through a buffer and synced.
fn stream(
    dir: &Path,
    name: &str,
    fill: impl FnOnce(&mut BufWriter<fs::File>) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let temporary = dir.join(format!(".{name}.tmp"));
    let mut out = BufWriter::with_capacity(1 << 16, fs::File::create(&temporary)?);
    fill(&mut out)?;
    out.flush()?;
    out.get_ref().sync_all()?;
    fs::rename(&temporary, dir.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::samples;

    #[test]
    fn every_file_is_there_and_writing_again_gives_the_same() {
        let dir = tempfile::tempdir().expect("folder");
        let (point, ran) = (samples::point(), samples::run(samples::sound()));
        let results = Results { point: &point, run: &ran.run, fold: &ran.fold(), records: &ran.records };
        let context =
            ExportContext { model: "org/m", url: "u", version: "1", simulated: true, benchmark_id: "b" };
        let names = || {
            write(dir.path(), &results, &context).expect("write");
            let entries = std::fs::read_dir(dir.path()).expect("folder");
            let mut names: Vec<String> = entries
                .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
                .collect();
            names.sort();
            names
        };
        let expected = [
            "chat-cc2-pref100-max10-19700101-000000.csv",
            "openai-chat-infqps-concurrency2-m-19700101-000000.json",
            "profile_export.jsonl",
            "profile_export_aiperf.csv",
            "profile_export_aiperf.json",
            "profile_export_genai_perf.csv",
            "profile_export_genai_perf.json",
        ];
        assert_eq!(names(), expected);
        assert_eq!(names(), expected);
    }
}
