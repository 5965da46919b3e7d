//! `tokmark bench --url URL`: measures a running OpenAI-compatible endpoint. The flags override a recipe; from there it is a run
//! like any other.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::block_on;
use super::export::ExportOption;
use super::key_flags::load::{Bench, with_headers};
use super::key_flags::{self, KeyFlags};
use super::planning::Planning;
use super::printer::Printer;
use super::run::session;
use super::served_model::listed_model;
use crate::deploy::{Place, connection};
use crate::document::{InputError, InputErrors};
use crate::experiment::{Experiment, Manifest};
use crate::plan::Plan;
use crate::plan::choices::{Choices, Flag};
use crate::prompts;
use crate::site::SiteFile;

/// Results without `--out` go to a new folder below this one.
const RESULTS: &str = "results";

const MODEL: &str = "model.name";

#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    keys: KeyFlags<Bench>,
    /// Folder for the results [default: results/<UTC time>]
    #[arg(long, value_name = "DIR", aliases = ["artifact-dir", "output-artifact-dir"])]
    out: Option<PathBuf>,
    /// Write no files
    #[arg(long, conflicts_with = "out")]
    no_out: bool,
    #[command(flatten)]
    exports: ExportOption,
    /// Print only JSON: the summary, or an array of those of several points
    #[arg(long)]
    json: bool,
}

impl BenchArgs {
    fn flags(&self) -> Result<Vec<Flag>, InputErrors> {
        let mut flags = with_headers(self.keys.with_lengths())?;
        flags.extend(self.exports.flag());
        Ok(flags)
    }
}

/// Reports every foreseeable failure before writing anything.
pub fn run(printer: Printer, args: &BenchArgs) -> anyhow::Result<()> {
    let mut flags = args.flags()?;
    let planning = Planning::new(printer, SiteFile::default(), None)?;
    let mut plan = plan(&planning, flags.clone())?;
    connection::check(&plan, true)?;
    prompts::check::check(&plan)?;
    let folder = args.out.as_deref().unwrap_or(Path::new(RESULTS));
    if !args.no_out && Experiment::holds_measurement(folder) {
        return Err(occupied(folder, args.out.is_some()).into());
    }
    let named = flags.iter().find(|flag| flag.key == MODEL).map(|_| plan.model.served_name.clone());
    let listed = block_on(listed_model(printer, &plan, named.as_deref()))?;
    if let Some(model) = listed {
        flags.push(Flag { flag: "--url".into(), key: MODEL.into(), value: model.into() });
        plan = self::plan(&planning, flags)?;
    }
    let scratch = args.no_out.then(tempfile::tempdir).transpose()?;
    let experiment = match (&scratch, &args.out) {
        (Some(scratch), _) => Experiment::scratch(scratch.path()),
        (None, Some(out)) => Experiment::loose(out),
        (None, None) => Experiment::loose_by_time(folder, jiff::Timestamp::now())?,
    };
    let cannot = || format!("cannot write into {}", experiment.dir().display());
    experiment.ensure(&plan, None).with_context(cannot)?;
    Manifest::now(&plan, None, "bench").create(experiment.dir()).with_context(cannot)?;
    let printer = printer.with_json(args.json);
    session::conduct(printer, plan, Place::Local, experiment)?.show(printer, false)
}

/// Results would lie in, or below, a folder that holds a measurement.
fn occupied(folder: &Path, is_given: bool) -> InputError {
    let folder = folder.display();
    if is_given {
        InputError::new("--out", format!("{folder} already holds a measurement"))
            .next("give another folder; nothing is ever overwritten")
    } else {
        let problem = "holds a measurement itself, and without --out the results go into a folder below it";
        InputError::new(format!("{folder}/"), problem)
            .next("give --out DIR, or move that measurement elsewhere")
    }
}

