//! Instants and durations as operators write them: RFC 3339, epoch milliseconds, `-2h`, `90s`.

use super::TimestampMs;
use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};

/// The real clock. A run fixes its own `now` once; everything a plan holds derives from that one.
pub fn now() -> TimestampMs {
    TimestampMs(Utc::now().timestamp_millis())
}

/// `2026-11-20T09:59:59.998Z`; the bare number if it is no representable time.
pub fn format_instant(at: TimestampMs) -> String {
    match DateTime::<Utc>::from_timestamp_millis(at.0) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::Millis, true),
        None => at.0.to_string(),
    }
}

/// The day, the ISO week and the month that an instant lies in, in UTC: `2026-11-20`, `2026-W47`, `2026-11`.
pub fn calendar(at: TimestampMs) -> [String; 3] {
    match DateTime::<Utc>::from_timestamp_millis(at.0) {
        Some(time) => ["%Y-%m-%d", "%G-W%V", "%Y-%m"].map(|form| time.format(form).to_string()),
        None => [(); 3].map(|()| at.0.to_string()),
    }
}

/// In documents for machines: RFC 3339, and null for Kafka's "no timestamp" (−1).
pub fn serialize_instant<S: serde::Serializer>(
    at: &TimestampMs,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match at.0 {
        -1 => serializer.serialize_none(),
        _ => serializer.serialize_str(&format_instant(*at)),
    }
}

/// Likewise, and null for none.
pub fn serialize_maybe_instant<S: serde::Serializer>(
    at: &Option<TimestampMs>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serialize_instant(&at.unwrap_or(TimestampMs(-1)), serializer)
}

/// Parses an instant, exact to the millisecond.
///
/// RFC 3339 with any zone, the same without one (UTC), a date (its first millisecond, UTC), epoch
/// milliseconds, or a duration before `now` such as `-2h`.
pub fn parse_instant(text: &str, now: TimestampMs) -> Result<TimestampMs, String> {
    let text = text.trim();
    if text == "now" {
        return Ok(now);
    }
    if let Some(ago) = text.strip_prefix('-')
        && let Ok(ms) = parse_duration_ms(ago)
    {
        return Ok(TimestampMs(now.0 - ms));
    }
    if text.len() >= 9 && text.bytes().all(|b| b.is_ascii_digit()) {
        return text
            .parse()
            .map(TimestampMs)
            .map_err(|_| format!("not an instant: {text:?} is too large"));
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(TimestampMs(time.timestamp_millis()));
    }
    for format in [
        "%Y-%m-%dT%H:%M:%S%.f",
        "%Y-%m-%d %H:%M:%S%.f",
        "%Y-%m-%dT%H:%M",
        "%Y-%m-%d %H:%M",
    ] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, format) {
            return Ok(TimestampMs(time.and_utc().timestamp_millis()));
        }
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d")
        && let Some(time) = date.and_hms_opt(0, 0, 0)
    {
        return Ok(TimestampMs(time.and_utc().timestamp_millis()));
    }
    Err(format!(
        "not an instant: {text:?} (write 2026-11-20T10:00:00Z, 2026-11-20, epoch milliseconds, or -2h)"
    ))
}

/// Parses `250ms`, `90s`, `15m`, `2h`, `7d`, `1h30m` into milliseconds.
pub fn parse_duration_ms(text: &str) -> Result<i64, String> {
    let wrong = || format!("not a duration: {text:?} (write 250ms, 90s, 15m, 2h, 7d or 1h30m)");
    let mut rest = text.trim();
    let mut total: i64 = 0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: i64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        rest = rest[letters..].trim_start();
        total = number
            .checked_mul(unit)
            .and_then(|ms| total.checked_add(ms))
            .ok_or_else(wrong)?;
    }
    Ok(total)
}

/// `250 ms`, `19.2 s`, `38 min`, `5 h 12 min`, `3 d 4 h`.
pub fn format_duration_ms(ms: i64) -> String {
    let magnitude = ms.unsigned_abs();
    let sign = if ms < 0 { "-" } else { "" };
    let text = match magnitude {
        0..1_000 => format!("{magnitude} ms"),
        1_000..60_000 => format!("{:.1} s", magnitude as f64 / 1_000.0),
        60_000..3_600_000 => format!("{} min", magnitude / 60_000),
        3_600_000..86_400_000 => format!(
            "{} h {} min",
            magnitude / 3_600_000,
            magnitude / 60_000 % 60
        ),
        _ => format!(
            "{} d {} h",
            magnitude / 86_400_000,
            magnitude / 3_600_000 % 24
        ),
    };
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TimestampMs = TimestampMs(1_795_255_200_000);

    #[test]
    fn a_week_belongs_to_the_year_of_its_thursday() {
        let at = |text: &str| calendar(parse_instant(text, NOW).unwrap());
        assert_eq!(
            at("2026-11-20T23:59:59.999Z"),
            ["2026-11-20", "2026-W47", "2026-11"]
        );
        assert_eq!(at("2027-01-01"), ["2027-01-01", "2026-W53", "2027-01"]);
    }

    #[test]
    fn instants_are_read_to_the_millisecond_in_every_form() {
        let wanted = Ok(TimestampMs(1_795_168_799_998));
        assert_eq!(parse_instant("2026-11-20T09:59:59.998Z", NOW), wanted);
        assert_eq!(parse_instant("2026-11-20T10:59:59.998+01:00", NOW), wanted);
        assert_eq!(parse_instant("2026-11-20 09:59:59.998", NOW), wanted);
        assert_eq!(parse_instant("1795168799998", NOW), wanted);
        assert_eq!(
            parse_instant("-2h", NOW),
            Ok(TimestampMs(NOW.0 - 7_200_000))
        );
        assert!(parse_instant("yesterday-ish", NOW).is_err());
    }

    #[test]
    fn instants_are_printed_with_milliseconds() {
        assert_eq!(
            format_instant(TimestampMs(1_795_168_799_998)),
            "2026-11-20T09:59:59.998Z"
        );
    }

    #[test]
    fn durations_are_read_and_printed() {
        assert_eq!(parse_duration_ms("1h30m"), Ok(5_400_000));
        assert_eq!(parse_duration_ms("250ms"), Ok(250));
        assert!(parse_duration_ms("5 parsecs").is_err());
        assert!(parse_duration_ms("").is_err());
        assert!(parse_duration_ms("99999999999999999d").is_err());
        assert_eq!(format_duration_ms(19_200), "19.2 s");
        assert_eq!(format_duration_ms(38 * 60_000), "38 min");
    }
}
