//! Why an image could not be imported or unpacked, from the log of enroot, pyxis, apptainer and srun.

use regex::Regex;

/// Lines that name a cause. Without one of them the end of the log is shown.
const CAUSES: &str = r"create_inode|FATAL|No space|\[ERROR\]|could not create|unrecognized option|curl: \(|\
    unusual entrypoint|failed to mount|does not exist, and|couldn't start|Permission denied|^error:";

/// What to do, by what the log says; the first that fits.
const ADVICE: [(&str, &str); 5] = [
    (
        "unrecognized option '--container-|does not exist, and --container-image is not set",
        "tokmark needs pyxis 0.15 or later on this cluster; `tokmark doctor` tells",
    ),
    (
        r"No space left|could not create directory.*(quota|space)",
        "free space at ENROOT_DATA_PATH of the node (`enroot list`), or exclude the node (--exclude)",
    ),
    (
        "because you're not superuser",
        "the image has device files, which only root can unpack: import it with enroot (container.images), which leaves them out",
    ),
    (
        r"curl: \(|[Uu]nauthorized|UNAUTHORIZED|MANIFEST_UNKNOWN|manifest unknown|x509|no such host|\b40[134]\b|enroot ended|apptainer ended|after the import",
        "the registry did not give the image: check its name, that the nodes reach the registry, and the credentials (enroot: \
         ~/.config/enroot/.credentials; apptainer: `apptainer registry login`); or import it where there is network \
         (`enroot import -o FILE docker://IMAGE`), and name the file in [gpus.TYPE.images] of the site file",
    ),
    (
        "",
        "check the image's name or path, and the free space of the nodes; container.reuse = false starts every step from the image",
    ),
];

/// The lines that name a cause, at most ten; none if none does.
pub fn causes(text: &str) -> Vec<&str> {
    text.lines().map(str::trim_end).filter(|line| is(CAUSES, line)).take(10).collect()
}

/// What to do about it.
pub fn advice(text: &str) -> &'static str {
    ADVICE.iter().find(|(pattern, _)| is(pattern, text)).map_or("", |(_, advice)| advice)
}

fn is(pattern: &str, text: &str) -> bool {
    Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_found_and_what_to_do_about_it() {
        let counters: String = (0..20).map(|n| format!("pyxis:     created {n} files\n")).collect();
        let full = "pyxis:     create_inode: failed to create file /d/x, because No space left on device";
        let device = "pyxis:     create_inode: could not create character device /d/dev/console, because you're not superuser!";
        let table = [
            (full, "ENROOT_DATA_PATH"),
            (device, "has device files"),
            ("pyxis:     curl: (6) Could not resolve host: nvcr.io", "~/.config/enroot/.credentials"),
            ("srun: unrecognized option '--container-env=SLURM_JOB_ID'", "pyxis 0.15 or later"),
            ("pyxis:     [ERROR] Invalid image format: /x.sqsh", "check the image's name or path"),
        ];
        for (line, expected) in table {
            let text = format!("pyxis: importing docker image: i\n{line}\n{counters}");
            assert_eq!(causes(&text), [line]);
            assert!(advice(&text).contains(expected), "{line}: {}", advice(&text));
        }
        assert!(causes(&counters).is_empty());
    }
}
