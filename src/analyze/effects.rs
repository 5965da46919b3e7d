//! Main effects of the axes of a grid: what each value of an axis adds, the other axes the same.
//!
//! The logarithms of the results are the sum of a common part and one of each axis, fitted by least squares, so that cells may be
//! missing. In a whole grid the effect of a value is the mean of its cells against that of all, whatever the interactions.
//! Source: D. C. Montgomery, "Design and Analysis of Experiments", 5.3 (factorial designs), 10.3 (least squares).

use serde::Serialize;

use crate::metrics::student::{LEVEL, quantile};

/// A cell with a result.
#[derive(Debug, Clone, PartialEq)]
pub struct CellResult {
    /// Its value on each axis, as the place in the list of the axis' values.
    pub levels: Vec<usize>,
    /// Logarithm of the result.
    pub log: f64,
    /// Standard error of the logarithm: that of the result as a share of it.
    pub error: f64,
}

/// What one value of an axis does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Effect {
    /// Against the mean of all values of the axis, percent.
    pub percent: f64,
    /// Half of its interval, percentage points.
    pub half_width: f64,
}

/// The effects of an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct AxisEffects {
    /// Of each value; `None` for one without a result.
    pub effects: Vec<Option<Effect>>,
    /// The values with the highest and the lowest result.
    pub highest: usize,
    pub lowest: usize,
    /// How far the highest is above the lowest.
    pub difference: Effect,
    /// Whether that is beyond noise.
    pub matters: bool,
}

/// The effects of the axes with so many values each. Errors have so many degrees of freedom, and differences up to `floor` are
/// noise, as a share. An axis with one value has no effect; nothing has where the results do not tell the axes apart.
pub fn effects(
    results: &[CellResult],
    values: &[usize],
    freedom: f64,
    floor: f64,
) -> Option<Vec<Option<AxisEffects>>> {
    let design = Design::of(results, values);
    let estimates = design.fit(results)?;
    let times = quantile(f64::midpoint(1.0, LEVEL), freedom);
    let axis = |axis: usize| {
        let present = design.present.get(axis)?;
        if present.len() < 2 {
            return None;
        }
        // The part of a value, and what it is against the mean of all: sums of estimated parts.
        let part = |level: usize| design.unit(axis, level);
        let share = 1.0 / present.len() as f64;
        let mean = present.iter().fold(design.zero(), |sum, level| add(&sum, &part(*level), share));
        let effect = |contrast: &[f64]| {
            let (log, error) = estimates.of(contrast);
            let half_width = log.exp() * times * error * 100.0;
            (log, Effect { percent: log.exp_m1() * 100.0, half_width }, times * error)
        };
        let logs: Vec<(usize, f64)> =
            present.iter().map(|level| (*level, estimates.of(&part(*level)).0)).collect();
        let highest = logs.iter().max_by(|a, b| a.1.total_cmp(&b.1))?.0;
        let lowest = logs.iter().min_by(|a, b| a.1.total_cmp(&b.1))?.0;
        let (log, difference, half) = effect(&add(&part(highest), &part(lowest), -1.0));
        let of = |level: usize| present.contains(&level).then(|| effect(&add(&part(level), &mean, -1.0)).1);
        Some(AxisEffects {
            effects: (0..*values.get(axis)?).map(of).collect(),
            highest,
            lowest,
            difference,
            matters: log > half.max(floor.ln_1p()),
        })
    };
    Some((0..values.len()).map(axis).collect())
}

fn add(a: &[f64], b: &[f64], times: f64) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + times * b).collect()
}

/// The unknowns: a common part, and one for each value of an axis after the first that has results.
struct Design {
    /// Values with results, by axis.
    present: Vec<Vec<usize>>,
    size: usize,
}

