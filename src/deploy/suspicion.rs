//! Fatal lines in logs are suspicions, because engines also log failures that they catch and survive.
//!
//! A suspicion becomes the failure of a start or a load when the process ends, or shows no sign of life for [`GRACE`]: no new line,
//! no answer, no work. Engines log nothing for minutes while they load weights, compile or capture CUDA graphs. Where their work
//! is not seen, on other nodes and below `srun`, only a silence of [`GRACE_UNSEEN`] tells.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use regex::Regex;

use crate::launcher::Fatal;
use crate::load::LiveCounters;

/// How long a suspected process may show no sign of life.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// The same for a process whose work is not seen.
const GRACE_UNSEEN: Duration = Duration::from_secs(300);

/// Clock ticks of CPU time and pages read, per second, of a process that works: 5 % of a core. A server that waits polls at 1 %.
const BUSY: f64 = 5.0;

/// A process that still shows signs of life this long after a fatal line has survived it.
const SURVIVED: Duration = Duration::from_secs(60);

/// Signs of life of a deployment, from all who watch it.
#[derive(Debug, Default)]
pub(super) struct Life {
    signs: AtomicU64,
    ready: AtomicBool,
    load: Mutex<Option<LiveCounters>>,
}

impl Life {
    /// A process logged that it goes on, or a probe succeeded.
    pub(super) fn sign(&self) {
        self.signs.fetch_add(1, Relaxed);
    }

    /// The endpoint has generated a token.
    pub(super) fn ready(&self) {
        self.ready.store(true, Relaxed);
        self.sign();
    }

    /// The load that now runs, if any.
    pub(super) fn load(&self, load: Option<LiveCounters>) {
        if let Ok(mut current) = self.load.lock() {
            *current = load;
        }
    }

    /// A number that changes with each sign of life; `None` while a server that is ready has nothing to do.
    fn count(&self) -> Option<(u64, u64)> {
        let load = self.load.lock().ok().and_then(|load| load.clone());
        let chunks =
            load.map(|load| load.snapshot()).map(|now| now.chunks + now.done.saturating_sub(now.failed));
        let idle = chunks.is_none() && self.ready.load(Relaxed);
        (!idle).then(|| (self.signs.load(Relaxed), chunks.unwrap_or_default()))
    }
}

/// A fatal line of one process.
#[derive(Debug)]
pub(super) struct Suspicion {
    pub(super) line: String,
    pub(super) fatal: Fatal,
    /// The log with the line.
    pub(super) log: PathBuf,
    /// The engine itself says that it goes on without what failed.
    pub(super) is_caught: bool,
    began: Instant,
    count: Option<(u64, u64)>,
    work: Option<u64>,
    /// The last sign of life.
    at: Instant,
}

impl Suspicion {
    pub(super) fn new(line: String, fatal: &Fatal, log: PathBuf, is_caught: bool) -> Self {
        let now = Instant::now();
        Self { line, fatal: fatal.clone(), log, is_caught, began: now, count: None, work: None, at: now }
    }

    /// Whether the process has stopped getting on. `work`: what it and its children have done so far, if that is seen.
    pub(super) fn is_confirmed(&mut self, life: &Life, work: Option<u64>, now: Instant) -> bool {
        let count = life.count();
        if count != self.count || count.is_none() {
            (self.count, self.work, self.at) = (count, work, now);
        }
        let silence = now - self.at;
        if silence < work.map_or(GRACE_UNSEEN, |_| GRACE) {
            return false;
        }
        let done = work.unwrap_or_default().saturating_sub(self.work.unwrap_or_default());
        if done as f64 >= BUSY * silence.as_secs_f64() {
            (self.work, self.at) = (work, now);
            return false;
        }
        !self.is_caught
    }

    /// Whether the process has shown that the line was not fatal.
    pub(super) fn is_refuted(&self, life: &Life, now: Instant) -> bool {
        let became_ready = self.count.is_some() && life.count().is_none();
        became_ready || now.min(self.at) - self.began >= SURVIVED
    }
}

/// What the lines of one log are part of.
#[derive(Debug, Default)]
pub(super) struct Reading {
    in_traceback: bool,
    /// The last line before a traceback.
    headline: String,
    /// Lines without their digits that were a sign of life.
    seen: HashSet<String>,
}

/// Most lines kept to recognise repeated ones.
const SEEN: usize = 10_000;

/// What a line says about its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It goes on.
    Life,
    Nothing,
    /// It may not go on.
    Suspicious,
    /// A failure that the engine caught: a plugin that it does without.
    Caught,
}

