//! How far groups may be put back.

use super::error::Result;
use super::options::{Behind, Options};
use super::plan::{Blocked, Plan, Reason};
use super::translate::time_between;
use crate::base::text::counted;
use crate::base::time::format_duration_ms;
use crate::kafka::Client;

/// Blocks the rows that would read more again than the options allow.
pub(super) async fn limit(plan: &mut Plan, target: &Client, options: &Options) -> Result<()> {
    let Some(limit) = options.at_most_behind else {
        return Ok(());
    };
    for row in &mut plan.rows {
        let Ok(to) = row.target else { continue };
        let (again, _) = row.why.again_and_skipped();
        if again == 0 {
            continue;
        }
        let at = row.target_partition();
        let what = match limit {
            Behind::Records(most) if again > most => {
                format!(
                    "{at}: {} would read up to {} again, more than {most}",
                    row.group,
                    counted(again, "record")
                )
            }
            Behind::Time(most) => match time_between(target, &at, to, again).await? {
                Some(ms) if ms > most => format!(
                    "{at}: {} would go back up to {}, more than {}",
                    row.group,
                    format_duration_ms(ms),
                    format_duration_ms(most)
                ),
                _ => continue,
            },
            Behind::Records(_) => continue,
        };
        row.block(Blocked::new(
            Reason::TooFarBehind,
            what,
            "raise .at_most_behind(…), or choose a strategy that finds the place exactly",
        ));
    }
    Ok(())
}
