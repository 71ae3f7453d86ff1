//! The scanner against a plain reading of the same document by `serde_json`, and what it does with documents that no other reader would hold.

use std::fmt;
use std::sync::Arc;

use proptest::prelude::*;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::meter::amount::{Amount, Factor};
use crate::meter::path::Path;
use crate::meter::plan::{Measure, Plan};
use crate::meter::scanner::Scanner;

/// A document as `serde_json` reads it, with every key in its order.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    Null,
    Bool,
    /// A whole number, or one with decimals and few enough digits to be exact.
    Number(String),
    Text(String),
    Array(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TreeVisitor;
        impl<'de> Visitor<'de> for TreeVisitor {
            type Value = Tree;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
                Ok(Tree::Bool)
            }
            fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
                Ok(Tree::Number(value.to_string()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Number(value.to_string()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
                Ok(Tree::Number(value.to_string()))
            }
            fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
                Ok(Tree::Text(value.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Tree::Array(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
                let mut list = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    list.push(entry);
                }
                Ok(Tree::Object(list))
            }
        }
        deserializer.deserialize_any(TreeVisitor)
    }
}

impl Tree {
    /// True where a number has a point: many-digit ones are not exact here.
    pub(super) fn has_decimals(&self) -> bool {
        match self {
            Self::Number(text) => text.contains(['.', 'e']) || text.len() > 18,
            Self::Array(list) => list.iter().any(Self::has_decimals),
            Self::Object(list) => list.iter().any(|(_, value)| value.has_decimals()),
            _ => false,
        }
    }

    fn find(&self, keys: &[String], measure: Measure) -> Option<Amount> {
        match (self, keys) {
            (Self::Array(list), _) => list.iter().filter_map(|value| value.find(keys, measure)).reduce(Amount::plus),
            (Self::Object(list), [key, below @ ..]) => {
                let is_it = |(name, value): &&(String, Self)| name == key && !matches!(value, Self::Null);
                list.iter().rev().find(is_it).and_then(|(_, value)| value.find(below, measure))
            }
            (Self::Number(text), []) if measure == Measure::Number => Amount::parse(text.as_bytes()),
            (Self::Text(text), []) => match measure {
                Measure::Number => Amount::parse(text.as_bytes()),
                Measure::Bytes => Some(Amount::of(text.len() as u64)),
                Measure::Characters => Some(Amount::of(text.chars().count() as u64)),
            },
            _ => None,
        }
    }

    /// What the rules say of a document: each element of an array that is the document is an event.
    pub(super) fn last(&self, path: &Path, measure: Measure) -> Option<Amount> {
        let found = |value: &Self| value.find(path.keys(), measure).filter(|amount| !amount.is_absurd(Factor::ONE));
        match self {
            Self::Array(list) => list.iter().rev().find_map(found),
            document => found(document),
        }
    }
}

pub(super) fn scanner(paths: &[(Path, Measure)]) -> Scanner {
    let slots: Vec<_> = paths.iter().map(|(path, measure)| (vec![path.clone()], *measure, Factor::ONE)).collect();
    Scanner::new(Arc::new(Plan::new(&slots, &[])))
}

/// Writes a document in one of the many ways it can be: `style` decides on spaces, escapes and the forms of numbers.
fn write(tree: &Tree, style: &mut impl FnMut(usize) -> usize, out: &mut String) {
    let space =
        |style: &mut dyn FnMut(usize) -> usize, out: &mut String| out.push_str(["", "", "", " ", "\n\t", "\r\n"][style(6)]);
    space(style, out);
    match tree {
        Tree::Null => out.push_str("null"),
        Tree::Bool => out.push_str(["true", "false"][style(2)]),
        Tree::Number(text) => out.push_str(text),
        Tree::Text(text) => write_text(text, style, out),
        Tree::Array(list) => {
            out.push('[');
            for (place, value) in list.iter().enumerate() {
                out.push_str(if place == 0 { "" } else { "," });
                write(value, style, out);
            }
            out.push(']');
        }
        Tree::Object(list) => {
            out.push('{');
            for (place, (key, value)) in list.iter().enumerate() {
                out.push_str(if place == 0 { "" } else { "," });
                space(style, out);
                write_text(key, style, out);
                space(style, out);
                out.push(':');
                write(value, style, out);
            }
            out.push('}');
        }
    }
    space(style, out);
}

fn write_text(text: &str, style: &mut impl FnMut(usize) -> usize, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        let escaped = |out: &mut String| {
            letter.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        };
        match letter {
            '\n' => out.push_str("\\n"),
            '"' | '\\' | '/' if style(2) == 0 => out.extend(['\\', letter]),
            '"' | '\\' => escaped(out),
            _ if letter.is_control() || style(8) == 0 => escaped(out),
            _ => out.push(letter),
        }
    }
    out.push('"');
}

