//! Each reason of the verdict on a sound run spoiled in one respect, at its thresholds.

use super::*;
use crate::metrics::fixtures::{self, Ran, failed, run, sound};
use crate::metrics::record::{Arrivals, CacheCount, Phase, RequestRecord};
use crate::plan::{Arrival, Level, Limit, Spacing};

/// The sample point, one request after the other as the sound run has them.
fn point() -> LoadPoint {
    LoadPoint { arrival: Arrival::closed(1), ..fixtures::point() }
}

fn judged(ran: &Ran) -> Verdict {
    Verdict::of(&reasons(&point(), ran))
}

/// Without the note on percentiles, which any of these small runs has.
fn reasons(point: &LoadPoint, ran: &Ran) -> Vec<Reason> {
    let mut found = super::reasons(point, ran, &ran.fold());
    found.retain(|reason| reason.rating > Rating::Valid);
    found
}

fn interrupted(mut ran: Ran) -> Ran {
    ran.interrupted = true;
    ran
}

/// The sound run with each of its records changed by `spoil`.
fn spoiled(spoil: impl Fn(usize, &mut RequestRecord)) -> Ran {
    let mut records = sound();
    records.iter_mut().enumerate().for_each(|(index, record)| spoil(index, record));
    run(records)
}

fn expect(run: &Ran, rating: Rating, reason: &str) {
    let verdict = judged(run);
    assert_eq!((verdict.result, verdict.reasons), (rating, vec![reason.to_owned()]));
}

#[test]
fn a_sound_run_is_valid() {
    assert_eq!(judged(&run(sound())), Verdict { result: Rating::Valid, reasons: vec![] });
}

#[test]
fn an_interrupt_invalidates() {
    let cut = interrupted(run(sound()));
    expect(&cut, Rating::Invalid, "interrupted before the load point was complete");
}

#[test]
fn nothing_completed_is_invalid() {
    expect(&run(vec![]), Rating::Invalid, "none of 0 measured requests completed");
    let all_failed = run((0..3).map(|id| failed(id, id, Outcome::Http(503))).collect());
    expect(&all_failed, Rating::Invalid, "none of 3 measured requests completed");
    let mut warmup = sound();
    warmup.iter_mut().for_each(|record| record.phase = Phase::Warmup);
    expect(&run(warmup), Rating::Invalid, "none of 0 measured requests completed");
}

#[test]
fn error_rates() {
    // failures among 200 requests: 1 % is still fine, above is suspect, above 10 % invalid
    for (failures, rating) in
        [(2, Rating::Valid), (3, Rating::Suspect), (20, Rating::Suspect), (21, Rating::Invalid)]
    {
        let mut records: Vec<_> = (0..200).map(|id| fixtures::record(id, 1_000 * id)).collect();
        for record in records.iter_mut().take(failures) {
            *record = failed(record.id, record.sent_us, Outcome::Timeout);
        }
        assert_eq!(judged(&run(records)).result, rating, "{failures} failures");
    }
    let mut records = sound();
    records[0] = failed(0, 1_000_000, Outcome::Connect);
    expect(&run(records), Rating::Suspect, "1 of 20 requests failed (5.0 %)");
}

#[test]
fn zero_tokens_are_invalid() {
    let verdict = judged(&spoiled(|_, record| record.osl = 0));
    assert_eq!(verdict.result, Rating::Invalid);
    assert_eq!(verdict.reasons[0], "20 requests completed without a single output token");
}

#[test]
fn short_answers() {
    let short = |n: usize, osl| {
        spoiled(move |index, record| {
            if index < n {
                record.osl = osl
            }
        })
    };
    assert_eq!(judged(&short(20, 10)).result, Rating::Valid);
    assert_eq!(judged(&short(1, 9)).result, Rating::Valid, "1 of 20 is the 5 % that are allowed");
    expect(
        &short(2, 9),
        Rating::Suspect,
        "output length not reached in 2 of 20 requests (10.0 %): mean 9.9 tokens, 10.0 requested",
    );
    assert_eq!(judged(&short(10, 9)).result, Rating::Suspect);
    assert_eq!(judged(&short(11, 9)).result, Rating::Invalid);
    let free = LoadPoint { ignore_eos: false, ..point() };
    assert_eq!(reasons(&free, &short(20, 9)), vec![], "without ignore_eos the model may stop");
}

