//! JSON as filters see it: one value of a text by its path, told apart from one that is not there.
//!
//! The whole text is read each time, so that a filter never trusts half a document: what does not parse is an error
//! wherever it is, and of a name that stands twice the last one counts. Only what the path names is kept. Whole
//! numbers of 64 bits are exact, larger ones become decimals. The interpreter and lowered filters both read here.

use crate::dsl::failure::Failure;
use rhai::{Array, Dynamic, ImmutableString, Map};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Name(String),
    Index(usize),
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq)]
pub enum Found<'a> {
    Absent,
    Null,
    Flag(bool),
    Number(i64),
    Decimal(f64),
    Text(Cow<'a, str>),
    /// A list or an object.
    Many,
}

/// Reads `$.amount`, `$.items[0].sku`, `$["a b"]`.
pub fn parse_path(text: &str) -> Result<Vec<Step>, String> {
    let wrong = |why: &str| {
        format!("{text:?} is no path: {why}; for example $.amount, $.items[0].sku, $[\"a b\"]")
    };
    let mut rest = text
        .strip_prefix('$')
        .ok_or_else(|| wrong("it begins with `$`"))?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(named) = rest.strip_prefix('.') {
            let end = named.find(['.', '[']).unwrap_or(named.len());
            if end == 0 {
                return Err(wrong("a name follows a dot"));
            }
            steps.push(Step::Name(named[..end].to_string()));
            rest = &named[end..];
            continue;
        }
        let Some(inside) = rest.strip_prefix('[') else {
            return Err(wrong("a dot or a bracket follows"));
        };
        if let Some(quote) = inside.chars().next().filter(|c| matches!(c, '"' | '\'')) {
            let named = &inside[1..];
            let end = named
                .find(quote)
                .ok_or_else(|| wrong("a quote is not closed"))?;
            steps.push(Step::Name(named[..end].to_string()));
            rest = named[end + 1..]
                .strip_prefix(']')
                .ok_or_else(|| wrong("a bracket is not closed"))?;
        } else {
            let end = inside
                .find(']')
                .ok_or_else(|| wrong("a bracket is not closed"))?;
            let index = inside[..end]
                .parse()
                .map_err(|_| wrong("between brackets stands a number from 0, or a quoted name"))?;
            steps.push(Step::Index(index));
            rest = &inside[end + 1..];
        }
    }
    Ok(steps)
}

/// What the path leads to, without making more of it than needed.
pub fn find<'a>(text: &'a str, path: &[Step]) -> serde_json::Result<Found<'a>> {
    let found = read(text, At::<Found<'a>>::further(path))?;
    Ok(found.unwrap_or(Found::Absent))
}

/// The value at the path as scripts have it; `None` if there is none.
pub fn value(text: &str, path: &[Step]) -> serde_json::Result<Option<Dynamic>> {
    read(text, At::<Dynamic>::further(path))
}

fn read<'a, S: DeserializeSeed<'a>>(text: &'a str, seed: S) -> serde_json::Result<S::Value> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = seed.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// What is made of the value that a path leads to.
trait Leaf<'a>: Sized {
    fn null() -> Self;
    fn flag(value: bool) -> Self;
    fn number(value: i64) -> Self;
    fn decimal(value: f64) -> Self;
    fn text(value: Cow<'a, str>) -> Self;
    fn list<A: SeqAccess<'a>>(members: A) -> Result<Self, A::Error>;
    fn object<A: MapAccess<'a>>(members: A) -> Result<Self, A::Error>;
}

impl<'a> Leaf<'a> for Found<'a> {
    fn null() -> Self {
        Found::Null
    }
    fn flag(value: bool) -> Self {
        Found::Flag(value)
    }
    fn number(value: i64) -> Self {
        Found::Number(value)
    }
    fn decimal(value: f64) -> Self {
        Found::Decimal(value)
    }
    fn text(value: Cow<'a, str>) -> Self {
        Found::Text(value)
    }
    fn list<A: SeqAccess<'a>>(mut members: A) -> Result<Self, A::Error> {
        while members.next_element_seed(Checked)?.is_some() {}
        Ok(Found::Many)
    }
    fn object<A: MapAccess<'a>>(mut members: A) -> Result<Self, A::Error> {
        while members.next_key_seed(Checked)?.is_some() {
            members.next_value_seed(Checked)?;
        }
        Ok(Found::Many)
    }
}

