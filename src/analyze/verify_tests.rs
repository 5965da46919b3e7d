//! Tests each rule by itself: one published figure, one experiment, values worked by hand.

use super::*;
use crate::document::{Document, InputErrors};
use crate::launcher;
use crate::metrics::Distribution;
use crate::metrics::fixtures::{point, run, sound};
use crate::metrics::summary::{Context, summarize};
use crate::metrics::verdict::Verdict;
use crate::plan::PlanInput;
use crate::plan::choices::Choices;
use crate::planner;
use crate::recipe::find::RecipeFile;

/// ISL 200, OSL 100, no streaming, concurrency 10 and 20, two GPUs of either type.
const RECIPE: &str = r#"schema = 1
name = "r"
source = "a page"
[model]
name = "org/m"
[deploy]
launcher = "vllm"
tp = 2
[load]
isl = 200
osl = 100
concurrency = [10, 20]
streaming = false
[gpu.h100]
[gpu.b200]
"#;

/// A figure of 100 tokens/s at concurrency 10, plus the keys in `more`.
fn figure(more: &str) -> String {
    with_metric("throughput.output_tokens_per_s", 100.0, more)
}

fn with_metric(metric: &str, value: f64, more: &str) -> String {
    format!(
        "[[published]]\ngpu = \"h100\"\nmetric = \"{metric}\"\nvalue = {value}\nsource = \"s\"\npoint = \"isl200_osl100_con10\"\n{more}\n"
    )
}

/// The same without a point.
fn anywhere(more: &str) -> String {
    figure(more).replace("point = \"isl200_osl100_con10\"\n", "")
}

fn file(text: &str) -> RecipeFile {
    RecipeFile::parse(Document { file: "r.toml".into(), text: text.into() }, None).unwrap()
}

fn plan_of(file: &RecipeFile, gpu: &str, sets: &[&str]) -> Plan {
    let sets = sets.iter().map(|set| (*set).to_owned()).collect();
    let choices = Choices { gpu: Some(gpu.into()), sets, ..Choices::default() };
    let launcher = file.recipe.deploy.launcher.as_deref().unwrap();
    let input = PlanInput {
        recipe: file.document.clone(),
        folder: "/f".into(),
        site: None,
        site_folder: String::new(),
        launcher: launcher::find(launcher, None, "t").unwrap(),
        stand_in: None,
        choices,
        experiments: "/e".into(),
        version: "1.2.3".into(),
    };
    planner::plan(&input).unwrap()
}

/// A successful experiment: 100 tokens/s at every point, lengths reached, a valid verdict.
struct Experiment {
    plan: Plan,
    summaries: BTreeMap<String, Summary>,
}

impl Experiment {
    fn of(recipe: &str, gpu: &str, sets: &[&str]) -> Self {
        let plan = plan_of(&file(recipe), gpu, sets);
        let summaries = plan.points().map(|(deployment, load)| {
            let name = plan.point_name(deployment, load);
            let ran = run(sound());
            let context = Context { gpus: Some(deployment.gpus), ..Context::default() };
            let mut summary = summarize(&point(), &ran, &ran.fold(), &context);
            summary.point.id = load.id.clone();
            (summary.point.isl, summary.point.osl) = (load.isl.mean, load.osl.mean);
            let mean = |tokens: u32| Some(Distribution { avg: f64::from(tokens), ..Distribution::default() });
            (summary.isl, summary.osl) = (mean(load.isl.mean), mean(load.osl.mean));
            summary.throughput.output_tokens_per_s = 100.0;
            summary.throughput.output_tokens_per_s_per_gpu = Some(50.0);
            summary.verdict = Verdict { result: Rating::Valid, reasons: Vec::new() };
            (name, summary)
        });
        let summaries = summaries.collect();
        Self { plan, summaries }
    }

    fn changed(mut self, name: &str, change: impl FnOnce(&mut Summary)) -> Self {
        change(self.summaries.get_mut(name).unwrap());
        self
    }

    fn verify(&self) -> Verification {
        verify(&Figures::in_plan(&self.plan).unwrap(), &self.plan, &self.summaries)
    }

