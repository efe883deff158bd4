//! A closure as a saved plan keeps it: where in the runbook it stands, and what it captured, with every value's type.
//!
//! Names of anonymous functions differ between processes, so it is found again by its place in the same text.

use super::{Closure, place_of};
use crate::base::TimestampMs;
use crate::dsl::engine;
use crate::dsl::failure::Failure;
use crate::dsl::kind::Kind;
use crate::dsl::messages;
use crate::dsl::source::Source;
use crate::dsl::values::{Duration, Instant, Size};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rhai::{AST, ASTNode, Array, Blob, Dynamic, Expr, FnPtr, Map, Position};
use serde_json::{Value, json};

impl Closure {
    /// What [`Closure::load`] makes it from again, beside the runbook's text.
    pub fn saved(&self) -> Value {
        let captures: Vec<Value> = self.captures.iter().map(|(_, value)| keep(value)).collect();
        json!({
            "line": self.position.line(),
            "column": self.position.position(),
            "name": self.position.is_none().then(|| self.pointer.fn_name()),
            "captures": captures,
            "fingerprint": self.fingerprint(),
        })
    }

    /// The closure that [`Closure::saved`] told of; an error if the text does not have it any more.
    pub fn load(source: &Source, saved: &Value) -> Result<Self, Failure> {
        let gone = || Failure::script("E0440", "a closure of the saved plan is not in its runbook");
        let parser = engine::parser();
        let ast = engine::compile(&parser, &source.text).map_err(|error| {
            let finding = messages::of_parse(source, &error);
            Failure::script(finding.code, finding.message)
        })?;
        let mut pointer = match saved["name"].as_str() {
            Some(name) => FnPtr::new(name).map_err(|_| gone())?,
            None => pointer_at(&ast, saved["line"].as_u64(), saved["column"].as_u64())
                .ok_or_else(gone)?,
        };
        let captures = saved["captures"].as_array().ok_or_else(gone)?;
        let captures: Option<Vec<Dynamic>> = captures.iter().map(made).collect();
        pointer.set_curry(captures.ok_or_else(gone)?);
        let closure = Self::take(source, &ast, &pointer)?;
        match saved["fingerprint"].as_str() == Some(closure.fingerprint().as_str()) {
            true => Ok(closure),
            false => Err(gone()),
        }
    }
}

/// The closure that is written at this place.
fn pointer_at(ast: &AST, line: Option<u64>, column: Option<u64>) -> Option<FnPtr> {
    let number = |of: Option<u64>| of.and_then(|number| u16::try_from(number).ok());
    let wanted = Position::new(number(line)?, number(column)?);
    let mut found = None;
    ast.walk(&mut |path| {
        if let Some(ASTNode::Expr(Expr::DynamicConstant(value, position))) = path.last()
            && *position == wanted
            && let Some(pointer) = value.read_lock::<FnPtr>()
        {
            found = Some(pointer.clone());
        }
        found.is_none()
    });
    let found = found?;
    (place_of(ast, found.fn_name()) == Some(wanted)).then_some(found)
}

/// A frozen value with its type: `Closure::take` lets only these through.
fn keep(value: &Dynamic) -> Value {
    let kind = Kind::of(value);
    let content = match kind {
        Kind::Flag => json!(value.as_bool().unwrap_or_default()),
        Kind::Number => json!(value.as_int().unwrap_or_default()),
        // Exactly, and also what JSON has no number for.
        Kind::Decimal => json!(value.as_float().unwrap_or_default().to_bits()),
        Kind::Character => json!(value.as_char().unwrap_or_default()),
        Kind::Text => json!(value.to_string()),
        Kind::Bytes => json!(
            value
                .as_blob_ref()
                .map(|bytes| STANDARD.encode(bytes.as_slice()))
                .unwrap_or_default()
        ),
        Kind::List => json!(
            value
                .read_lock::<Array>()
                .map(|list| list.iter().map(keep).collect::<Vec<_>>())
                .unwrap_or_default()
        ),
        Kind::Map => json!(
            value
                .read_lock::<Map>()
                .map(|map| {
                    map.iter()
                        .map(|(name, member)| (name.to_string(), keep(member)))
                        .collect::<std::collections::BTreeMap<_, _>>()
                })
                .unwrap_or_default()
        ),
        Kind::Range => range(value),
        Kind::Duration => json!(value.read_lock::<Duration>().map(|duration| duration.0)),
        Kind::Instant => json!(value.read_lock::<Instant>().map(|instant| instant.0.0)),
        Kind::Size => json!(value.read_lock::<Size>().map(|size| size.0)),
        _ => Value::Null,
    };
    json!({ "kind": kind.word(), "value": content })
}

