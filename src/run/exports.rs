//! A load point in the files of other tools, one after the other so that only one is in memory; those that grow with the
//! records are written as the records are read again.

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

    /// What a finished request takes of memory from its end to the last export: the rise of the peak from 100,000 to a
    /// million requests. `cargo test --release --lib memory_of_a_finished_request -- --ignored --nocapture`
    #[test]
    #[ignore = "measures; run with --ignored --nocapture"]
    fn memory_of_a_finished_request() {
        use crate::metrics::fold::Fold;
        use crate::metrics::summary::{Context, summarize};
        use crate::run::records::RecordWriter;

        let status_kib = |key: &str| {
            let status = std::fs::read_to_string("/proc/self/status").expect("status");
            let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("line");
            line.trim().trim_end_matches("kB").trim().parse::<f64>().expect("number")
        };
        let measure = |requests: u64| {
            let dir = tempfile::tempdir().expect("folder");
            // Forget the peak of what came before.
            std::fs::write("/proc/self/clear_refs", "5").expect("clear_refs");
            let before = status_kib("VmRSS:");
            let writer = RecordWriter::open(&dir.path().join("records.jsonl")).expect("open");
            let mut fold = Fold::default();
            for id in 0..requests {
                let record = samples::record(id, 1_000_000 + 7_013 * id);
                fold.add(&record);
                writer.write(&record);
            }
            let records = writer.close().expect("close");
            let (point, mut ran) = (samples::point(), samples::run(samples::sound()));
            ran.window_end_us = 1_000_000 + 7_013 * requests;
            let kept = status_kib("VmRSS:") - before;
            summarize(&point, &ran, &fold, &Context::default());
            let summed = status_kib("VmHWM:") - before;
            let results = Results { point: &point, run: &ran.run, fold: &fold, records: &records };
            let context =
                ExportContext { model: "m", url: "u", version: "1", simulated: true, benchmark_id: "b" };
            write(dir.path(), &results, &context).expect("write");
            let peak = status_kib("VmHWM:") - before;
            println!(
                "{requests} requests: {kept} KiB kept, {summed} KiB at most with the summary, {peak} KiB with exports"
            );
            [kept, summed, peak]
        };
        let (small, large) = (measure(100_000), measure(1_000_000));
        let each: Vec<String> =
            small.iter().zip(large).map(|(a, b)| format!("{:.0}", (b - a) * 1024.0 / 900_000.0)).collect();
        println!("bytes a request: {} kept, {} with the summary, {} with exports", each[0], each[1], each[2]);
    }
}