    #[track_caller]
    fn line(&self) -> ComparedFigure {
        let lines = self.verify().figures;
        assert_eq!(lines.len(), 1, "{lines:#?}");
        lines[0].clone()
    }
}

/// The recipe with these figures, run unchanged.
fn ran(figures: &str) -> Experiment {
    Experiment::of(&format!("{RECIPE}{figures}"), "h100", &[])
}

const CON10: &str = "isl200_osl100_con10";

#[track_caller]
fn says(line: &ComparedFigure, outcome: Reproduction, reason: &str) {
    assert_eq!((line.outcome, line.reasons.join("; ").as_str()), (outcome, reason), "{line:#?}");
    let compares = matches!(outcome, Reproduction::Reproduced | Reproduction::NotReproduced);
    assert_eq!(line.difference_percent.is_some(), compares, "{line:#?}");
}

#[test]
fn within_tolerance_is_reproduced_and_the_bound_itself_counts() {
    for (measured, percent, outcome) in [
        (100.0, 0.0, Reproduction::Reproduced),
        (90.0, -10.0, Reproduction::Reproduced),
        (110.0, 10.0, Reproduction::Reproduced),
        (89.9, -10.1, Reproduction::NotReproduced),
    ] {
        let line = ran(&figure("")).changed(CON10, |s| s.throughput.output_tokens_per_s = measured).line();
        assert_eq!((line.outcome, line.measured), (outcome, Some(measured)));
        assert!((line.difference_percent.unwrap() - percent).abs() < 1e-9, "{line:?}");
        assert_eq!((line.point.as_deref(), line.tolerance_percent), (Some(CON10), 10.0));
    }
    let strict =
        ran(&figure("tolerance = \"0.5 %\"")).changed(CON10, |s| s.throughput.output_tokens_per_s = 99.0);
    says(&strict.line(), Reproduction::NotReproduced, "1.0 % below the published figure, tolerance 0.5 %");
}

#[test]
fn better_than_published_is_reproduced_and_said() {
    let better = ", which is better";
    for (metric, published, outcome, reason) in [
        // 100 measured against 80
        (
            "throughput.output_tokens_per_s",
            80.0,
            Reproduction::Reproduced,
            "25.0 % above the published figure, tolerance 10 %",
        ),
        // 140 ms against 200 and 100
        ("e2e_ms.avg", 200.0, Reproduction::Reproduced, "30.0 % below the published figure, tolerance 10 %"),
        (
            "e2e_ms.avg",
            100.0,
            Reproduction::NotReproduced,
            "40.0 % above the published figure, tolerance 10 %",
        ),
        // A higher count is not better.
        (
            "requests.total",
            10.0,
            Reproduction::NotReproduced,
            "100.0 % above the published figure, tolerance 10 %",
        ),
    ] {
        let tail = if outcome == Reproduction::Reproduced { better } else { "" };
        says(&ran(&with_metric(metric, published, "")).line(), outcome, &format!("{reason}{tail}"));
    }
}

#[test]
fn a_simulated_result_is_never_compared_nor_shown_beside_the_figure() {
    let reason = "the result is simulated, which is never compared with a published figure";
    let mut by_plan = ran(&figure(""));
    by_plan.plan.simulated = true;
    let by_summary = ran(&figure("")).changed("isl200_osl100_con20", |s| s.simulated = true);
    for experiment in [by_plan, by_summary] {
        let verification = experiment.verify();
        assert!(verification.simulated);
        says(&verification.figures[0], Reproduction::NotComparable, reason);
        assert_eq!(verification.figures[0].measured, None);
    }
    let mut far = ran(&figure("")).changed(CON10, |s| s.throughput.output_tokens_per_s = 1.0);
    far.plan.simulated = true;
    says(&far.line(), Reproduction::NotComparable, reason);
}

