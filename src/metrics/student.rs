//! Student's t distribution: the half width of a confidence interval of a mean.
//!
//! Source: M. Abramowitz, I. Stegun, "Handbook of Mathematical Functions", 26.5.8 (the incomplete beta function as a continued
//! fraction) and 26.7.1 (the distribution by it).

/// Confidence of every interval that is shown.
pub const LEVEL: f64 = 0.95;

/// The quantile of Student's t at `probability` (0.5–1) for `freedom` degrees of freedom: 4.303 at 0.975 for 2. Infinite for
/// less than one degree of freedom.
pub fn quantile(probability: f64, freedom: f64) -> f64 {
    if freedom < 1.0 || probability >= 1.0 {
        return f64::INFINITY;
    }
    let (mut low, mut high) = (0.0, 1.0);
    while above(high, freedom) > 1.0 - probability && high < 1e12 {
        high *= 2.0;
    }
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if above(middle, freedom) > 1.0 - probability { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// Half the width of the interval of a mean at confidence `level`: t · s / √n, with the sample's standard deviation s (divisor
/// n − 1). `None` for fewer than two values, which tell nothing about their spread.
pub fn half_width(values: &[f64], level: f64) -> Option<f64> {
    let n = values.len() as f64;
    let (_, squares) = spread(values)?;
    let freedom = n - 1.0;
    Some(quantile(f64::midpoint(1.0, level), freedom) * (squares / freedom / n).sqrt())
}

/// The mean, and the sum of the squared deviations from it. `None` for fewer than two values.
pub fn spread(values: &[f64]) -> Option<(f64, f64)> {
    if values.len() < 2 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    Some((mean, values.iter().map(|value| (value - mean).powi(2)).sum()))
}

/// The chance of a value above `t`, which is not negative: I(ν / (ν + t²); ν/2, 1/2) / 2.
fn above(t: f64, freedom: f64) -> f64 {
    incomplete_beta(freedom / (freedom + t * t), freedom / 2.0, 0.5) / 2.0
}

/// The regularized incomplete beta function I(x; a, b).
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp();
    // The fraction converges fast on this side; the other follows by symmetry.
    if x < (a + 1.0) / (a + b + 2.0) {
        front * fraction(x, a, b) / a
    } else {
        1.0 - front * fraction(1.0 - x, b, a) / b
    }
}

/// The continued fraction of the incomplete beta function, by Lentz's method.
fn fraction(x: f64, a: f64, b: f64) -> f64 {
    const STEPS: u32 = 500;
    let guarded = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / guarded(1.0 - (a + b) * x / (a + 1.0));
    let mut result = d;
    for step in 1..STEPS {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let before = result;
        for term in [even, odd] {
            d = 1.0 / guarded(1.0 + term * d);
            c = guarded(1.0 + term / c);
            result *= c * d;
        }
        if (result - before).abs() < 1e-15 * result.abs() {
            break;
        }
    }
    result
}

/// The logarithm of the gamma function of a number above 0: Stirling's series (Abramowitz and Stegun 6.1.41) above 8, and the
/// recurrence Γ(x + 1) = x · Γ(x) below.
pub(super) fn ln_gamma(x: f64) -> f64 {
    if x < 8.0 {
        return ln_gamma(x + 1.0) - x.ln();
    }
    let inverse = 1.0 / (x * x);
    let series = 1.0 / 12.0 - inverse * (1.0 / 360.0 - inverse * (1.0 / 1260.0 - inverse / 1680.0));
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series / x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        // NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2: upper critical values of Student's t.
        for (probability, freedom, expected) in [
            (0.975, 1.0, 12.706),
            (0.975, 2.0, 4.303),
            (0.975, 3.0, 3.182),
            (0.975, 4.0, 2.776),
            (0.975, 5.0, 2.571),
            (0.975, 9.0, 2.262),
            (0.975, 10.0, 2.228),
            (0.975, 30.0, 2.042),
            (0.975, 60.0, 2.000),
            (0.975, 100.0, 1.984),
            (0.975, 1e6, 1.960),
            (0.995, 2.0, 9.925),
            (0.995, 5.0, 4.032),
            (0.995, 10.0, 3.169),
            (0.95, 1.0, 6.314),
            (0.9, 7.0, 1.415),
        ] {
            let found = quantile(probability, freedom);
            assert!((found - expected).abs() < 1e-3, "t({probability}; {freedom}) = {found}, not {expected}");
        }
        assert_eq!((quantile(0.975, 0.0), quantile(1.0, 4.0)), (f64::INFINITY, f64::INFINITY));
    }

    #[test]
    fn the_interval_of_a_mean_worked_by_hand() {
        // Mean 100, deviations −2 0 2, s² = 8 / 2 = 4, t(0.975; 2) = 4.3027: 4.3027 · √(4 / 3) = 4.968.
        let half = half_width(&[98.0, 100.0, 102.0], LEVEL).expect("three values");
        assert!((half - 4.968).abs() < 1e-3, "{half}");
        assert_eq!(half_width(&[7.0, 7.0], LEVEL), Some(0.0));
        assert_eq!((half_width(&[7.0], LEVEL), half_width(&[], LEVEL)), (None, None));
    }

    #[test]
    fn factorials_by_the_gamma_function() {
        for (x, expected) in
            [(1.0, 1.0_f64), (5.0, 24.0), (0.5, std::f64::consts::PI.sqrt()), (11.0, 3_628_800.0)]
        {
            assert!((ln_gamma(x) - expected.ln()).abs() < 1e-10, "{x}");
        }
    }
}
