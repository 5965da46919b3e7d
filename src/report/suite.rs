//! The final table of a suite: for a terminal, as `summary.md`, as `summary.csv`.

use super::failures::Failures;
use super::markdown::SIMULATED;
use super::reasons::folded;
use super::repeats::{about_means, means};
use super::table::{Table, maybe, plus_minus};
use super::{PointResult, csv};

/// One experiment of a suite.
#[derive(Debug, Clone)]
pub struct JobResult {
    /// Recipe name.
    pub recipe: String,
    /// GPU type.
    pub gpu: String,
    /// What distinguishes it from the others, e.g. `STREAMING=false`.
    pub differs: Vec<String>,
    /// Id of its Slurm job.
    pub job: Option<String>,
    /// Name of its directory; empty if it has none.
    pub experiment: String,
    /// `COMPLETED`, `FAILED`, `PENDING` …
    pub state: String,
    /// Why it did not succeed.
    pub failure: Option<String>,
    /// Its measured load points.
    pub rows: Vec<PointResult>,
}

/// The experiments with those that repeat one another as one: their mean, named with their number. Only those that ended with figures
/// are joined.
fn joined(parts: &[JobResult]) -> Vec<JobResult> {
    let is_number = |word: &str| {
        word.split_once('/')
            .is_some_and(|(number, all)| [number, all].iter().all(|part| part.parse::<u32>().is_ok()))
    };
    let settings =
        |part: &JobResult| part.differs.iter().filter(|word| !is_number(word)).cloned().collect::<Vec<_>>();
    let mut groups: Vec<Vec<&JobResult>> = Vec::new();
    for part in parts {
        let is_like = |group: &&mut Vec<&JobResult>| {
            group.first().is_some_and(|first| {
                [first, part].iter().all(|one| one.unfinished().is_none())
                    && (&first.recipe, &first.gpu, settings(first))
                        == (&part.recipe, &part.gpu, settings(part))
            })
        };
        match groups.iter_mut().find(is_like) {
            Some(group) => group.push(part),
            None => groups.push(vec![part]),
        }
    }
    let of = |group: Vec<&JobResult>| {
        let first = *group.first()?;
        if group.len() == 1 {
            return Some(first.clone());
        }
        let rows: Vec<PointResult> = group.iter().flat_map(|part| part.rows.iter().cloned()).collect();
        let differs = settings(first).into_iter().chain([format!("\u{d7}{}", group.len())]).collect();
        Some(JobResult { differs, rows: means(&rows), ..first.clone() })
    };
    groups.into_iter().filter_map(of).collect()
}

/// What the means of experiments that were joined are.
fn repeated(shown: &[JobResult]) -> Option<String> {
    about_means(&shown.iter().flat_map(|part| part.rows.iter().cloned()).collect::<Vec<_>>())
}

/// Columns of the table beside the name. A name too long to fit gets its own line.
const OTHER_COLUMNS: usize = 66;

/// What intervals add to them.
const WIDER: usize = 22;

impl JobResult {
    /// `quickstart (h100) STREAMING=false`
    pub fn name(&self) -> String {
        let gpu = if self.gpu == "none" { String::new() } else { format!(" ({})", self.gpu) };
        let differs: String = self.differs.iter().map(|word| format!(" {word}")).collect();
        format!("{}{gpu}{differs}", self.recipe)
    }

    /// The state, unless the verdicts of its points imply it.
    fn unfinished(&self) -> Option<&str> {
        let state = self.state.split(':').next().unwrap_or_default();
        let said = ["COMPLETED", "INVALID"].contains(&state) && !self.rows.is_empty();
        (!said).then_some(state)
    }

    /// First line of the failure, unless its points explain it.
    fn reason(&self) -> Option<String> {
        let failure = self.failure.as_ref().filter(|_| self.unfinished().is_some())?;
        Some(failure.lines().next().unwrap_or_default().trim_end_matches(':').to_owned())
    }
}

/// `64`, or `2.5/s` in an open loop.
fn load(row: &PointResult) -> String {
    let of = &row.summary.point;
    match (of.request_rate, of.concurrency) {
        (Some(rate), _) => format!("{rate}/s"),
        (None, Some(concurrency)) => concurrency.to_string(),
        (None, None) => "-".into(),
    }
}

/// Load, throughput, latencies and verdict of a point.
fn figures(row: &PointResult) -> Vec<String> {
    let s = &row.summary;
    let with_half = |value: Option<f64>, path: &str| {
        let half = value.map(|value| plus_minus(value, s.half_width(path))).unwrap_or_default();
        format!("{}{half}", maybe(value))
    };
    vec![
        load(row),
        s.requests.failed.to_string(),
        with_half(Some(s.throughput.output_tokens_per_s), "throughput.output_tokens_per_s"),
        maybe(s.throughput.output_tokens_per_s_per_gpu),
        with_half(s.ttft_ms.map(|d| d.p50), "ttft_ms.p50"),
        with_half(s.itl_ms.map(|d| d.p50), "itl_ms.p50"),
        s.verdict.result.to_string(),
    ]
}