#[test]
fn other_hardware_models_and_offline_figures_are_not_compared() {
    let recipe = format!("{RECIPE}{}", figure(""));
    let on_b200 = Experiment::of(&recipe, "b200", &[]).line();
    says(&on_b200, Reproduction::NotComparable, "published for h100, and this is b200");
    assert_eq!(on_b200.measured, Some(100.0));
    let other_model = Experiment::of(&recipe, "h100", &["model.name=org/n"]).line();
    says(&other_model, Reproduction::NotComparable, "published for the model org/m, and this is org/n");
    let offline = ran(&figure("offline = true")).line();
    says(&offline, Reproduction::NotComparable, "an offline figure, measured without a server in between");
    assert_eq!(offline.measured, Some(100.0));
    let both = Experiment::of(&format!("{RECIPE}{}", figure("offline = true")), "b200", &[]).line();
    assert_eq!(both.reasons.len(), 2);
}

#[test]
fn an_offline_figure_is_shown_beside_points_of_equal_lengths() {
    let recipe = RECIPE.replace("isl = 200", "isl = [200, 1000]").replace("[10, 20]", "10");
    let shown = Experiment::of(
        &format!("{recipe}{}", anywhere("isl = 1000\nosl = 100\noffline = true")),
        "h100",
        &[],
    );
    let line = shown.line();
    says(&line, Reproduction::NotComparable, "an offline figure, measured without a server in between");
    assert_eq!((line.point.as_deref(), line.measured), (Some("isl1000_osl100_con10"), Some(100.0)));
}

#[test]
fn a_value_of_nought_is_no_figure_yet() {
    let line = ran(&with_metric("throughput.output_tokens_per_s", 0.0, "")).line();
    says(&line, Reproduction::NotComparable, "the recipe names no figure yet (value = 0)");
}

#[test]
fn other_lengths_than_the_published_are_not_compared() {
    let line = ran(&figure("isl = 1024\nosl = 100")).line();
    says(&line, Reproduction::NotComparable, "published with ISL 1024, and this is ISL 200");
    assert_eq!(ran(&figure("isl = 200\nosl = 100")).line().outcome, Reproduction::Reproduced);
    // No point matches: one line with each reason.
    let line = ran(&anywhere("isl = 1024\nosl = 1024")).line();
    says(
        &line,
        Reproduction::NotComparable,
        "published with ISL 1024, and this is ISL 200; published with OSL 1024, and this is OSL 100",
    );
    assert_eq!(line.point, None);
}

#[test]
fn lengths_that_were_not_reached_are_not_compared() {
    let mean = |tokens: f64| Some(Distribution { avg: tokens, ..Distribution::default() });
    let short = ran(&figure("")).changed(CON10, |s| s.osl = mean(94.9)).line();
    says(&short, Reproduction::NotComparable, "OSL not reached: 94.9 on average for 100.0 asked for");
    let long = ran(&figure("")).changed(CON10, |s| s.isl = mean(211.0)).line();
    says(&long, Reproduction::NotComparable, "ISL not reached: 211.0 on average for 200.0 asked for");
    assert_eq!(
        ran(&figure("")).changed(CON10, |s| s.osl = mean(95.0)).line().outcome,
        Reproduction::Reproduced
    );
}

#[test]
fn a_range_of_lengths_is_reached_by_its_own_mean() {
    // sa_bench draws from [0.8 L, L]: 160 to 200 and 80 to 100, 180 and 90 on average.
    let recipe = RECIPE.replace("streaming", "length_range = { sa_bench = 0.8 }\nstreaming");
    let mean = |tokens: f64| Some(Distribution { avg: tokens, ..Distribution::default() });
    let of = |isl, osl| {
        let experiment = Experiment::of(&format!("{recipe}{}", figure("isl = 200\nosl = 100")), "h100", &[]);
        experiment.changed(CON10, |s| (s.isl, s.osl) = (mean(isl), mean(osl))).line()
    };
    assert_eq!(of(180.0, 90.0).outcome, Reproduction::Reproduced);
    let full = of(200.0, 90.0);
    says(&full, Reproduction::NotComparable, "ISL not reached: 200.0 on average for 180.0 asked for");
}

