//! Helpers of every runbook: arguments, conditions, questions, secrets.

use crate::base::Secret;
use crate::dsl::declared::Declared;
use crate::dsl::failure::Failure;
use crate::dsl::filter::json;
use crate::dsl::kind::Kind;
use crate::dsl::table::{Entry, Parameter};
use crate::dsl::values::SecretValue;
use rhai::{Dynamic, Map};
use std::collections::BTreeMap;

pub static TABLE: &[Entry] = &[
    Entry::function(
        "params",
        &[Parameter::one("declared", &[Kind::Map])],
        Kind::Nothing,
        |call| {
            let map: Map = call.argument(0)?;
            let mut declared = BTreeMap::new();
            for (name, said) in map {
                let said = Declared::read(&name, &said).map_err(|why| Failure::script("E0208", why))?;
                declared.insert(name.to_string(), said);
            }
            call.host()?.declare(declared)?;
            Ok(Dynamic::UNIT)
        },
    )
    .doc(
        "Declares the arguments that the runbook takes, each with what it is for. They are given after `--` on the \
         command line (`-- --at 2026-11-20T10:00:00Z`) and read as `args.at`: text, or `()` if not given. Reading an \
         argument that is not declared is an error, and so is giving one. Instead of the text a map may say more: `help`, \
         the text; `position`, a bare word in this place is meant; `rest`, and all that follow it, with spaces between (`\\ ` is a space in one of them); \
         `required`; `flag`, it takes no value; `instead_of`, the argument that the bare words leave out where this one is \
         given; `takes`, what a shell completes it to with TAB and what is refused before the runbook begins: \
         `\"cluster\"`, `\"archive\"`, `\"source\"` (an archive, or `cluster:NAME`), `\"group\"`, `\"topic\"`, `\"groups\"` and \
         `\"topics\"` (several with commas between), `\"partition\"`, `\"generation\"`, `\"state\"` (of a group), `\"run\"`, `\"file\"`, `\"number\"`, \
         `\"text\"`, or the list of words that it is one of.",
    )
    .example("params(#{ at: \"restore records before this time\" });"),
    Entry::function(
        "require",
        &[
            Parameter::one("condition", &[Kind::Flag]),
            Parameter::one("text", &[Kind::Text]),
        ],
        Kind::Nothing,
        |call| {
            if call.argument::<bool>(0)? {
                return Ok(Dynamic::UNIT);
            }
            // Latched: what a runbook requires holds for all of it, whatever it catches.
            Err(Failure {
                stops: true,
                ..Failure::world("E0301", call.text(1)?).help("nothing was changed")
            })
        },
    )
    .doc("Ends the runbook with the text unless the condition holds; no `catch` keeps it going. Evaluated with the plan, \
         before any effect.")
    .example("require(snap.age < hours(1), \"the newest backup is too old\");"),
    Entry::function(
        "confirm",
        &[Parameter::one("text", &[Kind::Text])],
        Kind::Nothing,
        |call| {
            let host = call.host()?;
            host.refuse_effects("confirm")?;
            host.add_confirm(call.text(0)?, call.position);
            Ok(Dynamic::UNIT)
        },
    )
    .doc(
        "Asks before the gated steps that follow, up to the next `confirm`, and shows exactly those. On a terminal it \
         asks for a word to type; elsewhere `--confirm DIGEST` answers it. Resets, deletes and writes into topics \
         that hold records are gated even without it.",
    )
    .example("confirm(`Move ${moved.group_names.len()} groups on ${dr.name}?`);"),
    Entry::function(
        "env",
        &[Parameter::one("name", &[Kind::Text])],
        Kind::Secret,
        |call| secret(&call.text(0)?),
    )
    .doc(
        "The value of an environment variable, as a secret: no print, plan, journal, log or error shows it, only its \
         name. A variable that is not set is an error.",
    )
    .example("let password = env(\"DR_PASSWORD\");"),
    Entry::function(
        "secret",
        &[Parameter::one("name", &[Kind::Text])],
        Kind::Secret,
        |call| {
            let name = call.text(0)?;
            let Some(path) = name.strip_prefix("file:") else {
                return secret(&name);
            };
            let text = std::fs::read_to_string(path).map_err(|error| {
                Failure::world("E0302", format!("secret {name}: {error}"))
            })?;
            let value = text.trim_end_matches(['\r', '\n']).to_string();
            if value.is_empty() {
                return Err(Failure::world("E0302", format!("secret {name}: the file is empty")));
            }
            Ok(Dynamic::from(SecretValue(Secret::new(name, value))))
        },
    )
    .doc("A secret from the environment (`secret(\"NAME\")`) or from a file (`secret(\"file:/run/secrets/NAME\")`).")
    .example("let password = secret(\"file:/run/secrets/dr\");"),
    Entry::function(
        "parse_json",
        &[Parameter::one("text", &[Kind::Text])],
        Kind::Any,
        |call| {
            let text = call.text(0)?;
            let value = json::value(&text, &[])
                .map_err(|error| Failure::script("E0214", json::not_json(&error)))?;
            Ok(value.unwrap_or(Dynamic::UNIT))
        },
    )
    .doc("A value from JSON text: objects become maps, null becomes `()`. Works in filters.")
    .example("restore(snap).filter(|r| parse_json(r.value).amount > 0)"),
    Entry::function(
        "matches",
        &[
            Parameter::one("text", &[Kind::Text]),
            Parameter::one("pattern", &[Kind::Text]),
        ],
        Kind::Flag,
        |call| {
            let pattern = call.text(1)?;
            let regex = regex::Regex::new(&pattern)
                .map_err(|error| Failure::script("E0214", not_a_pattern(&error)))?;
            Ok(regex.is_match(&call.text(0)?).into())
        },
    )
    .doc("Whether a regular expression is found in the text; `^` and `$` tie it to the ends. Works in filters.")
    .example("restore(snap).filter(|r| r.key.matches(\"^(eu|us)-[0-9]+$\"))"),
    Entry::function(
        "check",
        &[
            Parameter::one("condition", &[Kind::Closure]),
            Parameter::one("text", &[Kind::Text]),
        ],
        Kind::Nothing,
        |_| Err(not_yet("check")),
    )
    .doc("A condition that is checked during execution, as a step. Not in this version.")
    .example("check(|| dr.lag(\"checkout-api\") < 100, \"checkout-api did not catch up\");"),
    Entry::function(
        "wait_for",
        &[
            Parameter::one("condition", &[Kind::Closure]),
            Parameter::one("at_most", &[Kind::Duration]),
            Parameter::one("text", &[Kind::Text]),
        ],
        Kind::Nothing,
        |_| Err(not_yet("wait_for")),
    )
    .doc("Waits during execution until a condition holds, as a step. Not in this version.")
    .example("wait_for(|| dr.lag(\"checkout-api\") == 0, minutes(10), \"checkout-api is behind\");"),
];

fn secret(name: &str) -> Result<Dynamic, Failure> {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => Ok(Dynamic::from(SecretValue(Secret::new(name, value)))),
        Ok(_) => Err(
            Failure::world("E0302", format!("environment variable {name} is empty"))
                .help("an empty secret is never meant: set it, or do not use it"),
        ),
        Err(_) => Err(
            Failure::world("E0302", format!("environment variable {name} is not set"))
                .help(format!("export {name}=… before running kbr")),
        ),
    }
}

fn not_yet(name: &str) -> Failure {
    Failure::script("E0219", format!("`{name}` is not in this version of kbr"))
        .help("a condition on what is known now is require(…)")
}

/// The last line of a regular expression's error says what is wrong; the lines before it draw where.
pub fn not_a_pattern(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    format!(
        "not a regular expression: {}",
        last.trim_start_matches("error: ")
    )
}