/// A mark of severity: `WARNING 12-01 01:02:03`, `[E]`, `"level":"info"`. Not `NCCL_DEBUG=INFO`.
static MARK: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let word = r"(?:^|[\s\[(|:])(TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|CRITICAL|FATAL)(?:$|[\s\])|:])";
    Regex::new(&format!(r#"{word}|\[([TDIWEF])\]|\blevel"?\s*[=:]\s*"?([A-Za-z]+)"#)).ok()
});

/// The last line of a Python traceback.
static EXCEPTION: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?:^|[\s\])])[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning)(?:$|:)").ok()
});

/// What an engine writes about a failure that it survives.
static CAUGHT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?i)\b(plugins?|optional|fall(?:ing)? ?back|ignoring|skipping|continuing)\b").ok()
});

/// What a warning with a traceback says; without it the traceback belongs to no log line.
static FAILURE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?i)fail|error|cannot|could not|unable|missing|not (?:found|available|installed)").ok()
});

fn finds(pattern: &Option<Regex>, line: &str) -> bool {
    pattern.as_ref().is_some_and(|pattern| pattern.is_match(line))
}

/// The first letter of the level in a line's mark, and where the mark ends.
fn level(line: &str) -> Option<(char, usize)> {
    let found = MARK.as_ref()?.captures(line)?;
    let mark = found.iter().skip(1).flatten().next()?;
    Some((mark.as_str().chars().next()?.to_ascii_uppercase(), mark.end()))
}

impl Reading {
    /// What the next line means; `fatal`: where a fatal pattern matches in it.
    pub(super) fn meaning(&mut self, line: &str, fatal: Option<usize>) -> Meaning {
        if line.is_empty() {
            return Meaning::Nothing;
        }
        let in_traceback = self.in_traceback || line.contains("Traceback (most recent call last)");
        let level = level(line);
        if in_traceback {
            let ends = finds(&EXCEPTION, line) && !line.contains("File \"");
            self.in_traceback = !ends;
        } else if !line.contains("nother exception occurred")
            && !line.contains("direct cause of the following")
        {
            line.clone_into(&mut self.headline);
        }
        let harmless = |text: &str| {
            self::level(text).is_some_and(|(level, _)| matches!(level, 'T' | 'D' | 'I' | 'N' | 'W'))
        };
        match fatal {
            Some(at) if level.is_some_and(|(_, end)| end <= at) && harmless(line) => Meaning::Nothing,
            Some(_)
                if in_traceback
                    && level.is_none()
                    && harmless(&self.headline)
                    && finds(&FAILURE, &self.headline) =>
            {
                Meaning::Nothing
            }
            Some(_) if finds(&CAUGHT, line) || (in_traceback && finds(&CAUGHT, &self.headline)) => {
                Meaning::Caught
            }
            Some(_) => Meaning::Suspicious,
            None if in_traceback || level.is_some_and(|(level, _)| matches!(level, 'E' | 'C' | 'F')) => {
                Meaning::Nothing
            }
            None if self.seen.len() < SEEN && self.seen.insert(without_digits(line)) => Meaning::Life,
            None => Meaning::Nothing,
        }
    }
}

