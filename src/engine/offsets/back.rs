//! The way back: committed offsets to where they were before a run moved or deleted them.
//!
//! Whether a run that died has moved them is told by the cluster alone, so the same question is asked of every row: what
//! the run wrote goes back, what is as it was stays, anything else was committed by somebody since and blocks.

use super::error::Result;
use super::options::{OutOfRange, Strategy};
use super::plan::{Blocked, Plan, Reason, Row, Why};
use crate::base::text::grouped;
use crate::base::{Offset, TopicPartition};
use crate::engine::groups::Removal;
use crate::kafka::{Client, Committed, TopicsWanted};
use std::collections::{BTreeMap, BTreeSet};

/// One offset that a run has changed, or may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WayBack {
    pub group: String,
    pub at: TopicPartition,
    /// Before; `None`: nothing was committed.
    pub was: Option<Offset>,
    pub metadata: String,
    /// What the run committed; `None`: it deleted the offset.
    pub wrote: Option<Offset>,
    /// It was a share group; once deleted nothing else tells that.
    pub share: bool,
}

type Found = BTreeMap<String, BTreeMap<TopicPartition, Committed>>;
type Logs = BTreeMap<TopicPartition, (Offset, Offset)>;

/// Plans the way back of what `run` did to these offsets: those that go back, and those that were not there before.
pub async fn plan_back(run: &str, ways: &[WayBack], client: &Client) -> Result<(Plan, Removal)> {
    let mut wanted: BTreeMap<String, Vec<TopicPartition>> = BTreeMap::new();
    for way in ways {
        wanted
            .entry(way.group.clone())
            .or_default()
            .push(way.at.clone());
    }
    // By name of each partition: this waits also for the first commit of a transaction that nobody has ended yet.
    let mut found = Found::new();
    for (group, offsets) in client.committed_offsets_at(&wanted).await? {
        found.insert(group, offsets?);
    }
    let mut share: BTreeSet<String> = client
        .list_groups()
        .await?
        .into_iter()
        .filter(|group| group.kind.eq_ignore_ascii_case("share"))
        .map(|group| group.group)
        .filter(|group| wanted.contains_key(group))
        .collect();
    let were = ways.iter().filter(|way| way.share);
    share.extend(were.map(|way| way.group.clone()));
    if !share.is_empty() {
        let names: Vec<String> = share.iter().cloned().collect();
        for (group, offsets) in client.share_offsets(&names).await? {
            found.insert(group, offsets?);
        }
    }
    let mut known = BTreeSet::new();
    for topic in client.topics(TopicsWanted::All).await? {
        let partitions = topic.partitions.iter().map(|one| one.id);
        known.extend(partitions.map(|id| TopicPartition::new(topic.name.clone(), id)));
    }
    let places: BTreeSet<TopicPartition> = ways.iter().map(|way| way.at.clone()).collect();
    let places: Vec<_> = places.intersection(&known).cloned().collect();
    let logs = super::check::logs_of(&places, client).await?;
    let (mut plan, mut removal) = resolve_back(run, ways, &share, &found, &logs);
    plan.target_cluster_id = client.cluster_id().to_string();
    removal.cluster_id = client.cluster_id().to_string();
    super::resolve::block_what_is_active(&mut plan, client).await?;
    removal.block_what_is_active(client).await?;
    Ok((plan, removal))
}

/// The plan without a look at who is active.
fn resolve_back(
    run: &str,
    ways: &[WayBack],
    share: &BTreeSet<String>,
    found: &Found,
    logs: &Logs,
) -> (Plan, Removal) {
    let mut rows = Vec::new();
    let mut removed = Vec::new();
    for way in ways {
        let now = found.get(&way.group).and_then(|all| all.get(&way.at));
        let at = now.map(|committed| committed.offset);
        if at == way.was {
            continue;
        }
        match (way.was, now) {
            (None, Some(now))
                if at == way.wrote
                    && (!share.contains(&way.group) || goes_whole(way, ways, found)) =>
            {
                removed.push((way.group.clone(), way.at.clone(), now.clone()));
            }
            _ => rows.push(row(run, way, now, logs.get(&way.at).copied())),
        }
    }
    rows.sort_by(|a, b| (&a.group, a.target_partition()).cmp(&(&b.group, b.target_partition())));
    let plan = Plan {
        target_cluster_id: String::new(),
        strategy: Strategy::Back(run.to_string()),
        out_of_range: OutOfRange::Block,
        rows,
        skipped: Vec::new(),
        blocked: Vec::new(),
        active: Vec::new(),
        forced: false,
        expiring: None,
        share: share.clone(),
        per_transaction: super::chunks::PER_TRANSACTION,
    };
    let mut removal = Removal::of_offsets("", removed);
    removal.share = share.clone();
    removal
        .share
        .retain(|group| removal.groups.iter().any(|one| one.group == *group));
    (plan, removal)
}

/// Whether a share group had a place on no partition of the topic, so that all of them may go: one alone cannot.
fn goes_whole(way: &WayBack, ways: &[WayBack], found: &Found) -> bool {
    let now = found.get(&way.group).into_iter().flatten();
    let mut now = now.filter(|(at, _)| at.topic == way.at.topic);
    now.all(|(at, now)| {
        let mut same = ways
            .iter()
            .filter(|other| other.group == way.group && other.at == *at);
        same.any(|other| other.was.is_none() && other.wrote == Some(now.offset))
    })
}

