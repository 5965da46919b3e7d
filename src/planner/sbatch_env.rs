//! sbatch's own environment variables (`SBATCH_PARTITION` …). sbatch lets them win over the script's directives, so they
//! are written into the script instead: it then says what will happen, and gives the same job a week later.
//!
//! Source: sbatch(1), "INPUT ENVIRONMENT VARIABLES".

use std::collections::BTreeMap;

use toml::Value;

use crate::document::InputError;
use crate::plan::Job;
use crate::plan::choices::{Choices, Variable};
use crate::recipe::layers::{Layers, layer_of};
use crate::recipe::{Origin, Recipe};

/// What a variable is for sbatch.
enum Kind {
    /// A value the recipe has a key for.
    Key(&'static str),
    /// An option of sbatch, in place of the site's.
    Option(&'static str),
    /// An option that asks for GPUs, in place of every other that does.
    Gpus(&'static str),
}

const KNOWN: [(&str, Kind); 14] = [
    ("SBATCH_ACCOUNT", Kind::Option("account")),
    ("SBATCH_CONSTRAINT", Kind::Option("constraint")),
    ("SBATCH_EXCLUSIVE", Kind::Option("exclusive")),
    ("SBATCH_GPUS", Kind::Gpus("gpus")),
    ("SBATCH_GPUS_PER_NODE", Kind::Gpus("gpus-per-node")),
    ("SBATCH_GRES", Kind::Gpus("gres")),
    ("SBATCH_JOB_NAME", Kind::Option("job-name")),
    ("SBATCH_MEM_PER_NODE", Kind::Key("slurm.mem")),
    ("SBATCH_PARTITION", Kind::Option("partition")),
    ("SBATCH_QOS", Kind::Option("qos")),
    ("SBATCH_RESERVATION", Kind::Option("reservation")),
    ("SBATCH_SEGMENT_SIZE", Kind::Option("segment")),
    ("SBATCH_TIMELIMIT", Kind::Key("slurm.time")),
    ("SBATCH_WCKEY", Kind::Option("wckey")),
];

/// Names of the variables that are looked at.
pub fn names<'a>() -> impl Iterator<Item = &'a str> {
    KNOWN.iter().map(|(name, _)| *name)
}

/// The environment variables that change a recipe: its knobs and sbatch's own, if they are set.
pub fn variables(recipe: &Recipe, env: &dyn Fn(&str) -> Option<String>) -> BTreeMap<String, Variable> {
    let names = recipe.knobs.keys().map(String::as_str).chain(names());
    let set = names.filter_map(|name| {
        let value = match env(name)? {
            // sbatch takes an empty one for a plain `--exclusive`.
            empty if name == "SBATCH_EXCLUSIVE" && empty.is_empty() => "exclusive".to_owned(),
            value => value,
        };
        (!value.is_empty()).then(|| (name.to_owned(), Variable { value, in_job: false }))
    });
    set.collect()
}

/// Those that are set, with what they are.
fn set(chosen: &Choices) -> impl Iterator<Item = (&'static str, &'static Kind, &str)> {
    KNOWN.iter().filter_map(|(name, kind)| Some((*name, kind, chosen.variables.get(*name)?.value.as_str())))
}

fn variable(name: &str) -> Origin {
    Origin::Variable { name: name.to_owned(), in_job: false }
}

/// Lays those that are values of the recipe over it.
pub(super) fn push_values(layers: &mut Layers, chosen: &Choices) {
    for (name, kind, value) in set(chosen) {
        let Kind::Key(key) = kind else { continue };
        let origin = variable(name);
        let wrong = || {
            InputError::new(origin.to_string(), format!("found {value:?}")).expected(
                "a time as Slurm writes it: MINUTES, MINUTES:SECONDS, HOURS:MINUTES:SECONDS, DAYS-HOURS, …",
            )
        };
        let value = match *key {
            "slurm.time" => time_s(value).map(Value::from).ok_or_else(wrong),
            _ => Ok(Value::from(value)),
        };
        layers.push_one(value.and_then(|value| layer_of(key, value, &origin.to_string())), &origin);
    }
}

/// A time limit as sbatch takes it, in seconds: `30` (minutes), `30:00`, `1:00:00`, `1-12`, `1-12:30`, `1-12:30:00`.
fn time_s(text: &str) -> Option<i64> {
    let (days, clock) = match text.trim().split_once('-') {
        Some((days, clock)) => (Some(days.parse::<u32>().ok()?), clock),
        None => (None, text.trim()),
    };
    let parts =
        clock.split(':').map(|part| part.parse::<u32>().ok().map(i64::from)).collect::<Option<Vec<_>>>()?;
    let (hours, minutes, seconds) = match (days, parts.as_slice()) {
        (None, [minutes]) => (0, *minutes, 0),
        (None, [minutes, seconds]) => (0, *minutes, *seconds),
        (Some(_), [hours]) => (*hours, 0, 0),
        (Some(_), [hours, minutes]) => (*hours, *minutes, 0),
        (_, [hours, minutes, seconds]) => (*hours, *minutes, *seconds),
        _ => return None,
    };
    let hours = i64::from(days.unwrap_or(0)).checked_mul(24)?.checked_add(hours)?;
    let minutes = hours.checked_mul(60)?.checked_add(minutes)?;
    minutes.checked_mul(60)?.checked_add(seconds).filter(|seconds| *seconds > 0)
}

/// Puts the options of the variables in place of the job's directives. `gpus_per_node` is what the plan needs.
pub(super) fn apply(job: &mut Job, chosen: &Choices, gpus_per_node: u32) -> Result<(), Vec<InputError>> {
    let (mut made, mut errors) = (Vec::new(), Vec::new());
    for (name, kind, value) in set(chosen) {
        let flag = match kind {
            Kind::Key(_) => continue,
            Kind::Option(flag) => flag,
            Kind::Gpus(flag) => {
                errors.extend(too_few(job, name, flag, value, gpus_per_node));
                flag
            }
        };
        let replaced = |directive: &String| {
            let option = directive.trim_start_matches("--").split(['=', ' ']).next().unwrap_or_default();
            let asks_for_gpus = match option {
                "gres" => directive.contains("gpu"),
                "gpus" | "gpus-per-node" | "gpus-per-task" => true,
                _ => false,
            };
            directive.starts_with("--") && (option == *flag || matches!(kind, Kind::Gpus(_)) && asks_for_gpus)
        };
        let place = job.directives.iter().position(replaced);
        job.directives.retain(|directive| !replaced(directive));
        let directive = match (*flag, value) {
            ("exclusive", "1" | "yes" | "true" | "exclusive") => "--exclusive".to_owned(),
            _ => format!("--{flag}={value}"),
        };
        let end = job.directives.len();
        job.directives.insert(place.unwrap_or(end).min(end), directive.clone());
        if *flag == "job-name" {
            value.clone_into(&mut job.name);
        }
        made.push((directive, variable(name)));
    }
    // Two that ask for GPUs replace each other: only the last one is in the script.
    made.retain(|(directive, _)| job.directives.contains(directive));
    job.from_variables = made;
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Refuses fewer GPUs than the plan needs: `4`, `h100:4`, `gpu:4`, `gpu:h100:4`.
fn too_few(job: &Job, name: &str, flag: &str, value: &str, gpus_per_node: u32) -> Option<InputError> {
    if flag == "gres" && (!value.starts_with("gpu") || value.contains(',')) {
        return None;
    }
    let wrong = |more: String| InputError::new(variable(name).to_string(), format!("found {value:?}{more}"));
    let count = value.rsplit(':').next().and_then(|count| count.parse::<u32>().ok());
    let Some(count) = count.or_else(|| (flag == "gres").then_some(1)) else {
        return Some(wrong(String::new()).expected("a number of GPUs, e.g. 8 or h100:8"));
    };
    let nodes = job.nodes;
    let (per_node, expected) = match flag {
        "gpus" => (
            count / nodes.max(1),
            format!("{nodes} nodes × {gpus_per_node} GPUs = {} or more", nodes.saturating_mul(gpus_per_node)),
        ),
        _ => (count, format!("{gpus_per_node} or more on each node")),
    };
    (per_node < gpus_per_node).then(|| {
        wrong(format!(", and the plan needs {gpus_per_node} GPUs on each node"))
            .expected(expected)
            .next("raise it, unset it, or choose a smaller deployment")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::job::{Needs, job};
    use crate::recipe::layers::default_section;
    use crate::site::Site;

    fn chosen(variables: &[(&str, &str)]) -> Choices {
        let variables = variables.iter().map(|(name, value)| {
            ((*name).to_owned(), Variable { value: (*value).to_owned(), in_job: false })
        });
        Choices { variables: variables.collect(), ..Choices::default() }
    }

    fn applied(directives: &[&str], variables: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let needs = Needs { name: "q", nodes: 2, gpu: "h100", gpus_per_node: 4 };
        let slurm = default_section("slurm").try_into().unwrap();
        let mut job = job(&Site::default(), &slurm, &needs);
        job.directives = directives.iter().map(|line| (*line).to_owned()).collect();
        match apply(&mut job, &chosen(variables), 4) {
            Ok(()) => Ok(job.directives),
            Err(errors) => Err(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
        }
    }

    #[test]
    fn knobs_and_sbatchs_own_variables_are_read_and_no_others() {
        let knobs = ["STREAMING", "ISL"].map(|name| (name.to_owned(), "load.isl".to_owned())).into();
        let recipe = Recipe { knobs, ..Recipe::default() };
        let set = [("STREAMING", "false"), ("ISL", ""), ("HOME", "/root"), ("SBATCH_PARTITION", "gpu")];
        let env =
            |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let read = variables(&recipe, &env);
        let names: Vec<_> = read.keys().collect();
        assert_eq!(names, ["SBATCH_PARTITION", "STREAMING"], "an empty one is not set");
    }

    #[test]
    fn a_variable_takes_the_place_of_the_directive() {
        let ours =
            ["--job-name=tokmark-q", "--partition=a", "--gres=gpu:h100:4", "--exclusive", "--time=00:01:00"];
        type Row<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
        let table: [Row<'_>; 5] = [
            (&[], &ours),
            (&[("SBATCH_PARTITION", "b")], &[ours[0], "--partition=b", ours[2], ours[3], ours[4]]),
            (&[("SBATCH_GPUS_PER_NODE", "8")], &[ours[0], ours[1], "--gpus-per-node=8", ours[3], ours[4]]),
            (&[("SBATCH_EXCLUSIVE", "user")], &[ours[0], ours[1], ours[2], "--exclusive=user", ours[4]]),
            (&[("SBATCH_QOS", "high")], &[ours[0], ours[1], ours[2], ours[3], ours[4], "--qos=high"]),
        ];
        for (variables, expected) in table {
            assert_eq!(applied(&ours, variables).unwrap(), expected, "{variables:?}");
        }
        let both =
            applied(&["--gres=gpu:4", "--gres=lustre:1"], &[("SBATCH_GPUS_PER_NODE", "h100:4")]).unwrap();
        assert_eq!(both, ["--gpus-per-node=h100:4", "--gres=lustre:1"], "only what asks for GPUs goes");
    }

    #[test]
    fn too_few_gpus_are_refused_with_the_arithmetic() {
        let error = applied(&["--gres=gpu:4"], &[("SBATCH_GPUS_PER_NODE", "2")]).unwrap_err();
        assert!(
            error.contains("$SBATCH_GPUS_PER_NODE: found \"2\"") && error.contains("needs 4 GPUs"),
            "{error}"
        );
        let error = applied(&[], &[("SBATCH_GPUS", "7")]).unwrap_err();
        assert!(error.contains("2 nodes × 4 GPUs = 8 or more"), "{error}");
        for enough in [("SBATCH_GPUS", "8"), ("SBATCH_GRES", "gpu:h100:4"), ("SBATCH_GRES", "gpu:4,nvme:1")] {
            assert!(applied(&[], &[enough]).is_ok(), "{enough:?}");
        }
        assert!(applied(&[], &[("SBATCH_GPUS_PER_NODE", "many")]).is_err());
        assert!(applied(&[], &[("SBATCH_GRES", "gpu")]).is_err(), "a bare gpu is one");
    }

    #[test]
    fn what_the_script_says_sbatch_does_not_see_again() {
        for name in names() {
            assert!(crate::slurm::sbatch::CLEARED_ENV.contains(&name), "{name}");
        }
    }

    #[test]
    fn times_as_slurm_writes_them() {
        let table = [
            ("30", Some(1800)),
            ("30:15", Some(1815)),
            ("1:00:00", Some(3600)),
            ("1-12", Some(129_600)),
            ("1-12:30", Some(131_400)),
            ("1-00:00:01", Some(86_401)),
            ("0", None),
            ("soon", None),
            ("1:2:3:4", None),
            ("-5", None),
            ("99999999999999999999", None),
        ];
        for (text, expected) in table {
            assert_eq!(time_s(text), expected, "{text}");
        }
    }
}
