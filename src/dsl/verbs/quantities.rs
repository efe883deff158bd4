//! Durations, instants and sizes: numbers that know what they count.

use crate::base::TimestampMs;
use crate::base::size::{parse_bytes, parse_rate};
use crate::base::time::{parse_duration_ms, parse_instant};
use crate::dsl::failure::Failure;
use crate::dsl::invocation::Invocation;
use crate::dsl::kind::Kind;
use crate::dsl::table::{Entry, Parameter};
use crate::dsl::values::{Duration, Instant, Size};
use rhai::Dynamic;

const COUNT: &[Parameter] = &[Parameter::one("count", &[Kind::Number])];

pub static TABLE: &[Entry] = &[
    Entry::function("days", COUNT, Kind::Duration, |call| duration(call, 86_400_000))
        .doc("A duration of so many days of 24 hours.")
        .example("days(7)"),
    Entry::function("hours", COUNT, Kind::Duration, |call| duration(call, 3_600_000))
        .doc("A duration of so many hours.")
        .example("hours(1)"),
    Entry::function("minutes", COUNT, Kind::Duration, |call| duration(call, 60_000))
        .doc("A duration of so many minutes.")
        .example("minutes(5)"),
    Entry::function("seconds", COUNT, Kind::Duration, |call| duration(call, 1_000))
        .doc("A duration of so many seconds.")
        .example("seconds(90)"),
    Entry::function("ms", COUNT, Kind::Duration, |call| duration(call, 1))
        .doc("A duration of so many milliseconds.")
        .example("ms(250)"),
    Entry::function(
        "duration",
        &[Parameter::one("text", &[Kind::Text])],
        Kind::Duration,
        |call| {
            let text = call.text(0)?;
            parse_duration_ms(&text)
                .map(|ms| Dynamic::from(Duration(ms)))
                .map_err(|error| Failure::script("E0214", error))
        },
    )
    .doc("A duration from text, for example from an argument of the runbook.")
    .example("duration(\"1h30m\")"),
    Entry::function("now", &[], Kind::Instant, |call| {
        Ok(Dynamic::from(Instant(call.host()?.read_now())))
    })
    .doc("The clock of the run. It stands still: a plan and its execution see the same instant.")
    .example("now() - hours(2)"),
    Entry::function(
        "instant",
        &[Parameter::one("text", &[Kind::Text])],
        Kind::Instant,
        |call| Ok(Dynamic::from(Instant(instant_of(call, &call.text(0)?)?))),
    )
    .doc(
        "An instant from text: RFC 3339, a date, epoch milliseconds, or a duration before now such as `-2h`.",
    )
    .example("instant(\"2026-11-20T10:00:00Z\")"),
    Entry::function("bytes", COUNT, Kind::Size, |call| size(call, 1))
        .doc("A size of so many bytes.")
        .example("bytes(4096)"),
    Entry::function("kib", COUNT, Kind::Size, |call| size(call, 1 << 10))
        .doc("A size of so many KiB.")
        .example("kib(64)"),
    Entry::function("mib", COUNT, Kind::Size, |call| size(call, 1 << 20))
        .doc("A size of so many MiB.")
        .example("mib(64)"),
    Entry::function("gib", COUNT, Kind::Size, |call| size(call, 1 << 30))
        .doc("A size of so many GiB.")
        .example("gib(1)"),
    Entry::function(
        "size",
        &[Parameter::one("text", &[Kind::Text])],
        Kind::Size,
        |call| {
            let text = call.text(0)?;
            parse_bytes(&text)
                .map(|bytes| Dynamic::from(Size(bytes)))
                .map_err(|error| Failure::script("E0214", error))
        },
    )
    .doc("A size from text.")
    .example("size(\"64MiB\")"),
    Entry::property(Kind::Duration, "seconds", Kind::Number, |call| {
        Ok((call.me::<Duration>()?.0 / 1_000).into())
    })
    .doc("Whole seconds."),
    Entry::property(Kind::Duration, "ms", Kind::Number, |call| {
        Ok(call.me::<Duration>()?.0.into())
    })
    .doc("Milliseconds."),
    Entry::property(Kind::Instant, "ms", Kind::Number, |call| {
        Ok(call.me::<Instant>()?.0.0.into())
    })
    .doc("Milliseconds since 1970-01-01T00:00:00Z, as Kafka counts time."),
    Entry::property(Kind::Size, "bytes", Kind::Number, |call| {
        Ok(i64::try_from(call.me::<Size>()?.0).unwrap_or(i64::MAX).into())
    })
    .doc("The number of bytes."),
];

fn duration(call: &Invocation, unit: i64) -> Result<Dynamic, Failure> {
    let count: i64 = call.argument(0)?;
    count
        .checked_mul(unit)
        .map(|ms| Dynamic::from(Duration(ms)))
        .ok_or_else(|| Failure::script("E0211", "the duration is too long"))
}

fn size(call: &Invocation, unit: u64) -> Result<Dynamic, Failure> {
    let count: i64 = call.argument(0)?;
    u64::try_from(count)
        .ok()
        .and_then(|count| count.checked_mul(unit))
        .map(|bytes| Dynamic::from(Size(bytes)))
        .ok_or_else(|| Failure::script("E0211", "a size is not negative and fits in 64 bits"))
}

/// An instant from text. A text that counts from now makes the plan depend on the clock.
pub fn instant_of(call: &Invocation, text: &str) -> Result<TimestampMs, Failure> {
    let host = call.host()?;
    let relative = text.trim_start().starts_with('-') || text.trim() == "now";
    let now = if relative { host.read_now() } else { host.now };
    parse_instant(text, now).map_err(|error| Failure::script("E0214", error))
}

/// Bytes per second, from the only argument: a text like `50 MB/s`, or a size.
pub fn rate_of(call: &Invocation) -> Result<u64, Failure> {
    match call.argument::<Size>(0) {
        Ok(size) if size.0 > 0 => Ok(size.0),
        Ok(_) => Err(Failure::script("E0214", "a limit of nothing per second")),
        Err(_) => parse_rate(&call.text(0)?).map_err(|error| Failure::script("E0214", error)),
    }
}