#[test]
fn prompts_of_another_length() {
    assert_eq!(judged(&spoiled(|_, record| record.isl = 110)).result, Rating::Valid);
    let template = "prompts have 137.0 tokens on average, 100.0 planned";
    expect(&spoiled(|_, record| record.isl = 137), Rating::Suspect, template);
    // Too long and too short do not cancel out.
    let mixed = spoiled(|index, record| record.isl = if index % 2 == 0 { 80 } else { 120 });
    expect(&mixed, Rating::Suspect, "prompts have 100.0 tokens on average, 100.0 planned");
    let rough = judged(&spoiled(|_, record| {
        record.isl = 70;
        record.isl_source = CountSource::Approximate;
    }));
    assert_eq!(
        rough.reasons[0],
        "prompts have 70.0 tokens on average, 100.0 planned (the count is approximate)"
    );
}

#[test]
fn buffered_streams() {
    let one_chunk = |n: usize| {
        spoiled(move |index, record| {
            if index < n {
                record.chunks_us.truncate(1)
            }
        })
    };
    assert_eq!(judged(&one_chunk(1)).result, Rating::Valid);
    let reason = "2 of 20 streamed answers came in one chunk or burst: TTFT describes a buffer, not the server; ITL, decode time \
                  and tok/s/user are not applicable to them";
    expect(&one_chunk(2), Rating::Suspect, reason);
    let whole = LoadPoint { streaming: false, ..point() };
    assert_eq!(reasons(&whole, &one_chunk(20)), vec![]);
    let tiny = spoiled(|_, record| {
        record.chunks_us.truncate(1);
        (record.osl, record.osl_requested) = (7, 7);
    });
    assert_eq!(judged(&tiny).result, Rating::Valid, "seven tokens may fit one chunk");
}

#[test]
fn approximate_counts() {
    let rough = spoiled(|index, record| {
        if index < 2 {
            record.osl_source = CountSource::Approximate;
            record.osl = 5; // would be short, were it a count
        }
    });
    let reason = "token counts of 2 of 20 requests are approximate: no usage from the server, no tokenizer";
    expect(&rough, Rating::Suspect, reason);
}

#[test]
fn counts_of_a_tokenizer_are_no_approximation() {
    let counted = |isl| {
        spoiled(move |_, record| {
            (record.usage, record.isl) = (None, isl);
            (record.isl_source, record.osl_source) = (CountSource::Tokenizer, CountSource::Tokenizer);
        })
    };
    assert_eq!(judged(&counted(100)).result, Rating::Valid);
    let off = "prompts have 137.0 tokens on average, 100.0 planned";
    expect(&counted(137), Rating::Suspect, off);
}

/// The sound run, of whose 2,000 prompt tokens `shared` are shared by plan and `hit` came from a cache.
fn cached(shared: u64, hit: u64) -> Ran {
    let mut cached = spoiled(|_, record| record.isl_shared = shared / 20);
    cached.prefix_cache = Some(CacheCount { queried: 2_000, hit });
    cached
}

#[test]
fn a_cache_that_answers_more_than_planned() {
    for (shared, hit, rating) in [
        (0, 64, Rating::Valid), // 3.2 %, a few blocks
        (0, 65, Rating::Suspect),
        (0, 200, Rating::Suspect), // 10 %
        (0, 201, Rating::Invalid),
        (900, 900, Rating::Valid),
        (900, 965, Rating::Suspect),
        (900, 1_101, Rating::Invalid),
    ] {
        assert_eq!(judged(&cached(shared, hit)).result, rating, "{hit} of 2000, {shared} by plan");
    }
    expect(
        &cached(60, 980),
        Rating::Invalid,
        "the prefix cache answered 49.0 % of the prompt tokens, 3.0 % by plan: prompts were seen before; give the run another \
         salt, or empty the cache before it (load.prompts.reset_cache)",
    );
    // By usage, and as a share of many tokens: 1 % of 20,000 is more than a few blocks.
    let long = |hit| {
        spoiled(move |index, record| {
            (record.isl, record.isl_planned) = (1_000, 1_000);
            let usage = record.usage.as_mut().unwrap();
            usage.prompt_tokens = 1_000;
            usage.cached_tokens = (index == 0).then_some(hit);
        })
    };
    assert_eq!(judged(&long(200)).result, Rating::Valid);
    assert_eq!(judged(&long(201)).result, Rating::Suspect);
}

