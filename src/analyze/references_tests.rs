//! References: how a file is read, what takes the place of what, and what is held against them.

use super::*;

fn reference(more: &str) -> String {
    format!(
        "schema = 1\n[[reference]]\nrecipe = \"r\"\ngpu = \"h100\"\npoint = \"isl200_osl100_con10\"\n\
         metric = \"ttft_ms.p50\"\nvalue = 100\nsource = \"e_1\"\n{more}"
    )
}

fn parse(text: &str) -> Result<References, String> {
    let document = Document { file: "references.toml".into(), text: text.into() };
    References::parse(&document).map_err(|errors| errors.to_string())
}

fn one(text: &str) -> Reference {
    parse(text).unwrap().references.remove(0)
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let says = |text: &str, words: &str| {
        let told = parse(text).unwrap_err();
        assert!(told.contains(words), "{told}");
    };
    says(&reference("").replace("ttft_ms.p50", "ttft_ms.p51"), "references.toml:6: `reference[1].metric`");
    says(&reference("").replace("ttft_ms.p50", "ttft_ms.p51"), "did you mean `ttft_ms.p");
    says(&reference("").replace("100\nsource", "0\nsource"), "`reference[1].value`: found 0");
    says(&reference("lower = 101\n"), "a number from `lower` to `upper`");
    says(&reference("tolerance = \"5\"\n"), "a percentage above 0");
    says(&reference("").replace("schema = 1", "schema = 2"), "`schema`: found 2");
    says(&reference("colour = 1\n"), "colour");
    assert_eq!(one(&reference("")).tolerance, "5%");
}

#[test]
fn a_new_value_keeps_what_a_person_wrote_beside_the_old_one() {
    let mut known =
        parse(&reference("tolerance = \"2%\"\nlower = 90\nupper = 110\nnote = \"cool\"\n")).unwrap();
    let value = |value: f64| Reference { value, source: "e_2".into(), ..one(&reference("")) };
    known.accept(vec![value(105.0)]);
    let [kept] = &known.references[..] else { panic!("{known:?}") };
    assert_eq!((kept.value, kept.source.as_str(), kept.note.as_deref()), (105.0, "e_2", Some("cool")));
    assert_eq!((kept.tolerance.as_str(), kept.lower, kept.upper), ("2%", Some(90.0), Some(110.0)));
    // Bounds that no longer hold the value go.
    known.accept(vec![value(120.0)]);
    assert_eq!((known.references[0].lower, known.references[0].upper), (None, None));
    known.accept(vec![Reference { gpu: "b200".into(), ..value(7.0) }]);
    assert_eq!(known.references.len(), 2);
    // What is written is what is read.
    assert_eq!(parse(&toml::to_string(&known).unwrap()), Ok(known));
}

#[test]
fn bounds_stand_in_for_the_tolerance() {
    let of = |text: &str| one(text).figure(1, 5.0).bounds;
    assert_eq!(of(&reference("")), None);
    assert_eq!(of(&reference("upper = 110\n")), Some((f64::NEG_INFINITY, 110.0)));
    assert_eq!(of(&reference("lower = 90\nupper = 110\n")), Some((90.0, 110.0)));
}