fn keys() -> impl Strategy<Value = String> {
    prop_oneof![4 => prop_oneof!["a", "b", "usage", "é😀"], 1 => "[a-c\"\\\\{}:,\u{e9}\u{1f600}]{0,20}"]
}

fn trees() -> impl Strategy<Value = Tree> {
    let numbers = prop_oneof![
        (-20_i64..1_000_000).prop_map(|number| number.to_string()),
        (0_u32..1_000_000, 0_usize..4).prop_map(|(number, zeros)| format!(
            "{}.{:02}{}",
            number / 100,
            number % 100,
            "0".repeat(zeros)
        )),
        (0_u32..1000, -3_i32..14).prop_map(|(number, exponent)| format!("{number}e{exponent}")),
        (0_u32..1000, 0_u32..14).prop_map(|(number, exponent)| format!("{number}E+{exponent}")),
    ];
    let leaves = prop_oneof![
        1 => Just(Tree::Null),
        1 => Just(Tree::Bool),
        6 => numbers.clone().prop_map(Tree::Number),
        2 => numbers.prop_map(Tree::Text),
        2 => "[a-z\"\\\\\n\\[\\]{}:,/\u{e9}\u{4f60}\u{1f600}]{0,40}".prop_map(Tree::Text),
    ];
    leaves.prop_recursive(6, 60, 6, |below| {
        prop_oneof![
            1 => prop::collection::vec(below.clone(), 0..5).prop_map(Tree::Array),
            3 => prop::collection::vec((keys(), below), 0..6).prop_map(Tree::Object),
        ]
    })
}

fn paths() -> impl Strategy<Value = Vec<(Path, Measure)>> {
    let keys = prop::collection::vec(prop_oneof!["a", "b", "usage", "é😀"], 1..4);
    let measures = prop_oneof![3 => Just(Measure::Number), 1 => Just(Measure::Bytes), 1 => Just(Measure::Characters)];
    prop::collection::vec((keys.prop_map(|keys| Path::parse(&keys.join(".")).unwrap()), measures), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_document_is_read_as_serde_json_reads_it_however_it_is_written_and_cut(
        tree in trees(),
        paths in paths(),
        style in prop::collection::vec(0_usize..1000, 50),
        sizes in prop::collection::vec(1_usize..40, 1..20),
    ) {
        let mut choices = style.iter().cycle();
        let mut text = String::new();
        write(&tree, &mut |of| choices.next().unwrap() % of, &mut text);
        let parsed: Tree = serde_json::from_str(&text).unwrap();
        let mut scanner = scanner(&paths);
        let (mut rest, mut sizes) = (text.as_bytes(), sizes.iter().cycle());
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            scanner.feed(chunk);
            rest = after;
        }
        // A number or a word that is the document ends with what follows it.
        scanner.feed(b"\n");
        prop_assert!(scanner.is_between_documents(), "{text}");
        for ((path, measure), value) in paths.iter().zip(scanner.values()) {
            prop_assert_eq!(*value, parsed.last(path, *measure), "{:?} {:?} in {}", path, measure, &text);
        }
    }
}

fn number(text: &str) -> Option<Amount> {
    Amount::parse(text.as_bytes())
}

/// What is found at `path` in a text.
fn found(path: &str, text: &str) -> Option<Amount> {
    let mut scanner = scanner(&[(Path::parse(path).unwrap(), Measure::Number)]);
    scanner.feed(text.as_bytes());
    scanner.values()[0]
}

