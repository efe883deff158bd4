//! The command lines of the commands that look at archives.

use crate::cli::arguments::{Output, Progress};
use clap::Args;

#[derive(Args, Debug)]
pub struct List {
    /// A store of kbr.toml, or a URL such as file:archive/prod
    #[arg(value_name = "ARCHIVE")]
    pub archive: String,
    /// How many generations, newest first; 0 for all
    #[arg(long, default_value_t = 20)]
    pub limit: usize,
    /// The form of the output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub output: Output,
}

#[derive(Args, Debug)]
pub struct Describe {
    /// A store of kbr.toml, or a URL such as file:archive/prod
    #[arg(value_name = "ARCHIVE")]
    pub archive: String,
    /// Which generation; the newest if not given
    #[arg(long, value_name = "NUMBER")]
    pub generation: Option<u64>,
    /// Only topics of this name, glob or /regular expression/, with each partition; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub topic: Vec<String>,
    /// Show every partition and the configs of every topic
    #[arg(long)]
    pub detail: bool,
    /// The form of the output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub output: Output,
}

#[derive(Args, Debug)]
pub struct ShowManifest {
    /// A store of kbr.toml, or a URL such as file:archive/prod
    #[arg(value_name = "ARCHIVE")]
    pub archive: String,
    /// Which generation; the newest if not given
    #[arg(value_name = "GENERATION")]
    pub generation: Option<u64>,
}

#[derive(Args, Debug)]
pub struct Diff {
    /// A store of kbr.toml, or a URL such as file:archive/prod
    #[arg(value_name = "ARCHIVE")]
    pub archive: String,
    /// The older generation; the one before the newest if not given
    #[arg(value_name = "FROM")]
    pub from: Option<u64>,
    /// The newer generation; the newest if not given
    #[arg(value_name = "TO", requires = "from")]
    pub to: Option<u64>,
    /// Show every partition and every committed offset
    #[arg(long)]
    pub detail: bool,
    /// The form of the output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub output: Output,
}

#[derive(Args, Debug)]
pub struct Cat {
    /// A store of kbr.toml, or a URL such as file:archive/prod
    #[arg(value_name = "ARCHIVE")]
    pub archive: String,
    /// The topic, or one of its partitions
    #[arg(value_name = "TOPIC[:PARTITION]")]
    pub topic: String,
    /// Which generation; the newest if not given
    #[arg(long, value_name = "NUMBER")]
    pub generation: Option<u64>,
    /// From this offset on
    #[arg(long, value_name = "OFFSET")]
    pub from: Option<i64>,
    /// Up to this offset, without it
    #[arg(long, value_name = "OFFSET")]
    pub to: Option<i64>,
    /// Records of this instant or later: 2026-11-20T10:00:00Z, epoch milliseconds, -2h
    #[arg(long, value_name = "INSTANT", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Records before this instant
    #[arg(long, value_name = "INSTANT", allow_hyphen_values = true)]
    pub before: Option<String>,
    /// Only records with this key
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    pub key: Option<String>,
    /// At most so many records
    #[arg(long, value_name = "COUNT")]
    pub limit: Option<u64>,
}

#[derive(Args, Debug)]
pub struct Verify {
    /// A store of kbr.toml, or a URL such as file:archive/prod
    #[arg(value_name = "ARCHIVE")]
    pub archive: String,
    /// Read every byte: hashes, checksums of blocks and batches, every record's offset and time
    #[arg(long)]
    pub deep: bool,
    /// Only what this generation needs
    #[arg(long, value_name = "NUMBER")]
    pub generation: Option<u64>,
    #[command(flatten)]
    pub progress: Progress,
    /// The form of the output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub output: Output,
}