#[test]
fn streaming_is_as_the_figure_says_or_as_the_recipe_has_it() {
    let line = ran(&figure("streaming = true")).line();
    says(&line, Reproduction::NotComparable, "published with streaming on, and here it is off");
    let recipe = format!("{RECIPE}{}", figure(""));
    let line = Experiment::of(&recipe, "h100", &["load.streaming=true"]).line();
    says(&line, Reproduction::NotComparable, "the recipe has streaming off, and here it is on");
    let stated = format!("{RECIPE}{}", figure("streaming = true"));
    assert_eq!(
        Experiment::of(&stated, "h100", &["load.streaming=true"]).line().outcome,
        Reproduction::Reproduced
    );
}

#[test]
fn a_figure_without_a_point_applies_to_every_matching_point() {
    let lines = ran(&anywhere("")).verify().figures;
    let points: Vec<_> = lines.iter().map(|line| line.point.as_deref().unwrap()).collect();
    assert_eq!(points, [CON10, "isl200_osl100_con20"]);
    assert_eq!(ran(&anywhere("concurrency = 20")).line().point.as_deref(), Some("isl200_osl100_con20"));
    let none = ran(&anywhere("concurrency = 64")).line();
    says(&none, Reproduction::NotMeasured, "no load point with concurrency 64 was run");
    // Conditions that only the recipe states also apply.
    let recipe = format!("{RECIPE}{}", anywhere(""));
    let line = Experiment::of(&recipe, "h100", &["load.concurrency=30"]).line();
    says(&line, Reproduction::NotMeasured, "no load point with concurrency 10, 20 was run");
    let line = Experiment::of(&recipe, "h100", &["load.concurrency=20", "load.osl=50"]).line();
    says(&line, Reproduction::NotComparable, "the recipe has OSL 100, and this is OSL 50");
    let ramp = "load.stages=[{ duration = \"60s\", concurrency = 20 }]";
    let line = Experiment::of(&recipe, "h100", &[ramp]).line();
    says(&line, Reproduction::NotMeasured, "no load point with concurrency 10, 20 was run");
}

#[test]
fn a_point_that_names_another_concurrency_is_not_compared() {
    let line = ran(&figure("concurrency = 20")).line();
    says(&line, Reproduction::NotComparable, "published with concurrency 20, and this is 10");
}

#[test]
fn another_number_of_gpus_matters_unless_the_metric_is_per_gpu() {
    let line = ran(&figure("gpus = 8")).line();
    says(&line, Reproduction::NotComparable, "published on 8 GPUs, and this is 2 GPUs");
    let per_gpu = with_metric("throughput.output_tokens_per_s_per_gpu", 50.0, "gpus = 8");
    let line = ran(&per_gpu).line();
    assert_eq!((line.outcome, line.measured), (Reproduction::Reproduced, Some(50.0)));
    assert!(line.differences.iter().any(|d| d.what == "GPUs" && d.here == "2 GPUs"), "{line:#?}");
    // An older summary lacks the figure: 120 tokens/s on two GPUs.
    let total = with_metric("throughput.total_tokens_per_s_per_gpu", 60.0, "");
    let older = ran(&total).changed(CON10, |s| {
        s.throughput.total_tokens_per_s = 120.0;
        s.throughput.total_tokens_per_s_per_gpu = None;
    });
    assert_eq!(older.line().measured, Some(60.0));
}

#[test]
fn an_invalid_result_is_not_compared_and_a_suspect_one_is() {
    let with = |result, measured| {
        let reasons = vec!["3 of 20 requests failed".to_owned()];
        ran(&figure("")).changed(CON10, |s| {
            s.verdict = Verdict { result, reasons };
            s.throughput.output_tokens_per_s = measured;
        })
    };
    let reason = "the result is invalid: 3 of 20 requests failed";
    says(&with(Rating::Invalid, 100.0).line(), Reproduction::NotComparable, reason);
    says(&with(Rating::Invalid, 1.0).line(), Reproduction::NotComparable, reason);
    let suspect = with(Rating::Suspect, 50.0).line();
    let reason =
        "50.0 % below the published figure, tolerance 10 %; the result is suspect: 3 of 20 requests failed";
    says(&suspect, Reproduction::NotReproduced, reason);
    assert!(suspect.differences.iter().any(|d| d.what == "verdict"));
    says(
        &with(Rating::Suspect, 100.0).line(),
        Reproduction::Reproduced,
        "the result is suspect: 3 of 20 requests failed",
    );
}

