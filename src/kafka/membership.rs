//! What classic group members say about themselves: ConsumerProtocolSubscription and -Assignment.
//!
//! The bytes come from whatever client joined the group, and the broker passes them on unread; they may be
//! anything. So they are read here with every count checked against the bytes left. Only what version 0
//! has is read (topics; assigned partitions), which every later version begins with.

use crate::base::TopicPartition;
use bytes::Buf;

/// The subscribed topics, sorted; empty for bytes that are no subscription.
pub fn subscribed_topics(bytes: &[u8]) -> Vec<String> {
    let mut topics = read_subscription(bytes).unwrap_or_default();
    topics.sort();
    topics.dedup();
    topics
}

/// The assigned partitions, sorted; empty for bytes that are no assignment.
pub(super) fn assigned_partitions(bytes: &[u8]) -> Vec<TopicPartition> {
    let mut assigned = read_assignment(bytes).unwrap_or_default();
    assigned.sort();
    assigned
}

fn read_subscription(mut bytes: &[u8]) -> Option<Vec<String>> {
    let _version = bytes.try_get_i16().ok()?;
    let count = count(&mut bytes, 2)?;
    (0..count).map(|_| string(&mut bytes)).collect()
}

fn read_assignment(mut bytes: &[u8]) -> Option<Vec<TopicPartition>> {
    let _version = bytes.try_get_i16().ok()?;
    let mut assigned = Vec::new();
    for _ in 0..count(&mut bytes, 6)? {
        let topic = string(&mut bytes)?;
        for _ in 0..count(&mut bytes, 4)? {
            let partition = bytes.try_get_i32().ok()?;
            assigned.push(TopicPartition::new(topic.clone(), partition));
        }
    }
    Some(assigned)
}

/// A count of elements of at least `smallest` bytes each that the bytes left can hold.
fn count(bytes: &mut &[u8], smallest: usize) -> Option<usize> {
    let count = usize::try_from(bytes.try_get_i32().ok()?).ok()?;
    (count.checked_mul(smallest)? <= bytes.len()).then_some(count)
}

fn string(bytes: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(std::str::from_utf8(text).ok()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition as Assigned;
    use kafka_protocol::messages::{
        ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicName,
    };
    use kafka_protocol::protocol::{Encodable, StrBytes};

    #[test]
    fn a_members_topics_and_partitions_are_read() {
        let mut bytes = BytesMut::from(&[0u8, 1][..]);
        ConsumerProtocolSubscription::default()
            .with_topics(vec![
                StrBytes::from_static_str("orders"),
                StrBytes::from_static_str("invoices"),
            ])
            .encode(&mut bytes, 1)
            .unwrap();
        assert_eq!(subscribed_topics(&bytes), ["invoices", "orders"]);

        let mut bytes = BytesMut::from(&[0u8, 0][..]);
        ConsumerProtocolAssignment::default()
            .with_assigned_partitions(vec![
                Assigned::default()
                    .with_topic(TopicName(StrBytes::from_static_str("orders")))
                    .with_partitions(vec![2, 0]),
            ])
            .encode(&mut bytes, 0)
            .unwrap();
        assert_eq!(
            assigned_partitions(&bytes),
            [
                TopicPartition::new("orders", 0),
                TopicPartition::new("orders", 2)
            ]
        );
    }

    #[test]
    fn bytes_of_other_protocols_are_no_topics_and_no_memory() {
        assert!(subscribed_topics(b"").is_empty());
        assert!(subscribed_topics(b"\x00\x00\x7f\xff\xff\xff\x00").is_empty());
        assert!(assigned_partitions(b"\x00\x00\x7f\xff\xff\xff\x00\x00").is_empty());
        assert!(assigned_partitions(b"{\"connect\": true}").is_empty());
    }
}