#[test]
fn a_server_that_counts_something_else() {
    // The server says 10.
    let counted = |requests: usize, tokens| {
        spoiled(move |index, record| record.osl_counted = (index < requests).then_some(tokens))
    };
    for (tokens, rating) in [
        (13, Rating::Valid),
        (14, Rating::Suspect),
        (8, Rating::Valid),
        (7, Rating::Suspect),
        (0, Rating::Suspect),
    ] {
        assert_eq!(judged(&counted(20, tokens)).result, rating, "{tokens} counted");
    }
    assert_eq!(judged(&counted(4, 40)).result, Rating::Valid, "four may all be odd ones");
    expect(
        &counted(5, 40),
        Rating::Suspect,
        "the server reports 10.0 output tokens where the client's tokenizer counts 40.0 (mean of 5): OSL, ITL and tok/s rest on \
         the server's count; see what it counts, or whether the tokenizer is the model's (load.prompts.tokenizer)",
    );
}

#[test]
fn a_saturated_client() {
    // window: 19 · 0.2 s + 0.14 s = 3.94 s, two threads
    let mut busy = run(sound());
    busy.client.cpu_s = 0.9 * 2.0 * 3.94 - 0.001;
    assert_eq!(judged(&busy).result, Rating::Valid);
    busy.client.cpu_s = 2.0 * 3.94;
    expect(&busy, Rating::Suspect, "the client was saturated: 2 driving threads were 100 % busy");
}

#[test]
fn a_late_client() {
    for (lag_us, rating) in [
        (5_000, Rating::Valid),
        (5_001, Rating::Suspect),
        (50_000, Rating::Suspect),
        (50_001, Rating::Invalid),
    ] {
        let mut late = run(sound());
        late.client.loop_lag_us = vec![lag_us; 700];
        assert_eq!(judged(&late).result, rating, "{lag_us} µs");
    }
    let mut late = run(sound());
    late.client.loop_lag_us = vec![7_340; 700];
    let reason = "the client was late: p99 of its timers 7.3 ms; latencies may be too long by as much";
    expect(&late, Rating::Suspect, reason);
}

#[test]
fn few_requests() {
    assert_eq!(judged(&run(sound()[..10].to_vec())).result, Rating::Valid);
    expect(
        &run(sound()[..9].to_vec()),
        Rating::Suspect,
        "only 9 requests completed: p90, p95 and p99 lie between the two slowest of them",
    );
}

#[test]
fn percentiles_that_do_not_stand_are_named_and_the_point_stays_valid() {
    let of = |count: u64| {
        let ran = run((0..count).map(|id| fixtures::record(id, 200_000 * id)).collect());
        Verdict::of(&super::reasons(&point(), &ran, &ran.fold()))
    };
    for (count, reason) in [
        (
            10,
            "10 requests completed: no percentile stands at 99 % confidence; p50 needs 11, p90 needs 64, p95 needs 130, p99 needs 662",
        ),
        (
            63,
            "63 requests completed: p50 stands at 99 % confidence; p90 needs 64, p95 needs 130, p99 needs 662",
        ),
        (250, "250 requests completed: p50, p90 and p95 stand at 99 % confidence; p99 needs 662"),
        (661, "661 requests completed: p50, p90 and p95 stand at 99 % confidence; p99 needs 662"),
    ] {
        assert_eq!(of(count), Verdict { result: Rating::Valid, reasons: vec![reason.to_owned()] });
    }
    assert_eq!(of(662), Verdict { result: Rating::Valid, reasons: vec![] });
    assert_eq!(of(9).reasons.len(), 1, "the verdict on few requests says more");
}

