//! One set of assertions about how a broker behaves, run against the sandbox and against real Apache Kafka, so that
//! the sandbox cannot drift.
//!
//! On the sandbox every case is a test of its own. On a real broker one test runs all cases and lists those that
//! fail. `KBR_TEST_KAFKA_430` and `KBR_TEST_KAFKA_392` may name a running broker (`host:port`); otherwise
//! `scripts/kafka` starts one and stops it at the end. Cases share a broker: each makes its own topics and groups.

#[path = "conformance/acls.rs"]
mod acls;
#[path = "conformance/batches.rs"]
mod batches;
#[path = "conformance/configs.rs"]
mod configs;
#[path = "conformance/fetch.rs"]
mod fetch;
#[path = "conformance/groups.rs"]
mod groups;
#[path = "conformance/harness.rs"]
mod harness;
#[path = "conformance/markers.rs"]
mod markers;
#[path = "conformance/offsets.rs"]
mod offsets;
#[path = "conformance/produce.rs"]
mod produce;
mod support;
#[path = "conformance/topics.rs"]
mod topics;
#[path = "conformance/transactions.rs"]
mod transactions;
#[path = "conformance/versions.rs"]
mod versions;

use harness::{AUTHORIZER, ClusterUnderTest};
use support::RealKafka;

macro_rules! cases {
    ($tests:ident, $failures:ident, $sandbox:ident: $($module:ident: $($case:ident),+ ;)+) => {
        mod $tests {
            $(mod $module {
                $(
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $case() {
                        let cluster = crate::ClusterUnderTest::$sandbox().await;
                        crate::$module::$case(&cluster).await;
                    }
                )+
            })+
        }

        /// Runs every case and returns the names of those that failed.
        async fn $failures(cluster: &ClusterUnderTest) -> Vec<&'static str> {
            let mut failed = Vec::new();
            $($({
                let cluster = cluster.clone();
                let case = tokio::spawn(async move { $module::$case(&cluster).await });
                if case.await.is_err() {
                    failed.push(concat!(stringify!($module), "::", stringify!($case)));
                }
            })+)+
            failed
        }
    };
}

