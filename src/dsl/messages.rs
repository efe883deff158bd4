//! The engine's errors in kbr's words: code, message, span, hint. No signature of Rhai's reaches a person.

use super::diagnostic::{Finding, ScriptError};
use super::engine::{MAX_CALL_DEPTH, MAX_OPERATIONS};
use super::failure::Failure;
use super::kind::Kind;
use super::source::Source;
use super::table;
use crate::base::text::{counted, did_you_mean};
use crate::run::{ExitClass, Span};
use rhai::{EvalAltResult, LexError, ParseError, ParseErrorType, Position};

/// Words of other languages, of Rhai, and of runbooks people have in mind, with what to write instead.
const INSTEAD: [(&str, &str); 9] = [
    (
        "until",
        "write `before`: it is exclusive and pairs with `since`",
    ),
    (
        "import",
        "imports are not in this version: define the functions in the runbook",
    ),
    ("export", "imports are not in this version"),
    ("eval", "text is never run as script"),
    ("null", "write `()`"),
    ("nil", "write `()`"),
    ("match", "write `switch`"),
    ("var", "write `let`"),
    ("new", "values are made by functions: cluster(\"dr\")"),
];

/// A script that does not parse.
pub fn of_parse(source: &Source, error: &ParseError) -> Finding {
    let span = source.span(error.position());
    let finding = |code, message: String| Finding::error(code, message).at(span);
    match error.err_type() {
        ParseErrorType::Reserved(word) => reserved(
            finding("E0003", format!("`{word}` is a reserved word")),
            word,
        ),
        ParseErrorType::BadInput(LexError::ImproperSymbol(symbol, _))
            if INSTEAD.iter().any(|(word, _)| word == symbol) =>
        {
            reserved(
                finding("E0003", format!("`{symbol}` is not a word of runbooks")),
                symbol,
            )
        }
        ParseErrorType::PropertyExpected | ParseErrorType::VariableExpected => {
            // `.until(` ends here: the tokenizer takes `until` for the loop's keyword.
            let word = word_at(source, error.position());
            let message = match error.err_type() {
                ParseErrorType::PropertyExpected => "a name is missing after the dot",
                _ => "a name is missing here",
            };
            match word {
                Some(word) => reserved(
                    finding("E0003", format!("`{word}` is a reserved word")),
                    &word,
                ),
                None => finding("E0001", message.to_string()),
            }
        }
        ParseErrorType::UnexpectedEOF => finding("E0001", "the script ends too early".to_string())
            .helped("look for a bracket or a quote that is not closed"),
        ParseErrorType::MissingToken(token, why) => {
            let why = why.replace("expression", "value");
            let missing = finding(
                "E0001",
                format!("`{token}` is missing {why}").trim_end().to_string(),
            );
            match (token.as_str(), end_of_line_before(source, error.position())) {
                (";", Some(end)) => Finding {
                    label: Some("`;` belongs here".to_string()),
                    ..missing.at(Some(end))
                },
                _ => missing,
            }
        }
        ParseErrorType::VariableUndefined(name) => unknown_variable(source, name, span),
        ParseErrorType::AssignmentToConstant(name) => {
            finding("E0206", format!("`{name}` is a constant")).helped("use `let` for what changes")
        }
        ParseErrorType::UnknownOperator(operator) => {
            finding("E0001", format!("there is no operator `{operator}`"))
        }
        ParseErrorType::BadInput(LexError::MalformedChar(text)) => finding(
            "E0001",
            format!("'{text}' is no text: text is written in double quotes"),
        )
        .helped(format!("write {text:?}")),
        ParseErrorType::BadInput(error) => finding("E0001", plain(&error.to_string())),
        ParseErrorType::ExprTooDeep => {
            finding("E0221", "an expression is nested too deeply".to_string())
        }
        ParseErrorType::LiteralTooLarge(what, most) => finding(
            "E0221",
            format!("{} is larger than {most}", what.to_lowercase()),
        ),
        other => finding("E0001", plain(&other.to_string())),
    }
}

fn reserved(mut finding: Finding, word: &str) -> Finding {
    if let Some((_, instead)) = INSTEAD.iter().find(|(known, _)| *known == word) {
        finding.label = Some((*instead).to_string());
    }
    finding
}