#[test]
fn long_answers() {
    let long = |n: usize, osl| {
        spoiled(move |index, record| {
            if index < n {
                record.osl = osl
            }
        })
    };
    assert_eq!(judged(&long(20, 11)).result, Rating::Valid, "the end token may count");
    assert_eq!(judged(&long(1, 12)).result, Rating::Valid, "1 of 20 is the 5 % that are allowed");
    let reason =
        "answers longer than asked for in 2 of 20 requests (10.0 %): mean 10.2 tokens, 10.0 requested";
    expect(&long(2, 12), Rating::Suspect, reason);
    assert_eq!(judged(&long(20, 12)).result, Rating::Suspect);
    let free = LoadPoint { ignore_eos: false, ..point() };
    assert_eq!(reasons(&free, &long(20, 12)).len(), 1, "no model stops late");
    let tokenized = spoiled(|_, record| (record.osl, record.osl_source) = (12, CountSource::Tokenizer));
    assert_eq!(judged(&tokenized).result, Rating::Valid, "text does not tokenize into what it came from");
}

#[test]
fn hidden_reasoning_is_suspect_and_wins_no_goodput() {
    // Eight of 208 tokens are streamed, 10 ms apart.
    let hidden = spoiled(|_, record| {
        record.chunks_us.truncate(8);
        let usage = record.usage.as_mut().unwrap();
        (usage.completion_tokens, usage.reasoning_tokens) = (208, Some(200));
        (record.osl, record.osl_requested) = (208, 208);
    });
    let reason = "20 of 20 streamed answers hide their reasoning: usage counts 208.0 tokens, 8.0 were streamed, on average; TTFT \
                  has the time of the others; ITL, decode time and tok/s/user cover what was streamed";
    expect(&hidden, Rating::Suspect, reason);
    let goodput = |ran: &Ran, itl_ms| {
        let slo = crate::plan::Slo { itl_ms: Some(itl_ms), ..Default::default() };
        let point = LoadPoint { slo, ..point() };
        crate::metrics::summary::summarize(&point, ran, &ran.fold(), &Default::default())
            .throughput
            .goodput_per_s
    };
    assert_eq!((goodput(&hidden, 5.0), goodput(&hidden, 10.0) > Some(0.0)), (Some(0.0), true));
    let mut in_part = hidden;
    in_part.records.iter_mut().for_each(|record| {
        record.usage.as_mut().unwrap().reasoning_tokens = None;
        record.text_bytes = Some(40);
    });
    let reason = "20 of 20 streamed answers hold fewer tokens than usage counts (hidden reasoning, or tokens without text): ITL, \
                  decode time and tok/s/user are not applicable to them";
    expect(&in_part, Rating::Suspect, reason);
    assert_eq!(goodput(&in_part, 1_000.0), Some(0.0), "what is not applicable is not met");
}

#[test]
fn a_first_chunk_that_holds_much_of_the_answer_is_named() {
    // 100 of 200 tokens in the first of two chunks, 100 ms before the second.
    let packed = spoiled(|_, record| {
        record.chunks_us = vec![record.sent_us + 100_000, record.sent_us + 200_000];
        record.end_us = record.sent_us + 200_500;
        (record.osl, record.osl_requested) = (200, 200);
        record.usage.as_mut().unwrap().completion_tokens = 200;
        (record.first_text_bytes, record.text_bytes) = (Some(400), Some(800));
    });
    let reason = "20 of 20 streamed answers began with 100.0 tokens at once, on average: TTFT has the time of all of them; ITL, \
                  decode time and tok/s/user cover the tokens behind them";
    expect(&packed, Rating::Suspect, reason);
}