#[test]
fn what_was_not_run_is_not_measured() {
    let recipe = format!("{RECIPE}{}", figure(""));
    let line = Experiment::of(&recipe, "h100", &["load.concurrency=20"]).line();
    let reason = format!("no load point {CON10} was run, but isl200_osl100_con20");
    says(&line, Reproduction::NotMeasured, &reason);
    let mut cut = ran(&figure(""));
    cut.summaries.clear();
    says(
        &cut.line(),
        Reproduction::NotMeasured,
        "the load point has no readable summary: it was not run to its end",
    );
    let line = ran(&with_metric("ttft_ms.p99", 20.0, "")).changed(CON10, |s| s.ttft_ms = None).line();
    says(&line, Reproduction::NotMeasured, "the result has no ttft_ms.p99: streaming is off");
}

#[test]
fn what_differs_is_told_with_where_it_came_from() {
    let recipe =
        format!("{RECIPE}[gpu.h100.container]\nimage = \"v:1\"\n{}", figure("software = \"vLLM 0.9\""))
            .replace("[gpu.h100]\n", "");
    let sets = ["deploy.engine.max_num_seqs=4", "load.seed=7", "load.concurrency=10", "deploy.port=9"];
    let experiment = Experiment::of(&recipe, "h100", &sets);
    let mean = |tokens: f64| Some(Distribution { avg: tokens, ..Distribution::default() });
    let experiment = experiment.changed(CON10, |s| {
        s.osl = mean(97.0);
        s.throughput.output_tokens_per_s = 50.0;
    });
    let line = experiment.line();
    let reported: Vec<(&str, Option<&str>, &str)> =
        line.differences.iter().map(|d| (d.what.as_str(), d.published.as_deref(), d.here.as_str())).collect();
    assert_eq!(
        reported,
        [
            ("software", Some("vLLM 0.9"), "no container, launcher vllm, tokmark 1.2.3"),
            ("lengths", Some("ISL 200 OSL 100"), "ISL 200.0 OSL 97.0 on average"),
            ("deploy.engine.max_num_seqs", None, "4 (--set)"),
            ("load.seed", Some("0"), "7 (--set)"),
        ],
        "one of the recipe's own concurrencies is no change, and a port does not matter"
    );
}

#[test]
fn a_load_other_than_the_recipes_is_not_compared() {
    let recipe = format!("{RECIPE}{}", figure(""));
    let line = Experiment::of(&recipe, "h100", &["load.length_range.vllm=0.5"]).line();
    says(&line, Reproduction::NotComparable, "load.length_range.vllm is not the recipe's own (--set)");
    let ramp =
        RECIPE.replace("concurrency = [10, 20]", "stages = [{ duration = \"60s\", concurrency = 20 }]");
    let recipe = format!("{ramp}{}", anywhere(""));
    assert_eq!(Experiment::of(&recipe, "h100", &[]).line().outcome, Reproduction::Reproduced);
    let line = Experiment::of(&recipe, "h100", &["load.concurrency=20"]).line();
    says(&line, Reproduction::NotComparable, "the recipe has load.stages, and it is not here");
}

#[test]
fn the_place_of_a_file_is_a_difference_and_no_reason() {
    let trace = "[load.prompts.trace]\nkind = \"mooncake\"\npath = \"t.jsonl\"\n";
    let start = RECIPE.split("isl = 200").next().unwrap();
    let recipe =
        format!("{start}streaming = false\n{trace}[gpu.h100]\n{}", anywhere("isl = 64000\nosl = 400"));
    let mean = |tokens: f64| Some(Distribution { avg: tokens, ..Distribution::default() });
    let of = |isl: u32| {
        let experiment = Experiment::of(
            &recipe,
            "h100",
            &["load.prompts.trace={ kind = \"mooncake\", path = \"/x/t.jsonl\" }"],
        );
        experiment.changed("mooncake", |s| {
            (s.point.isl, s.point.osl) = (isl, 400);
            (s.isl, s.osl) = (mean(f64::from(isl)), mean(400.0));
        })
    };
    let near = of(62_000).line();
    assert_eq!(near.outcome, Reproduction::Reproduced, "3 % from 64,000: {near:#?}");
    assert!(near.differences.iter().any(|d| d.what == "load.prompts.trace.path"), "{near:#?}");
    let far = of(60_000).line();
    says(&far, Reproduction::NotComparable, "published with ISL 64000, and this is ISL 60000");
}

