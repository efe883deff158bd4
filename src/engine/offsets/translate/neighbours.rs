//! The records around a place, and where they are again: which boundary of a log has what was read on its one side and what
//! was not on its other. Nothing here reads anything.

use super::log::Seen;

/// Records on each side of a place.
pub(super) const NEIGHBOURS: usize = 8;

/// What is around a place at the source.
#[derive(Clone, Debug, Default)]
pub(super) struct Around {
    /// Nearest first.
    pub before: Vec<Seen>,
    /// Nearest first; the first one is the next to read.
    pub after: Vec<Seen>,
}

/// A record of the target that is a neighbour: a bit for each that it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub offset: i64,
    pub before: u8,
    pub after: u8,
}

/// Where a place is in one target partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// These neighbours are in order around it.
    Here { target: i64, matched: Matched },
    /// So many places are as good as each other; each has some of these. Where they are, unless they are too many.
    Several {
        places: usize,
        targets: Vec<i64>,
        matched: Matched,
    },
    /// No neighbour is there.
    None,
}

/// Neighbours, a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Matched {
    pub before: u8,
    pub after: u8,
}

impl Matched {
    pub fn count(self) -> usize {
        (self.before.count_ones() + self.after.count_ones()) as usize
    }

    pub fn is_none(self) -> bool {
        (self.before | self.after) == 0
    }

    pub fn with(self, other: Self) -> Self {
        Self {
            before: self.before | other.before,
            after: self.after | other.after,
        }
    }
}

impl Verdict {
    pub fn matched(&self) -> Matched {
        match self {
            Self::Here { matched, .. } | Self::Several { matched, .. } => *matched,
            Self::None => Matched::default(),
        }
    }
}

impl Around {
    /// Which of its neighbours a record is.
    pub fn is(&self, seen: &Seen) -> Matched {
        Matched {
            before: bits(&self.before, seen),
            after: bits(&self.after, seen),
        }
    }

    pub fn wanted(&self) -> usize {
        self.before.len() + self.after.len()
    }

    pub fn times(&self) -> Option<(i64, i64)> {
        let times = || {
            self.before
                .iter()
                .chain(&self.after)
                .map(|seen| seen.timestamp)
        };
        times().min().zip(times().max())
    }
}

/// Whether a record of the target is one of the source. Where the target dates records itself, times tell nothing.
pub(super) fn is_same(own: &Seen, seen: &Seen) -> bool {
    own.digest == seen.digest && (seen.broker_time || own.timestamp == seen.timestamp)
}

/// The bits of the neighbours that a record is.
pub(super) fn bits(neighbours: &[Seen], seen: &Seen) -> u8 {
    let same = neighbours
        .iter()
        .enumerate()
        .filter(|(_, own)| is_same(own, seen));
    same.fold(0, |bits, (place, _)| bits | 1 << place)
}

/// Which of `hits`, from the boundary outward, are neighbours in their order; one that is not ends it.
fn in_order(hits: impl Iterator<Item = u8>) -> u8 {
    let mut matched = 0u8;
    for bits in hits {
        // Those further out than the last one.
        let beyond = match matched {
            0 => bits,
            _ => bits & !(u8::MAX >> matched.leading_zeros()),
        };
        if beyond == 0 {
            break;
        }
        matched |= 1 << beyond.trailing_zeros();
    }
    matched
}

/// The best boundary between what was read and what was not.
pub(super) fn judge(hits: &[Hit]) -> Verdict {
    let mut best: Vec<(Matched, i64)> = Vec::new();
    for boundary in 0..=hits.len() {
        let matched = Matched {
            before: in_order(hits[..boundary].iter().rev().map(|hit| hit.before)),
            after: in_order(hits[boundary..].iter().map(|hit| hit.after)),
        };
        let last = boundary.checked_sub(1).map(|last| hits[last]);
        let target = match (last, hits.get(boundary)) {
            // What others have written in between is unread.
            (Some(last), _) if matched.before != 0 => last.offset + 1,
            (_, Some(next)) if matched.after != 0 => next.offset,
            _ => continue,
        };
        let most = best.first().map_or(0, |(most, _)| most.count());
        if matched.count() > most {
            best.clear();
        }
        if matched.count() >= most {
            best.push((matched, target));
        }
    }
    match best[..] {
        [] => Verdict::None,
        [(matched, target)] => Verdict::Here { target, matched },
        _ => Verdict::Several {
            places: best.len(),
            targets: best.iter().map(|(_, target)| *target).collect(),
            matched: best
                .iter()
                .fold(Matched::default(), |all, (one, _)| all.with(*one)),
        },
    }
}

/// Whether a place was found with all of its neighbours.
pub(super) fn is_whole(around: &Around, verdict: Option<&Verdict>) -> bool {
    matches!(verdict, Some(Verdict::Here { matched, .. }) if matched.count() == around.wanted())
}

#[cfg(test)]
#[path = "neighbours_tests.rs"]
mod tests;
