//! The step that writes one topic.

use super::{RestoreRun, blocked, created_id};
use crate::base::TimestampMs;
use crate::base::size::format_bytes;
use crate::base::text::{counted, grouped};
use crate::base::time::format_instant;
use crate::dsl::steps::{step_error, table, value};
use crate::dsl::verbs::restore::predicted;
use crate::engine::restore::{self, OnError, Routing, TargetState, WriteTopic};
use crate::run::{
    Blocked, Cell, Detail, Gate, Outcome, ROOM, Reconciled, SavedParts, Step, StepContext,
    StepError, StepKind, StepView, ViewLine,
};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;

/// How long a cluster that just failed is asked what it holds.
const ASKING: std::time::Duration = std::time::Duration::from_secs(5);

/// Bytes of a write that take one part of the executor's room.
const SMALL_WRITE: u64 = 512 << 10;

const SETTLING: std::time::Duration = std::time::Duration::from_millis(250);

pub(super) struct WriteStep {
    pub run: Arc<RestoreRun>,
    /// Its place among the plan's writes.
    pub index: usize,
    pub write: WriteTopic,
}

/// What a cluster of three with disks of its own takes, in bytes per second; what it really is shows once records flow.
pub(super) const USUAL_RATE: u64 = 100 << 20;

/// Milliseconds that so many bytes take.
pub(super) fn time_for(bytes: u64, rate: u64) -> u64 {
    bytes.saturating_mul(1000) / rate.max(1)
}

/// How much of the executor's room so many bytes take.
pub(super) fn share(bytes: u64) -> u32 {
    let parts = bytes.div_ceil(SMALL_WRITE);
    u32::try_from(parts).unwrap_or(ROOM).clamp(1, ROOM)
}

impl WriteStep {
    /// Records that the filter and the time bounds leave out.
    fn dropped(&self) -> (u64, u64) {
        let partitions = self.write.partitions.iter();
        partitions.fold((0, 0), |(filter, time), partition| {
            (
                filter + partition.dropped_by_filter,
                time + partition.dropped_by_time,
            )
        })
    }

    /// The error of a write that ended early, with what it left in the target.
    async fn left_behind(&self, error: StepError, run: &str) -> StepError {
        let topic = &self.write.topic;
        let asked = async {
            let client = &self.run.cluster.0.client;
            let mut before = restore::written_so_far(&self.write, client).await?;
            loop {
                // A request on its way may still land: two answers must agree.
                tokio::time::sleep(SETTLING).await;
                let records = restore::written_so_far(&self.write, client).await?;
                if records == before {
                    return Ok::<u64, crate::engine::Error>(records);
                }
                before = records;
            }
        };
        let (left, some) = match tokio::time::timeout(ASKING, asked).await {
            Ok(Ok(0)) => ("none".to_string(), false),
            Ok(Ok(records)) => (
                format!(
                    "{} of {} are in {topic}",
                    grouped(records),
                    predicted(self.write.records())
                ),
                true,
            ),
            _ => (
                format!("unknown: {} does not answer", self.run.name()),
                true,
            ),
        };
        let error = error.fact("written", left);
        match some {
            false => error,
            true => error.fact(
                "again",
                format!(
                    "kbr resume {run} goes on behind them; in a new run they would be there twice"
                ),
            ),
        }
    }

    fn times(&self) -> Option<String> {
        let partitions = &self.write.partitions;
        let first = partitions.iter().filter_map(|p| p.first_timestamp).min()?;
        let last = partitions.iter().filter_map(|p| p.last_timestamp).max()?;
        Some(format!("{} … {}", short(first), short(last)))
    }

