//! The command line: parse, dispatch, exit code.

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "tokmark", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Sim(tokmark::commands::sim::SimArgs),
}

fn main() -> anyhow::Result<()> {
    let Command::Sim(args) = Cli::parse().command;
    tokmark::commands::sim::run(args)
}