/// Where the statement before ends, if the text breaks off at the first word of a line: the parser points at what
/// comes next, the eye looks for what is missing. Not past a comment, which is no place for a `;`.
fn end_of_line_before(source: &Source, position: Position) -> Option<Span> {
    let line = position.line()?;
    let indent = source.line(line)?.chars().take_while(|c| c.is_whitespace());
    if position.position()? != indent.count() + 1 {
        return None;
    }
    let before = source.line(line.checked_sub(1)?)?.trim_end();
    let column = before.chars().count();
    (column > 0 && !before.contains("//") && !before.ends_with("*/")).then_some(Span {
        line: line - 1,
        column,
        length: 1,
    })
}

fn word_at(source: &Source, position: Position) -> Option<String> {
    let span = source.span(position)?;
    let word: String = source
        .line(span.line)?
        .chars()
        .skip(span.column - 1)
        .take(span.length)
        .collect();
    word.chars()
        .next()
        .is_some_and(char::is_alphabetic)
        .then_some(word)
}

/// A variable that is nowhere defined.
pub fn unknown_variable(source: &Source, name: &str, span: Option<crate::run::Span>) -> Finding {
    let mut finding = Finding::error("E0201", format!("no variable `{name}`")).at(span);
    if name == "args" {
        return finding.helped("`args` is not seen inside a fn: pass what it needs as a parameter");
    }
    if let Some(entry) = table::global(name) {
        return finding.helped(format!("`{name}` is called: write {}", entry.signature()));
    }
    let words = defined_words(&source.text);
    let known = words
        .iter()
        .map(String::as_str)
        .filter(|word| *word != name);
    if let Some(near) = did_you_mean(name, known) {
        finding.label = Some(format!("did you mean `{near}`?"));
    }
    finding
}

/// The names after `let` and `const`, as candidates for did-you-mean.
fn defined_words(text: &str) -> Vec<String> {
    let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    let mut defined = Vec::new();
    while let Some(word) = words.next() {
        if (word == "let" || word == "const")
            && let Some(name) = words.find(|next| !next.is_empty())
        {
            defined.push(name.to_string());
        }
    }
    defined
}

/// What the engine says in its own style, without capitals and jargon.
fn plain(text: &str) -> String {
    let text = text
        .replace("Expecting", "there should be")
        .replace("expecting", "there should be")
        .replace("identifier", "name")
        .replace('\'', "`");
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => text,
    }
}

/// An evaluation that failed.
pub fn of_evaluation(source: &Source, error: &EvalAltResult) -> ScriptError {
    let (failure, position) = innermost(source, error);
    let exit = failure.exit;
    let cause = failure.cause.clone();
    let mut error = ScriptError::new(failure.into_finding(source.span(position)), source, exit);
    error.cause = cause;
    error
}

/// The failure itself, below the calls it came through, with its place.
pub fn innermost(source: &Source, error: &EvalAltResult) -> (Failure, Position) {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, position)
        | EvalAltResult::ErrorInModule(_, inner, position) => {
            let (failure, at) = innermost(source, inner);
            (failure, if at.is_none() { *position } else { at })
        }
        other => (translate(source, other), other.position()),
    }
}