    /// Which ways records take, and what becomes of their headers, where that is not plain.
    fn ways(&self) -> Vec<String> {
        let write = &self.write;
        let mut lines = Vec::new();
        let count = write.source_partitions;
        match write.routing {
            Routing::Key { partitions } => lines.push(format!(
                "by key from {} to {partitions}, as Kafka's default partitioner; records without a key in turns of {}",
                counted(count, "partition"),
                grouped(restore::KEYLESS_RUN)
            )),
            Routing::Partition => {
                let moved: Vec<String> = write
                    .partitions
                    .iter()
                    .filter(|route| route.source != route.target)
                    .map(|route| format!("{} → {}", route.source, route.target))
                    .collect();
                if !moved.is_empty() {
                    const SHOWN: usize = 6;
                    let more = moved.len().saturating_sub(SHOWN);
                    let shown = moved[..moved.len().min(SHOWN)].join(", ");
                    lines.push(match more {
                        0 => format!("partitions {shown}"),
                        more => format!("partitions {shown}, and {more} more"),
                    });
                }
            }
        }
        let headers = &write.headers;
        let mut changed = Vec::new();
        if !headers.drop.is_empty() {
            changed.push(format!("dropped: {}", headers.drop.join(", ")));
        }
        let set = headers.set.iter();
        changed.extend(set.map(|(name, text)| format!("{name} = {text:?}")));
        if headers.origin.is_some() {
            changed.push("origin added".to_string());
        }
        if !changed.is_empty() {
            lines.push(format!("headers {}", changed.join(", ")));
        }
        lines
    }

    /// What cuts the topic, on one line.
    fn cut(&self) -> Option<String> {
        let (by_filter, by_time) = self.dropped();
        let write = &self.write;
        let mut cut = Vec::new();
        if write.filter_fingerprint.is_some() {
            cut.push(format!("filter dropped {}", grouped(by_filter)));
        }
        let failed: u64 = write.partitions.iter().map(|at| at.filter_failed).sum();
        if failed > 0 {
            cut.push(format!(
                "filter failed on {}: {}",
                counted(failed, "record"),
                what_became(write.filter_on_error)
            ));
        }
        let bounds = [("since", write.since), ("before", write.before)];
        for (word, at) in bounds {
            if let Some(at) = at {
                cut.push(format!("{word} {}", format_instant(at)));
            }
        }
        if write.since.is_some() || write.before.is_some() {
            cut.push(format!("time dropped {}", grouped(by_time)));
        }
        (!cut.is_empty()).then(|| cut.join("   "))
    }
}

/// What a filter's `on_error` does with a record.
fn what_became(on_error: OnError) -> &'static str {
    match on_error {
        OnError::Stop => "the restore ended",
        OnError::Keep => "kept",
        OnError::Drop => "dropped",
    }
}

/// `11-20 09:59:59.998`: the year is seldom in doubt.
fn short(at: TimestampMs) -> String {
    let text = format_instant(at);
    text.get(5..23)
        .map_or_else(|| text.clone(), |text| text.replace('T', " "))
}

#[async_trait]
impl Step for WriteStep {
    fn kind(&self) -> StepKind {
        StepKind::Write
    }

    fn view(&self) -> StepView {
        let write = &self.write;
        let mut cells = vec![
            Cell::number(predicted(write.records())).after(match write.records() {
                restore::Predicted::Exactly(1) => "record",
                _ => "records",
            }),
            Cell::number(match write.kept_bytes() {
                whole if whole == write.bytes() => format_bytes(whole),
                part => format!("≈ {}", format_bytes(part)),
            }),
        ];
        cells.extend(self.times().map(Cell::text));
        let mut line = ViewLine::of(write.topic.clone(), cells);
        line.notes.extend(self.cut());
        if let TargetState::HasRecords { records, .. } = write.target {
            line.notes.push(format!(
                "{} holds {} already: these go behind them",
                write.topic,
                counted(i128::from(records), "record")
            ));
        }
        line.notes.extend(self.ways());
        line.notes.extend(write.notes.iter().cloned());
        line.blocked = write.blocked.iter().map(|b| b.what.clone()).collect();
        let rows = write.partitions.iter();
        line.detail = Some(Detail {
            columns: ["from", "to", "source offsets", "records", "first offset"]
                .map(str::to_string)
                .to_vec(),
            rows: rows
                .map(|partition| {
                    vec![
                        partition.source.to_string(),
                        partition.target.to_string(),
                        format!("{}…{}", partition.from, partition.to),
                        predicted(partition.records),
                        partition.base.to_string(),
                    ]
                })
                .collect(),
        });
        StepView {
            lines: vec![line],
            bytes: write.kept_bytes(),
            takes_ms: time_for(write.kept_bytes(), self.run.plan.rate.unwrap_or(USUAL_RATE)),
            ..StepView::default()
        }
    }

