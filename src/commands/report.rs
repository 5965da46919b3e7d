//! `tokmark report [EXPERIMENT…]`: writes the report of experiments again, from their records.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::flags::HistoryFlags;
use super::printer::Printer;
use crate::document::InputError;
use crate::experiment::Experiment;
use crate::history::{self, Entry, Named, Progress};
use crate::report::{self, Measured, Pictures};

#[derive(Debug, Args)]
#[command(after_help = "\
One experiment gets its report in its own directory, the same as at the end of
its run: report.html, summary.md, summary.csv, plots/ and the other pages.
Several get one report together, in the folder of --out.")]
pub struct ReportArgs {
    /// Job ids, experiment names, `last`, or directories of an experiment or a `bench`
    #[arg(value_name = "EXPERIMENT", default_value = "last")]
    named: Vec<String>,
    /// Folder for the report [default: the experiment; of several ./results/<UTC time>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write it again after every load point, until the run ends
    #[arg(long)]
    watch: bool,
    /// Print where it was written as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: HistoryFlags,
}

/// Time between two looks at a running experiment.
const LOOK: Duration = Duration::from_secs(1);

pub fn run(printer: Printer, args: &ReportArgs) -> anyhow::Result<()> {
    let printer = printer.with_json(args.json);
    let entries = entries(args)?;
    let out = folder(args, &entries)?;
    let mut written = None;
    loop {
        let running = args.watch && entries.iter().any(is_running);
        let measured = measured(&entries, running)?;
        let points: Vec<usize> = measured.iter().map(|one| one.rows.len()).collect();
        if written.as_ref() != Some(&(points.clone(), running)) {
            let pictures = if running { Pictures::SvgAlone } else { Pictures::All };
            report::write(&out, &measured, pictures, running)?;
            if running {
                printer.note(format!(
                    "{} load points so far: {}",
                    points.iter().sum::<usize>(),
                    page(&out).display()
                ));
            }
            written = Some((points, running));
        }
        if !running {
            break;
        }
        std::thread::sleep(LOOK);
    }
    let page = page(&out);
    printer.result(|| json!({"report": page, "folder": out}), || format!("{}\n", page.display()))
}

fn page(out: &Path) -> PathBuf {
    out.join("report.html")
}

/// The experiments that the user named; those of a suite one by one.
fn entries(args: &ReportArgs) -> anyhow::Result<Vec<Entry>> {
    let folder = args.flags.folder()?;
    let mut entries: Vec<Entry> = Vec::new();
    for name in &args.named {
        match history::find(&folder, name)? {
            Named::Experiment(entry) => entries.push(*entry),
            Named::Suite(suite) => entries.extend(suite.entries()),
        }
    }
    Ok(entries)
}

fn folder(args: &ReportArgs, entries: &[Entry]) -> anyhow::Result<PathBuf> {
    Ok(match (&args.out, entries) {
        (Some(out), _) => {
            fs_err::create_dir_all(out)?;
            out.clone()
        }
        (None, [one]) => one.dir.clone(),
        (None, _) => {
            Experiment::loose_by_time(Path::new("results"), jiff::Timestamp::now())?.dir().to_owned()
        }
    })
}

fn is_running(entry: &Entry) -> bool {
    let events = crate::experiment::event::read(&entry.dir);
    let now = Entry { events, ..entry.clone() };
    !matches!(now.progress(), Progress::Ended(_))
}

/// What there is of each experiment. One that has nothing is an error, unless it still runs.
fn measured(entries: &[Entry], running: bool) -> anyhow::Result<Vec<Measured>> {
    let mut all = Vec::new();
    for entry in entries {
        let one = Measured::of(entry.experiment())?;
        if one.rows.is_empty() && !running {
            return Err(InputError::new(entry.dir.display().to_string(), "no load point has figures")
                .expected("an experiment with at least one load point that was measured")
                .next("`tokmark jobs list` shows how far each experiment got")
                .into());
        }
        all.push(one);
    }
    Ok(all)
}
