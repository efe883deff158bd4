//! What the engine's errors mean to an operator.

use super::{Described, of_archive, of_kafka};
use crate::engine::{Error, offsets};
use crate::run::ExitClass;

pub fn of_engine(error: &Error) -> Described {
    let message = error.to_string();
    let compare = "run the same command again: kbr compares before it changes anything";
    match error {
        Error::Kafka(error) => of_kafka(error),
        Error::Archive(error) => of_archive(error),
        Error::Record { .. } => Described::new("E0380", message)
            .fact(
                "why",
                "a batch there is not what its header and checksum say",
            )
            .exit(ExitClass::Damaged),
        Error::Filter { .. } | Error::Remap { .. } => {
            Described::new("E0217", message).exit(ExitClass::Usage)
        }
        Error::ForeignWriter { .. } => Described::new("E0420", message)
            .fact(
                "why",
                "records of two writers would be mixed, and no offset could be trusted",
            )
            .fact("now", "stop the other producer; restore into new topics"),
        Error::NotOurs { .. } => Described::new("E0427", message)
            .exit(ExitClass::Drift)
            .fact(
                "why",
                "somebody else wrote there, or deleted from it, since the run was interrupted",
            )
            .fact("changed", "nothing")
            .fact(
                "now",
                "delete the topic and restore it again, or restore into another one",
            ),
        Error::Duplicate { .. } => Described::new("E0421", message).fact("now", compare),
        Error::Stalled { .. } => {
            Described::new("E0422", message).fact("now", "look at the partition's leader")
        }
        Error::NothingRead { why } => {
            let mut described = Described::new("E0425", message);
            for also in why.iter().skip(1).take(4) {
                described = described.fact("also", also);
            }
            described
                .fact("changed", "nothing: no generation was added")
                .fact(
                    "now",
                    "look at the partitions' leaders and run the backup again",
                )
        }
        Error::Drift(_) => Described::new("E0401", message)
            .exit(ExitClass::Drift)
            .fact(
                "now",
                "run the same command again to plan against the world as it is",
            ),
        Error::Mismatch(_) => Described::new("E0501", message).exit(ExitClass::Damaged),
        Error::Cancelled => Described::new("E0130", "interrupted").exit(ExitClass::Interrupted),
        Error::Diverged { .. } => Described::new("E0423", message)
            .fact(
                "why",
                "the source lost records that the archive holds and wrote others in their place",
            )
            .fact(
                "now",
                "nothing was appended; back up into a new archive and keep this one",
            ),
        Error::TopicGone { .. } => Described::new("E0424", message).fact(
            "now",
            "run the backup again: a topic made anew is a new incarnation",
        ),
        Error::NotRecorded(_) => Described::new("E0426", message)
            .fact(
                "why",
                "after a crash nobody could tell its batches from another producer's",
            )
            .fact("changed", "nothing: no batch was sent")
            .fact(
                "now",
                "look at the state directory's disk and run the same command again",
            ),
        Error::Internal(_) | Error::Mapping(_) => Described::new("E0901", message)
            .fact("now", "this is a mistake in kbr: please report it"),
    }
}

pub fn of_offsets(error: &offsets::Error) -> Described {
    use offsets::Error as E;
    let message = error.to_string();
    match error {
        E::Kafka(error) => of_kafka(error),
        E::Archive(error) => of_archive(error),
        E::Record { .. } => Described::new("E0380", message)
            .fact("why", "a batch there is not what its header and checksum say")
            .exit(ExitClass::Damaged),
        E::Stalled { .. } => {
            Described::new("E0422", message).fact("now", "look at the partition's leader")
        }
        E::Worker(_) => Described::new("E0901", message)
            .fact("now", "this is a mistake in kbr: please report it"),
        E::Rename { .. } => Described::new("E0217", message).exit(ExitClass::Usage),
        E::NotOnto { .. } => Described::new("E0212", message).exit(ExitClass::Usage),
        E::UnknownStrategy { .. } | E::UnknownOutOfRange { .. } | E::StrategyWants { .. } => {
            Described::new("E0212", message).exit(ExitClass::Usage)
        }
        E::ForLiveGroups { .. } => Described::new("E0212", message)
            .exit(ExitClass::Usage)
            .fact(
                "now",
                "plan from the cluster: offset_plan(cluster(\"dr\")).groups(\"…\"); or from the snapshot, without the \
                 restore: offset_plan(snap).onto(cluster(\"dr\"))",
            ),
        E::Rows { .. } => Described::new("E0231", message)
            .exit(ExitClass::Usage)
            .fact("now", "rows are group,topic,partition,offset, or a JSON list of objects with these names"),
        E::Blocked { .. } => Described::new("E0402", message),
        E::GroupsActive { groups } => {
            let mut described = Described::new("E0412", message);
            for group in groups.iter().take(5) {
                described = described.fact("members", group.members_text());
            }
            described
                .fact("why", "a member's next commit would overwrite the reset unseen")
                .fact(
                    "now",
                    "stop the consumers and run the same command again; or reset only topics they do not read",
                )
        }
        E::Drift { .. } => Described::new("E0401", message)
            .exit(ExitClass::Drift)
            .fact("why", "somebody committed since the plan was made")
            .fact("now", "run the same command again to plan against the world as it is"),
        E::OutsideLog { .. } => Described::new("E0413", message)
            .exit(ExitClass::Drift)
            .fact("why", "a coordinator takes any offset; a consumer would then start at its auto.offset.reset")
            .fact("now", "run the same command again to plan against the world as it is"),
        E::NoTarget { .. } => Described::new("E0414", message)
            .exit(ExitClass::Drift)
            .fact("now", "restore the topic first, or leave its groups out"),
        E::PartlyMoved {
            moved,
            failed,
            because,
        } => {
            let mut described = Described::new(
                "E0415",
                format!(
                    "{} of {} groups were not moved",
                    failed.len(),
                    failed.len() + moved.len()
                ),
            );
            for group in failed.iter().take(5) {
                described = described.fact("failed", format!("{} ({})", group.group, group.why));
            }
            described
                .fact("moved", moved.join(", "))
                .fact("why", format!("there was no transaction: {because}"))
                .fact("now", "run the same command again: groups that have moved show as no change")
        }
        E::PartlyRemoved { removed, failed } => {
            let mut described = Described::new(
                "E0417",
                format!(
                    "{} of {} groups were not changed",
                    failed.len(),
                    failed.len() + removed.len()
                ),
            );
            for group in failed.iter().take(5) {
                described = described.fact("failed", format!("{} ({})", group.group, group.why));
            }
            if !removed.is_empty() {
                described = described.fact("changed", removed.join(", "));
            }
            described.fact("now", "kbr resume goes on with those that are left")
        }
        E::ReadBack { .. } => Described::new("E0416", message)
            .exit(ExitClass::Drift)
            .fact("why", "a plain commit in between wins over the transaction")
            .fact("now", "stop whatever commits for these groups and run the same command again"),
    }
}