/// The cells of an experiment without figures: the state instead of a verdict.
fn no_figures(state: &str) -> Vec<String> {
    let mut cells = vec!["-".to_owned(); 6];
    cells.push(state.to_owned());
    cells
}

/// Names the experiments with simulated figures.
fn simulated(parts: &[JobResult]) -> Option<String> {
    let is = |part: &&JobResult| part.rows.iter().any(|row| row.summary.simulated);
    let names: Vec<String> = parts.iter().filter(is).map(JobResult::name).collect();
    let measured = parts.iter().filter(|part| !part.rows.is_empty()).count();
    match names.len() {
        0 => None,
        some if some == measured => Some(SIMULATED.to_owned()),
        _ => Some(format!(
            "SIMULATED: the figures of {} come from a simulated engine, not from a GPU.",
            names.join(", ")
        )),
    }
}

/// What failed in all experiments.
fn failures(parts: &[JobResult]) -> Option<Failures> {
    let rows = parts.iter().flat_map(|part| part.rows.iter().map(move |row| (part, row)));
    let points: Vec<_> =
        rows.map(|(part, row)| (format!("{}, {}", part.name(), row.point), &row.summary)).collect();
    Failures::of(&points)
}

/// Why experiments failed and points are not valid, one line each.
fn reasons(parts: &[JobResult]) -> Vec<String> {
    let failed = parts.iter().filter_map(|part| Some(format!("{}: {}", part.name(), part.reason()?)));
    let rows = || parts.iter().flat_map(|part| part.rows.iter().map(move |row| (part, row)));
    let reasons = rows().flat_map(|(part, row)| {
        row.reasons().map(move |reason| (format!("{}, {}", part.name(), row.point), reason))
    });
    failed.chain(folded(reasons, rows().count())).collect()
}

/// The table for a terminal of this width. An experiment takes one line; with several points or a long name, its name goes on a
/// line above them.
pub fn text(parts: &[JobResult], width: usize) -> String {
    let shown = joined(parts);
    let cells = shown.iter().flat_map(|part| &part.rows).flat_map(figures);
    // A mean with its interval widens its columns.
    let wider = if cells.into_iter().any(|cell| cell.contains('\u{b1}')) { WIDER } else { 0 };
    let widest = width.saturating_sub(OTHER_COLUMNS + wider);
    let mut table =
        Table::new(["RECIPE", "CONC", "FAILED", "TOK/S", "TOK/S/GPU", "TTFT p50", "ITL p50", "VERDICT"]);
    let mut above: Vec<Option<String>> = Vec::new();
    let mut push = |name: String, above_it: Option<String>, figures: Vec<String>| {
        above.push(above_it);
        table.push(std::iter::once(name).chain(figures).collect());
    };
    for part in &shown {
        let name = part.name();
        let lines = part.rows.len() + usize::from(part.unfinished().is_some());
        let one_line = lines == 1 && name.chars().count() <= widest;
        let mut head = (!one_line).then(|| name.clone());
        for row in &part.rows {
            let shown = format!("  {}", row.series);
            match (one_line, shown.chars().count() <= widest) {
                (true, _) => push(name.clone(), None, figures(row)),
                (false, true) => push(shown, head.take(), figures(row)),
                (false, false) => {
                    let head = head.take().map(|head| format!("{head}\n")).unwrap_or_default();
                    push(String::new(), Some(format!("{head}{shown}")), figures(row));
                }
            }
        }
        if let Some(state) = part.unfinished() {
            let name = if one_line { name } else { "  -".to_owned() };
            push(name, head.take(), no_figures(state));
        }
    }
    let table = table.text(&[0, 7]);
    let mut lines = table.lines();
    let mut text = simulated(parts).map(|line| format!("{line}\n\n")).unwrap_or_default();
    text.extend(failures(parts).map(|failures| failures.text()));
    text.push_str(&format!("{}\n", lines.next().unwrap_or_default()));
    for (line, above) in lines.zip(above) {
        text.push_str(&above.map(|above| format!("{above}\n")).unwrap_or_default());
        text.push_str(&format!("{line}\n"));
    }
    text.push_str("latencies in ms\n");
    text.extend(repeated(&shown).map(|about| format!("{about}\n")));
    for reason in reasons(parts) {
        text.push_str(&format!("! {reason}\n"));
    }
    text
}

