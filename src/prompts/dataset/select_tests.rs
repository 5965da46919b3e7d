//! Who gets into the sample, in which order, and what is counted on the way.

use proptest::prelude::*;

use crate::plan::prompts::DatasetKind;

use super::*;

/// A file of prompts; each is as many words as its number says, or the words given.
struct File {
    _folder: tempfile::TempDir,
    dataset: Dataset,
}

fn file(prompts: impl IntoIterator<Item = String>) -> File {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prompts.jsonl");
    let text: String =
        prompts.into_iter().map(|prompt| format!("{}\n", serde_json::json!({"prompt": prompt}))).collect();
    std::fs::write(&path, text).unwrap();
    let dataset = Dataset {
        kind: DatasetKind::Jsonl,
        path: path.display().to_string(),
        min_tokens: None,
        max_tokens: None,
        dedupe: true,
        own_lengths: false,
    };
    File { _folder: folder, dataset }
}

fn numbered(count: u64) -> File {
    file((1..=count).map(|number| format!("prompt {number}")))
}

/// A word is a token.
fn words(sample: &Sample) -> u32 {
    sample.words().split_whitespace().count() as u32
}

fn numbers(dataset: &Dataset, seed: u64, wanted: usize) -> Vec<u64> {
    let selection = select(dataset, seed, wanted, &mut words).unwrap();
    selection.picked.iter().map(|picked| picked.number).collect()
}

#[test]
fn the_same_seed_gives_the_same_sample_and_another_seed_another() {
    let file = numbered(200);
    assert_eq!(numbers(&file.dataset, 7, 20), numbers(&file.dataset, 7, 20));
    assert_ne!(numbers(&file.dataset, 7, 20), numbers(&file.dataset, 8, 20));
}

#[test]
fn the_whole_file_comes_in_random_order_when_all_is_wanted() {
    let file = numbered(200);
    let mut all = numbers(&file.dataset, 1, usize::MAX);
    assert!(!all.is_sorted());
    all.sort_unstable();
    assert_eq!(all, (1..=200).collect::<Vec<u64>>());
}

/// 50 of 200 under each of 400 seeds: an entry is in 100 samples on average, with a standard deviation of 8.7.
#[test]
fn every_entry_is_about_equally_likely() {
    let file = numbered(200);
    let mut met = [0_u32; 200];
    for seed in 0..400 {
        for number in numbers(&file.dataset, seed, 50) {
            met[number as usize - 1] += 1;
        }
    }
    assert!(met.iter().all(|count| (57..=143).contains(count)), "{met:?}");
    let halves = met.split_at(100);
    assert!(halves.0.iter().sum::<u32>().abs_diff(halves.1.iter().sum()) < 500, "{met:?}");
}

#[test]
fn lengths_are_filtered_and_counted() {
    let mut file = file((1..=9).map(|length| vec!["word"; length].join(" ")));
    file.dataset.min_tokens = Some(3);
    file.dataset.max_tokens = Some(5);
    let selection = select(&file.dataset, 0, 100, &mut words).unwrap();
    let mut lengths: Vec<(u64, u32)> =
        selection.picked.iter().map(|picked| (picked.number, picked.tokens)).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [(3, 3), (4, 4), (5, 5)]);
    let expected =
        SelectStats { entries: 9, looked_at: 9, too_short: 2, too_long: 4, ..SelectStats::default() };
    assert_eq!(selection.stats, expected);
}

#[test]
fn only_what_may_get_into_the_sample_is_counted() {
    let mut file = numbered(1000);
    let mut calls = 0_u64;
    let mut count = |sample: &Sample| {
        calls += 1;
        words(sample)
    };
    let selection = select(&file.dataset, 3, 10, &mut count).unwrap();
    assert_eq!((calls, selection.stats.looked_at), (10, 0), "without a filter the sample alone");
    file.dataset.min_tokens = Some(1);
    let (mut calls, mut count_calls) = (0_u64, Vec::new());
    let selection = select(&file.dataset, 3, 10, &mut |sample| {
        calls += 1;
        count_calls.push(sample.words());
        words(sample)
    });
    // 10 × (1 + ln(1000 / 10)) = 56 on average.
    assert_eq!(selection.unwrap().stats.looked_at, calls);
    assert!((10..150).contains(&calls), "{calls}");
}

