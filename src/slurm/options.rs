//! sbatch options from users: `key=value` or a bare flag, with or without dashes, each once.
//!
//! Source: sbatch(1).

use crate::document::InputError;

/// Options that would break a submission, their short forms, and why.
const REFUSED: [(&str, &str, &str); 17] = [
    ("array", "-a", "tokmark submits one job for each experiment: use --repeats"),
    (
        "output",
        "-o",
        "the job's output is <experiments>/slurm-<job id>.out, where `tokmark jobs log` finds it",
    ),
    ("error", "-e", "errors go to the job's output, where `tokmark jobs log` finds them"),
    ("open-mode", "", "a restarted job appends to its output; another mode would lose the first part"),
    ("input", "-i", "the job script reads only its own lines"),
    ("time", "-t", "use --set slurm.time=…, e.g. --set slurm.time=30m: the plan needs the time limit"),
    ("nodes", "-N", "the plan derives nodes from the recipe's sizes: use --set deploy.… or --scale"),
    (
        "signal",
        "",
        "the script requests SIGUSR1 before the time limit, so that a job at its limit keeps its results",
    ),
    ("requeue", "", "the script already requests it"),
    (
        "no-requeue",
        "",
        "a restarted job continues where it stopped; to forbid restarts: --set slurm.directives='[\"--no-requeue\"]'",
    ),
    ("wait", "-W", "use `tokmark submit --wait`"),
    ("wrap", "", "tokmark renders the script"),
    ("test-only", "", "`tokmark submit --dry-run` shows the script; `sbatch --test-only` takes it"),
    ("parsable", "", "tokmark already sets it"),
    ("help", "-h", "see `sbatch --help`"),
    ("usage", "", "see `sbatch --usage`"),
    ("version", "-V", "see `sbatch --version`"),
];

/// The options for sbatch's argv: tokmark's named options (`nodelist`, value), then `--slurm-arg`s.
///
/// # Errors
/// All arguments that are not options, are given twice, or are refused.
pub fn argv(named: &[(&str, Option<String>)], raw: &[String]) -> Result<Vec<String>, Vec<InputError>> {
    let mut argv = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    let mut errors = Vec::new();
    for (key, value) in named {
        if let Some(value) = value {
            seen.push((*key).to_owned());
            argv.push(format!("--{key}={value}"));
        }
    }
    for text in raw {
        let origin = format!("--slurm-arg {text}");
        let wrong = |problem: &str| InputError::new(&origin, problem);
        let is_short = text.starts_with('-') && !text.starts_with("--");
        let plain = text.strip_prefix("--").unwrap_or(text);
        let key = plain.split('=').next().unwrap_or_default().to_owned();
        let letters = |key: &str| {
            !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if text.contains(['\n', '\0']) || (!is_short && !letters(&key)) || text == "-" {
            errors.push(
                wrong("not an option of sbatch")
                    .expected("key=value or a bare flag, e.g. --slurm-arg nodelist=node3"),
            );
            continue;
        }
        let refused = REFUSED.iter().find(|(long, short, _)| {
            if is_short { !short.is_empty() && text.starts_with(short) } else { *long == key }
        });
        let long = refused.map_or(if is_short { text.clone() } else { key }, |(long, ..)| (*long).to_owned());
        if let Some((.., advice)) = refused {
            errors.push(wrong(&format!("--{long} is not for --slurm-arg")).next(*advice));
        } else if seen.contains(&long) {
            errors.push(wrong("given twice").expected("each option once"));
        }
        seen.push(long);
        argv.push(if is_short { text.clone() } else { format!("--{plain}") });
    }
    if errors.is_empty() { Ok(argv) } else { Err(errors) }
}

/// Names of the variables that `--export=ALL,NAME=VALUE,…` sets.
pub fn exported(argv: &[String]) -> Vec<&str> {
    let lists = argv.iter().filter_map(|option| option.strip_prefix("--export="));
    lists.flat_map(|list| list.split(',')).filter_map(|item| Some(item.split_once('=')?.0)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn given(named: &[(&str, &str)], raw: &[&str]) -> Result<Vec<String>, String> {
        let named: Vec<_> = named.iter().map(|(key, value)| (*key, Some((*value).to_owned()))).collect();
        let raw: Vec<String> = raw.iter().map(|text| (*text).to_owned()).collect();
        argv(&named, &raw)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn dashes_are_optional_and_values_are_kept_whole() {
        let table: [(&[&str], &[&str]); 5] = [
            (&["nodelist=node3"], &["--nodelist=node3"]),
            (&["--nodelist=node3"], &["--nodelist=node3"]),
            (&["exclusive", "contiguous"], &["--exclusive", "--contiguous"]),
            (&["comment=a b=c, d"], &["--comment=a b=c, d"]),
            (&["-pgpu", "-H"], &["-pgpu", "-H"]),
        ];
        for (raw, expected) in table {
            assert_eq!(given(&[], raw).unwrap(), expected, "{raw:?}");
        }
        assert_eq!(given(&[("nice", "5")], &["hold"]).unwrap(), ["--nice=5", "--hold"]);
    }

    #[test]
    fn all_refused_options_are_listed() {
        type Row<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], &'a str);
        let table: [Row<'_>; 18] = [
            (&[("nodelist", "a")], &["nodelist=b"], "given twice"),
            (&[], &["nice=1", "--nice=2"], "given twice"),
            (&[], &["array=1-4"], "--repeats"),
            (&[], &["-a1-4"], "--repeats"),
            (&[], &["output=x"], "jobs log"),
            (&[], &["time=30"], "--set slurm.time="),
            (&[], &["-t30"], "--set slurm.time="),
            (&[], &["nodes=2"], "derives nodes"),
            (&[], &["-N", "hold"], "derives nodes"),
            (&[], &["--signal=B:CONT@60"], "SIGUSR1"),
            (&[], &["requeue"], "already requests it"),
            (&[], &["no-requeue"], "slurm.directives"),
            (&[], &["open-mode=truncate"], "appends"),
            (&[], &["error=x"], "jobs log"),
            (&[], &["-i/dev/null"], "its own lines"),
            (&[], &["Node List"], "not an option of sbatch"),
            (&[], &[""], "not an option of sbatch"),
            (&[], &["=5"], "not an option of sbatch"),
        ];
        for (named, raw, expected) in table {
            let error = given(named, raw).unwrap_err();
            assert!(error.contains(expected), "{expected} in {error}");
        }
        let error = given(&[], &["wrap=x", "hold", "hold"]).unwrap_err();
        assert!(error.contains("wrap") && error.contains("given twice"), "{error}");
    }

    #[test]
    fn variables_of_an_export() {
        let options = ["--nice=5", "--export=ALL,STREAMING=false,HOME,X=a=b"].map(str::to_owned);
        assert_eq!(exported(&options), ["STREAMING", "X"]);
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = argv(&[], &[text]);
        }
    }
}
