//! Logs that become other logs under the same topic id: an unclean election cuts the end off and writes on. Leader
//! epochs tell, while a run reads as well as between two runs.

mod engine_backup_support;

use engine_backup_support::{World, batch, large_batch, quick};
use kbr::record::Codec;
use kbr::sandbox::Action;
use std::sync::atomic::{AtomicU32, Ordering};

const FETCH: i16 = 1;

#[tokio::test]
async fn an_unclean_election_while_a_run_reads_is_noticed_and_nothing_of_the_new_log_is_taken() {
    let world = World::new(1).await;
    world.sandbox.create_topic("orders", 1, &[]).unwrap();
    for seed in 0..12 {
        let bytes = large_batch(seed, 10, 40_000);
        world.sandbox.append("orders", 0, &bytes).unwrap();
    }
    let before = world.source("orders", 0, &[]);
    let plan = world.plan(&quick()).await.unwrap();
    assert_eq!(plan.records_bound(), 120);
    let (sandbox, seen) = (world.sandbox.clone(), AtomicU32::new(0));
    world.sandbox.intercept(move |request| {
        if request.api_key == FETCH && seen.fetch_add(1, Ordering::Relaxed) == 2 {
            sandbox.truncate("orders", 0, 10).unwrap();
            for seed in 100..115 {
                let bytes = large_batch(seed, 10, 40_000);
                sandbox.append("orders", 0, &bytes).unwrap();
            }
        }
        Action::Pass
    });
    let report = world.apply(&plan).await.unwrap();
    assert!(report.partial);
    assert_eq!(report.incomplete.len(), 1, "{:?}", report.incomplete);
    let said = &report.incomplete[0];
    assert!(
        said.contains("orders-0 was truncated at its source"),
        "{said}"
    );
    assert!(said.contains("now ends that history at 10"), "{said}");
    // What was read before is what was there before; that it is lost now is the source's affair.
    let archived = world.archived("orders", 0).await;
    assert!((10..120).contains(&archived.len()), "{}", archived.len());
    assert_eq!(archived, before[..archived.len()]);

    // And no later run goes on from there.
    let again = world.plan(&quick()).await.unwrap();
    assert!(again.topics[0].partitions[0].problem.is_some());
    let report = world.apply(&again).await;
    assert!(
        report
            .as_ref()
            .is_err_and(|error| error.to_string().contains("truncated at its source")),
        "{report:?}"
    );
    assert_eq!(world.archived("orders", 0).await, archived);
}

#[tokio::test]
async fn an_election_that_loses_nothing_is_no_reason_to_stop() {
    let world = World::new(2).await;
    world.sandbox.create_topic("orders", 1, &[]).unwrap();
    for seed in 0..3 {
        world
            .sandbox
            .append("orders", 0, &batch(Codec::Zstd, seed, 10))
            .unwrap();
        world.backup().await;
        let (leader, _) = world.sandbox.leader("orders", 0).unwrap();
        let other = leader.map_or(1, |leader| 3 - leader);
        world.sandbox.move_leader("orders", 0, other).unwrap();
    }
    world.backup().await;
    assert_eq!(
        world.archived("orders", 0).await,
        world.source("orders", 0, &[])
    );
}
