//! Flags of `bench` and `prompts` that stand for keys of the recipe: the id of each is the key that it sets.

pub(super) mod load;
pub(super) mod prompts;
mod value;

use std::marker::PhantomData;

use clap::builder::ValueParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use toml::Value;

use crate::document::{Document, InputErrors};
use crate::plan::choices::Flag;
use crate::recipe::find::RecipeFile;

/// The recipe that the flags override: an endpoint that already runs.
pub(super) fn base() -> Result<RecipeFile, InputErrors> {
    let text = include_str!("../bench.toml").to_owned();
    RecipeFile::parse(Document { file: "embedded:bench.toml".into(), text }, None)
}

/// A group of flags, in the order of the help.
pub(super) trait Group {
    fn args() -> Vec<Arg>;
}

/// The flags of a group that the user gave, each with the key that it sets.
#[derive(Debug)]
pub(super) struct KeyFlags<G>(pub(super) Vec<Flag>, PhantomData<G>);

impl<G: Group> Args for KeyFlags<G> {
    fn augment_args(command: Command) -> Command {
        command.args(G::args())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<G: Group> FromArgMatches for KeyFlags<G> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(G::args().iter().flat_map(|arg| given(arg, matches)).collect(), PhantomData))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The flags of one heading of the help. Each has its help, its spelling, the key that it sets, the parser of its value, and
/// further methods of [`Arg`].
macro_rules! key_flags {
    ($heading:expr; $($(#[doc = $help:literal])+ $spelling:literal => $key:expr, $parser:expr $(, $method:ident($($value:expr),+))*;)+) => {
        vec![$(
            $crate::commands::key_flags::flag($spelling, $key, $parser)
                .help(concat!($($help),+).trim())
                .help_heading($heading)
                $(.$method($($value),+))*
        ),+]
    };
}
use key_flags;

/// What a flag sets: nothing if it was not given, a list if it takes several values, or several tables, laid over each other.
fn given(arg: &Arg, matches: &ArgMatches) -> Vec<Flag> {
    let id = arg.get_id().as_str();
    if matches.value_source(id) != Some(ValueSource::CommandLine) {
        return Vec::new();
    }
    let mut values: Vec<Value> = Vec::new();
    for value in matches.get_many::<Value>(id).into_iter().flatten() {
        // A number given twice is one load point; the planner rejects a URL given twice.
        if value.is_str() || !values.contains(value) {
            values.push(value.clone());
        }
    }
    if matches!(arg.get_action(), ArgAction::Append) && !values.iter().any(Value::is_table) {
        values = vec![Value::Array(values)];
    }
    let flag = format!("--{}", arg.get_long().unwrap_or(id));
    let key = load::key(id, matches);
    values.into_iter().map(|value| Flag { flag: flag.clone(), key: key.to_owned(), value }).collect()
}

/// A flag such as `--isl <N>`, or `--http2` without a value.
fn flag(spelling: &'static str, key: &'static str, parser: impl Into<ValueParser>) -> Arg {
    let (name, value) = spelling.split_once(' ').unwrap_or((spelling, ""));
    let arg = Arg::new(key).long(name.trim_start_matches('-')).value_parser(parser.into());
    match value.trim_matches(['<', '>']) {
        "" => arg.action(ArgAction::SetTrue),
        value => arg.value_name(value),
    }
}
