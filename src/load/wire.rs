//! Reads the JSON of servers leniently, level by level: what has another type than expected is no error but `None`, and halves
//! of surrogate pairs are kept until their other half comes.
//!
//! Pure. Values are borrowed slices of JSON text; `null` counts as absent.

use std::borrow::Cow;
use std::fmt::Formatter;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

type Result<T> = std::result::Result<T, serde_json::Error>;

/// Longest list that is accepted. `{},` is three bytes and what is made of it some hundred: without a limit a long event would
/// fill memory.
pub(crate) const MAX_ITEMS: usize = 1024;

/// Shows `see` each field of an object but those that are `null`.
pub(crate) fn fields<'a>(object: &'a str, see: impl FnMut(&str, &'a str) -> Result<()>) -> Result<()> {
    struct Fields<F>(F);
    impl<'de, F: FnMut(&str, &'de str) -> Result<()>> Visitor<'de> for Fields<F> {
        type Value = ();

        fn expecting(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> std::result::Result<(), A::Error> {
            /// (serde borrows a `Cow` in a field only.)
            #[derive(Deserialize)]
            struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
            while let Some((Key(key), value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                if value.get() != "null" {
                    (self.0)(&key, value.get()).map_err(A::Error::custom)?;
                }
            }
            Ok(())
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(object);
    deserializer.deserialize_map(Fields(see))?;
    deserializer.end()
}

/// Shows `see` each item of a list but those that are `null`. An object stands for a list of itself.
pub(crate) fn items<'a>(list: &'a str, mut see: impl FnMut(&'a str) -> Result<()>) -> Result<()> {
    struct Items<F>(F);
    impl<'de, F: FnMut(&'de str) -> Result<()>> Visitor<'de> for Items<F> {
        type Value = ();

        fn expecting(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> std::result::Result<(), A::Error> {
            let mut count = 0;
            while let Some(item) = seq.next_element::<&'de RawValue>()? {
                count += 1;
                if count > MAX_ITEMS {
                    return Err(A::Error::invalid_length(count, &"a list of at most 1024"));
                }
                if item.get() != "null" {
                    (self.0)(item.get()).map_err(A::Error::custom)?;
                }
            }
            Ok(())
        }
    }
    match list.starts_with('{') {
        true => see(list),
        false => serde_json::Deserializer::from_str(list).deserialize_seq(Items(see)),
    }
}

/// A count that may be written as a float or as text; none below zero.
pub(crate) fn number(value: &str) -> Option<u64> {
    let written = value.trim_matches('"').trim();
    // `as` saturates.
    let float =
        || written.parse::<f64>().ok().filter(|number| *number >= 0.0).map(|number| number.round() as u64);
    written.parse().ok().or_else(float)
}

/// The text of a string, as UTF-8 in which half a surrogate pair may stand (WTF-8); borrowed when it has no escapes.
pub(crate) fn text(value: &str) -> Option<Cow<'_, [u8]>> {
    struct Text;
    impl Visitor<'_> for Text {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
            f.write_str("text")
        }

        fn visit_bytes<E>(self, bytes: &[u8]) -> std::result::Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }
    }
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner.as_bytes()));
    }
    // As bytes, not as a string, of which half a pair cannot be a part.
    serde_json::Deserializer::from_str(value).deserialize_bytes(Text).ok().map(Cow::Owned)
}

/// A text to be shown.
pub(crate) fn words(value: &str) -> Option<String> {
    text(value).map(|text| String::from_utf8_lossy(&text).into_owned())
}

/// Whether a value has text in it that is not empty, at whatever depth but for `depth` levels.
pub(crate) fn has_text(value: &str, depth: u8) -> bool {
    let mut found = false;
    let mut look = |value: &str| {
        found |= depth > 0 && has_text(value, depth - 1);
        Ok(())
    };
    // What cannot be read holds nothing.
    let _ = match value.as_bytes().first() {
        Some(b'"') => return value.len() > 2,
        Some(b'[') => items(value, look),
        Some(b'{') => fields(value, |_, value| look(value)),
        _ => Ok(()),
    };
    found
}

