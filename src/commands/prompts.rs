//! `tokmark prompts`: shows what a load point sends, byte for byte, before it is sent.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::flag_layer::{self, FlagLayer};
use super::planning;
use super::printer::Printer;
use super::prompt_args::{PromptArgs, natural};
use crate::document::{InputError, InputErrors};
use crate::experiment::files;
use crate::flags::{Global, PlanFlags};
use crate::load::request_body;
use crate::metrics::Distribution;
use crate::metrics::dialects::aiperf;
use crate::metrics::record::Phase;
use crate::plan::choices::Choices;
use crate::plan::{Endpoint, LoadPoint, Plan, Stop};
use crate::prompts::{Content, Learned, PromptPlan, Prompts, TokenizerCache, check};
use crate::report::chart::{Chart, Series};
use crate::report::table::Table;
use crate::site::SiteFile;

/// Default number of prompts shown.
const SHOWN: u64 = 3;

/// Default number of prompts made without a recipe.
const MADE: u64 = 100;

/// Bars of a histogram.
const BARS: usize = 12;

/// Columns of the longest bar.
const BAR: usize = 40;

/// Arguments of `prompts`.
#[derive(Debug, Args)]
pub struct PromptsArgs {
    /// Recipe: file, name or alias. Without one the options below describe the prompts
    recipe: Option<String>,
    /// Load point of the recipe [default: the first]
    #[arg(long, value_name = "ID", requires = "recipe")]
    point: Option<String>,
    /// Show the first N prompts
    #[arg(long, value_name = "N")]
    show: Option<u64>,
    /// Lengths: figures and a histogram
    #[arg(long)]
    stats: bool,
    /// Number of prompts and tokens
    #[arg(long)]
    count: bool,
    /// Save all prompts: .txt, .jsonl (with lengths and request bodies), or .json (AIPerf's inputs.json)
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Draw the histogram of the prompt lengths
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Number of prompts to make [default: the load point's; 100 without a recipe]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// Show the prompts of the warm-up instead
    #[arg(long)]
    warmup: bool,
    /// Model name in the request bodies
    #[arg(long, value_name = "NAME", conflicts_with = "recipe")]
    model: Option<String>,
    /// Endpoint [default: chat]
    #[arg(long, value_parser = ["chat", "completions"], conflicts_with = "recipe")]
    endpoint: Option<String>,
    /// Seed of prompts and lengths [default: 0]
    #[arg(long, value_name = "N", value_parser = natural(), conflicts_with = "recipe")]
    seed: Option<u64>,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    prompts: PromptArgs,
    /// Shared with other verbs
    #[command(flatten)]
    pub flags: PlanFlags,
}

/// A load point, its prompts and their number.
struct Made {
    point: LoadPoint,
    model: String,
    prompts: Prompts,
    phase: Phase,
    count: u64,
}

/// Runs the verb.
pub fn run(global: &Global, args: &PromptsArgs) -> anyhow::Result<()> {
    let printer = Printer::new(global, args.json);
    let made = make(global, args)?;
    if let Some(path) = &args.save {
        save(&made, path)?;
    }
    if let Some(path) = &args.plot {
        files::create_once(path, histogram_chart(&made).svg().as_bytes())?;
    }
    if printer.is_json() {
        return printer.json(&as_json(&made, args));
    }
    let shows_nothing = args.stats || args.count || args.save.is_some() || args.plot.is_some();
    let mut text = String::new();
    if let Some(shown) = args.show.or((!shows_nothing).then_some(SHOWN)) {
        text.push_str(&pages(&made, shown));
    }
    if args.stats {
        text.push_str(&statistics(&made));
    }
    if args.count {
        let (prompts, tokens, answers) = totals(&made);
        let _ =
            writeln!(text, "{prompts} prompts, {tokens} prompt tokens, {answers} output tokens asked for");
    }
    printer.text(&text)?;
    notes(&made).iter().for_each(|note| printer.note(note));
    Ok(())
}

fn make(global: &Global, args: &PromptsArgs) -> Result<Made, InputErrors> {
    let plan = plan(global, args)?;
    let mut point = chosen_point(&plan, args)?.clone();
    let phase = if args.warmup { Phase::Warmup } else { Phase::Measure };
    if let Some(requests) = args.requests.or(args.recipe.is_none().then_some(MADE)) {
        point.stop = Stop::Requests(requests);
    }
    let prompts = Prompts::prepare(&point, 0, Learned::default(), &TokenizerCache::default())
        .map_err(|error| check::located(&plan, error))?;
    let count = match phase {
        Phase::Warmup => args.requests.unwrap_or(point.warmup_requests),
        Phase::Measure | Phase::CoolDown => prompts.planned(&point),
    };
    Ok(Made { point, model: plan.model.served_name, prompts, phase, count })
}

/// Plans the named recipe, where the flags may change only the salt, or the recipe that the flags form.
fn plan(global: &Global, args: &PromptsArgs) -> Result<Plan, InputErrors> {
    let mut layer = FlagLayer::default();
    layer.set("--model", "model.name", args.model.as_ref());
    layer.set("--endpoint", "load.endpoint", args.endpoint.as_ref());
    layer.set("--seed", "load.seed", args.seed);
    let Some(recipe) = &args.recipe else {
        args.prompts.lay_with_lengths(&mut layer);
        let choices = Choices { flags: layer.finish()?, ..planning::choices(global) };
        let site = SiteFile::default();
        return planning::plan_file(global, &site, &flag_layer::recipe()?, choices);
    };
    args.prompts.lay(&mut layer);
    let flags = layer.finish()?;
    if let Some(other) = flags.iter().find(|flag| flag.key != "load.prompts.salt") {
        return Err(InputError::new(&other.flag, "found beside a recipe")
            .expected("a recipe, or options")
            .next("change the recipe's values with --set load.KEY=VALUE")
            .into());
    }
    planning::plan_with(global, recipe, Choices { flags, ..planning::choices(global) })
}

fn chosen_point<'a>(plan: &'a Plan, args: &PromptsArgs) -> Result<&'a LoadPoint, InputError> {
    let mut points = plan.points().map(|(_, point)| point);
    let found = match &args.point {
        None => points.next(),
        Some(id) => points.find(|point| point.id == *id),
    };
    found.ok_or_else(|| {
        let known: Vec<&str> = plan.points().map(|(_, point)| point.id.as_str()).collect();
        let id = args.point.as_deref().unwrap_or_default();
        InputError::new("--point", format!("{} has no load point {id:?}", plan.name))
            .expected(format!("one of {}", known.join(", ")))
    })
}