fn translate(source: &Source, error: &EvalAltResult) -> Failure {
    use EvalAltResult as E;
    match error {
        E::ErrorRuntime(value, _) | E::ErrorTerminated(value, _) if value.is::<Failure>() => value
            .read_lock::<Failure>()
            .map(|failure| failure.clone())
            .unwrap_or_else(|| Failure::script("E0200", "the script failed")),
        E::ErrorRuntime(value, _) => Failure::world("E0301", super::show::cell(value)),
        E::ErrorTerminated(..) => Failure {
            exit: ExitClass::Interrupted,
            ..Failure::script("E0130", "interrupted; nothing was changed")
        },
        E::ErrorParsing(kind, position) => {
            let parse = ParseError(Box::new(kind.clone()), *position);
            of_finding(of_parse(source, &parse))
        }
        E::ErrorFunctionNotFound(signature, _) => function_not_found(signature),
        E::ErrorDotExpr(text, _) => property_not_found(text),
        E::ErrorPropertyNotFound(name, _) => {
            Failure::script("E0203", format!("the map has no `{name}`"))
                .help("ask with `?? value` on a map that may not have it, or write its name right")
        }
        E::ErrorVariableNotFound(name, position) => {
            of_finding(unknown_variable(source, name, source.span(*position)))
        }
        E::ErrorIndexingType(text, _) => {
            let kind = Kind::of_type_name(text.split(" [").next().unwrap_or(text));
            Failure::script(
                "E0215",
                format!("{} has no members to index", kind.phrase()),
            )
        }
        E::ErrorIndexNotFound(value, _) => {
            Failure::script("E0215", format!("no member {}", super::show::cell(value)))
        }
        E::ErrorArrayBounds(length, index, _) => Failure::script(
            "E0215",
            format!(
                "no member {index}: the list has {}",
                counted(*length as i64, "member")
            ),
        ),
        E::ErrorStringBounds(length, index, _) => Failure::script(
            "E0215",
            format!(
                "no character {index}: the text has {}",
                counted(*length as i64, "character")
            ),
        ),
        E::ErrorMismatchDataType(wanted, given, _) => Failure::script(
            "E0208",
            format!(
                "here must be {}, not {}",
                Kind::of_type_name(wanted).phrase(),
                Kind::of_type_name(given).phrase()
            ),
        ),
        E::ErrorMismatchOutputType(wanted, given, _) => Failure::script(
            "E0208",
            format!(
                "the answer must be {}, not {}",
                Kind::of_type_name(wanted).phrase(),
                Kind::of_type_name(given).phrase()
            ),
        ),
        E::ErrorFor(_) => Failure::script(
            "E0208",
            "`for` takes a list, a range, a map's keys or a text",
        ),
        E::ErrorArithmetic(text, _) => Failure::script("E0211", plain(text)),
        E::ErrorTooManyOperations(_) => Failure::script(
            "E0220",
            format!("the script takes more than {MAX_OPERATIONS} operations"),
        )
        .help("a runbook decides, it does not compute: look for a loop without an end"),
        E::ErrorStackOverflow(_) => Failure::script(
            "E0220",
            format!("functions call each other more than {MAX_CALL_DEPTH} deep"),
        ),
        E::ErrorTooManyVariables(_) => {
            Failure::script("E0220", "the script has too many variables")
        }
        E::ErrorDataTooLarge(what, _) => {
            let what = match what.to_lowercase() {
                what if what.contains("string") => "a text",
                what if what.contains("array") => "a list",
                what if what.contains("map") => "a map",
                _ => "a value",
            };
            Failure::script("E0221", format!("{what} grows too large"))
        }
        E::ErrorAssignmentToConstant(name, _) => {
            Failure::script("E0206", format!("`{name}` is a constant"))
                .help("use `let` for what changes")
        }
        E::ErrorNonPureMethodCallOnConstant(name, _) => {
            let name = name.trim_start_matches("set$").trim_start_matches("get$");
            Failure::script("E0206", format!("`{name}` would change a constant"))
                .help("use `let` for what changes")
        }
        E::ErrorModuleNotFound(..) => Failure::script("E0204", "imports are not in this version")
            .help("define the functions in the runbook"),
        E::ErrorVariableExists(name, _) => {
            Failure::script("E0206", format!("`{name}` is defined already"))
        }
        E::ErrorUnboundThis(_) => Failure::script("E0201", "`this` means nothing here"),
        E::ErrorDataRace(name, _) => Failure::script(
            "E0216",
            format!("`{name}` is used while it is being changed"),
        ),
        E::LoopBreak(..) => Failure::script("E0001", "`break` and `continue` belong in a loop"),
        // The rest does not come from scripts; its text is at least not a signature.
        _ => Failure::script("E0200", "the script failed"),
    }
}

fn of_finding(finding: Finding) -> Failure {
    let mut failure = Failure::script(finding.code, finding.message);
    failure.label = finding.label;
    failure.help = finding.help;
    failure.span = finding.span;
    failure
}

