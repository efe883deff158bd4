//! The commands in the documents that need real Kafka, run as they stand there: the README's failover between
//! two local clusters by hand. They start and stop their own (see `RealKafka` for the other tests').

mod support;

use support::documents::{Fate, blocks, documents, run};

#[test]
fn the_failover_by_hand_works_as_it_is_written() {
    let mut outputs = Vec::new();
    for document in documents() {
        for block in blocks(&document) {
            if matches!(block.fate, Fate::Kafka) {
                outputs.push(run(&block));
            }
        }
    }
    assert_eq!(
        outputs.len(),
        1,
        "one block with real Kafka is in the README"
    );
    // Kafka's own tool sees both groups where the failover put them, and kcat the renamed topic's records.
    for expected in ["checkout-api", "checkout-audit", "orders_dr", "order-1001"] {
        assert!(
            outputs[0].contains(expected),
            "{expected} is not in:\n{}",
            outputs[0]
        );
    }
    assert!(
        !outputs[0].contains("\"order\": 0,"),
        "the filtered record came along"
    );
}
