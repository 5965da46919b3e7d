//! Delays of each driving thread, sampled: how long bytes had been readable before they were stamped, how late it noticed a wake-up.

/// Delays kept per thread; when full, every other one is dropped and from then on half as many are kept.
const MAX_SAMPLES: usize = 32_768;

/// Delays of one driving thread: every `stride`-th one, from the first on.
#[derive(Debug)]
pub(crate) struct Delays {
    samples_us: Vec<u32>,
    stride: u64,
    skip: u64,
    max_us: u32,
}

impl Default for Delays {
    fn default() -> Self {
        Self { samples_us: Vec::new(), stride: 1, skip: 0, max_us: 0 }
    }
}

impl Delays {
    /// Takes one more delay, µs. Costs a comparison and sometimes a push, so it may be called for every read.
    pub(crate) fn add(&mut self, delay_us: u32) {
        self.max_us = self.max_us.max(delay_us);
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        self.skip = self.stride - 1;
        self.samples_us.push(delay_us);
        if self.samples_us.len() >= MAX_SAMPLES {
            self.thin();
        }
    }

    fn thin(&mut self) {
        if self.samples_us.len() % 2 == 1 {
            self.skip += self.stride;
        }
        let mut keep = false;
        self.samples_us.retain(|_| {
            keep = !keep;
            keep
        });
        self.stride *= 2;
    }

    /// The samples of several threads, µs: thinned until each stands for as many delays. The longest delay of all is always
    /// among them.
    pub(crate) fn merge(mut threads: Vec<Self>) -> Vec<u32> {
        let stride = threads.iter().map(|thread| thread.stride).max().unwrap_or(1);
        let longest = threads.iter().map(|thread| thread.max_us).max().unwrap_or(0);
        for thread in &mut threads {
            while thread.stride < stride {
                thread.thin();
            }
        }
        let mut merged: Vec<u32> = threads.into_iter().flat_map(|thread| thread.samples_us).collect();
        if longest > merged.iter().copied().max().unwrap_or(0) {
            merged.push(longest);
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with(delays: impl IntoIterator<Item = u32>) -> Delays {
        let mut store = Delays::default();
        delays.into_iter().for_each(|delay| store.add(delay));
        store
    }

    #[test]
    fn few_delays_are_kept_as_they_are() {
        assert_eq!(Delays::merge(vec![with([3, 1, 2])]), [3, 1, 2]);
        assert_eq!(Delays::merge(vec![Delays::default()]), Vec::<u32>::new());
    }

    #[test]
    fn the_longest_delay_survives_the_thinning() {
        let spike = (0..200_000).map(|at| if at == 100_001 { 9_000 } else { 10 });
        let samples = Delays::merge(vec![with(spike)]);
        assert_eq!(
            (samples.iter().max(), samples.iter().filter(|delay| **delay > 10).count()),
            (Some(&9_000), 1)
        );
    }

    #[test]
    fn a_busy_thread_weighs_more_than_an_idle_one() {
        // ten times as many reads on the busy one, though both keep about as many samples
        let busy = with(std::iter::repeat_n(100, 320_000));
        let idle = with(std::iter::repeat_n(1, 32_000));
        assert!(idle.samples_us.len() > busy.samples_us.len() / 2);
        let merged = Delays::merge(vec![busy, idle]);
        let of_idle = merged.iter().filter(|delay| **delay == 1).count();
        let share = of_idle as f64 / merged.len() as f64;
        assert!((share - 1.0 / 11.0).abs() < 0.001, "{share}");
    }

    proptest! {
        /// Whatever the number, the kept ones are evenly spaced over all of them, and bounded.
        #[test]
        fn samples_are_thinned_evenly(count in 1..300_000_u32) {
            let store = with(0..count);
            prop_assert!(store.samples_us.len() < MAX_SAMPLES);
            let stride = u32::try_from(store.stride).expect("small");
            let expected: Vec<u32> = (0..count).step_by(stride as usize).collect();
            prop_assert_eq!(&store.samples_us, &expected);
        }
    }
}
