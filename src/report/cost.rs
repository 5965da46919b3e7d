//! What a million tokens cost at each load point, where the site file has the price of a GPU-hour.

use super::columns::KeyColumns;
use super::parts::Part;
use super::table::{Table, maybe};
use super::{PointResult, zones};
use crate::analyze::cost::{Cost, cost};

/// The cost at a load point; `None` without a price or a number of GPUs.
pub fn of(row: &PointResult) -> Option<Cost> {
    cost(&zones::level(row, 0.0), row.price.as_ref()?)
}

/// The part of a report; empty without a price.
pub fn part(rows: &[PointResult]) -> Part {
    let Some(price) = rows.iter().find_map(|row| row.price.as_ref()) else { return Part::default() };
    let keys = KeyColumns::of(rows);
    let mut table = Table::keyed(keys.heads);
    table.head.extend(["output", "total"].map(str::to_owned));
    for (row, mut cells) in rows.iter().zip(keys.cells) {
        let cost = of(row);
        cells.extend([cost.map(|cost| cost.output), cost.and_then(|cost| cost.total)].map(maybe));
        table.push(cells);
    }
    let about = format!(
        "{} for a million tokens, at {price} for a GPU-hour; start-up and idle time are not in it.",
        price.currency
    );
    Part::table("Cost", Some(table), &about)
}
