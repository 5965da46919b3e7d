//! `tokmark prompts`: shows what a load point sends, byte for byte, before it is sent.

mod preview;

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;

use self::preview::Preview;
use super::flags::PlanFlags;
use super::key_flags::prompts::{Prompts as PromptKeys, SALT};
use super::key_flags::{self, KeyFlags};
use super::printer::Printer;
use crate::document::{InputError, InputErrors};
use crate::experiment::files;
use crate::metrics::record::Phase;
use crate::plan::choices::Choices;
use crate::plan::{LoadPoint, Plan, Stop};
use crate::prompts::{Learned, Prompts, TokenizerCache, check};
use crate::report::chart::{png, svg};

/// Default number of prompts shown.
const SHOWN: u64 = 3;

/// Default number of prompts made without a recipe.
const MADE: u64 = 100;

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
    /// Print statistics and a histogram of the lengths
    #[arg(long)]
    stats: bool,
    /// Print the number of prompts and tokens
    #[arg(long)]
    count: bool,
    /// Save all prompts: .txt, .jsonl (with lengths and request bodies), or .json (AIPerf's inputs.json)
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Draw the histogram of the prompt lengths
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Number of prompts to make [default: that of the load point; 100 without a recipe]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// Show the prompts of the warm-up instead
    #[arg(long)]
    warmup: bool,
    #[command(flatten)]
    keys: KeyFlags<PromptKeys>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: PlanFlags,
}

pub fn run(printer: Printer, args: &PromptsArgs) -> anyhow::Result<()> {
    let printer = printer.with_json(args.json);
    let preview = make(printer, args)?;
    if let Some(path) = &args.save {
        preview.save(path)?;
    }
    if let Some(path) = &args.plot {
        let drawn = svg(&preview.lengths().chart(&preview.point.id))?;
        let is_png = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("png"));
        files::create_once(path, &if is_png { png(&drawn)? } else { drawn.into_bytes() })?;
    }
    if printer.is_json() {
        return printer.json(&preview.as_json(args.show.unwrap_or(SHOWN)));
    }
    let shows_nothing = args.stats || args.count || args.save.is_some() || args.plot.is_some();
    let mut text = String::new();
    if let Some(shown) = args.show.or((!shows_nothing).then_some(SHOWN)) {
        text.push_str(&preview.pages(shown));
    }
    if args.stats {
        text.push_str(&preview.lengths().text());
    }
    if args.count {
        let _ = writeln!(text, "{}", preview.lengths().totals());
    }
    printer.text(&text)?;
    preview.notes().iter().for_each(|note| printer.note(note));
    Ok(())
}

fn make(printer: Printer, args: &PromptsArgs) -> Result<Preview, InputErrors> {
    let plan = plan(printer, args)?;
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
    Ok(Preview { point, model: plan.model.served_name, prompts, phase, count })
}

/// Plans the named recipe, where the flags may change only the salt, or the recipe that the flags form.
fn plan(printer: Printer, args: &PromptsArgs) -> Result<Plan, InputErrors> {
    let Some(recipe) = &args.recipe else {
        let planning = args.flags.planning_without_site(printer)?;
        let choices = Choices { flags: args.keys.with_lengths(), ..planning.choices.clone() };
        return planning.plan(&key_flags::base()?, choices);
    };
    let planning = args.flags.planning(printer)?;
    let flags = args.keys.0.clone();
    if let Some(other) = flags.iter().find(|flag| flag.key != SALT) {
        return Err(InputError::new(&other.flag, "found beside a recipe")
            .expected("a recipe, or options")
            .next("change the recipe's values with --set load.KEY=VALUE")
            .into());
    }
    planning.plan_named(recipe, Choices { flags, ..planning.choices.clone() })
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