/// Repeated lines differ in times and counts only, and a process that hangs may repeat that it waits.
fn without_digits(line: &str) -> String {
    line.chars().filter(|c| !c.is_ascii_digit()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meanings(lines: &[&str]) -> Vec<Meaning> {
        let fatal =
            Regex::new(r"CUDA out of memory|No module named|NCCL error|Address already in use").unwrap();
        let mut reading = Reading::default();
        let meaning = |line: &&str| reading.meaning(line, fatal.find(line).map(|found| found.start()));
        lines.iter().map(meaning).collect()
    }

    #[test]
    fn lines_marked_info_warn_or_debug_are_not_fatal() {
        for line in [
            "INFO 12-01 01:02:03 [a.py:1] retrying after CUDA out of memory",
            "(EngineCore_0 pid=7) WARNING 12-01 01:02:03 [a.py:1] CUDA out of memory, using less",
            "WARNING:root:No module named 'extra'",
            "[12/01/2026-01:02:03] [TRT-LLM] [W] No module named 'extra'",
            "2026-12-01T01:02:03Z DEBUG dynamo: Address already in use, next one",
            "2026-12-01T01:02:03Z  WARN dynamo: Address already in use, next one",
            r#"{"time":"…","level":"info","message":"Address already in use"}"#,
        ] {
            assert_eq!(meanings(&[line]), [Meaning::Nothing], "{line}");
        }
        for line in [
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
            "ERROR 12-01 01:02:03 [a.py:1] CUDA out of memory",
            "RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)",
            "[12/01/2026-01:02:03] [TRT-LLM] [E] CUDA out of memory",
            "CUDA out of memory. This is no INFO line",
        ] {
            assert_eq!(meanings(&[line]), [Meaning::Suspicious], "{line}");
        }
    }

    #[test]
    fn caught_failures_are_told_by_the_line_above_their_traceback() {
        use Meaning::{Caught, Nothing, Suspicious};
        let traceback = ["Traceback (most recent call last):", "  File \"a.py\", line 1, in <module>"];
        let last = |headline: &str, error: &str| {
            *meanings(&[headline, traceback[0], traceback[1], error]).last().unwrap()
        };
        let missing = "ModuleNotFoundError: No module named 'extra'";
        assert_eq!(last("ERROR Failed to load plugin extra", missing), Caught);
        assert_eq!(last("WARNING 12-01 01:02:03 [a.py:1] cannot import extra", missing), Nothing);
        assert_eq!(last("INFO 12-01 01:02:03 [a.py:1] starting", "CUDA out of memory"), Suspicious);
        assert_eq!(last("ERROR 12-01 01:02:03 [a.py:1] engine failed", missing), Suspicious);
        let marked = "ERROR 12-01 01:02:03 [plugins.py:9] ";
        let lines = [
            format!("{marked}Failed to load extra"),
            format!("{marked}{}", traceback[0]),
            format!("{marked}{}", traceback[1]),
            format!("{marked}{missing}"),
            "torch.OutOfMemoryError: CUDA out of memory".into(),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(meanings(&lines)[3..], [Caught, Suspicious], "the mark names the file of the plugins");
    }

    #[test]
    fn what_repeats_is_no_sign_of_life() {
        use Meaning::{Life, Nothing};
        let lines = ["Loading weights", "INFO 01:02:03 waiting", "INFO 01:02:13 waiting", "ERROR x", ""];
        assert_eq!(meanings(&lines), [Life, Life, Nothing, Nothing, Nothing]);
    }

    #[test]
    fn a_suspicion_is_confirmed_by_silence_and_refuted_by_life() {
        let fatal: Fatal = toml::from_str("pattern = 'x'\nadvice = \"a\"").unwrap();
        let suspect = |is_caught| Suspicion::new("x".into(), &fatal, PathBuf::new(), is_caught);
        let (life, mut silent, mut caught) = (Life::default(), suspect(false), suspect(true));
        let at = |seconds: u64| silent.began.max(caught.began) + Duration::from_secs(seconds);
        let at: Vec<Instant> = (0..120).map(at).collect();
        let idle = Some(7);
        assert!(!silent.is_confirmed(&life, idle, at[1]) && !silent.is_confirmed(&life, idle, at[9]));
        life.sign();
        assert!(!silent.is_confirmed(&life, idle, at[12]) && !silent.is_refuted(&life, at[12]));
        assert!(silent.is_confirmed(&life, idle, at[22]));
        assert!(!caught.is_confirmed(&life, idle, at[1]) && !caught.is_confirmed(&life, idle, at[50]));
        life.ready();
        assert!(
            silent.is_refuted(&life, at[23]) && !silent.is_confirmed(&life, idle, at[23]),
            "it generates tokens"
        );
        // During a load only answers and new lines count.
        let load = LiveCounters::default();
        life.load(Some(load.clone()));
        let mut during = suspect(false);
        assert!(!during.is_confirmed(&life, idle, at[30]) && during.is_confirmed(&life, idle, at[41]));
        life.load(None);
        assert!(!during.is_confirmed(&life, idle, at[60]), "nothing to do");
    }

    #[test]
    fn an_engine_that_works_in_silence_goes_on() {
        let fatal: Fatal = toml::from_str("pattern = 'x'\nadvice = \"a\"").unwrap();
        let (life, mut compiles) =
            (Life::default(), Suspicion::new("x".into(), &fatal, PathBuf::new(), false));
        let at = |seconds: u64| compiles.began + Duration::from_secs(seconds);
        let at: Vec<Instant> = (0..310).map(at).collect();
        // One core, 100 ticks a second, for 30 s; then it only polls.
        for (second, at) in at.iter().enumerate().take(30) {
            assert!(!compiles.is_confirmed(&life, Some(100 * second as u64), *at), "{second}");
        }
        assert!(!compiles.is_confirmed(&life, Some(3000), at[40]) && !compiles.is_refuted(&life, at[40]));
        assert!(compiles.is_confirmed(&life, Some(3040), at[50]));
        let mut remote = Suspicion::new("x".into(), &fatal, PathBuf::new(), false);
        assert!(!remote.is_confirmed(&life, None, at[1]) && !remote.is_confirmed(&life, None, at[290]));
        assert!(remote.is_confirmed(&life, None, at[302]) && !remote.is_refuted(&life, at[302]));
    }
}
