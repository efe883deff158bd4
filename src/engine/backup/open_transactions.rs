//! Transactions that were open when the ends were read: what they hold back, and who holds them open.

use super::apply::{Entries, LOOKING_AGAIN};
use crate::archive::{Gap, GapKind, Groups};
use crate::base::{Offset, TopicPartition};
use crate::kafka::Client;

/// Sentences on open transactions.
#[derive(Default)]
pub(super) struct OpenTransactions {
    /// A group has committed an offset that is not archived yet.
    pub committed_beyond: Vec<String>,
    /// The next run takes them.
    pub harmless: Vec<String>,
}

/// Partitions with open transactions below their high watermark, and who holds them open.
pub(super) async fn name_open_transactions(
    client: &Client,
    done: &Entries,
    groups: &Groups,
) -> OpenTransactions {
    let mut named = OpenTransactions::default();
    let open: Vec<(&TopicPartition, Gap)> = done
        .iter()
        .filter_map(|(at, entry)| {
            let pending = |gap: &&Gap| gap.kind == GapKind::Pending;
            Some((at, *entry.gaps.iter().find(pending)?))
        })
        .collect();
    if open.is_empty() {
        return named;
    }
    let partitions: Vec<TopicPartition> = open.iter().map(|(at, _)| (*at).clone()).collect();
    let described = client.describe_producers(&partitions);
    let described = tokio::time::timeout(LOOKING_AGAIN, described).await;
    let mut producers = described.ok().and_then(Result::ok).unwrap_or_default();
    for (at, gap) in open {
        let mut text = format!(
            "{at}: offsets {} to {} belong to open transactions and are not archived yet",
            gap.from, gap.to
        );
        let holders: Vec<String> = producers
            .remove(at)
            .and_then(Result::ok)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|producer| {
                let start = producer.transaction_start?;
                Some(format!("{} since offset {start}", producer.producer_id))
            })
            .collect();
        if !holders.is_empty() {
            text.push_str(&format!(" (producer {})", holders.join(", ")));
        }
        let beyond = committed_beyond(groups, at, gap.from);
        if beyond.is_empty() {
            named.harmless.push(text);
        } else {
            text.push_str(&format!("; {} committed beyond", beyond.join(", ")));
            named.committed_beyond.push(text);
        }
    }
    named
}

/// The groups whose committed offset of the partition lies after `end`.
fn committed_beyond(groups: &Groups, at: &TopicPartition, end: Offset) -> Vec<String> {
    groups
        .groups
        .iter()
        .filter(|group| {
            group.offsets.iter().any(|committed| {
                committed.topic == at.topic
                    && committed.partition == at.partition
                    && committed.offset > end
            })
        })
        .map(|group| format!("group {}", group.group))
        .collect()
}