#[test]
fn a_copy_is_held_against_the_recipe_with_the_figures() {
    let copy = RECIPE.replace("name = \"r\"", "name = \"mine\"").replace("tp = 2", "tp = 4");
    let experiment = Experiment::of(&copy, "h100", &[]);
    let per_gpu = with_metric("throughput.output_tokens_per_s_per_gpu", 50.0, "");
    let figures = Figures::of(&file(&format!("{RECIPE}{per_gpu}")), &experiment.plan).unwrap();
    let verification = verify(&figures, &experiment.plan, &experiment.summaries);
    assert_eq!(
        (verification.recipe.as_str(), verification.figures[0].outcome),
        ("r", Reproduction::Reproduced)
    );
    let tp = verification.figures[0].differences.iter().find(|d| d.what == "deploy.tp").unwrap();
    assert_eq!((tp.published.as_deref(), tp.here.as_str()), (Some("2"), "4 (r.toml:8)"));
}

#[test]
fn another_deployment_or_load_is_not_compared() {
    let why = |sets: &[&str]| {
        let line = Experiment::of(&format!("{RECIPE}{}", figure("")), "h100", sets).line();
        assert_eq!(line.outcome, Reproduction::NotComparable, "{line:#?}");
        line.reasons.join("; ")
    };
    assert_eq!(why(&["deploy.tp=4"]), "deploy.tp is not the recipe's own (--set)");
    assert_eq!(
        why(&["load.prompts.prefix.system_tokens=48"]),
        "load.prompts.prefix.system_tokens is not the recipe's own (--set)"
    );
    assert_eq!(why(&["load.endpoint=completions"]), "load.endpoint is not the recipe's own (--set)");
}

#[test]
fn a_part_of_a_mix_or_of_a_ramp_is_another_load() {
    let mix = "mix = [{ isl = 512, osl = 64 }, { isl = 32, osl = 8 }]\nconcurrency = 10";
    let ramp = "isl = 200\nosl = 100\n[[load.stages]]\nconcurrency = 4\nduration = \"1s\"\n[[load.stages]]\nconcurrency = 32\nduration = \"1s\"";
    for (load, set, key) in [
        (mix, "load.mix=[{isl=32,osl=8}]", "load.mix"),
        (ramp, "load.stages=[{concurrency=32,duration=\"1s\"}]", "load.stages"),
    ] {
        let recipe = RECIPE.replace("isl = 200\nosl = 100\nconcurrency = [10, 20]\nstreaming = false", load);
        let figure = anywhere("streaming = true");
        let line = Experiment::of(&format!("{recipe}{figure}"), "h100", &[set]).line();
        let reason = format!("{key} is not the recipe's own (--set)");
        assert!(line.outcome == Reproduction::NotComparable && line.reasons.contains(&reason), "{line:#?}");
    }
}

#[test]
fn the_counts_are_those_of_the_lines() {
    let figures =
        [figure(""), figure("isl = 1"), anywhere("concurrency = 7"), with_metric("e2e_ms.avg", 1.0, "")];
    let counts = ran(&figures.concat()).verify().counts;
    assert_eq!(counts, Reproduction::ALL.map(|outcome| (outcome, 1)).into());
}

/// The mistakes of a recipe with one figure that has the lines `published`.
fn mistakes(published: &str) -> String {
    let file = file(&format!("{RECIPE}[[published]]\n{published}\nsource = \"s\"\n"));
    super::super::published::check(&file, &plan_of(&file, "h100", &[]))
        .err()
        .map_or(String::new(), |InputErrors(all)| {
            all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        })
}