impl Design {
    fn of(results: &[CellResult], values: &[usize]) -> Self {
        let has =
            |axis: usize, level: usize| results.iter().any(|result| result.levels.get(axis) == Some(&level));
        let present: Vec<Vec<usize>> = values
            .iter()
            .enumerate()
            .map(|(axis, count)| (0..*count).filter(|level| has(axis, *level)).collect())
            .collect();
        let size = 1 + present.iter().map(|levels| levels.len().saturating_sub(1)).sum::<usize>();
        Self { present, size }
    }

    fn zero(&self) -> Vec<f64> {
        vec![0.0; self.size]
    }

    /// The unknown of a value of an axis; that of the first is 0.
    fn unit(&self, axis: usize, level: usize) -> Vec<f64> {
        let before: usize = self.present.iter().take(axis).map(|levels| levels.len().saturating_sub(1)).sum();
        let place = self.present.get(axis).and_then(|levels| levels.iter().position(|known| *known == level));
        let mut unit = self.zero();
        if let Some(slot) = place.filter(|place| *place > 0).and_then(|place| unit.get_mut(before + place)) {
            *slot = 1.0;
        }
        unit
    }

    fn row(&self, result: &CellResult) -> Vec<f64> {
        let mut row = self.zero();
        row.iter_mut().take(1).for_each(|common| *common = 1.0);
        result
            .levels
            .iter()
            .enumerate()
            .fold(row, |row, (axis, level)| add(&row, &self.unit(axis, *level), 1.0))
    }

    /// The least-squares estimates; `None` if the results do not determine them.
    fn fit(&self, results: &[CellResult]) -> Option<Estimates> {
        let rows: Vec<Vec<f64>> = results.iter().map(|result| self.row(result)).collect();
        let sum_of = |f: &dyn Fn(&[f64], &CellResult) -> f64| {
            rows.iter().zip(results).map(|(row, of)| f(row, of)).sum()
        };
        let normal: Vec<Vec<f64>> = (0..self.size)
            .map(|i| (0..self.size).map(|j| sum_of(&|row, _| row[i] * row[j])).collect())
            .collect();
        let inverse = inverted(normal)?;
        let right: Vec<f64> = (0..self.size).map(|i| sum_of(&|row, of| row[i] * of.log)).collect();
        let parts = inverse.iter().map(|row| dot(row, &right)).collect();
        let errors = results.iter().map(|result| result.error).collect();
        Some(Estimates { parts, inverse, rows, errors })
    }
}

struct Estimates {
    parts: Vec<f64>,
    inverse: Vec<Vec<f64>>,
    rows: Vec<Vec<f64>>,
    errors: Vec<f64>,
}

