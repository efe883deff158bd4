//! What an archive tells about itself: its generations, what one of them holds, what lies between two. Facts as
//! values, for people, scripts and machines alike; nothing here is needed to read or write records.

mod describe;
mod diff;
mod listing;

pub use describe::{Description, GroupDescription, PartitionDescription, TopicDescription};
pub use diff::{
    Change, ConfigDifference, Difference, GroupDifference, OffsetDifference, PartitionDifference,
    TopicDifference,
};
pub use listing::{GenerationFacts, Listing};