fn range(value: &Dynamic) -> Value {
    if let Some(range) = value.read_lock::<std::ops::Range<i64>>() {
        return json!({ "from": range.start, "to": range.end, "inclusive": false });
    }
    match value.read_lock::<std::ops::RangeInclusive<i64>>() {
        Some(range) => json!({ "from": range.start(), "to": range.end(), "inclusive": true }),
        None => Value::Null,
    }
}

/// The value that [`keep`] kept.
fn made(saved: &Value) -> Option<Dynamic> {
    let value = &saved["value"];
    let kind = saved["kind"].as_str()?;
    let is = |wanted: Kind| kind == wanted.word();
    Some(if is(Kind::Nothing) {
        Dynamic::UNIT
    } else if is(Kind::Flag) {
        value.as_bool()?.into()
    } else if is(Kind::Number) {
        value.as_i64()?.into()
    } else if is(Kind::Decimal) {
        f64::from_bits(value.as_u64()?).into()
    } else if is(Kind::Character) {
        value.as_str()?.chars().next()?.into()
    } else if is(Kind::Text) {
        value.as_str()?.to_string().into()
    } else if is(Kind::Bytes) {
        let bytes: Blob = STANDARD.decode(value.as_str()?).ok()?;
        Dynamic::from_blob(bytes)
    } else if is(Kind::List) {
        let members: Option<Array> = value.as_array()?.iter().map(made).collect();
        members?.into()
    } else if is(Kind::Map) {
        let mut map = Map::new();
        for (name, member) in value.as_object()? {
            map.insert(name.as_str().into(), made(member)?);
        }
        map.into()
    } else if is(Kind::Range) {
        let (from, to) = (value["from"].as_i64()?, value["to"].as_i64()?);
        match value["inclusive"].as_bool()? {
            true => Dynamic::from(from..=to),
            false => Dynamic::from(from..to),
        }
    } else if is(Kind::Duration) {
        Dynamic::from(Duration(value.as_i64()?))
    } else if is(Kind::Instant) {
        Dynamic::from(Instant(TimestampMs(value.as_i64()?)))
    } else if is(Kind::Size) {
        Dynamic::from(Size(value.as_u64()?))
    } else {
        return None;
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The closure in `script`, taken as a verb would take it, with these captures.
    fn taken(source: &Source, captures: Vec<Dynamic>) -> Closure {
        let engine = engine::parser();
        let ast = engine::compile(&engine, &source.text).unwrap();
        let name = ast
            .iter_functions()
            .find(|function| function.name.starts_with("anon$"))
            .unwrap()
            .name
            .to_string();
        let place = place_of(&ast, &name).unwrap();
        let number = |of: Option<usize>| of.map(|number| number as u64);
        let (line, column) = (number(place.line()), number(place.position()));
        let mut pointer = pointer_at(&ast, line, column).unwrap();
        pointer.set_curry(captures);
        Closure::take(source, &ast, &pointer).unwrap()
    }

    #[test]
    fn a_closure_with_every_kind_of_capture_is_the_same_after_a_reload() {
        let source = Source::inline(
            "test.rhai",
            "let a = 1;\nfoo(|r| r.offset > 1 && a.b == a);\n",
        );
        let map: Map = [
            ("bytes".into(), Dynamic::from_blob(vec![0, 255])),
            ("char".into(), 'ü'.into()),
            ("decimal".into(), f64::MIN_POSITIVE.into()),
            ("duration".into(), Dynamic::from(Duration(5))),
            ("flag".into(), true.into()),
            ("instant".into(), Dynamic::from(Instant(TimestampMs(-7)))),
            ("list".into(), vec![Dynamic::UNIT, i64::MIN.into()].into()),
            ("range".into(), Dynamic::from(1_i64..=3)),
            ("size".into(), Dynamic::from(Size(u64::MAX))),
            ("text".into(), "poi\"son".into()),
        ]
        .into_iter()
        .collect();
        let closure = taken(&source, vec![map.into()]);
        let saved: Value = serde_json::from_str(&closure.saved().to_string()).unwrap();
        let again = Closure::load(&source, &saved).unwrap();
        assert_eq!(again.fingerprint(), closure.fingerprint());
        assert_eq!(again.saved(), closure.saved());
    }

    #[test]
    fn a_closure_that_is_no_longer_where_it_was_is_refused() {
        let source = Source::inline("test.rhai", "foo(|r| r.offset > 1);\n");
        let saved = taken(&source, Vec::new()).saved();
        let moved = Source::inline("test.rhai", "\nfoo(|r| r.offset > 1);\n");
        assert_eq!(Closure::load(&moved, &saved).unwrap_err().code, "E0440");
        let changed = Source::inline("test.rhai", "foo(|r| r.offset > 2);\n");
        assert_eq!(Closure::load(&changed, &saved).unwrap_err().code, "E0440");
    }
}
