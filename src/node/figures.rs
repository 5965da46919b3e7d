//! Figures in the kernel's text files. A file that is missing or in another format gives no figure.
//!
//! Sources: proc(5), Documentation: filesystems/proc.rst, accounting/psi.rst.

use std::path::Path;

pub fn read(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// The number behind `key` in lines of `key value`, as in `memory.events`, `memory.stat`, `cpu.stat` and `meminfo`.
pub fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let name = words.next()?.trim_end_matches(':');
        if name == key { words.next()?.parse().ok() } else { None }
    })
}

/// µs in which some task was stalled, from a file of PSI.
pub fn stall_us(text: &str) -> Option<u64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split_whitespace().find_map(|word| word.strip_prefix("total="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_by_their_key() {
        let events = "low 0\nhigh 12\nmax 3\noom 2\noom_kill 1\noom_group_kill 0\n";
        assert_eq!((keyed(events, "oom"), keyed(events, "oom_kill")), (Some(2), Some(1)));
        assert_eq!(keyed(events, "kill"), None);
        assert_eq!(keyed("MemTotal:       16384 kB\nMemAvailable:    512 kB\n", "MemAvailable"), Some(512));
        assert_eq!(keyed("oom many\n", "oom"), None);
    }

    #[test]
    fn pressure() {
        let text = "some avg10=1.50 avg60=0.20 avg300=0.00 total=98765\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=4321\n";
        assert_eq!(stall_us(text), Some(98_765));
        assert_eq!(stall_us(""), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[ -~\n]{0,200}", key in "[a-z]{0,4}") {
            keyed(&text, &key);
            stall_us(&text);
        }
    }
}
