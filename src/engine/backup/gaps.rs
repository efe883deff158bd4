//! The offsets of a partition that have no record, by kind, in bounded space.
//!
//! A transactional topic has a marker every few records and a compacted one may have millions of holes. So beyond
//! a number of gaps of one kind neighbours are laid together into scattered ones: the count of missing offsets stays
//! exact, only where each lies is known less precisely (the batches themselves still tell).

use crate::archive::{Gap, GapKind};
use crate::base::Offset;
use std::collections::BTreeMap;

/// Gaps of one kind in one partition and run; at most this many are listed.
const MOST: usize = 512;

#[derive(Clone, Debug, Default)]
pub(super) struct Gaps {
    by_kind: BTreeMap<GapKind, Vec<Gap>>,
}

impl Gaps {
    /// Every offset in `[from, to)`; nothing if that is empty.
    pub fn whole(&mut self, from: Offset, to: Offset, kind: GapKind) {
        if from < to {
            self.push(Gap::whole(from, to, kind));
        }
    }

    /// `offsets` of those in `[from, to)`.
    pub fn scattered(&mut self, from: Offset, to: Offset, kind: GapKind, offsets: u64) {
        if offsets > 0 {
            self.push(Gap::scattered(from, to, kind, offsets));
        }
    }

    fn push(&mut self, gap: Gap) {
        let list = self.by_kind.entry(gap.kind).or_default();
        if let Some(last) = list.last_mut()
            && last.to == gap.from
            && last.is_whole()
            && gap.is_whole()
        {
            *last = join(*last, gap);
            return;
        }
        list.push(gap);
        if list.len() > MOST {
            *list = list
                .chunks(2)
                .filter_map(|pair| pair.iter().copied().reduce(join))
                .collect();
        }
    }

    pub fn into_list(self) -> Vec<Gap> {
        self.by_kind.into_values().flatten().collect()
    }
}

fn join(one: Gap, other: Gap) -> Gap {
    Gap::scattered(one.from, other.to, one.kind, one.offsets + other.offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_one_kind_are_one_gap() {
        let mut gaps = Gaps::default();
        gaps.whole(Offset(3), Offset(5), GapKind::Compacted);
        gaps.whole(Offset(5), Offset(9), GapKind::Compacted);
        gaps.whole(Offset(9), Offset(10), GapKind::Marker);
        gaps.whole(Offset(11), Offset(11), GapKind::Marker);
        assert_eq!(
            gaps.into_list(),
            [
                Gap::whole(Offset(3), Offset(9), GapKind::Compacted),
                Gap::whole(Offset(9), Offset(10), GapKind::Marker),
            ]
        );
    }

    #[test]
    fn a_million_markers_stay_a_short_list_with_the_exact_count() {
        let mut gaps = Gaps::default();
        for marker in 0..1_000_000 {
            gaps.whole(Offset(2 * marker), Offset(2 * marker + 1), GapKind::Marker);
        }
        let list = gaps.into_list();
        assert!(list.len() <= MOST, "{} gaps", list.len());
        assert_eq!(list[0].from, Offset(0));
        assert_eq!(list[list.len() - 1].to, Offset(1_999_999));
        assert_eq!(list.iter().map(|gap| gap.offsets).sum::<u64>(), 1_000_000);
    }
}