impl Made {
    fn each(&self) -> impl Iterator<Item = PromptPlan> + '_ {
        (0..self.count).map(|id| self.prompts.plan(self.phase, id))
    }

    fn body(&self, plan: &PromptPlan) -> Value {
        serde_json::from_slice(&request_body(&self.point, &self.model, plan)).unwrap_or_default()
    }

    fn lengths(&self) -> Vec<(f64, f64)> {
        self.each().map(|plan| (f64::from(plan.isl), f64::from(plan.osl))).collect()
    }
}

fn totals(made: &Made) -> (u64, u64, u64) {
    made.each().fold((0, 0, 0), |(count, isl, osl), plan| {
        (count + 1, isl + u64::from(plan.isl), osl + u64::from(plan.osl))
    })
}

/// Caveats about the figures.
fn notes(made: &Made) -> Vec<String> {
    let mut notes = Vec::new();
    let prompts = &made.prompts;
    if !prompts.is_exact() {
        notes.push(
            "lengths are in words: no tokenizer was given (--tokenizer, load.prompts.tokenizer)".into(),
        );
    } else if made.point.endpoint == Endpoint::Chat && !prompts.counter().knows_template() {
        notes.push(
            "the chat template is not known: a run asks the server what it adds, and makes prompts that much shorter"
                .into(),
        );
    }
    if let Some(chosen) = prompts.selection() {
        let stats = &chosen.stats;
        notes.push(format!(
            "{} prompts of {} entries ({} unusable, {} looked at: {} too short, {} too long; {} duplicates)",
            chosen.picked.len(),
            stats.entries,
            stats.skipped,
            stats.looked_at,
            stats.too_short,
            stats.too_long,
            stats.duplicates
        ));
    }
    if prompts.is_conversation() {
        notes.push("these are the first turns; later ones contain the server's answers".into());
    }
    if made.point.prompts.salt.is_none() {
        notes.push(format!(
            "salt {}: bench and runs on servers they did not start draw another (--salt, load.prompts.salt)",
            prompts.salt()
        ));
    }
    notes
}

/// The first prompts in the form in which they are sent.
fn pages(made: &Made, shown: u64) -> String {
    let mut text = String::new();
    for plan in made.each().take(usize::try_from(shown).unwrap_or(usize::MAX)) {
        let shared = if plan.shared > 0 { format!(", {} shared", plan.shared) } else { String::new() };
        let _ = writeln!(text, "--- {}: {} tokens{shared}, asks for {}", plan.id, plan.isl, plan.osl);
        let _ = writeln!(text, "{}", words(&plan.content));
    }
    text
}

/// A prompt for people; a single message without its role.
fn words(content: &Content) -> String {
    match content {
        Content::Text(text) => text.clone(),
        Content::Tokens(ids) => ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" "),
        Content::Messages(messages) => match messages.as_slice() {
            [one] => one.content.clone(),
            several => {
                let each =
                    several.iter().map(|message| format!("[{}] {}", message.role.as_str(), message.content));
                each.collect::<Vec<_>>().join("\n")
            }
        },
    }
}