#[test]
fn mistakes_in_figures_are_found_when_the_recipe_is_checked() {
    let good = "gpu = \"h100\"\nmetric = \"ttft_ms.p99\"\nvalue = 3.5\ntolerance = \"5%\"\npoint = \"isl200_osl100_con10\"";
    assert_eq!(mistakes(good), "");
    assert_eq!(mistakes(&good.replace("3.5", "0")), "");
    for (found, instead, message) in [
        (
            "ttft_ms.p99",
            "ttft_ms.p98",
            "r.toml:18: `published[1].metric`: found \"ttft_ms.p98\", and summary.json has no number there\n  \
             expected: a path such as throughput.output_tokens_per_s_per_gpu or ttft_ms.p99\n  next: did you mean `ttft_ms.p90`?",
        ),
        (
            "3.5",
            "-1",
            "r.toml:19: `published[1].value`: found -1\n  expected: a number above 0, or 0 as long as there is no figure",
        ),
        (
            "3.5",
            "nan",
            "r.toml:19: `published[1].value`: found NaN\n  expected: a number above 0, or 0 as long as there is no figure",
        ),
        (
            "3.5",
            "inf",
            "r.toml:19: `published[1].value`: found inf\n  expected: a number above 0, or 0 as long as there is no figure",
        ),
        (
            "5%",
            "5",
            "r.toml:20: `published[1].tolerance`: found \"5\"\n  expected: a percentage above 0, e.g. \"10%\"",
        ),
        (
            "5%",
            "0%",
            "r.toml:20: `published[1].tolerance`: found \"0%\"\n  expected: a percentage above 0, e.g. \"10%\"",
        ),
        (
            "5%",
            "-5%",
            "r.toml:20: `published[1].tolerance`: found \"-5%\"\n  expected: a percentage above 0, e.g. \"10%\"",
        ),
        (
            "5%",
            "inf%",
            "r.toml:20: `published[1].tolerance`: found \"inf%\"\n  expected: a percentage above 0, e.g. \"10%\"",
        ),
        (
            "h100",
            "a100",
            "r.toml:17: `published[1].gpu`: found \"a100\", and the recipe is not written for it\n  \
             expected: one of b200, h100\n  next: correct it, or add a [gpu.a100] section",
        ),
        (
            "con10",
            "con11",
            "r.toml:21: `published[1].point`: no load point \"isl200_osl100_con11\"\n  \
             expected: one of isl200_osl100_con10, isl200_osl100_con20\n  next: did you mean `isl200_osl100_con10`?",
        ),
    ] {
        assert_eq!(mistakes(&good.replace(found, instead)), message);
    }
    // Reports all mistakes at once, but checks the point of a sound figure only.
    assert_eq!(
        mistakes(&good.replace("3.5", "-1").replace("5%", "5").replace("h100", "a100"))
            .matches("r.toml")
            .count(),
        3
    );
}

#[test]
fn a_point_is_asked_for_only_where_the_plan_is_the_recipes_own() {
    let file = file(&format!("{RECIPE}{}", figure("")));
    let check = |gpu: &str, sets: &[&str]| super::super::published::check(&file, &plan_of(&file, gpu, sets));
    assert_eq!(check("h100", &["load.concurrency=20"]), Ok(()));
    assert_eq!(check("h100", &["load.osl=7"]), Ok(()));
    let wrong = self::file(&format!("{RECIPE}{}", figure("").replace("con10", "con11")));
    assert!(super::super::published::check(&wrong, &plan_of(&wrong, "h100", &[])).is_err());
    assert_eq!(
        super::super::published::check(&wrong, &plan_of(&wrong, "b200", &[])),
        Ok(()),
        "of another GPU type"
    );
}

#[test]
fn points_of_a_server_sweep_are_named_with_their_deployment() {
    let recipe =
        format!("{RECIPE}[sweep.server]\ntp = [1, 2]\n{}", figure("").replace("isl200", "tp2_isl200"));
    let line = Experiment::of(&recipe, "h100", &[]).line();
    assert_eq!(
        (line.outcome, line.point.as_deref()),
        (Reproduction::Reproduced, Some("tp2_isl200_osl100_con10"))
    );
}
