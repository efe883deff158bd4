//! The types of a script's values, by the names that people see.
//!
//! Rhai's own type names (`i64`, `alloc::string::String`) never reach a message: everything goes through [`Kind`].

use super::values;
use rhai::Dynamic;

/// What a value in a runbook is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Nothing,
    Flag,
    Number,
    Decimal,
    Character,
    Text,
    Bytes,
    List,
    Map,
    Closure,
    Range,
    Duration,
    Instant,
    Size,
    Secret,
    Arguments,
    Cluster,
    Topic,
    Group,
    Lag,
    GroupLag,
    Member,
    PartitionLog,
    Acl,
    Quota,
    Store,
    Generation,
    Snapshot,
    Pruned,
    Backup,
    BackedUp,
    Restore,
    Restored,
    OffsetPlan,
    OffsetRow,
    Record,
    Failure,
    /// Whatever it is: for parameters that take anything and for values a lint cannot tell.
    Any,
}

impl Kind {
    /// The kinds that are kbr's own, with the Rust type that carries them.
    pub const OWN: [Kind; 26] = [
        Kind::Duration,
        Kind::Instant,
        Kind::Size,
        Kind::Secret,
        Kind::Arguments,
        Kind::Cluster,
        Kind::Topic,
        Kind::Group,
        Kind::Lag,
        Kind::GroupLag,
        Kind::Member,
        Kind::PartitionLog,
        Kind::Acl,
        Kind::Quota,
        Kind::Store,
        Kind::Generation,
        Kind::Snapshot,
        Kind::Pruned,
        Kind::Backup,
        Kind::BackedUp,
        Kind::Restore,
        Kind::Restored,
        Kind::OffsetPlan,
        Kind::OffsetRow,
        Kind::Record,
        Kind::Failure,
    ];