cases! {
    on_the_sandbox, failures, sandbox:
    produce:
        a_produced_batch_gets_its_offset_and_leader_epoch_and_keeps_every_other_byte,
        a_duplicate_batch_answers_0_with_the_original_offset,
        other_bytes_under_known_sequences_are_dropped_with_the_old_offset,
        a_gap_in_the_sequences_answers_45,
        a_fresh_producer_may_begin_with_any_sequence,
        only_the_last_five_batches_are_known,
        sequences_wrap_inside_a_batch,
        an_older_producer_epoch_answers_47,
        a_newer_producer_epoch_begins_at_sequence_0,
        a_count_that_does_not_fit_the_offsets_answers_87,
        a_damaged_batch_answers_2,
        a_batch_over_the_topics_limit_answers_10,
        control_batches_and_two_batches_at_once_answer_87,
        a_transactional_batch_without_a_transactional_id_answers_53,
        a_compacted_topic_refuses_a_record_without_a_key,
        a_missing_topic_answers_3,
        log_append_time_is_the_brokers,
        a_create_time_topic_takes_the_log_append_time_bit_away,
        a_time_too_far_ahead_answers_32;
    fetch:
        the_whole_batch_that_holds_the_offset_comes,
        offsets_outside_the_log_answer_1,
        after_delete_records_the_straddling_batch_comes_whole,
        the_first_batch_comes_whole_even_beyond_the_limits,
        a_leader_epoch_from_the_future_answers_75,
        an_unknown_topic_answers_3_by_name_and_100_by_id,
        aborted_transactions_are_listed_in_the_order_of_their_markers,
        an_aborted_transaction_begun_before_the_fetch_offset_is_listed,
        nothing_past_the_last_stable_offset_comes_under_read_committed,
        a_waiting_fetch_ends_when_records_arrive;
    offsets:
        earliest_and_latest_are_the_ends_of_the_log,
        an_offset_is_found_by_time,
        the_largest_timestamp_is_found,
        an_open_transaction_holds_the_latest_offset_back,
        a_missing_partition_answers_3,
        delete_records_moves_the_log_start,
        delete_records_beyond_the_end_answers_1,
        delete_records_on_a_compacted_topic_answers_44,
        the_end_of_the_present_epoch_is_the_end_of_the_log,
        producers_are_described_with_their_open_transactions;
    topics:
        a_new_topic_is_in_the_metadata_with_its_partitions,
        an_existing_topic_answers_36,
        a_topic_created_again_has_another_id,
        validation_creates_nothing,
        impossible_topics_are_refused_with_their_codes,
        a_missing_topic_answers_3_to_metadata_and_deletion,
        partitions_can_only_be_added;
    configs:
        overrides_are_told_from_defaults,
        configs_are_set_and_deleted_one_by_one,
        unknown_and_bad_configs_answer_40,
        the_configs_of_a_missing_topic_answer_3;
    groups:
        committed_offsets_come_back_with_their_metadata,
        a_group_nobody_knows_has_no_offsets_and_is_dead,
        a_commit_for_a_missing_topic_answers_3,
        metadata_over_4096_bytes_answers_12,
        offsets_beyond_the_end_are_accepted,
        a_plain_commit_to_an_active_group_answers_25,
        an_active_group_describes_its_member,
        an_active_group_cannot_be_deleted,
        a_deleted_group_is_gone,
        deleting_a_topic_takes_its_committed_offsets_along,
        single_offsets_of_an_empty_group_are_deleted,
        offsets_of_a_topic_that_a_member_reads_are_kept;
    acls:
        without_an_authorizer_acls_answer_54,
        client_quotas_come_back_as_they_were_set,
        impossible_client_quotas_answer_42,
        a_cluster_without_scram_users_lists_none;
    transactions:
        offsets_move_for_missing_empty_and_active_groups_at_once,
        an_aborted_transaction_leaves_nothing,
        a_missing_topic_answers_3_and_does_not_end_the_transaction,
        a_pending_offset_answers_88_to_a_stable_read,
        a_plain_commit_in_between_wins,
        ending_twice_is_fine_and_ending_otherwise_answers_48,
        a_group_that_is_not_in_the_transaction_answers_48,
        a_new_instance_fences_the_old_one,
        an_open_transaction_of_an_older_instance_is_aborted,
        a_partition_that_is_not_in_the_transaction_answers_120_or_before_version_11_48,
        one_bad_partition_keeps_the_others_out,
        an_unknown_transactional_id_answers_49;
    markers:
        a_marker_takes_one_offset_each_time,
        a_marker_of_an_older_epoch_answers_47;
    versions:
        an_unknown_version_of_api_versions_is_answered_in_version_0,
        every_api_that_kbr_uses_is_offered;
}

cases! {
    on_the_sandbox_with_an_authorizer, failures_with_an_authorizer, sandbox_with_an_authorizer:
    acls:
        acls_come_back_as_they_were_made,
        impossible_acls_are_refused;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_4_3_0_behaves_as_the_sandbox_does() {
    let kafka = RealKafka::running("4.3.0");
    let cluster = ClusterUnderTest::kafka(&kafka).await;
    assert_eq!(failures(&cluster).await, Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_3_9_2_behaves_as_the_sandbox_does() {
    let kafka = RealKafka::running("3.9.2");
    let cluster = ClusterUnderTest::kafka(&kafka).await;
    assert_eq!(failures(&cluster).await, Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_4_3_0_with_an_authorizer_behaves_as_the_sandbox_does() {
    let kafka = RealKafka::start_with("4.3.0", 1, AUTHORIZER);
    let cluster = ClusterUnderTest::kafka(&kafka).await;
    assert_eq!(
        failures_with_an_authorizer(&cluster).await,
        Vec::<&str>::new()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_3_9_2_with_an_authorizer_behaves_as_the_sandbox_does() {
    let kafka = RealKafka::start_with("3.9.2", 1, AUTHORIZER);
    let cluster = ClusterUnderTest::kafka(&kafka).await;
    assert_eq!(
        failures_with_an_authorizer(&cluster).await,
        Vec::<&str>::new()
    );
}