/// `summary.md`
pub fn markdown(name: &str, summary: Option<&str>, parts: &[JobResult]) -> String {
    let mut text = format!("# {name}\n\n");
    text.push_str(&summary.map(|summary| format!("{summary}\n\n")).unwrap_or_default());
    text.push_str(&simulated(parts).map(|line| format!("**{line}**\n\n")).unwrap_or_default());
    text.extend(failures(parts).map(|failures| failures.markdown()));
    let mut table = Table::new([
        "recipe",
        "gpu",
        "differs",
        "point",
        "conc",
        "failed",
        "tok/s",
        "tok/s/gpu",
        "TTFT p50",
        "ITL p50",
        "verdict",
    ]);
    for part in &joined(parts) {
        let first = || vec![part.recipe.clone(), part.gpu.clone(), part.differs.join(" ")];
        for row in &part.rows {
            table.push([first(), vec![row.series.clone()], figures(row)].concat());
        }
        if let Some(state) = part.unfinished() {
            table.push([first(), vec!["-".to_owned()], no_figures(state)].concat());
        }
    }
    let about =
        repeated(&joined(parts)).map(|about| format!(" Figures with ± are the {about}.")).unwrap_or_default();
    text.push_str(&format!("{}\nLatencies in ms; tok/s counts output tokens.{about}\n", table.markdown()));
    let mut list = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            text.push_str(&format!("\n## {title}\n\n"));
            lines.iter().for_each(|line| text.push_str(&format!("- {line}\n")));
        }
    };
    list("Reasons", reasons(parts));
    let place = |part: &JobResult| {
        let dir = if part.experiment.is_empty() { "-".into() } else { format!("`../{}`", part.experiment) };
        format!("{}: {dir} ({})", part.name(), part.state)
    };
    list("Experiments", parts.iter().map(place).collect());
    text
}