/// The first half of a surrogate pair at the end of a text, until the next text of its kind begins with the other half.
#[derive(Debug)]
pub(crate) struct Half<K>(Option<(K, [u8; 3])>);

impl<K> Default for Half<K> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K: PartialEq> Half<K> {
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// `text`, which is WTF-8, as UTF-8: behind the half before it, and without one at its own end, which is kept. Halves that
    /// have no other become U+FFFD.
    pub(crate) fn join(&mut self, kind: K, text: &[u8]) -> Vec<u8> {
        let before = self.0.take().filter(|(of, _)| *of == kind);
        let whole = [before.as_ref().map_or(&[][..], |(_, half)| half), text].concat();
        let (mut joined, mut rest) = (Vec::with_capacity(whole.len()), whole.as_slice());
        while let Some((at, half)) = next_half(rest) {
            joined.extend_from_slice(rest.get(..at).unwrap_or_default());
            rest = rest.get(at + 3..).unwrap_or_default();
            let first = unit(half);
            if rest.is_empty() && first < 0xDC00 {
                self.0 = Some((kind, half));
                return joined;
            }
            let second = next_half(rest).filter(|(at, _)| *at == 0).map(|(_, half)| unit(half));
            let pair = second.and_then(|second| char::decode_utf16([first, second]).next()?.ok());
            if pair.is_some() {
                rest = rest.get(3..).unwrap_or_default();
            }
            let letter = pair.unwrap_or(char::REPLACEMENT_CHARACTER);
            joined.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
        }
        joined.extend_from_slice(rest);
        joined
    }
}

/// The first half of a pair in WTF-8, and where it is: no other character begins with `ED` and a byte from `A0` on.
fn next_half(text: &[u8]) -> Option<(usize, [u8; 3])> {
    let halves = text.array_windows::<3>().enumerate();
    halves.into_iter().find(|(_, three)| three[0] == 0xED && three[1] >= 0xA0).map(|(at, three)| (at, *three))
}

fn unit([_, high, low]: [u8; 3]) -> u16 {
    0xD000 | u16::from(high & 0x3F) << 6 | u16::from(low & 0x3F)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_floats_and_text() {
        for (value, expected) in [
            ("7", Some(7)),
            ("7.0", Some(7)),
            ("6.6", Some(7)),
            ("1e3", Some(1000)),
            (r#""7""#, Some(7)),
            (r#"" 7.0 ""#, Some(7)),
            ("18446744073709551615", Some(u64::MAX)),
            ("1e99", Some(u64::MAX)),
            ("-1", None),
            (r#""seven""#, None),
            (r#""NaN""#, None),
            ("true", None),
            ("[7]", None),
            ("{}", None),
        ] {
            assert_eq!(number(value), expected, "{value}");
        }
    }

    #[test]
    fn halves_of_a_pair_find_each_other() {
        let joined = |texts: &[(u8, &str)]| {
            let mut half = Half::default();
            let pieces = texts.iter().map(|(kind, value)| half.join(*kind, &text(value).unwrap()));
            String::from_utf8(pieces.collect::<Vec<_>>().concat()).unwrap()
        };
        let (high, low) = (r#""\ud83d""#, r#""\ude42""#);
        for (texts, expected) in [
            (&[(0, high), (0, low)][..], "🙂"),
            (&[(0, r#""a\ud83d""#), (0, r#""\ude42b""#)], "a🙂b"),
            (&[(0, r#""\ud83d\ude42\n""#)], "🙂\n"),
            (&[(0, high), (0, r#""x""#)], "\u{fffd}x"),
            (&[(0, high), (1, low)], "\u{fffd}"),
            (&[(0, high), (0, high), (0, low)], "\u{fffd}🙂"),
            (&[(0, low), (0, r#""é\ude42x\ud83dy""#)], "\u{fffd}é\u{fffd}x\u{fffd}y"),
            (&[(0, high)], ""),
        ] {
            assert_eq!(joined(texts), expected, "{texts:?}");
        }
    }
}