impl<'a> Leaf<'a> for Dynamic {
    fn null() -> Self {
        Dynamic::UNIT
    }
    fn flag(value: bool) -> Self {
        value.into()
    }
    fn number(value: i64) -> Self {
        value.into()
    }
    fn decimal(value: f64) -> Self {
        value.into()
    }
    fn text(value: Cow<'a, str>) -> Self {
        ImmutableString::from(value.as_ref()).into()
    }
    fn list<A: SeqAccess<'a>>(mut members: A) -> Result<Self, A::Error> {
        let mut list = Array::new();
        while let Some(member) = members.next_element_seed(WHOLE)? {
            list.push(member.unwrap_or(Dynamic::UNIT));
        }
        Ok(list.into())
    }
    fn object<A: MapAccess<'a>>(mut members: A) -> Result<Self, A::Error> {
        let mut map = Map::new();
        while let Some(name) = members.next_key::<Cow<'_, str>>()? {
            let member = members.next_value_seed(WHOLE)?;
            map.insert(name.as_ref().into(), member.unwrap_or(Dynamic::UNIT));
        }
        Ok(map.into())
    }
}

const WHOLE: At<'static, Dynamic> = At {
    path: &[],
    leaf: std::marker::PhantomData,
};

/// Follows a path; `None` where it leads nowhere.
struct At<'p, L> {
    path: &'p [Step],
    leaf: std::marker::PhantomData<L>,
}

impl<'p, L> At<'p, L> {
    fn further(path: &'p [Step]) -> Self {
        Self {
            path,
            leaf: std::marker::PhantomData,
        }
    }

    /// A value without members: the path's end, or its dead end.
    fn end(&self, leaf: impl FnOnce() -> L) -> Option<L> {
        self.path.is_empty().then(leaf)
    }
}

impl<'a, L: Leaf<'a>> DeserializeSeed<'a> for At<'_, L> {
    type Value = Option<L>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Option<L>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a, L: Leaf<'a>> Visitor<'a> for At<'_, L> {
    type Value = Option<L>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Option<L>, E> {
        Ok(self.end(L::null))
    }
    fn visit_bool<E>(self, value: bool) -> Result<Option<L>, E> {
        Ok(self.end(|| L::flag(value)))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Option<L>, E> {
        Ok(self.end(|| L::number(value)))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Option<L>, E> {
        Ok(self.end(|| match i64::try_from(value) {
            Ok(value) => L::number(value),
            Err(_) => L::decimal(value as f64),
        }))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Option<L>, E> {
        Ok(self.end(|| L::decimal(value)))
    }
    fn visit_str<E>(self, value: &str) -> Result<Option<L>, E> {
        Ok(self.end(|| L::text(Cow::Owned(value.to_string()))))
    }
    fn visit_borrowed_str<E>(self, value: &'a str) -> Result<Option<L>, E> {
        Ok(self.end(|| L::text(Cow::Borrowed(value))))
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut members: A) -> Result<Option<L>, A::Error> {
        let Some((step, further)) = self.path.split_first() else {
            return L::list(members).map(Some);
        };
        let mut found = None;
        let mut at = 0;
        loop {
            if *step == Step::Index(at) {
                match members.next_element_seed(Self::further(further))? {
                    Some(value) => found = value,
                    None => break,
                }
            } else if members.next_element_seed(Checked)?.is_none() {
                break;
            }
            at += 1;
        }
        Ok(found)
    }

    fn visit_map<A: MapAccess<'a>>(self, mut members: A) -> Result<Option<L>, A::Error> {
        let Some((step, further)) = self.path.split_first() else {
            return L::object(members).map(Some);
        };
        let wanted = match step {
            Step::Name(name) => Some(name.as_str()),
            Step::Index(_) => None,
        };
        let mut found = None;
        while let Some(is_it) = members.next_key_seed(Name(wanted))? {
            if is_it {
                found = members.next_value_seed(Self::further(further))?;
            } else {
                members.next_value_seed(Checked)?;
            }
        }
        Ok(found)
    }
}

/// Whether a member has the name.
struct Name<'p>(Option<&'p str>);

impl<'a> DeserializeSeed<'a> for Name<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(self.0 == Some(name))
    }
}

/// Reads a value as strictly as one that is kept, and keeps nothing.
struct Checked;

impl<'a> DeserializeSeed<'a> for Checked {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Checked {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut members: A) -> Result<(), A::Error> {
        while members.next_element_seed(Checked)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'a>>(self, mut members: A) -> Result<(), A::Error> {
        while members.next_key_seed(Checked)?.is_some() {
            members.next_value_seed(Checked)?;
        }
        Ok(())
    }
}

/// What texts have themselves: as a property they are not read as JSON.
pub const TEXT_PROPERTIES: [&str; 4] = ["len", "is_empty", "bytes", "chars"];

/// `r.value.amount`: a member of a text's JSON.
pub fn member(text: &str, name: &str) -> Result<Dynamic, Failure> {
    match value(text, &[Step::Name(name.to_string())]) {
        Ok(Some(member)) => Ok(member),
        Ok(None) => Err(
            Failure::script("E0215", format!("the JSON has no `{name}`")).help(format!(
                "ask with r.has(\"$.{name}\"), or say what counts instead: r.json(\"$.{name}\", 0)"
            )),
        ),
        Err(error) => Err(Failure::script(
            "E0214",
            format!(
                "`{name}` of a text reads JSON, and it is {}",
                not_json(&error)
            ),
        )),
    }
}

