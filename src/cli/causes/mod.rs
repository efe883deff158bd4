//! What the errors of the lower layers mean to an operator: code, message, facts, what now.

mod engine;

use crate::run::{ExitClass, JournalError, UnknownName};
use crate::{archive, engine as below, kafka, store};
use std::error::Error;

/// A lower layer's error in the report's terms.
pub struct Described {
    pub code: &'static str,
    pub message: String,
    pub facts: Vec<(&'static str, String)>,
    pub exit: ExitClass,
}

impl Described {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            facts: Vec::new(),
            exit: ExitClass::Failed,
        }
    }

    fn fact(mut self, label: &'static str, text: impl Into<String>) -> Self {
        self.facts.push((label, text.into()));
        self
    }

    fn exit(mut self, exit: ExitClass) -> Self {
        self.exit = exit;
        self
    }
}

/// The first error in the chain of causes that is known here.
pub fn describe(error: &(dyn Error + 'static)) -> Option<Described> {
    let mut next = Some(error);
    while let Some(error) = next {
        // The engine's errors are transparent: their source would skip the error that they carry.
        if let Some(error) = error.downcast_ref::<below::Error>() {
            return Some(engine::of_engine(error));
        }
        if let Some(error) = error.downcast_ref::<below::offsets::Error>() {
            return Some(engine::of_offsets(error));
        }
        if let Some(error) = error.downcast_ref::<kafka::Error>() {
            return Some(of_kafka(error));
        }
        if let Some(error) = error.downcast_ref::<archive::Error>() {
            return Some(of_archive(error));
        }
        if let Some(error) = error.downcast_ref::<store::Error>() {
            return Some(of_store(error));
        }
        if let Some(error) = error.downcast_ref::<UnknownName>() {
            return Some(of_name(error));
        }
        if let Some(error) = error.downcast_ref::<JournalError>() {
            return Some(of_journal(error));
        }
        next = error.source();
    }
    None
}

fn of_kafka(error: &kafka::Error) -> Described {
    use kafka::Error as E;
    let message = error.to_string();
    match error {
        E::Unreachable { tried } => {
            let mut described = Described::new("E0310", "cannot reach the cluster");
            for attempt in tried {
                let times = match attempt.times {
                    0 | 1 => String::new(),
                    times => format!(", {times} times in {:.0} s", attempt.elapsed.as_secs_f64()),
                };
                described = described.fact(
                    "tried",
                    format!("{} ({}{times})", attempt.address, attempt.why),
                );
            }
            described.fact(
                "now",
                "check the address and that the brokers run; a bootstrap address is host:port",
            )
        }
        E::NotKafka {
            address,
            looks_like,
            ..
        } => Described::new(
            "E0341",
            format!("{address} does not speak the Kafka protocol"),
        )
        .fact("seen", looks_like.clone())
        .fact(
            "now",
            "use the port of a Kafka listener (often 9092), in plain text in this version",
        ),
        E::Broker {
            code,
            api,
            on,
            message: own,
        } => {
            let described = Described::new("E0342", message)
                .fact("asked", format!("{api} on {on}"))
                .fact("answer", format!("{code}"));
            match own {
                Some(own) if !own.is_empty() => described.fact("broker", own.clone()),
                _ => described,
            }
        }
        E::Timeout { .. } => Described::new("E0343", message)
            .fact("why", "whether the request was carried out is not known")
            .fact(
                "now",
                "run the same command again: kbr compares before it changes anything",
            ),
        E::Disconnected { in_doubt, .. } => {
            let described = Described::new("E0344", message);
            match in_doubt {
                true => described
                    .fact("why", "the request may have been carried out")
                    .fact(
                        "now",
                        "run the same command again: kbr compares before it changes anything",
                    ),
                false => described.fact("now", "run the same command again"),
            }
        }
        E::Protocol { .. } => Described::new("E0345", message).fact(
            "now",
            "this is a mistake in kbr or in the broker: please report it",
        ),
        E::Unsupported { .. } => Described::new("E0346", message)
            .fact("now", "kbr is tested with Apache Kafka 3.9 and 4.3"),
        E::NoLeader { .. } | E::UnknownBroker { .. } => Described::new("E0347", message).fact(
            "now",
            "run the same command again when the cluster is whole",
        ),
        E::Transaction {
            outcome, source, ..
        } => Described::new("E0348", message)
            .fact("answer", source.to_string())
            .fact("left", outcome.to_string()),
        E::BadRequest(_) => Described::new("E0349", message),
    }
}

fn of_store(error: &store::Error) -> Described {
    use store::Error as E;
    let message = error.to_string();
    match error {
        E::BadUrl { .. } => Described::new("E0350", message)
            .fact("now", "write file:PATH or memory:NAME")
            .exit(ExitClass::Usage),
        E::Unsupported { .. } => Described::new("E0351", message)
            .fact("now", "write file:PATH")
            .exit(ExitClass::Usage),
        E::BadPath { .. } => Described::new("E0352", message),
        E::NotFound { .. } => Described::new("E0353", message),
        E::Exists { .. } => Described::new("E0354", message),
        E::Range { .. } | E::TooLarge { .. } | E::Io { .. } | E::Folder { .. } => {
            Described::new("E0355", message)
        }
        E::Timeout { .. } => {
            Described::new("E0356", message).fact("now", "run the same command again")
        }
    }
}

fn of_archive(error: &archive::Error) -> Described {
    use archive::Error as E;
    let message = error.to_string();
    match error {
        E::NotAnArchive { .. } => Described::new("E0360", message).fact(
            "now",
            "check the URL; a backup runbook makes an archive where there is none",
        ),
        E::Empty { .. } => Described::new("E0361", message).fact(
            "now",
            "take a backup first: kbr run examples/backup.rhai --execute",
        ),
        E::Damaged(damage) => {
            let mut described = Described::new("E0362", format!("{} is damaged", damage.object))
                .fact("why", damage.kind.to_string())
                .exit(ExitClass::Damaged);
            if !damage.held.is_empty() {
                let held: Vec<String> = damage.held.iter().map(ToString::to_string).collect();
                described = described.fact("held", held.join(", "));
            }
            if !damage.restorable.is_empty() {
                described =
                    described.fact("left", format!("still restorable: {}", damage.restorable));
            }
            let copy = "bring a good copy of this object back from a replica of the store";
            let or = match (damage.held.is_empty(), damage.restorable.as_str()) {
                (false, _) => ", or leave its topics out with .exclude(…)",
                (true, left) if left.starts_with("generation ") => {
                    ", or read that one: store(…).generation(…), --generation"
                }
                _ => "",
            };
            described.fact("now", format!("{copy}{or}"))
        }
        E::NewerFormat { .. } => Described::new("E0363", message)
            .fact("now", "use the kbr that wrote it, or a newer one"),
        E::Encrypted { .. } => Described::new("E0364", message),
        E::NoSuchGeneration { .. } | E::NoneAsOld { .. } => {
            Described::new("E0365", message).fact("now", "kbr list ARCHIVE lists them")
        }
        E::Pruned { .. } | E::NoRecoveryPoint { .. } => {
            Described::new("E0365", message).fact("now", "kbr list ARCHIVE lists them")
        }
        E::Abandoned { .. } => Described::new("E0370", message)
            .fact(
                "why",
                "the run wrote nothing for longer than the prune's grace time",
            )
            .fact("now", "run the backup again"),
        E::GenerationTaken { .. } => {
            Described::new("E0366", message).fact("now", "run the backup again")
        }
        E::OtherCluster { .. } => Described::new("E0367", message)
            .fact("why", "an archive holds one cluster's offsets")
            .fact("now", "back this cluster up into another archive"),
        E::NotInSnapshot { .. } => Described::new("E0368", message),
        E::Store(error) => of_store(error),
        E::Clocks { .. } => Described::new("E0369", message)
            .fact("now", "set the clock that is wrong, then prune again"),
        _ => Described::new("E0369", message),
    }
}

fn of_name(error: &UnknownName) -> Described {
    let described = Described::new("E0311", error.to_string()).exit(ExitClass::Usage);
    let described = match error.known.is_empty() {
        true => described,
        false => described.fact("known", error.known.join(", ")),
    };
    match (&error.nearest, error.kind) {
        (Some(nearest), _) => described.fact("now", format!("did you mean {nearest}?")),
        (None, "cluster") => described.fact(
            "now",
            format!(
                "add [clusters.{}] with bootstrap = \"host:9092\" to kbr.toml, or write cluster(\"host:9092\")",
                error.name
            ),
        ),
        (None, _) => described.fact(
            "now",
            format!(
                "add [stores.{}] with url = \"file:PATH\" to kbr.toml, or write store(\"file:PATH\")",
                error.name
            ),
        ),
    }
}

fn of_journal(error: &JournalError) -> Described {
    let described = Described::new("E0601", error.to_string());
    match error {
        JournalError::Unwritable { why, .. } | JournalError::Unreadable { why, .. } => {
            described.fact("why", why.clone())
        }
        JournalError::NoPlace
        | JournalError::NoSuchRun { .. }
        | JournalError::SeveralRuns { .. } => described,
    }
}
