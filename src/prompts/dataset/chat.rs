//! Turns the messages of a chat into a sample: the user's messages and their answers.

use super::{Sample, Turn};

/// The author of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    System,
    User,
    Assistant,
    /// A tool, or any other author whose text a plain request cannot repeat.
    Other,
}

/// The sample of a conversation; `None` when it does not begin with the words of a user.
///
/// System messages before the first turn are joined, later ones are left out. Several messages of one speaker in a row
/// are joined by a blank line. An empty message of the user, or one of [`Speaker::Other`], ends the conversation.
pub(super) fn sample(messages: impl IntoIterator<Item = (Speaker, String)>) -> Option<Sample> {
    let mut sample = Sample::default();
    for (speaker, text) in messages {
        match speaker {
            Speaker::System if sample.turns.is_empty() => join(&mut sample.system, text),
            Speaker::System => {}
            Speaker::User if text.trim().is_empty() => break,
            Speaker::User => match sample.turns.last_mut() {
                Some(Turn { user, answer: None }) => {
                    user.push_str("\n\n");
                    user.push_str(&text);
                }
                _ => sample.turns.push(Turn { user: text, answer: None }),
            },
            Speaker::Assistant => join(&mut sample.turns.last_mut()?.answer, text),
            Speaker::Other => break,
        }
    }
    for turn in &mut sample.turns {
        turn.answer.take_if(|answer| answer.trim().is_empty());
    }
    sample.system.take_if(|system| system.trim().is_empty());
    (!sample.turns.is_empty()).then_some(sample)
}

/// Appends `text`, behind a blank line.
fn join(whole: &mut Option<String>, text: String) {
    match whole {
        Some(whole) if !whole.is_empty() => {
            whole.push_str("\n\n");
            whole.push_str(&text);
        }
        _ => *whole = Some(text),
    }
}

#[cfg(test)]
mod tests {
    use super::Speaker::{Assistant, Other, System, User};
    use super::*;

    fn of(messages: &[(Speaker, &str)]) -> Option<Sample> {
        sample(messages.iter().map(|(speaker, text)| (*speaker, (*text).to_owned())))
    }

    fn turns(messages: &[(Speaker, &str)]) -> Vec<(String, Option<String>)> {
        of(messages).unwrap().turns.into_iter().map(|turn| (turn.user, turn.answer)).collect()
    }

    fn turn(user: &str, answer: Option<&str>) -> (String, Option<String>) {
        (user.to_owned(), answer.map(str::to_owned))
    }

    #[test]
    fn speakers_become_turns() {
        let messages =
            [(System, "s"), (System, "t"), (User, "a"), (Assistant, "b"), (System, "u"), (User, "c")];
        assert_eq!(of(&messages).unwrap().system.as_deref(), Some("s\n\nt"));
        assert_eq!(turns(&messages), [turn("a", Some("b")), turn("c", None)]);
    }

    #[test]
    fn several_messages_in_a_row_are_joined() {
        let messages = [(User, "a"), (User, "b"), (Assistant, "c"), (Assistant, "d")];
        assert_eq!(turns(&messages), [turn("a\n\nb", Some("c\n\nd"))]);
    }

    #[test]
    fn an_empty_answer_keeps_its_place_and_is_none() {
        assert_eq!(turns(&[(User, "a"), (Assistant, ""), (User, "b")]), [turn("a", None), turn("b", None)]);
    }

    #[test]
    fn a_tool_or_an_empty_message_of_the_user_ends_it() {
        let answered = [turn("a", Some("b"))];
        assert_eq!(turns(&[(User, "a"), (Assistant, "b"), (Other, "x"), (User, "c")]), answered);
        assert_eq!(turns(&[(User, "a"), (Assistant, "b"), (User, " \n"), (User, "c")]), answered);
    }

    #[test]
    fn a_conversation_that_the_user_does_not_begin_is_none() {
        for messages in
            [&[][..], &[(Assistant, "a"), (User, "b")], &[(System, "a")], &[(User, " ")], &[(Other, "a")]]
        {
            assert_eq!(of(messages), None, "{messages:?}");
        }
    }
}