fn plan(planning: &Planning, flags: Vec<Flag>) -> Result<Plan, InputErrors> {
    planning.plan(&key_flags::base()?, Choices { flags, ..Choices::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::flags::Verbosity;
    use crate::plan::{Arrival, AtEnd, Level, Limit, LoadPoint, Spacing, Stop, WhenFull};
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn points(args: &str) -> Result<Vec<LoadPoint>, String> {
        let words = ["bench", "--url", "http://127.0.0.1:1"].into_iter().chain(args.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        let flags = line.bench.flags().map_err(|error| error.to_string())?;
        let printer = Printer::new(Verbosity { verbose: false, quiet: false });
        let planning = Planning::new(printer, SiteFile::default(), None).unwrap();
        let plan = plan(&planning, flags).map_err(|error| error.to_string())?;
        Ok(plan.points().map(|(_, point)| point.clone()).collect())
    }

    #[test]
    fn rates_make_open_loops() {
        let found = points("--rate 12.5,3,3 --isl 8 --osl 4").unwrap();
        let ids: Vec<&str> = found.iter().map(|point| point.id.as_str()).collect();
        assert_eq!(ids, ["isl8_osl4_rate12.5", "isl8_osl4_rate3"]);
        let open =
            Arrival::Open { rate: Level::Constant(12.5), spacing: Spacing::Poisson, limit: Limit::default() };
        assert_eq!(found[0].arrival, open);
        assert_eq!((found[0].stop, found[0].at_end), (Stop::DurationS(60.0), AtEnd::default()));
        let all =
            "--rate 2 --arrival gamma:0.5 --max-concurrency 4 --when-full drop --at-end cut --requests 9";
        let found = points(all).unwrap().remove(0);
        let open = Arrival::Open {
            rate: Level::Constant(2.0),
            spacing: Spacing::Gamma { shape: 0.5 },
            limit: Limit { max_concurrency: Some(4), when_full: WhenFull::Drop },
        };
        assert_eq!((&found.arrival, found.stop, found.at_end), (&open, Stop::Requests(9), AtEnd::Cut));
    }

    #[test]
    fn stages_make_ramps() {
        let found = points("--stages 30s:10,1m:50:hold,10s:0:cool-down --stages-from 2").unwrap().remove(0);
        assert_eq!((found.id.as_str(), found.stop), ("isl128_osl128_ramp50", Stop::DurationS(100.0)));
        let ramp = found.arrival.ramp().unwrap();
        assert_eq!((ramp.start, ramp.measured_s(), ramp.stages.len()), (2.0, 90.0, 3));
        let found = points("--rate-stages 1s:0.5 --arrival constant --max-concurrency 3").unwrap().remove(0);
        assert_eq!((found.id.as_str(), found.concurrency()), ("isl128_osl128_ramprate0.5", Some(3)));
        assert!(matches!(found.arrival, Arrival::Open { spacing: Spacing::Constant, .. }), "{found:?}");
        assert_eq!(found.arrival.ramp().unwrap().duration_s(), 1.0);
    }

    #[test]
    fn every_other_flag_reaches_its_key() {
        let plain = points("").unwrap().remove(0);
        assert_eq!((plain.id.as_str(), plain.stop), ("isl128_osl128_con1", Stop::Requests(8)));
        let found = points(
            "--endpoint completions --no-stream --respect-eos --max-tokens-field max_tokens --seed 7 --salt 9 \
             --extra-body {\"min_tokens\":null,\"x\":1} --request-timeout 9s --connect-timeout 1s \
             --first-token-timeout 2s --stall-timeout 3s --warmup 4 --duration 5s --slo ttft:500ms,e2e:1s \
             --concurrency 2,3 --isl-stddev 2 --osl 3 --token-ids --tokenizer o200k_harmony",
        )
        .unwrap();
        assert_eq!(found.len(), 2);
        let point = &found[1];
        assert_eq!(
            (point.endpoint.as_str(), point.streaming, point.ignore_eos),
            ("completions", false, false)
        );
        assert_eq!((point.seed, point.prompts.salt, point.prompts.token_ids), (7, Some(9), true));
        assert_eq!(
            serde_json::Value::from(point.extra_body.clone()),
            serde_json::json!({"min_tokens": null, "x": 1})
        );
        assert_eq!((point.request_timeout_s, point.connect_timeout_s), (9.0, 1.0));
        assert_eq!((point.first_token_timeout_s, point.stall_timeout_s), (Some(2.0), 3.0));
        assert_eq!((point.warmup_requests, point.stop), (4, Stop::DurationS(5.0)));
        assert_eq!(
            (point.slo.ttft_ms, point.slo.itl_ms, point.slo.e2e_ms),
            (Some(500.0), None, Some(1000.0))
        );
        assert_eq!(point.concurrency(), Some(3));
    }

    #[test]
    fn options_of_other_tools_that_mean_the_same_are_accepted() {
        let ours =
            "--requests 40 --rate 5 --isl 100 --isl-stddev 3 --osl 20 --osl-stddev 2 --warmup 4 --seed 7";
        let vllm = "--num-prompts 40 --request-rate 5 --random-input-len 100 --isl-stddev 3 --random-output-len 20 \
                    --osl-stddev 2 --num-warmups 4 --seed 7 --ignore-eos --endpoint /v1/chat/completions";
        let aiperf = "--request-count 40 --request-rate 5 --synthetic-input-tokens-mean 100 \
                      --synthetic-input-tokens-stddev 3 --output-tokens-mean 20 --output-tokens-stddev 2 \
                      --warmup-request-count 4 --random-seed 7 --streaming --endpoint-type chat --endpoint v1/chat/completions";
        for theirs in [vllm, aiperf] {
            assert_eq!(points(theirs), points(ours), "{theirs}");
        }
        let timed = points("--benchmark-duration 5 --concurrency 2").unwrap();
        assert_eq!(timed, points("--duration 5s --concurrency 2").unwrap());
        let completions = points("--endpoint /v1/completions").unwrap();
        assert_eq!(completions, points("--endpoint completions").unwrap());
    }

    #[test]
    fn an_endpoint_is_named_or_given_by_its_path() {
        let flags = |args: &str| {
            let line = Line::try_parse_from(
                ["bench", "--url", "http://h"].into_iter().chain(args.split_whitespace()),
            );
            let flags = line.unwrap().bench.flags().unwrap().into_iter();
            let text = |flag: Flag| (flag.key, flag.value.as_str().map(str::to_owned));
            flags
                .map(text)
                .filter(|(key, _)| key.contains("endpoint") || key.contains("path"))
                .collect::<Vec<_>>()
        };
        let (endpoint, path) = ("load.endpoint".to_owned(), "deploy.connection.path".to_owned());
        let gemini = Some("/v1beta/openai/chat/completions".to_owned());
        assert_eq!(flags("--endpoint completions"), [(endpoint.clone(), Some("completions".into()))]);
        for option in ["--endpoint", "--custom-endpoint"] {
            assert_eq!(
                flags(&format!("{option} v1beta/openai/chat/completions")),
                [(path.clone(), gemini.clone())]
            );
        }
        assert_eq!(
            flags("--endpoint-type completions --endpoint /generate"),
            [(endpoint, Some("completions".into())), (path, Some("/generate".into()))]
        );
        let kind = |args: &str| points(args).map(|points| points[0].endpoint.as_str());
        assert_eq!(kind("--endpoint /openai/deployments/x/completions"), Ok("completions"));
        assert_eq!(kind("--endpoint /generate"), Ok("chat"));
        assert_eq!(kind("--endpoint-type completions --endpoint /generate"), Ok("completions"));
        for (args, word) in [
            (
                "--endpoint-type completions --endpoint /v1/chat/completions",
                "names another endpoint than load.endpoint",
            ),
            ("--endpoint embeddings", "chat, completions or a path"),
            ("--endpoint http://h/v1/completions", "chat, completions or a path"),
        ] {
            let error = points(args).unwrap_err();
            assert!(error.contains(word), "{args}: {error}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (args, word) in [
            ("--rate 1 --concurrency 2", "--concurrency"),
            ("--rate 1 --requests-per-concurrency 2", "--requests-per-concurrency"),
            ("--arrival poisson", "--rate"),
            ("--max-concurrency 4", "--rate"),
            ("--rate 1 --when-full drop", "--max-concurrency"),
            ("--rate 0", "a rate above 0"),
            ("--rate inf", "a rate above 0"),
            ("--request-rate inf", "--concurrency N keeps N requests in flight"),
            ("--rate 1 --arrival gamma", "gamma:SHAPE"),
            ("--rate 1 --arrival gamma:0", "0.01 to 1000"),
            ("--rate 1 --warmup 3 --warmup-duration 3s", "--warmup"),
            ("--stages 1s:2 --concurrency 2", "--concurrency"),
            ("--stages 1s:2 --rate 2", "--rate"),
            ("--stages 1s:2 --rate-stages 1s:2", "--rate-stages"),
            ("--stages 1s:2 --requests 9", "--requests"),
            ("--rate-stages 1s:2 --duration 9s", "--duration"),
            ("--stages 1s:2 --arrival poisson", "--rate"),
            ("--stages 1s:2.5", "--rate-stages"),
            ("--rate-stages 0s:2", ":hold"),
            ("--rate-stages 1s:2:cool-down", "no stage would be measured"),
            ("--stages 1s:0", "--stages: found a concurrency of 0 in every stage: nothing would be sent"),
            ("--stages 1s:5 --stages-from 0.5", "--stages-from: "),
            ("--stages-from 2", "--rate-stages"),
            ("--trace azure:t.csv --concurrency 2", "--concurrency"),
            ("--trace azure:t.csv --isl 2", "--isl: "),
            ("--duration 0s", "--duration: found 0: nothing would be sent"),
            ("--at-end cut --drain-timeout 1s", "--drain-timeout: "),
            ("--header X-Api-Key:sk-1", "--header X-Api-Key: a secret is given as env:NAME"),
        ] {
            let error = points(args).unwrap_err();
            assert!(error.contains(word), "{args}: {error}");
        }
    }
}