#[test]
fn a_text_with_fewer_bytes_than_tokens_needed_is_not_counted() {
    let mut file = file(["x".repeat(91), "x".repeat(92), "x ".repeat(100)]);
    file.dataset.min_tokens = Some(100);
    let mut counted = Vec::new();
    let selection = select(&file.dataset, 0, 5, &mut |sample| {
        counted.push(sample.words().len());
        words(sample)
    });
    assert_eq!(counted, [92, 200]);
    assert_eq!(selection.unwrap().stats.too_short, 2);
}

#[test]
fn a_repeated_prompt_is_used_once_unless_repetitions_are_kept() {
    let mut file = file(["a", "b", "a", "c", "a", "b"].map(str::to_owned));
    let selection = select(&file.dataset, 5, 10, &mut words).unwrap();
    let mut found: Vec<u64> = selection.picked.iter().map(|picked| picked.number).collect();
    found.sort_unstable();
    assert_eq!((found, selection.stats.duplicates), (vec![1, 2, 4], 3));
    file.dataset.dedupe = false;
    let selection = select(&file.dataset, 5, 10, &mut words).unwrap();
    assert_eq!((selection.picked.len(), selection.stats.duplicates), (6, 0));
}

#[test]
fn nothing_left_says_how_many_were_too_short_and_too_long() {
    let mut file = file(["a", "b b", "c c c c", "a"].map(str::to_owned));
    (file.dataset.min_tokens, file.dataset.max_tokens) = (Some(3), Some(3));
    let error = select(&file.dataset, 0, 4, &mut words).unwrap_err().to_string();
    let expected = ": none of its 4 prompts has the right length: 2 are too short, 1 too long, 1 repeat others\n  \
                    expected: 3 to 3 tokens\n  next: widen min_tokens and max_tokens";
    assert_eq!(error, format!("{}{expected}", file.dataset.path));
}

#[test]
fn a_file_without_prompts_is_named() {
    let file = file(["".to_owned(), " ".to_owned()]);
    let error = select(&file.dataset, 0, 4, &mut words).unwrap_err();
    assert_eq!(error.problem, "none of its 2 entries has a prompt");
}

#[test]
fn nothing_wanted_is_nothing_picked() {
    let selection = select(&numbered(3).dataset, 0, 0, &mut words).unwrap();
    assert_eq!((selection.picked.len(), selection.stats.entries), (0, 3));
}

/// splitmix64 from state 0 begins so (Vigna's reference implementation, as Java's SplittableRandom gives it too).
#[test]
fn priorities_are_those_of_splitmix64() {
    assert_eq!(priority(0, 1), 0xe220_a839_7b1d_cdaf);
    assert_eq!(priority(0, 2), 0x6e78_9e6a_a1b9_65f4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// A smaller sample is the beginning of a larger one, with filter and repetitions.
    #[test]
    fn a_smaller_sample_begins_a_larger_one(
        lengths in proptest::collection::vec(1..12_usize, 1..60), seed: u64, less in 1..30_usize, more in 0..30_usize,
    ) {
        let mut file = file(lengths.iter().map(|length| vec!["w"; *length].join(" ")));
        (file.dataset.min_tokens, file.dataset.max_tokens) = (Some(2), Some(9));
        file.dataset.dedupe = seed % 2 == 0;
        prop_assume!(lengths.iter().any(|length| (2..=9).contains(length)));
        let smaller = numbers(&file.dataset, seed, less);
        let larger = numbers(&file.dataset, seed, less + more);
        prop_assert_eq!(&larger[..smaller.len()], &smaller[..]);
        prop_assert!(smaller.len() == less || larger.len() == smaller.len());
    }
}
