//! Turns the messages of a chat into a sample: the user's messages and their answers.

use super::{Message, Role, Sample, Turn};

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
    let (mut system, mut turns, mut cut) = (None, Vec::<(String, Option<String>)>::new(), 0);
    let mut messages = messages.into_iter();
    for (speaker, text) in messages.by_ref() {
        match speaker {
            Speaker::System if turns.is_empty() => join(&mut system, text),
            Speaker::System => cut += 1,
            Speaker::User if text.trim().is_empty() => break,
            Speaker::User => match turns.last_mut() {
                Some((user, None)) => {
                    user.push_str("\n\n");
                    user.push_str(&text);
                }
                _ => turns.push((text, None)),
            },
            Speaker::Assistant => join(&mut turns.last_mut()?.1, text),
            Speaker::Other => {
                cut += 1;
                break;
            }
        }
    }
    cut += messages.filter(|(_, text)| !text.trim().is_empty()).count();
    let is_blank = |text: &mut String| text.trim().is_empty();
    system.take_if(is_blank);
    let turns = turns.into_iter().map(|(user, mut answer)| {
        answer.take_if(is_blank);
        Turn::plain(user, answer)
    });
    let mut turns: Vec<Turn> = turns.collect();
    if let Some(system) = system {
        turns.first_mut()?.said.insert(0, Message::new(Role::System, system));
    }
    (!turns.is_empty()).then(|| Sample { turns, cut, ..Sample::default() })
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
        let turns = of(messages).unwrap().turns;
        let user = |turn: &Turn| turn.said.last().unwrap().text().into_owned();
        turns.iter().map(|turn| (user(turn), turn.answer_text())).collect()
    }

    fn turn(user: &str, answer: Option<&str>) -> (String, Option<String>) {
        (user.to_owned(), answer.map(str::to_owned))
    }

    #[test]
    fn speakers_become_turns() {
        let messages =
            [(System, "s"), (System, "t"), (User, "a"), (Assistant, "b"), (System, "u"), (User, "c")];
        let sample = of(&messages).unwrap();
        assert_eq!((sample.turns[0].said[0].clone(), sample.cut), (Message::new(Role::System, "s\n\nt"), 1));
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