#[test]
fn of_a_key_that_comes_twice_the_last_one_counts_and_null_never_does() {
    for (text, expected) in [
        (r#"{"a":{"b":1},"a":{"b":2}}"#, Some("2")),
        (r#"{"a":{"b":1,"b":2}}"#, Some("2")),
        (r#"{"a":{"b":1},"a":{}}"#, None),
        (r#"{"a":{"b":1},"a":null}"#, Some("1")),
        (r#"{"a":{"b":1,"b":null}}"#, Some("1")),
        (r#"{"a":{"b":1,"b":-1}}"#, None),
        (r#"{"a":[{"b":1},{"b":2,"b":3}],"\u0061":[{"b":4},{"\u0062":5}]}"#, Some("9")),
        (r#"{"a":[{"b":1},{"b":2}],"a":null}"#, Some("3")),
    ] {
        assert_eq!(found("a.b", text), expected.and_then(number), "{text}");
    }
}

#[test]
fn nesting_of_any_depth_is_passed_over_and_what_follows_is_found() {
    for (open, close) in [("[", "]"), ("{\"b\":", "}"), ("[{\"a\":", "}]")] {
        let deep = format!("{}1{}", open.repeat(200_000), close.repeat(200_000));
        let text = format!("{{\"x\":{deep},\"a\":{{\"b\":7,\"x\":{deep}}},\"y\":{deep}}}");
        assert_eq!(found("a.b", &text), number("7"), "{open}");
    }
    // Where values may stand, arrays count as deep as eight of them.
    let nested = |depth: usize| format!("{{\"a\":{}{{\"b\":7}}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(found("a.b", &nested(8)), number("7"));
    assert_eq!(found("a.b", &nested(9)), None);
    assert_eq!(found("a.b", &format!("{}{}", nested(100_000), r#"{"a":{"b":8}}"#)), number("8"));
}

#[test]
fn memory_does_not_grow_with_what_is_read() {
    let mut scanner = scanner(&[(Path::parse("a.b").unwrap(), Measure::Number)]);
    let document = |size: usize| {
        let long = "x\\n".repeat(size);
        let deep = "[".repeat(size) + &"]".repeat(size);
        let wide = "{\"b\":1,\"c\":[1,2]},".repeat(size);
        format!("{{\"{long}\":\"{long}\",\"x\":{deep},\"a\":[{wide}{{\"b\":\"{long}\"}}],\"n\":{}}}", "1".repeat(size))
    };
    scanner.feed(document(1).as_bytes());
    let before = scanner.footprint();
    for chunk in document(100_000).as_bytes().chunks(1000) {
        scanner.feed(chunk);
    }
    assert_eq!(scanner.footprint(), before);
    assert_eq!(scanner.values()[0], number("100000"));
}

#[test]
fn after_a_violation_nothing_more_is_read_and_what_was_found_can_be_counted() {
    for text in [
        r#"{"a":{"b":1}"#,
        r#"{"a":{"b":1},}"#,
        r#"{"a":{"b":1} "a":{"b":2}}"#,
        r#"{"a":{"b":1}]"#,
        r#"{"a":{"b":1},"a" {"b":2}}"#,
        r#"{"a":{"b":1,,"b":2}}"#,
        r#"{"a":{"b":1,b:2}}"#,
        r#"{"a":{"b":1,"\x":2,"b":3}}"#,
        r#"{"a":{"b":1,"\u00g0":2,"b":3}}"#,
        r#"{"a":[{"b":1},]}"#,
        r#"{"a":[{"b":1}"#,
        r#"{"a":{"b":1,"c":@}}"#,
    ] {
        let mut scanner = scanner(&[(Path::parse("a.b").unwrap(), Measure::Number)]);
        scanner.feed(text.as_bytes());
        assert!(!scanner.is_between_documents(), "{text}");
        assert_eq!(scanner.values()[0], None, "{text}");
        let mut broken_off = scanner.clone();
        broken_off.close();
        assert_eq!(broken_off.values()[0], number("1"), "{text}");
        scanner.end_document();
        scanner.feed(br#"{"a":{"b":5}}"#);
        assert_eq!(scanner.values()[0], number("5"), "{text}");
    }
}

#[test]
fn a_number_that_was_cut_is_not_counted() {
    let mut scanner = scanner(&[(Path::parse("a").unwrap(), Measure::Number)]);
    scanner.feed(br#"{"a":12"#);
    scanner.close();
    assert_eq!(scanner.values()[0], None);
}

#[test]
fn documents_may_follow_each_other() {
    for text in [r#"{"a":1}{"a":2}"#, "{\"a\":1}\n{\"a\":2}\n", "\u{feff}{\"a\":1} 7 {\"a\":2} null ", r#"[{"a":1},{"a":2}]"#] {
        assert_eq!(found("a", text), number("2"), "{text}");
    }
}
