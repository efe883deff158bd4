//! AddPartitionsToTxn: v0–v5. One transaction up to v3, several from v4 (which brokers send each other). One bad
//! partition and none of the transaction's is added: the others answer 55.

use super::{Api, Context};
use crate::sandbox::cluster::State;
use crate::sandbox::codes;
use crate::sandbox::groups::Partition;
use crate::sandbox::transactions::{Fencing, Identity};
use kafka_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};

impl Api for AddPartitionsToTxnRequest {
    async fn serve(self, cx: &Context<'_>) -> AddPartitionsToTxnResponse {
        let mut state = cx.cluster.state();
        answer(self, cx, |transaction| add(transaction, &mut state, cx))
    }

    fn refuse(self, code: i16, cx: &Context<'_>) -> AddPartitionsToTxnResponse {
        answer(self, cx, |transaction| {
            results(&transaction.topics, |_, _| code)
        })
    }
}

fn answer(
    request: AddPartitionsToTxnRequest,
    cx: &Context<'_>,
    mut add: impl FnMut(&AddPartitionsToTxnTransaction) -> Vec<AddPartitionsToTxnTopicResult>,
) -> AddPartitionsToTxnResponse {
    if cx.version >= 4 {
        let results = request
            .transactions
            .iter()
            .map(|transaction| {
                AddPartitionsToTxnResult::default()
                    .with_transactional_id(transaction.transactional_id.clone())
                    .with_topic_results(add(transaction))
            })
            .collect();
        return AddPartitionsToTxnResponse::default().with_results_by_transaction(results);
    }
    let transaction = AddPartitionsToTxnTransaction::default()
        .with_transactional_id(request.v3_and_below_transactional_id)
        .with_producer_id(request.v3_and_below_producer_id)
        .with_producer_epoch(request.v3_and_below_producer_epoch)
        .with_topics(request.v3_and_below_topics);
    AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(add(&transaction))
}

fn add(
    transaction: &AddPartitionsToTxnTransaction,
    state: &mut State,
    cx: &Context<'_>,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let id = transaction.transactional_id.as_str();
    if let Err(code) = cx.check_coordinator(state, id) {
        return results(&transaction.topics, |_, _| code);
    }
    let partitions: Vec<Partition> = transaction
        .topics
        .iter()
        .flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(|index| (topic.name.to_string(), *index))
        })
        .collect();
    let missing: Vec<&Partition> = partitions
        .iter()
        .filter(|(topic, index)| state.partition(topic, *index).is_err())
        .collect();
    if !missing.is_empty() {
        return results(&transaction.topics, |topic, index| {
            if missing
                .iter()
                .any(|(name, number)| name == topic && *number == index)
            {
                codes::UNKNOWN_TOPIC_OR_PARTITION
            } else {
                codes::OPERATION_NOT_ATTEMPTED
            }
        });
    }
    let identity = Identity {
        producer_id: transaction.producer_id.0,
        producer_epoch: transaction.producer_epoch,
    };
    let fencing = Fencing::since(cx.version, 2);
    let code = if transaction.verify_only {
        match state.owned_transaction(id, identity, fencing) {
            Err(code) => code,
            Ok(known)
                if partitions
                    .iter()
                    .all(|(topic, index)| known.has_partition(topic, *index)) =>
            {
                codes::NONE
            }
            Ok(_) => codes::INVALID_TXN_STATE,
        }
    } else {
        super::code_of(state.add_partitions(id, identity, partitions, fencing))
    };
    results(&transaction.topics, |_, _| code)
}

fn results(
    topics: &[AddPartitionsToTxnTopic],
    code: impl Fn(&str, i32) -> i16,
) -> Vec<AddPartitionsToTxnTopicResult> {
    topics
        .iter()
        .map(|topic| {
            let partitions = topic
                .partitions
                .iter()
                .map(|index| {
                    AddPartitionsToTxnPartitionResult::default()
                        .with_partition_index(*index)
                        .with_partition_error_code(code(&topic.name, *index))
                })
                .collect();
            AddPartitionsToTxnTopicResult::default()
                .with_name(topic.name.clone())
                .with_results_by_partition(partitions)
        })
        .collect()
}
