//! How long brokers keep what a group without members has committed.

use super::error::Result;
use super::plan::Plan;
use crate::base::time::format_duration_ms;
use crate::kafka::Client;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The broker's setting.
const RETENTION: &str = "offsets.retention.minutes";
const MINUTE_MS: i64 = 60_000;
/// From here on nobody has to be told: a week is what brokers have unless told otherwise.
pub(super) const SOON_MINUTES: i64 = 7 * 24 * 60;

/// Groups that exist by their commit alone, and when brokers drop them again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiring {
    pub groups: Vec<String>,
    pub minutes: i64,
}

impl Expiring {
    /// `2 groups are made by this commit: without members brokers drop them after 7d (offsets.retention.minutes)`
    pub fn text(&self) -> String {
        let (groups, them) = match self.groups.as_slice() {
            [one] => (format!("group {one} is made by this commit"), "it"),
            many => (
                format!("{} groups are made by this commit", many.len()),
                "them",
            ),
        };
        format!(
            "{groups}: without members brokers drop {them} after {} ({RETENTION})",
            format_duration_ms(self.minutes.saturating_mul(MINUTE_MS))
        )
    }
}

/// Notes which groups of the plan are new if brokers keep them for no longer than `soon` minutes. A broker that does not
/// tell (its settings may be hidden) is no reason not to plan.
pub(super) async fn note(
    plan: &mut Plan,
    known: &BTreeSet<String>,
    soon: i64,
    client: &Client,
) -> Result<()> {
    let mut groups = plan.group_names();
    groups.retain(|group| !known.contains(group));
    if groups.is_empty() {
        return Ok(());
    }
    let brokers: Vec<i32> = client.metadata().brokers.keys().copied().collect();
    let Some(broker) = brokers.first() else {
        return Ok(());
    };
    let Ok(configs) = client.broker_configs(*broker).await else {
        return Ok(());
    };
    let minutes = configs
        .iter()
        .find(|config| config.name == RETENTION)
        .and_then(|config| config.value.as_deref()?.parse::<i64>().ok());
    if let Some(minutes) = minutes.filter(|minutes| *minutes <= soon) {
        plan.expiring = Some(Expiring { groups, minutes });
    }
    Ok(())
}