fn row(run: &str, way: &WayBack, now: Option<&Committed>, log: Option<(Offset, Offset)>) -> Row {
    let from = now.map(|committed| committed.offset);
    let mut row = Row {
        group: way.group.clone(),
        topic: way.at.topic.clone(),
        partition: way.at.partition,
        target_topic: way.at.topic.clone(),
        target_partition: way.at.partition,
        committed: way.was,
        from,
        target: Ok(Offset(0)),
        why: Why::Blocked,
        lag_before: None,
        lag_after: None,
        metadata: way.metadata.clone(),
        from_metadata: now.map(|committed| committed.metadata.clone()),
    };
    match goal(run, way, from, log) {
        Ok((target, (_, end))) => {
            let lag = |at: Offset| u64::try_from(end.0.saturating_sub(at.0)).unwrap_or(0);
            row.lag_before = from.map(lag);
            row.lag_after = Some(lag(target));
            row.target = Ok(target);
            row.why = Why::Asked {
                what: format!("where it was before {run}"),
                moved: from.map(|from| target.0 - from.0),
            };
        }
        Err(blocked) => row.block(blocked),
    }
    row
}

fn goal(
    run: &str,
    way: &WayBack,
    from: Option<Offset>,
    log: Option<(Offset, Offset)>,
) -> std::result::Result<(Offset, (Offset, Offset)), Blocked> {
    let (group, at) = (&way.group, &way.at);
    let told = |offset: Option<Offset>| offset.map_or("nothing".to_string(), |at| grouped(at.0));
    if from != way.wrote {
        return Err(Blocked::new(
            Reason::MovedSince,
            format!(
                "{at}: {group} has {} committed, and neither {}, which {run} left there, nor {} from before: somebody has \
                 committed since",
                told(from),
                told(way.wrote),
                told(way.was)
            ),
            "what its members have read since would be read again: if that is wanted, offset_plan(cluster(\"…\"))\
             .groups(\"…\").strategy(\"to-offset\", …) says so",
        ));
    }
    let Some(was) = way.was else {
        return Err(Blocked::new(
            Reason::NoCommit,
            format!(
                "{at}: {group} had no place there, and has one on other partitions of the topic: a share group loses all of \
                 them or none"
            ),
            "take the runs back that gave it those, the newest first",
        ));
    };
    let Some((start, end)) = log else {
        return Err(Blocked::new(
            Reason::NoSuchPartition,
            format!("{at}: the cluster has no such partition any more"),
            None,
        ));
    };
    if (start..=end).contains(&was) {
        return Ok((was, (start, end)));
    }
    let (side, nearest, reason) = match was < start {
        true => ("before the log's start", start, Reason::BeforeLog),
        false => ("beyond the log's end", end, Reason::BeyondLog),
    };
    Err(Blocked::new(
        reason,
        format!(
            "{at}: {group} was at {}, which lies {side} {} by now",
            grouped(was.0),
            grouped(nearest.0)
        ),
        "offset_plan(cluster(\"…\")).groups(\"…\") moves it to a place that is there",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: (Offset, Offset) = (Offset(10), Offset(100));

    fn back(was: Option<i64>, wrote: Option<i64>, now: Option<i64>) -> (Plan, Removal) {
        let at = TopicPartition::new("orders", 0);
        let way = WayBack {
            group: "audit".into(),
            at: at.clone(),
            was: was.map(Offset),
            metadata: "before".into(),
            wrote: wrote.map(Offset),
            share: false,
        };
        let committed = now.map(|offset| Committed {
            offset: Offset(offset),
            leader_epoch: -1,
            metadata: "now".into(),
        });
        let found = Found::from([(
            "audit".to_string(),
            committed.map(|one| (at.clone(), one)).into_iter().collect(),
        )]);
        resolve_back(
            "run-1",
            &[way],
            &BTreeSet::new(),
            &found,
            &Logs::from([(at, LOG)]),
        )
    }

    #[test]
    fn what_the_run_wrote_goes_back_and_what_is_as_it_was_stays() {
        let (plan, removal) = back(Some(20), Some(90), Some(90));
        let row = &plan.rows[0];
        assert_eq!(
            (row.from, row.target.clone()),
            (Some(Offset(90)), Ok(Offset(20)))
        );
        assert_eq!(row.metadata, "before");
        assert_eq!(row.from_metadata.as_deref(), Some("now"));
        assert!(removal.is_empty());
        let (plan, removal) = back(Some(20), Some(90), Some(20));
        assert!(plan.rows.is_empty() && removal.is_empty());
    }

    #[test]
    fn what_was_not_there_is_deleted_and_what_was_deleted_is_committed_again() {
        let (plan, removal) = back(None, Some(90), Some(90));
        assert!(plan.rows.is_empty());
        assert_eq!(removal.groups[0].offsets[0].offset, Offset(90));
        let (plan, removal) = back(Some(20), None, None);
        assert_eq!(plan.rows[0].target, Ok(Offset(20)));
        assert_eq!(plan.rows[0].from, None);
        assert!(removal.is_empty());
    }

    #[test]
    fn what_somebody_has_committed_since_blocks_and_so_does_a_place_outside_of_the_log() {
        for (was, wrote, now) in [
            (Some(20), Some(90), Some(91)),
            (Some(20), Some(90), None),
            (None, Some(90), Some(91)),
            (Some(20), None, Some(91)),
        ] {
            let (plan, removal) = back(was, wrote, now);
            assert_eq!(
                plan.blocks()[0].reason,
                Reason::MovedSince,
                "{was:?} {now:?}"
            );
            assert!(removal.is_empty());
        }
        let reason = |was| back(Some(was), Some(90), Some(90)).0.blocks()[0].reason;
        assert_eq!(reason(9), Reason::BeforeLog);
        assert_eq!(reason(101), Reason::BeyondLog);
    }
}