#[test]
fn text_under_an_unknown_key_is_named() {
    // Of the 20 answers one is 5 %, still a note; two are suspect.
    for (answers, rating) in [(1, Rating::Valid), (2, Rating::Suspect)] {
        let strange = spoiled(|index, record| {
            record.unknown_content = (index < answers).then(|| "delta.thoughts".to_owned());
            record.usage = None;
            record.osl_source = CountSource::Tokenizer;
        });
        let found = super::reasons(&point(), &strange, &strange.fold());
        let text = format!(
            "{answers} of 20 answers have text under \"delta.thoughts\", which is not known as content: TTFT, ICL, ITL and \
             tok/s/user leave it out"
        );
        assert!(found.contains(&Reason { rating, text }), "{found:?}");
    }
}

#[test]
fn chunks_in_bursts_contradict_the_pace() {
    // Ten chunks, in five pairs 20 ms apart: the median gap is 0, the mean 10 ms or so.
    let pairs = spoiled(|_, record| {
        record.chunks_us = (0..10).map(|chunk| record.sent_us + 50_000 + 30_000 * (chunk / 3)).collect()
    });
    let reason = "chunks came in bursts: half of the gaps between them are below 0.00 ms, their mean is 10.00 ms; ITL holds on \
                  average, ICL and TTFT describe a buffer";
    expect(&pairs, Rating::Suspect, reason);
}

#[test]
fn a_concurrency_that_was_never_reached() {
    let of = |concurrency| LoadPoint { arrival: Arrival::closed(concurrency), ..point() };
    let reason = "concurrency 2 was never reached: at most 1 requests were in flight; send more requests, or for longer";
    assert_eq!(reasons(&of(2), &run(sound())), vec![Reason::suspect(reason)]);
    let together = |count| run((0..count).map(|id| fixtures::record(id, 1_000 * id)).collect());
    assert_eq!(reasons(&of(20), &together(20)), vec![]);
    assert_eq!(reasons(&of(20), &together(19)), vec![], "5 % below");
    assert_eq!(reasons(&of(20), &together(18)).len(), 1);
}

#[test]
fn a_rate_whose_load_was_never_reached() {
    let limit = Limit { max_concurrency: None, when_full: Default::default() };
    let arrival = Arrival::Open { rate: Level::Constant(5.0), spacing: Spacing::Constant, limit };
    let open = LoadPoint { arrival, ..point() };
    assert_eq!(reasons(&open, &kept()), vec![]);
    let slow = |n: usize| {
        let mut run = kept();
        run.records.iter_mut().take(n).for_each(|record| record.end_us = 9_000_000);
        run
    };
    // The last one is unanswered in any case.
    assert_eq!(reasons(&open, &slow(9)), vec![]);
    let reason = "the load of 5 requests per second was not reached: 11 of 20 were unanswered when the last was due; the server is \
                  too slow for it, or the time too short";
    assert_eq!(reasons(&open, &slow(10)), vec![Reason::suspect(reason)]);
}

#[test]
fn a_rate_that_the_server_answers_in_part() {
    // An arrival every 10 ms for 10 s; the server answers one every 15 ms, so that a third is unanswered at the end.
    let of = |every_us: u64| {
        let mut ran = run((0..1_000)
            .map(|id| {
                let (sent_us, end_us) = (10_000 * id, 60_000 + (every_us * id).max(10_000 * id));
                RequestRecord {
                    chunks_us: vec![end_us - 10, end_us],
                    end_us,
                    ..fixtures::record(id, sent_us)
                }
            })
            .collect());
        ran.arrivals =
            Some(Arrivals { total: 1_000, dropped: 0, unsent: 0, first_us: 0, last_us: 9_990_000 });
        ran
    };
    let limit = Limit { max_concurrency: None, when_full: Default::default() };
    let arrival = Arrival::Open { rate: Level::Constant(100.0), spacing: Spacing::Constant, limit };
    let open = LoadPoint { arrival, ..point() };
    let about = |ran: &Ran, word: &str| {
        reasons(&open, ran)
            .into_iter()
            .map(|reason| reason.text)
            .filter(|text| text.contains(word))
            .collect::<Vec<_>>()
    };
    assert_eq!(about(&of(10_000), "not reached"), Vec::<String>::new());
    assert_eq!(about(&of(10_200), "not reached"), Vec::<String>::new(), "2 % behind");
    let reason = "the load of 100 requests per second was not reached: in the second half of the time the server answered 66.67 \
                  per second, and the unanswered requests grew from 170 to 337; it is too slow for it, or the time too short";
    assert_eq!(about(&of(15_000), "not reached"), [reason]);
}