impl Estimates {
    /// A sum of parts and its standard error. It is a sum of results, too, each with an error of its own.
    fn of(&self, contrast: &[f64]) -> (f64, f64) {
        let weights: Vec<f64> = self.inverse.iter().map(|row| dot(row, contrast)).collect();
        let variance =
            self.rows.iter().zip(&self.errors).map(|(row, error)| (dot(row, &weights) * error).powi(2));
        (dot(&self.parts, contrast), variance.sum::<f64>().sqrt())
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The inverse of a symmetric matrix by Gauss and Jordan; `None` if it has none.
fn inverted(mut matrix: Vec<Vec<f64>>) -> Option<Vec<Vec<f64>>> {
    let size = matrix.len();
    for (place, row) in matrix.iter_mut().enumerate() {
        row.extend((0..size).map(|column| f64::from(u8::from(column == place))));
    }
    for column in 0..size {
        let pivot =
            (column..size).max_by(|a, b| matrix[*a][column].abs().total_cmp(&matrix[*b][column].abs()))?;
        matrix.swap(column, pivot);
        let head = matrix[column].clone();
        let scale = head[column];
        if scale.abs() < 1e-9 {
            return None;
        }
        let head: Vec<f64> = head.iter().map(|value| value / scale).collect();
        for (place, row) in matrix.iter_mut().enumerate() {
            let times = if place == column { 0.0 } else { row[column] };
            *row = if place == column { head.clone() } else { add(row, &head, -times) };
        }
    }
    Some(matrix.into_iter().map(|row| row[size..].to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(levels: [usize; 2], value: f64) -> CellResult {
        CellResult { levels: levels.to_vec(), log: value.ln(), error: 0.01 }
    }

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
    }

    #[test]
    fn effects_in_a_whole_grid_worked_by_hand() {
        // Rows double, columns change nothing: the geometric mean of 100 and 200 is 141.42, so −29.29 % and +41.42 %.
        let grid = [cell([0, 0], 100.0), cell([0, 1], 100.0), cell([1, 0], 200.0), cell([1, 1], 200.0)];
        let found = effects(&grid, &[2, 2], 1e6, 0.0).expect("a grid");
        let rows = found[0].as_ref().expect("two values");
        near(rows.effects[0].expect("low").percent, 100.0 * (0.5_f64.sqrt() - 1.0));
        near(rows.effects[1].expect("high").percent, 100.0 * (2.0_f64.sqrt() - 1.0));
        assert_eq!((rows.highest, rows.lowest, rows.matters), (1, 0, true));
        near(rows.difference.percent, 100.0);
        // The mean of two cells against that of two others: 0.01 · √(1/2 + 1/2), times 1.95996, of 200 %.
        assert!((rows.difference.half_width - 2.0 * 1.95996).abs() < 1e-3, "{rows:?}");
        let columns = found[1].as_ref().expect("two values");
        near(columns.difference.percent, 0.0);
        assert!(!columns.matters);
    }

    #[test]
    fn a_missing_cell_does_not_bend_the_effect_of_the_other_axis() {
        // 2 × 3 with factors 2 for the row, 1, 3 and 5 for the column, without the largest cell: plain means of the rows would
        // be √[3]{15} and √{12}, a factor of 1.40.
        let grid =
            [cell([0, 0], 1.0), cell([0, 1], 3.0), cell([0, 2], 5.0), cell([1, 0], 2.0), cell([1, 1], 6.0)];
        let found = effects(&grid, &[2, 3], 1e6, 0.0).expect("determined");
        near(found[0].as_ref().expect("rows").difference.percent, 100.0);
        near(found[1].as_ref().expect("columns").difference.percent, 400.0);
    }

    #[test]
    fn what_cannot_be_told_has_no_effect() {
        // Both axes change together.
        assert_eq!(effects(&[cell([0, 0], 1.0), cell([1, 1], 2.0)], &[2, 2], 1e6, 0.0), None);
        // One value, and a value without any result.
        let found = effects(&[cell([0, 0], 1.0), cell([0, 2], 2.0)], &[1, 3], 1e6, 0.0).expect("one axis");
        assert_eq!(found[0], None);
        let columns = found[1].as_ref().expect("two values");
        assert_eq!(
            (columns.effects.len(), columns.effects[1], columns.lowest, columns.highest),
            (3, None, 0, 2)
        );
        assert_eq!(effects(&[], &[2], 1e6, 0.0), None);
    }

    #[test]
    fn small_differences_are_noise() {
        // 1.5 % apart with an error of 1 % each: ±2.77 %. With 0.1 % it is beyond its own noise, and below a floor of 2 %.
        let pair = |error: f64| {
            [1.0, 1.015]
                .map(|value: f64| value.ln())
                .into_iter()
                .enumerate()
                .map(move |(level, log)| CellResult { levels: vec![level], log, error })
        };
        let matters = |error: f64, floor: f64| {
            let found = effects(&pair(error).collect::<Vec<_>>(), &[2], 1e6, floor).expect("a pair");
            found[0].as_ref().expect("two values").matters
        };
        assert_eq!([matters(0.01, 0.0), matters(0.001, 0.0), matters(0.001, 0.02)], [false, true, false]);
    }
}