    /// The bare word: in documents, in signatures, as the engine's type name.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Nothing => "nothing",
            Kind::Flag => "flag",
            Kind::Number => "number",
            Kind::Decimal => "decimal",
            Kind::Character => "character",
            Kind::Text => "text",
            Kind::Bytes => "bytes",
            Kind::List => "list",
            Kind::Map => "map",
            Kind::Closure => "closure",
            Kind::Range => "range",
            Kind::Duration => "duration",
            Kind::Instant => "instant",
            Kind::Size => "size",
            Kind::Secret => "secret",
            Kind::Arguments => "args",
            Kind::Cluster => "cluster",
            Kind::Topic => "topic",
            Kind::Group => "group",
            Kind::Lag => "group_offset",
            Kind::GroupLag => "group_lag",
            Kind::Member => "member",
            Kind::PartitionLog => "partition",
            Kind::Acl => "acl",
            Kind::Quota => "quota",
            Kind::Store => "store",
            Kind::Generation => "generation",
            Kind::Snapshot => "snapshot",
            Kind::Pruned => "pruned",
            Kind::Backup => "backup",
            Kind::BackedUp => "backed_up",
            Kind::Restore => "restore",
            Kind::Restored => "restored",
            Kind::OffsetPlan => "offset_plan",
            Kind::OffsetRow => "offset_row",
            Kind::Record => "record",
            Kind::Failure => "failure",
            Kind::Any => "anything",
        }
    }

    /// In a sentence: "a duration", "text", "nothing".
    pub fn phrase(self) -> &'static str {
        match self {
            Kind::Nothing => "nothing, `()`",
            Kind::Flag => "true or false",
            Kind::Number => "a whole number",
            Kind::Decimal => "a decimal number",
            Kind::Character => "a character",
            Kind::Text => "text",
            Kind::Bytes => "bytes",
            Kind::List => "a list",
            Kind::Map => "a map",
            Kind::Closure => "a closure",
            Kind::Range => "a range",
            Kind::Duration => "a duration",
            Kind::Instant => "an instant",
            Kind::Size => "a size",
            Kind::Secret => "a secret",
            Kind::Arguments => "the runbook's arguments",
            Kind::Cluster => "a cluster",
            Kind::Topic => "a topic",
            Kind::Group => "a group",
            Kind::Lag => "a committed offset",
            Kind::GroupLag => "a group's lag on a topic",
            Kind::Member => "a member of a group",
            Kind::PartitionLog => "a partition",
            Kind::Acl => "an ACL",
            Kind::Quota => "a client quota",
            Kind::Store => "a store",
            Kind::Generation => "a generation",
            Kind::Snapshot => "a snapshot",
            Kind::Pruned => "a planned prune",
            Kind::Backup => "a backup",
            Kind::BackedUp => "a planned backup",
            Kind::Restore => "a restore",
            Kind::Restored => "a planned restore",
            Kind::OffsetPlan => "an offset plan",
            Kind::OffsetRow => "a row of an offset plan",
            Kind::Record => "a record",
            Kind::Failure => "an error",
            Kind::Any => "anything",
        }
    }

    /// The kind of a value.
    pub fn of(value: &Dynamic) -> Kind {
        if value.is_unit() {
            return Kind::Nothing;
        }
        let type_name = value.type_name();
        Self::of_type_name(type_name)
    }

    /// From a type name as the engine writes it in its errors, after its own mapping.
    pub fn of_type_name(name: &str) -> Kind {
        let name = name
            .trim()
            .trim_start_matches("&mut ")
            .trim_start_matches('&');
        if let Some(own) = Kind::OWN
            .into_iter()
            .find(|kind| kind.word() == name || kind.rust_type_name() == name)
        {
            return own;
        }
        match name {
            "()" => Kind::Nothing,
            "bool" => Kind::Flag,
            "i64" | "int" => Kind::Number,
            "f64" | "float" => Kind::Decimal,
            "char" => Kind::Character,
            "string" | "String" | "ImmutableString" | "str" => Kind::Text,
            "blob" => Kind::Bytes,
            "array" => Kind::List,
            "map" => Kind::Map,
            "Fn" => Kind::Closure,
            "range" | "range=" => Kind::Range,
            // As a value of its own names its type.
            _ if name.contains("ops::range::Range") => Kind::Range,
            // The engine lists every text type it would have taken: "&str | ImmutableString | String".
            _ if name.contains("ImmutableString") || name.contains("String") => Kind::Text,
            _ if name.contains("FnPtr") => Kind::Closure,
            _ if name.contains("Vec<u8>") => Kind::Bytes,
            _ if name.contains("Vec<") => Kind::List,
            _ if name.contains("BTreeMap") => Kind::Map,
            _ => Kind::Any,
        }
    }

    fn rust_type_name(self) -> &'static str {
        use std::any::type_name;
        match self {
            Kind::Duration => type_name::<values::Duration>(),
            Kind::Instant => type_name::<values::Instant>(),
            Kind::Size => type_name::<values::Size>(),
            Kind::Secret => type_name::<values::SecretValue>(),
            Kind::Arguments => type_name::<values::ArgumentsValue>(),
            Kind::Cluster => type_name::<values::Cluster>(),
            Kind::Topic => type_name::<values::Topic>(),
            Kind::Group => type_name::<values::Group>(),
            Kind::Lag => type_name::<values::Lag>(),
            Kind::GroupLag => type_name::<values::GroupLag>(),
            Kind::Member => type_name::<values::Member>(),
            Kind::PartitionLog => type_name::<values::PartitionLog>(),
            Kind::Acl => type_name::<values::AclValue>(),
            Kind::Quota => type_name::<values::QuotaValue>(),
            Kind::Store => type_name::<values::StoreValue>(),
            Kind::Generation => type_name::<values::GenerationValue>(),
            Kind::Snapshot => type_name::<values::SnapshotValue>(),
            Kind::Pruned => type_name::<values::PrunedValue>(),
            Kind::Backup => type_name::<values::Backup>(),
            Kind::BackedUp => type_name::<values::BackedUp>(),
            Kind::Restore => type_name::<values::Restore>(),
            Kind::Restored => type_name::<values::Restored>(),
            Kind::OffsetPlan => type_name::<values::OffsetPlan>(),
            Kind::OffsetRow => type_name::<values::OffsetRow>(),
            Kind::Record => type_name::<values::RecordValue>(),
            Kind::Failure => type_name::<super::failure::Failure>(),
            _ => "",
        }
    }
}
