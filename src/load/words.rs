//! Counts words across the borders of chunks: `"hel"`, `"lo wor"`, `"ld"` are two.

/// What a piece of text adds to the words before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Words {
    /// Words that begin behind the first character.
    later: u64,
    /// The first character belongs to a word, and so does the last.
    edges: (bool, bool),
    /// A control character is in it.
    pub(crate) has_control: bool,
}

/// The highest bit of each of eight bytes.
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The highest bits of the bytes of `eight`, which are ASCII, that are below `limit`.
const fn below(eight: u64, limit: u8) -> u64 {
    !(eight + u64::from_ne_bytes([0x80 - limit; 8])) & HIGH
}

impl Words {
    /// Those of `text`; `None` when it is empty or not UTF-8. Eight bytes at a time: each byte alone costs four times as much.
    pub(crate) fn of(text: &[u8]) -> Option<Self> {
        if !text.is_ascii() {
            return Self::of_unicode(std::str::from_utf8(text).ok()?);
        }
        // The spaces of `char::is_whitespace`.
        let is_space = |byte: &u8| matches!(byte, b' ' | 9..14);
        let edges = (!is_space(text.first()?), !is_space(text.last()?));
        let (mut later, mut control, mut carried) = (0, 0, 0);
        let (whole, rest) = text.as_chunks();
        let mut last = [b' '; 8];
        last.get_mut(..rest.len())?.copy_from_slice(rest);
        for eight in whole.iter().chain([&last]) {
            let eight = u64::from_le_bytes(*eight);
            let printed_spaces = below(eight, b' ' + 1) & !below(eight, b' ');
            let spaces = printed_spaces | (below(eight, 14) & !below(eight, 9));
            let begun = !spaces & HIGH & (spaces << 8 | carried);
            carried = spaces >> 56;
            control |= below(eight, b' ');
            later += u64::from(begun.count_ones());
        }
        Some(Self { later, edges, has_control: control != 0 })
    }

    fn of_unicode(text: &str) -> Option<Self> {
        let is_word = |c: char| !c.is_whitespace();
        let edges = (text.starts_with(is_word), text.ends_with(is_word));
        let later = text.split_whitespace().count() as u64 - u64::from(edges.0);
        Some(Self { later, edges, has_control: text.bytes().any(|byte| byte < b' ') })
    }

    /// The words that begin in the text when it follows another that ends `inside` a word or not; notes whether it does itself.
    pub(crate) fn after(self, inside: &mut bool) -> u64 {
        let (begins, ends) = self.edges;
        let was_inside = std::mem::replace(inside, ends);
        self.later + u64::from(begins && !was_inside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_count_as_the_whole(pieces in prop::collection::vec(prop_oneof!["[a-c \\t\\n\u{b}é\u{2003}🙂]{0,6}", "[a-b \\n\u{8}\u{e}!~]{0,40}"], 0..8)) {
            let whole: String = pieces.concat();
            let mut inside = false;
            let counted = pieces.iter().filter_map(|piece| Words::of(piece.as_bytes()));
            let counted: u64 = counted.map(|words| words.after(&mut inside)).sum();
            prop_assert_eq!(counted, whole.split_whitespace().count() as u64);
            if let Some(words) = Words::of(whole.as_bytes()) {
                prop_assert_eq!(words.has_control, whole.contains(|c: char| c < ' '));
            }
        }
    }
}