fn save(made: &Made, path: &std::path::Path) -> anyhow::Result<()> {
    let kind = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if !["txt", "jsonl", "json"].contains(&kind) {
        return Err(InputError::new("--save", format!("{} has no ending that says how", path.display()))
            .expected(".txt, .jsonl or .json (AIPerf's inputs.json)")
            .into());
    }
    if path.exists() {
        return Err(InputError::new("--save", format!("{} exists", path.display()))
            .next("give another name; nothing is ever overwritten")
            .into());
    }
    files::create_once_with(path, |mut out| match kind {
        "json" => {
            let payloads = made.each().map(|plan| {
                (aiperf::session_id(made.phase, plan.id), made.body(&plan).to_string().into_bytes())
            });
            aiperf::write_inputs(out, payloads)
        }
        "jsonl" => made.each().try_for_each(|plan| {
            let line = json!({"id": plan.id, "isl": plan.isl, "osl": plan.osl, "body": made.body(&plan)});
            writeln_json(&mut out, &line)
        }),
        _ => made.each().try_for_each(|plan| {
            use std::io::Write as _;
            writeln!(out, "{}\n", words(&plan.content))
        }),
    })?;
    Ok(())
}

fn writeln_json(out: &mut impl std::io::Write, value: &Value) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

fn statistics(made: &Made) -> String {
    let lengths = made.lengths();
    let mut table = Table::new(["TOKENS", "PROMPT", "OUTPUT"]);
    let of = |pick: fn(&(f64, f64)) -> f64| {
        Distribution::of(&mut lengths.iter().map(pick).collect()).unwrap_or_default()
    };
    let (isl, osl) = (of(|lengths| lengths.0), of(|lengths| lengths.1));
    type Figure = fn(&Distribution) -> f64;
    let rows: [(&str, Figure); 8] = [
        ("mean", |d| d.avg),
        ("stddev", |d| d.std),
        ("min", |d| d.min),
        ("p25", |d| d.p25),
        ("p50", |d| d.p50),
        ("p75", |d| d.p75),
        ("p99", |d| d.p99),
        ("max", |d| d.max),
    ];
    for (name, value) in rows {
        let figure = |distribution: &Distribution| format!("{:.1}", value(distribution));
        table.push(vec![name.to_owned(), figure(&isl), figure(&osl)]);
    }
    let mut text = table.text(&[0]);
    text.push_str("\nprompts by length\n");
    let bars = histogram(&lengths);
    let most = bars.iter().map(|(_, _, count)| *count).max().unwrap_or(1).max(1);
    for (low, high, count) in bars {
        let bar = "#".repeat((count * BAR).div_ceil(most));
        let range = if low == high { low.to_string() } else { format!("{low}-{high}") };
        let _ = writeln!(text, "{range:>13} {count:>7} {bar}");
    }
    text
}

/// Ranges of prompt lengths, both ends included, with the number of prompts in each.
fn histogram(lengths: &[(f64, f64)]) -> Vec<(u64, u64, usize)> {
    let isl: Vec<u64> = lengths.iter().map(|(isl, _)| *isl as u64).collect();
    let (Some(least), Some(most)) = (isl.iter().min().copied(), isl.iter().max().copied()) else {
        return Vec::new();
    };
    let width = (most - least + 1).div_ceil(BARS as u64).max(1);
    let mut bars = Vec::new();
    let mut low = least;
    while low <= most {
        let high = (low + width - 1).min(most);
        bars.push((low, high, isl.iter().filter(|isl| (low..=high).contains(*isl)).count()));
        low = high + 1;
    }
    bars
}

fn histogram_chart(made: &Made) -> Chart {
    let bars = histogram(&made.lengths());
    let points = bars.iter().map(|(low, high, count)| ((low + high) as f64 / 2.0, *count as f64));
    Chart {
        title: format!("Prompt lengths of {}", made.point.id),
        x_label: "tokens".into(),
        y_label: "prompts".into(),
        series: vec![Series { name: String::new(), points: points.collect() }],
    }
}

fn as_json(made: &Made, args: &PromptsArgs) -> Value {
    let lengths = made.lengths();
    let of = |pick: fn(&(f64, f64)) -> f64| Distribution::of(&mut lengths.iter().map(pick).collect());
    let shown = usize::try_from(args.show.unwrap_or(SHOWN)).unwrap_or(usize::MAX);
    let prompts: Vec<Value> = made
        .each()
        .take(shown)
        .map(|plan| {
            json!({"id": plan.id, "isl": plan.isl, "osl": plan.osl, "shared": plan.shared, "body": made.body(&plan)})
        })
        .collect();
    json!({
        "point": made.point.id,
        "count": made.count,
        "tokenizer": made.prompts.tokenizer().name(),
        "exact": made.prompts.is_exact(),
        "salt": made.prompts.salt(),
        "isl": of(|lengths| lengths.0),
        "osl": of(|lengths| lengths.1),
        "histogram": histogram(&lengths).iter().map(|(low, high, count)| json!({"from": low, "to": high, "prompts": count})).collect::<Vec<_>>(),
        "prompts": prompts,
    })
}