#[test]
fn a_rate_is_held_against_the_one_that_was_asked_for() {
    let limit = Limit { max_concurrency: None, when_full: Default::default() };
    let asked = |rate, spacing| {
        let open =
            LoadPoint { arrival: Arrival::Open { rate: Level::Constant(rate), spacing, limit }, ..point() };
        reasons(&open, &kept())
    };
    // Twenty arrivals at five per second were drawn and sent.
    assert_eq!(asked(5.0, Spacing::Constant), vec![]);
    assert_eq!(asked(5.25, Spacing::Constant), vec![], "5 % above");
    for rate in [5.5, 4.7] {
        let reason = format!("requests were sent at 5.00 per second, {rate} were asked for");
        assert_eq!(asked(rate, Spacing::Constant), vec![Reason::suspect(reason)]);
    }
    assert_eq!(asked(7.0, Spacing::Poisson), vec![], "chance: three deviations are 67 %");
    assert_eq!(asked(16.0, Spacing::Poisson).len(), 1);
}

/// A ramp of two stages of 1 s, its requests sent every `gap_us` and answered after `latency_us`.
fn ramped(arrival: Arrival, gap_us: u64, latency_us: u64) -> Vec<String> {
    use crate::metrics::record::StageMark;
    let point = LoadPoint { arrival, ..point() };
    let record = |id: u64| {
        let sent_us = gap_us * id;
        let index = u32::from(sent_us >= 1_000_000);
        let stage = Some(StageMark { index, start_us: 1_000_000 * u64::from(index) });
        let end_us = sent_us + latency_us;
        RequestRecord { stage, chunks_us: vec![end_us - 10, end_us], end_us, ..fixtures::record(id, sent_us) }
    };
    let ran = run((0..2_000_000 / gap_us).map(record).collect());
    let mut fold = Fold::new(&point);
    ran.records.iter().for_each(|record| fold.add(record));
    reached::reasons(&point, &ran, &fold).into_iter().map(|reason| reason.text).collect()
}

fn two_stages(from: f64, to: f64) -> Level<f64> {
    let stage =
        |target, shape| crate::plan::Stage { name: None, duration_s: 1.0, target, shape, cool_down: false };
    let stages =
        vec![stage(from, crate::plan::ramp::Shape::Hold), stage(to, crate::plan::ramp::Shape::Linear)];
    Level::Ramp(crate::plan::Ramp { start: from, stages })
}

#[test]
fn a_stage_whose_concurrency_was_never_reached() {
    let closed = |from, to| {
        let Level::Ramp(ramp) = two_stages(from, to) else { unreachable!() };
        Arrival::Closed { concurrency: Level::Ramp(ramp) }
    };
    // Every 10 ms a request of 95 ms: ten in flight.
    assert_eq!(ramped(closed(10.0, 11.0), 10_000, 95_000), Vec::<String>::new());
    let reason = "stage 2: concurrency 20 was never reached: at most 10 requests were in flight";
    assert_eq!(ramped(closed(10.0, 20.0), 10_000, 95_000), [reason]);
    let reason = "stage 1: concurrency 12 was never reached: at most 10 requests were in flight";
    assert_eq!(ramped(closed(12.0, 2.0), 10_000, 95_000)[0], reason);
}

#[test]
fn a_stage_whose_rate_was_not_reached() {
    let open = |from, to, spacing| {
        let limit = Limit { max_concurrency: None, when_full: Default::default() };
        Arrival::Open { rate: two_stages(from, to), spacing, limit }
    };
    assert_eq!(ramped(open(100.0, 100.0, Spacing::Constant), 10_000, 5_000), Vec::<String>::new());
    let reason = "stage 2: requests were sent at 100.00 per second, 150.00 were asked for on average";
    assert_eq!(ramped(open(100.0, 200.0, Spacing::Constant), 10_000, 5_000), [reason]);
    let reason = "stage 2: requests were sent at 100.00 per second, 60.00 were asked for on average";
    assert_eq!(ramped(open(100.0, 20.0, Spacing::Poisson), 10_000, 5_000), [reason]);
    assert_eq!(ramped(open(100.0, 120.0, Spacing::Poisson), 10_000, 5_000), Vec::<String>::new(), "chance");
}