/// `befor (restore, &str | ImmutableString | String)` → no option `befor` for restore.
fn function_not_found(signature: &str) -> Failure {
    let (name, rest) = signature.split_once(" (").unwrap_or((signature, ""));
    let kinds: Vec<Kind> = rest
        .trim_end_matches(')')
        .split(", ")
        .filter(|part| !part.is_empty())
        .map(Kind::of_type_name)
        .collect();
    if name.starts_with("anon$") {
        return Failure::script(
            "E0209",
            format!(
                "the closure does not take {}",
                counted(kinds.len() as i64, "argument")
            ),
        );
    }
    if !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
        return operator_not_found(name, &kinds);
    }
    unknown_call(name, kinds.first().copied())
}

fn operator_not_found(symbol: &str, kinds: &[Kind]) -> Failure {
    let failure = match kinds {
        [one] => Failure::script(
            "E0210",
            format!("`{symbol}` does not go before {}", one.phrase()),
        ),
        [left, right] => Failure::script(
            "E0210",
            format!(
                "`{symbol}` does not go between {} and {}",
                left.phrase(),
                right.phrase()
            ),
        ),
        _ => Failure::script("E0210", format!("`{symbol}` does not go here")),
    };
    match kinds {
        [Kind::Duration, Kind::Number] | [Kind::Number, Kind::Duration] => {
            failure.help("say what the number counts: seconds(90), minutes(5), hours(1), days(7)")
        }
        _ => failure,
    }
}

/// A name that is called on a value of this kind, or as a function with it as first argument.
pub fn unknown_call(name: &str, first: Option<Kind>) -> Failure {
    if let Some(on) = first.filter(|kind| table::members(*kind).next().is_some()) {
        if table::member(on, name).is_some_and(|entry| entry.is_property()) {
            return Failure::script("E0203", format!("`{name}` of {} is not called", on.word()))
                .help(format!("write .{name} without brackets"));
        }
        let what = if table::is_builder(on) {
            "option"
        } else {
            "method"
        };
        let failure = Failure::script("E0207", format!("no {what} `{name}` for {}", on.word()))
            .help(format!("kbr docs {}", on.word()));
        return match table::nearest_member(on, name) {
            Some(near) => failure.label(format!("did you mean `{near}`?")),
            None => failure,
        };
    }
    // The engine of a runbook has every verb: only the one of closures over records lacks some.
    if table::global(name).is_some() {
        return no_verbs_here(name);
    }
    let failure = match first {
        Some(Kind::Any) | None => Failure::script("E0202", format!("no function `{name}`")),
        Some(kind) => Failure::script(
            "E0202",
            format!("no function `{name}` for {}", kind.phrase()),
        ),
    };
    match table::nearest_global(name) {
        Some(near) if near != name => failure.label(format!("did you mean `{near}`?")),
        _ => failure.help("kbr docs lists every name"),
    }
}

/// A verb in a filter or a rename, which run by themselves.
pub fn no_verbs_here(name: &str) -> Failure {
    Failure::script(
        "E0213",
        format!("`{name}` cannot be used in a closure over records or names"),
    )
    .help("read what it needs into a variable before, and use that")
}

/// "Unknown property 'agee' - a getter is not registered for type 'snapshot'".
fn property_not_found(text: &str) -> Failure {
    let quoted: Vec<&str> = text.split('\'').collect();
    let (Some(name), Some(kind)) = (quoted.get(1), quoted.get(3)) else {
        return Failure::script("E0203", "no such property");
    };
    if text.starts_with("No writable") {
        let on = Kind::of_type_name(kind).word();
        return Failure::script("E0206", format!("`{name}` of {on} cannot be set"));
    }
    unknown_property(name, Kind::of_type_name(kind))
}

pub fn unknown_property(name: &str, on: Kind) -> Failure {
    if let Some(entry) = table::member(on, name).filter(|entry| !entry.is_property()) {
        return Failure::script("E0203", format!("`{name}` of {} is called", on.word()))
            .help(format!("write {}", entry.signature()));
    }
    let failure = Failure::script("E0203", format!("no property `{name}` for {}", on.word()));
    match table::nearest_member(on, name) {
        Some(near) => failure.label(format!("did you mean `{near}`?")),
        None if table::members(on).next().is_some() => {
            failure.help(format!("kbr docs {}", on.word()))
        }
        None => failure,
    }
}
