//! The rows of a load point, in memory that grows without being moved.

use super::row::Row;

/// Rows are kept in blocks of so many: a growing vector would move them and hold up to twice their size.
const BLOCK: usize = 4096;

/// The rows of a load point, in order of ending.
#[derive(Debug, Clone, Default)]
pub struct Rows(Vec<Vec<Row>>);

impl Rows {
    /// Adds one.
    pub(crate) fn push(&mut self, row: Row) {
        match self.0.last_mut() {
            Some(block) if block.len() < BLOCK => block.push(row),
            _ => {
                let mut block = Vec::with_capacity(BLOCK);
                block.push(row);
                self.0.push(block);
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * BLOCK + last.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The row at `position`.
    pub fn get(&self, position: u32) -> Option<&Row> {
        let position = position as usize;
        self.0.get(position / BLOCK)?.get(position % BLOCK)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Row> + Clone + '_ {
        self.0.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fold::Fold;
    use crate::metrics::samples::record;

    #[test]
    fn rows_keep_their_order_over_blocks() {
        let fold = Fold::of(&(0..10_000).map(|id| record(id, id)).collect::<Vec<_>>());
        assert_eq!(fold.rows().len(), 10_000);
        assert!((0..).zip(fold.rows().iter()).all(|(id, row): (u32, _)| row.id == id));
        assert_eq!(fold.rows().get(9_999).map(|row| row.id), Some(9_999));
        assert_eq!(fold.rows().get(10_000), None);
        assert!(Rows::default().is_empty());
    }
}
