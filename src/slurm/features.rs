//! Features of a cluster's srun: MPI types, and options that plugins add.
//!
//! Source: srun(1), `--mpi=list`; pyxis' README.

/// The argv that lists MPI types. Some versions list them on stderr.
pub fn mpi_argv() -> Vec<String> {
    ["srun", "--mpi=list"].map(str::to_owned).into()
}

/// The argv that lists options.
pub fn help_argv() -> Vec<String> {
    ["srun", "--help"].map(str::to_owned).into()
}

/// The argv that tells whether srun has `--segment`, which no version's help lists: it wants a value, or does not know the option.
pub fn segment_argv() -> Vec<String> {
    ["srun", "--segment"].map(str::to_owned).into()
}

/// Whether the stderr of [`segment_argv`] is that of an srun with the option.
pub fn has_segment(stderr: &str) -> bool {
    stderr.contains("--segment") && stderr.contains("requires an argument")
}

/// The MPI types in the output of [`mpi_argv`]: one per line after the heading, with a prefix `srun:` until 21.08.
pub fn parse_mpi(output: &str) -> Vec<String> {
    let plain = |line: &str| {
        let line = line.trim();
        line.strip_prefix("srun:").unwrap_or(line).trim().to_owned()
    };
    let mut lines = output.lines().map(plain).skip_while(|line| !line.contains("types are"));
    lines.next();
    let mut types: Vec<String> = Vec::new();
    for line in lines {
        // "specific pmix plugin versions available: pmix_v3,pmix_v4"
        let names = line.rsplit_once(':').map_or(line.as_str(), |(_, names)| names);
        let names: Vec<&str> = names.split(',').map(str::trim).collect();
        let is_name = |name: &&str| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.')
        };
        if names.iter().all(is_name) {
            types.extend(names.into_iter().map(str::to_owned));
        }
    }
    types
}

/// Whether the output of [`help_argv`] has the options of pyxis.
pub fn has_pyxis(help: &str) -> bool {
    help.contains("--container-image")
}

/// Whether its pyxis is older than 0.15, which has neither `--container-env` nor, before 0.14, `NAME:no_exec`.
pub fn has_old_pyxis(help: &str) -> bool {
    has_pyxis(help) && !has_option(help, "--container-env")
}

/// Whether it has an option, e.g. `--container-env`.
pub fn has_option(help: &str, option: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-');
    help.match_indices(option).any(|(at, _)| ends(&help[at + option.len()..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn mpi_types_of_old_and_new_versions() {
        let table: [(&str, &[&str]); 4] = [
            (
                "MPI plugin types are...\n\tpmix\n\tnone\n\tcray_shasta\nspecific pmix plugin versions available: pmix_v4\n",
                &["pmix", "none", "cray_shasta", "pmix_v4"],
            ),
            ("srun: MPI types are...\nsrun: pmix_v3\nsrun: none\nsrun: pmi2\n", &["pmix_v3", "none", "pmi2"]),
            (
                "Welcome to lab\nMPI plugin types are...\n\tnone\nspecific pmix plugin versions available: pmix_v3,pmix_v4\nBye now\n",
                &["none", "pmix_v3", "pmix_v4"],
            ),
            ("Welcome\n", &[]),
        ];
        for (output, expected) in table {
            assert_eq!(parse_mpi(output), expected, "{output}");
        }
    }

    #[test]
    fn segment_is_known_to_srun_though_its_help_does_not_list_it() {
        // Slurm 24.11.5 and 26.05.5; 22.05.8.
        assert!(has_segment(
            "srun: option '--segment' requires an argument\nTry \"srun --help\" for more information\n"
        ));
        assert!(!has_segment(
            "srun: unrecognized option '--segment'\nTry \"srun --help\" for more information\n"
        ));
    }

    #[test]
    fn options_of_plugins() {
        let help = "      --container         Path to OCI container bundle\n";
        assert!(!has_pyxis(help) && has_option(help, "--container"));
        assert!(has_pyxis("      --container-image=[USER@]...\n"));
        assert!(has_old_pyxis("      --container-image=[USER@]...\n      --container-entrypoint\n"));
        assert!(!has_old_pyxis("      --container-image=[USER@]...\n      --container-env=NAME[,NAME...]\n"));
        assert!(!has_option("      --containers\n", "--container"));
    }

    proptest! {
        #[test]
        fn never_panics(text in "[\\PC\n:,]*") {
            let _ = (parse_mpi(&text), has_pyxis(&text), has_option(&text, "--é"), has_segment(&text));
        }
    }
}