    fn saved(&self, parts: &mut SavedParts) -> Value {
        self.run.saved("write", self.index, parts)
    }

    fn pinned(&self) -> Value {
        let write = &self.write;
        let partitions = table(
            &[
                "source", "target", "from", "to", "base", "records", "mapping",
            ],
            write.partitions.iter().map(|partition| {
                vec![
                    value(&partition.source),
                    value(&partition.target),
                    value(&partition.from),
                    value(&partition.to),
                    value(&partition.base),
                    value(&partition.records),
                    value(&partition.mapping_digest),
                ]
            }),
        );
        let target = match &write.target {
            TargetState::Absent => json!("absent"),
            TargetState::Empty { id } => json!({ "empty": id }),
            TargetState::HasRecords { id, .. } => json!({ "has_records": id }),
        };
        let mut pinned = json!({
            "restore": self.run.identity(),
            "source_topic": write.source_topic,
            "source_topic_id": write.source_topic_id,
            "topic": write.topic,
            "target": target,
            "routing": value(&write.routing),
            "headers": value(&write.headers),
            "since": write.since,
            "before": write.before,
            "filter": write.filter_fingerprint,
            "remap": write.remap_fingerprint,
        });
        // Moved: the macro would copy ten thousand partitions.
        pinned["partitions"] = partitions;
        pinned
    }

    fn gate(&self) -> Option<Gate> {
        match self.write.target {
            TargetState::HasRecords { records, .. } => Some(Gate::new(
                format!(
                    "{} holds {}",
                    self.write.topic,
                    counted(i128::from(records), "record")
                ),
                self.run.name(),
            )),
            _ => None,
        }
    }

    fn blocks(&self) -> Vec<Blocked> {
        self.write.blocked.iter().map(blocked).collect()
    }

    /// What is small is over before a large one has begun to be fast, and takes little memory.
    fn room(&self) -> u32 {
        let topic = &self.write.topic;
        let writes = self.run.plan.writes.iter();
        // One behind the other in the same topic: the second begins where the first ends. And a rate is one for all.
        let shared = writes.filter(|write| write.topic == *topic).count() > 1;
        if shared || self.run.plan.rate.is_some() {
            return ROOM;
        }
        share(self.write.bytes())
    }

    async fn check(&self, context: &StepContext) -> Result<(), StepError> {
        let created = created_id(context, &self.write.topic);
        restore::check_write_topic(&self.write, created, &self.run.cluster.0.client)
            .await
            .map_err(step_error)
    }

    async fn reconcile(&self, context: &StepContext) -> Result<Reconciled, StepError> {
        self.found(context).await
    }

    async fn apply(&self, context: &StepContext) -> Result<Outcome, StepError> {
        let written = restore::write_topic(
            &self.write,
            &self.run.snapshot.0.snapshot,
            &self.run.cluster.0.client,
            &self.write_context(context),
        )
        .await;
        let report = match written {
            Ok(report) => report,
            Err(error) => return Err(self.left_behind(step_error(error), &context.run).await),
        };
        self.keep(context, &report)?;
        let records: u64 = report
            .partitions
            .iter()
            .map(|partition| partition.records)
            .sum();
        let failed: u64 = report.partitions.iter().map(|at| at.filter_failed).sum();
        let partitions = table(
            &["source", "target", "records", "first", "end", "mapping"],
            report.partitions.iter().map(|partition| {
                vec![
                    value(&partition.source),
                    value(&partition.target),
                    value(&partition.records),
                    value(&partition.first),
                    value(&partition.end),
                    value(&partition.mapping.digest()),
                ]
            }),
        );
        let mut came = json!({
            "topic": report.topic,
            "records": records,
            "filter_failed": failed,
        });
        came["partitions"] = partitions;
        let mut outcome = Outcome::of(came).total("records written", records);
        if failed > 0 {
            let became = what_became(self.write.filter_on_error);
            outcome = outcome.line(format!(
                "filter failed on {}: {became}",
                counted(failed, "record")
            ));
        }
        Ok(outcome)
    }
}