#[test]
fn the_worst_reason_decides() {
    let cut = interrupted(run(sound()[..1].to_vec()));
    let verdict = judged(&cut);
    assert_eq!((verdict.result, verdict.reasons.len()), (Rating::Invalid, 2));
}

/// Twenty sound requests as an open loop that kept its schedule: 200 ms apart, five per second.
fn kept() -> Ran {
    let mut kept = run(sound());
    let (first_us, last_us) = (1_000_000, 4_800_000);
    kept.arrivals = Some(Arrivals { total: 20, dropped: 0, unsent: 0, first_us, last_us });
    kept
}

fn arrivals(change: impl FnOnce(&mut Arrivals)) -> Ran {
    let mut run = kept();
    change(run.arrivals.as_mut().unwrap());
    run
}

#[test]
fn a_schedule_that_is_kept_is_valid() {
    assert_eq!(judged(&kept()).result, Rating::Valid);
}

#[test]
fn a_schedule_that_is_late() {
    let late = |lag_us: u64| {
        let mut run = kept();
        run.records.iter_mut().for_each(|record| record.scheduled_us = record.sent_us - lag_us);
        run
    };
    assert_eq!(judged(&late(5_000)).result, Rating::Valid);
    expect(&late(7_300), Rating::Suspect, "schedule not kept: p50 of sent − intended is 7.3 ms");
    let mut closed = late(7_300);
    closed.arrivals = None;
    assert_eq!(judged(&closed).result, Rating::Valid, "a closed loop has no schedule");
}

#[test]
fn arrivals_that_were_not_sent() {
    let dropped = "1 of 21 arrivals were dropped (4.8 %): the most allowed requests were in flight";
    let run = arrivals(|a| (a.total, a.dropped, a.last_us) = (21, 1, 5_000_000));
    expect(&run, Rating::Suspect, dropped);
    let run = arrivals(|a| (a.total, a.unsent, a.last_us) = (21, 1, 5_000_000));
    expect(&run, Rating::Suspect, "1 of 21 arrivals still waited at the end and were not sent");
}

#[test]
fn a_rate_that_was_not_reached() {
    // 19 gaps: sent in 3.8 s, so five per second
    assert_eq!(
        judged(&arrivals(|a| a.last_us = 1_000_000 + 3_620_000)).result,
        Rating::Valid,
        "5.25 offered"
    );
    let run = arrivals(|a| a.last_us = 1_000_000 + 3_040_000);
    expect(&run, Rating::Suspect, "requests were sent at 5.00 per second, 6.25 were offered");
}

#[test]
fn requests_cut_at_the_planned_end_are_no_errors() {
    let cut = |n: usize| {
        spoiled(move |index, record| {
            if index < n {
                record.outcome = Outcome::Cancelled;
            }
        })
    };
    assert_eq!(judged(&cut(1)).result, Rating::Valid, "1 of 20 is the 5 % that are allowed");
    let reason = "2 of 20 requests were cut at the end (10.0 %): the longest are missing from the latencies";
    expect(&cut(2), Rating::Suspect, reason);
    expect(&interrupted(cut(2)), Rating::Invalid, "interrupted before the load point was complete");
    let all = "none of 20 measured requests completed: tokmark cut all of them at the end; let the load last longer than an \
               answer, or wait for the answers (load.at_end = \"drain\")";
    assert_eq!(judged(&cut(20)).reasons[0], all);
    let mut mixed = cut(5);
    mixed.records.iter_mut().skip(5).for_each(|record| record.outcome = Outcome::Timeout);
    let reason = "none of 20 measured requests completed: 15 failed, and tokmark cut 5 at the end";
    assert_eq!(judged(&mixed).reasons[0], reason);
}