/// The words of a parse error; the place in the text is part of them.
pub fn not_json(error: &serde_json::Error) -> String {
    format!("not JSON: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<'a>(text: &'a str, path: &str) -> Found<'a> {
        find(text, &parse_path(path).unwrap()).unwrap()
    }

    #[test]
    fn a_path_leads_to_a_value_to_null_or_to_nothing() {
        let text = r#"{"a": {"b": [1, {"c d": "x"}, null]}, "n": null, "f": 2.5, "t": true}"#;
        assert_eq!(at(text, "$.a.b[0]"), Found::Number(1));
        assert_eq!(at(text, "$.a.b[1][\"c d\"]"), Found::Text("x".into()));
        assert_eq!(at(text, "$['a'].b[2]"), Found::Null);
        assert_eq!(at(text, "$.a.b[3]"), Found::Absent);
        assert_eq!(at(text, "$.a[0]"), Found::Absent);
        assert_eq!(at(text, "$.f.x"), Found::Absent);
        assert_eq!(at(text, "$.n"), Found::Null);
        assert_eq!(at(text, "$.f"), Found::Decimal(2.5));
        assert_eq!(at(text, "$.t"), Found::Flag(true));
        assert_eq!(at(text, "$.a"), Found::Many);
        assert_eq!(at("7", "$"), Found::Number(7));
    }

    #[test]
    fn half_a_document_is_never_trusted() {
        for text in [
            r#"{"a": 1"#,
            r#"{"a": 1} x"#,
            r#"{"a": 1, "b": "\ud800"}"#,
            r#"{"a": 1, "b": 01}"#,
            r#"{"a": 1, "b": 1e999}"#,
            "",
        ] {
            assert!(find(text, &[Step::Name("a".into())]).is_err(), "{text}");
            assert!(value(text, &[Step::Name("a".into())]).is_err(), "{text}");
        }
    }

    #[test]
    fn of_a_name_that_stands_twice_the_last_counts() {
        assert_eq!(at(r#"{"a": 1, "a": 2}"#, "$.a"), Found::Number(2));
        assert_eq!(at(r#"{"a": {"b": 1}, "a": 2}"#, "$.a.b"), Found::Absent);
    }

    #[test]
    fn whole_numbers_are_exact_and_larger_ones_are_decimals() {
        assert_eq!(at("9223372036854775807", "$"), Found::Number(i64::MAX));
        assert_eq!(
            at("18446744073709551615", "$"),
            Found::Decimal(18446744073709551615.0)
        );
        assert_eq!(at(r#""a\u00e9\n""#, "$"), Found::Text("aé\n".into()));
    }

    #[test]
    fn a_wrong_path_says_why() {
        for (path, why) in [
            ("amount", "begins with `$`"),
            ("$amount", "a dot or a bracket"),
            ("$.", "a name follows"),
            ("$.a..b", "a name follows"),
            ("$[x]", "a number from 0"),
            ("$[-1]", "a number from 0"),
            ("$[\"a]", "quote is not closed"),
            ("$[1", "bracket is not closed"),
        ] {
            let error = parse_path(path).unwrap_err();
            assert!(error.contains(why), "{path}: {error}");
        }
    }

    #[test]
    fn looking_and_making_lead_to_the_same() {
        let text = r#"{"a": {"b": [1, 2.5, "x", null, true, {"c": []}]}, "a b": 3}"#;
        for path in [
            "$",
            "$.a",
            "$.a.b",
            "$.a.b[0]",
            "$.a.b[1]",
            "$.a.b[2]",
            "$.a.b[3]",
            "$.a.b[4]",
            "$.a.b[5].c",
            "$.x",
            "$[\"a b\"]",
        ] {
            let path = parse_path(path).unwrap();
            let made = value(text, &path).unwrap();
            let same = match find(text, &path).unwrap() {
                Found::Absent => made.is_none(),
                Found::Null => made.is_some_and(|made| made.is_unit()),
                Found::Flag(flag) => made.and_then(|made| made.as_bool().ok()) == Some(flag),
                Found::Number(number) => made.and_then(|made| made.as_int().ok()) == Some(number),
                Found::Decimal(number) => {
                    made.and_then(|made| made.as_float().ok()) == Some(number)
                }
                Found::Text(text) => {
                    made.and_then(|made| made.into_string().ok()) == Some(text.to_string())
                }
                Found::Many => made.is_some_and(|made| made.is_array() || made.is_map()),
            };
            assert!(same, "{path:?}");
        }
    }
}
