//! What is left of a damaged archive: which generations are whole, which are in part, which cannot be read.

use super::chain::{Chain, State};
use crate::archive::open::generation_number;
use crate::archive::{Damage, Held};
use serde::Serialize;
use std::collections::BTreeSet;

/// Generations from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    pub from: u64,
    pub to: u64,
}

/// What can still be restored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Restorable {
    /// Every record, every group's offsets, the cluster's ACLs and quotas.
    pub whole: Vec<Span>,
    /// All but what the damaged objects held.
    pub in_part: Vec<Span>,
    /// Their own manifest, or one that they build on, is lost.
    pub unreadable: Vec<Span>,
    /// The newest generation that is not unreadable.
    pub newest: Option<u64>,
    /// What that one lacks.
    pub lost: Vec<Held>,
}

impl Restorable {
    pub(super) fn of(chain: &Chain, damages: &[Damage]) -> Self {
        let mut broken: BTreeSet<u64> = damages
            .iter()
            .filter_map(|damage| generation_number(&damage.object))
            .collect();
        let newest = chain.newest();
        let mut lost = Vec::new();
        for damage in damages {
            let Some(listed) = chain.segments.get(&damage.object) else {
                continue;
            };
            for held in &damage.held {
                let key = (held.topic.clone(), held.partition.0);
                let Some(stream) = listed.streams.get(&key) else {
                    continue;
                };
                let until = stream.until.unwrap_or(u64::MAX);
                broken.extend(
                    chain
                        .generations
                        .range(stream.since..until)
                        .map(|(number, _)| *number),
                );
                if newest.is_some_and(|newest| (stream.since..until).contains(&newest)) {
                    lost.push(held.clone());
                }
            }
        }
        lost.sort_by(|one, other| {
            (&one.topic, one.partition, one.first).cmp(&(
                &other.topic,
                other.partition,
                other.first,
            ))
        });
        lost.dedup();
        let of = |wanted: fn(State, bool) -> bool| {
            let numbers = chain.generations.iter();
            spans(
                numbers
                    .filter(|(number, state)| wanted(**state, broken.contains(number)))
                    .map(|(number, _)| *number),
            )
        };
        let mut unreadable = of(|state, _| state == State::Unreadable);
        unreadable.extend(chain.holes.iter().map(|hole| Span {
            from: hole.first,
            to: hole.last,
        }));
        unreadable.sort_by_key(|span| span.from);
        Self {
            whole: of(|state, broken| state == State::Readable && !broken),
            in_part: of(|state, broken| {
                state == State::RecordsOnly || (state == State::Readable && broken)
            }),
            unreadable,
            newest,
            lost,
        }
    }
}

/// Ascending numbers as ranges.
fn spans(numbers: impl Iterator<Item = u64>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for number in numbers {
        match spans.last_mut() {
            Some(last) if last.to + 1 == number => last.to = number,
            _ => spans.push(Span {
                from: number,
                to: number,
            }),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_generations_are_said_as_one_range() {
        let spans = spans([1, 2, 3, 7, 9, 10].into_iter());
        let pairs: Vec<_> = spans.iter().map(|span| (span.from, span.to)).collect();
        assert_eq!(pairs, [(1, 3), (7, 7), (9, 10)]);
    }
}
