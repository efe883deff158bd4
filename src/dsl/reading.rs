//! Errors of the layers below as a runbook shows them: what was read, from where, what to do now.

use super::failure::Failure;
use super::world::WorldError;
use crate::base::text::did_you_mean;
use crate::engine;
use crate::kafka;
use crate::run::{ExitClass, Span};

/// A name that could not be resolved, or something that could not be reached.
pub fn of_world(what: &str, error: WorldError) -> Failure {
    match error {
        WorldError::UnknownName(unknown) => {
            let failure = Failure::script("E0311", unknown.to_string());
            let failure = match &unknown.nearest {
                Some(near) => failure.label(format!("did you mean \"{near}\"?")),
                None => failure,
            };
            if unknown.known.is_empty() {
                let (setting, inline) = match unknown.kind {
                    "cluster" => ("bootstrap = \"host:9092\"", "cluster(\"host:9092\")"),
                    _ => ("url = \"file:PATH\"", "store(\"file:PATH\")"),
                };
                failure.help(format!(
                    "write [{}s.{}] with {setting} in kbr.toml, or {inline} in the runbook",
                    unknown.kind, unknown.name
                ))
            } else {
                failure.help(format!("named there are: {}", unknown.known.join(", ")))
            }
        }
        WorldError::Cluster {
            name,
            place,
            source,
        } => cannot_reach(&name, &place, source),
        WorldError::BadAddress(text) => {
            Failure::script("E0312", format!("not an address of a cluster: {text:?}"))
                .help("write host:port, several with commas between, or a name from kbr.toml")
        }
        WorldError::Store {
            name,
            place,
            source,
        } => {
            // The store's own error begins with its URL.
            let mut failure = Failure::from_below("E0320", source);
            let own = format!("{name}: ");
            let why = failure.message.trim_start_matches(&own).to_string();
            failure.message = format!("cannot open store {name}: {why}");
            failure.fact("from", place)
        }
        other => Failure::from_below(if what == "store" { "E0320" } else { "E0310" }, other),
    }
}

fn cannot_reach(name: &str, place: &str, error: kafka::Error) -> Failure {
    let mut failure = Failure::world("E0310", format!("cannot reach cluster {name}"));
    match &error {
        kafka::Error::Unreachable { tried } => {
            for attempt in tried {
                failure = failure.fact(
                    "tried",
                    format!(
                        "{} ({}, {} in {:.1} s)",
                        attempt.address,
                        attempt.why,
                        match attempt.times {
                            1 => "once".to_string(),
                            times => format!("{times} times"),
                        },
                        attempt.elapsed.as_secs_f64()
                    ),
                );
            }
        }
        // Found, but not a broker: what to do about it is known better at the edge.
        kafka::Error::NotKafka {
            address,
            looks_like,
            ..
        } => {
            failure = failure
                .fact(
                    "why",
                    format!("{address} does not speak the Kafka protocol"),
                )
                .fact("seen", looks_like.clone())
                .fact("from", place);
            failure.cause = Some(std::sync::Arc::new(error));
            return failure;
        }
        other => failure = failure.fact("why", other.to_string()),
    }
    failure.cause = Some(std::sync::Arc::new(error));
    failure
        .fact("from", place)
        .help("check the address and that the broker runs; nothing was changed")
}

/// A read of a cluster that failed.
pub fn of_kafka(doing: &str, cluster: &str, error: kafka::Error) -> Failure {
    Failure::from_below("E0313", error).prefixed(format!("reading {doing} of cluster {cluster}"))
}

/// A read of an archive that failed; damage has its own exit status.
pub fn of_archive(url: &str, error: crate::archive::Error) -> Failure {
    use crate::archive::Error as E;
    let damaged = error.damage().is_some();
    let is_of_the_list = matches!(
        error,
        E::NoSuchGeneration { .. }
            | E::NoneAsOld { .. }
            | E::Pruned { .. }
            | E::NoRecoveryPoint { .. }
    );
    let mut failure =
        Failure::from_below("E0321", error).prefixed(format!("reading the archive {url}"));
    if damaged {
        failure.exit = ExitClass::Damaged;
    }
    match is_of_the_list {
        true => failure.help(format!("kbr list {url} lists them")),
        false => failure,
    }
}

/// Planning that failed. A closure that failed on a record has its own place in the script.
pub fn of_engine(doing: String, error: engine::Error) -> Failure {
    let place = match &error {
        engine::Error::Filter { source, .. } | engine::Error::Remap { source, .. } => source.place,
        _ => None,
    };
    let is_closure = matches!(
        error,
        engine::Error::Filter { .. } | engine::Error::Remap { .. }
    );
    let damaged = matches!(&error, engine::Error::Archive(error) if error.damage().is_some());
    let mut failure = Failure::from_below(if is_closure { "E0223" } else { "E0330" }, error);
    if is_closure {
        failure.exit = ExitClass::Usage;
    } else {
        failure = failure.prefixed(doing);
    }
    if damaged {
        failure.exit = ExitClass::Damaged;
    }
    failure.span = place.map(|(line, column)| Span {
        line,
        column,
        length: 1,
    });
    failure
}

/// A topic or group that is not there.
pub fn missing(kind: &str, name: &str, place: &str, there: &[&str]) -> Failure {
    let failure = Failure::world("E0314", format!("no {kind} {name} on {place}"));
    match did_you_mean(name, there.iter().copied()) {
        Some(near) => failure.label(format!("did you mean \"{near}\"?")),
        None if there.is_empty() => failure.help(format!("there is no {kind} at all")),
        None => failure.help(format!(
            "there are: {}",
            there.iter().take(8).copied().collect::<Vec<_>>().join(", ")
        )),
    }
}