/// `summary.csv`: one row per load point, with the suite's columns before the experiment's; an experiment without figures gets
/// one row.
pub fn csv(parts: &[JobResult]) -> String {
    let head = csv::head();
    let columns = head.split(',').count();
    let mut text = format!("recipe,gpu,differs,job,experiment,state,failure,{head}\n");
    for part in parts {
        let failure = part.reason().unwrap_or_default();
        let job = part.job.clone().unwrap_or_default();
        let differs = part.differs.join(" ");
        let cells = [&part.recipe, &part.gpu, &differs, &job, &part.experiment, &part.state, &failure];
        let first = cells.map(|cell| csv::quoted(cell)).join(",");
        for row in &part.rows {
            text.push_str(&format!("{first},{}\n", csv::line(row)));
        }
        if part.rows.is_empty() {
            text.push_str(&format!("{first}{}\n", ",".repeat(columns)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::{point as sample, run, sound};
    use crate::metrics::summary::{Context, summarize};

    /// A row for the sample point: 2 requests in flight, TTFT 50 ms, ITL 10 ms.
    fn row(name: &str, simulated: bool) -> PointResult {
        let ran = run(sound());
        let mut point = sample();
        point.id = name.into();
        let context = Context { simulated, gpus: Some(2), ..Context::default() };
        let mut summary = summarize(&point, &ran, &ran.fold(), &context);
        summary.verdict =
            crate::metrics::verdict::Verdict { result: crate::metrics::Rating::Valid, reasons: vec![] };
        summary.throughput.output_tokens_per_s = 1_234.0;
        summary.throughput.output_tokens_per_s_per_gpu = Some(617.0);
        let series = name.split("_con").next().unwrap_or_default().to_owned();
        PointResult {
            point: name.into(),
            series,
            deployment: String::new(),
            workload: String::new(),
            model: String::new(),
            configuration: String::new(),
            axes: Vec::new(),
            gpus: 2,
            price: None,
            summary,
        }
    }

    fn part(recipe: &str, state: &str, rows: Vec<PointResult>) -> JobResult {
        JobResult {
            recipe: recipe.into(),
            gpu: "h100".into(),
            differs: Vec::new(),
            job: Some("7".into()),
            experiment: format!("{recipe}_7"),
            state: state.into(),
            failure: None,
            rows,
        }
    }

    fn parts() -> Vec<JobResult> {
        let mut failed = part("broken", "FAILED", Vec::new());
        failed.failure = Some("experiment x: server-0 died with exit 1:\n  | its log".into());
        let mut differs = part("small", "COMPLETED", vec![row("isl100_osl10_con2", true)]);
        differs.differs = vec!["load.isl=100".into(), "2/3".into()];
        let long = "max_num_batched_tokens8000_isl100_osl10_con2";
        vec![
            part("small", "COMPLETED", vec![row("isl100_osl10_con2", true)]),
            differs,
            part(
                "deepseek-r1-dynamo-trtllm-disagg",
                "INTERRUPTED",
                vec![row("isl100_osl10_con2", true), row(long, true)],
            ),
            failed,
            part("later", "RUNNING: starting servers", Vec::new()),
        ]
    }

    #[test]
    fn the_table_fits_80_columns_and_says_how_each_ended() {
        let text = text(&parts(), 80);
        let expected = "\
SIMULATED: these figures come from a simulated engine, not from a GPU.

RECIPE             CONC  FAILED  TOK/S  TOK/S/GPU  TTFT p50  ITL p50  VERDICT
small (h100)          2       0  1,234        617      50.0     10.0  valid
small (h100) load.isl=100 2/3
  isl100_osl10        2       0  1,234        617      50.0     10.0  valid
deepseek-r1-dynamo-trtllm-disagg (h100)
  isl100_osl10        2       0  1,234        617      50.0     10.0  valid
  max_num_batched_tokens8000_isl100_osl10
                      2       0  1,234        617      50.0     10.0  valid
  -                   -       -      -          -         -        -  INTERRUPTED
broken (h100)         -       -      -          -         -        -  FAILED
later (h100)          -       -      -          -         -        -  RUNNING
latencies in ms
! broken (h100): experiment x: server-0 died with exit 1
";
        let squeezed = |text: &str| {
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(squeezed(&text), squeezed(expected), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn experiments_that_repeat_one_another_are_one_row_with_their_mean_and_number() {
        let repeat = |number: &str, tokens_per_s: f64, state: &str| {
            let mut row = row("isl100_osl10_con2", false);
            row.summary.throughput.output_tokens_per_s = tokens_per_s;
            let mut part = part("small", state, if state == "FAILED" { Vec::new() } else { vec![row] });
            part.differs = vec!["load.isl=100".into(), number.into()];
            part
        };
        let parts = [
            repeat("1/4", 98.0, "COMPLETED"),
            repeat("2/4", 100.0, "COMPLETED"),
            repeat("3/4", 0.0, "FAILED"),
            repeat("4/4", 102.0, "COMPLETED"),
        ];
        let text = text(&parts, 80);
        // Deviations of ±2: s = 2, t(0.975; 2) = 4.303, so that half the interval is 4.303 · 2 / √3 = 4.97.
        let squeezed = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(squeezed.contains("small (h100) load.isl=100 \u{d7}3"), "{text}");
        assert!(squeezed.contains("2 0 100 ±5.0 617 50.0 ±0.00 10.0 ±0.00 valid"), "{text}");
        assert!(squeezed.contains("small (h100) load.isl=100 3/4"), "one that failed stays apart: {text}");
        assert!(
            squeezed.contains("mean of 3 repeats a point; ± is the 95 % interval of the mean (Student)"),
            "{text}"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let page = markdown("night", None, &parts);
        assert!(
            page.contains("| small | h100 | load.isl=100 \u{d7}3 | isl100_osl10 | 2 | 0 | 100 ±5.0 |"),
            "{page}"
        );
        assert_eq!(csv(&parts).lines().count(), 1 + 4, "a row per job");
    }

    #[test]
    fn what_is_simulated_is_named_beside_what_is_not() {
        let table = [
            (vec![("a", false)], None),
            (vec![("a", true)], Some(SIMULATED)),
            (
                vec![("a", true), ("b", false), ("c", true)],
                Some(
                    "SIMULATED: the figures of a (h100), c (h100) come from a simulated engine, not from a GPU.",
                ),
            ),
        ];
        for (of, said) in table {
            let parts: Vec<JobResult> =
                of.iter().map(|(name, is)| part(name, "COMPLETED", vec![row("p", *is)])).collect();
            let line = text(&parts, 80).lines().next().unwrap_or_default().to_owned();
            assert_eq!(line.starts_with("SIMULATED").then_some(line.as_str()), said);
            assert_eq!(markdown("n", None, &parts).contains("**SIMULATED"), said.is_some());
        }
    }

    #[test]
    fn the_files_hold_every_experiment() {
        let page = markdown("night", Some("all of it"), &parts());
        assert!(page.starts_with("# night\n\nall of it\n\n**SIMULATED"), "{page}");
        assert!(page.contains("| broken | h100 |  | - | - | - | - | - | - | - | FAILED |"), "{page}");
        assert!(page.contains("- small (h100) load.isl=100 2/3: `../small_7` (COMPLETED)"), "{page}");
        let csv = csv(&parts());
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines.len(), 1 + 6, "{csv}");
        let columns = lines[0].split(',').count();
        assert!(lines[1].starts_with("small,h100,,7,small_7,COMPLETED,,isl100_osl10_con2,"), "{}", lines[1]);
        assert!(lines[2].starts_with("small,h100,load.isl=100 2/3,7,"), "{}", lines[2]);
        assert!(
            lines[5].starts_with("broken,h100,,7,broken_7,FAILED,experiment x: server-0 died with exit 1,,"),
            "{}",
            lines[5]
        );
        assert!(lines[1..].iter().all(|line| line.split(',').count() == columns), "{csv}");
    }
}
