//! Byte sizes: `64 MiB` in, `1.1 GiB` out.

const UNITS: [(&str, u64); 5] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// `1181116006` → `1.1 GiB`; three significant digits at most.
pub fn format_bytes(bytes: u64) -> String {
    let (unit, size) = UNITS
        .into_iter()
        .find(|(_, size)| bytes >= *size)
        .unwrap_or(("B", 1));
    let whole = bytes / size;
    if size == 1 || whole >= 10 {
        return format!("{} {unit}", (bytes as f64 / size as f64).round() as u64);
    }
    format!("{:.1} {unit}", bytes as f64 / size as f64)
}

/// Parses `4096`, `64KiB`, `64 MB`, `1.5 GiB`. Decimal units are powers of 1000, binary ones of 1024.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_')
        .unwrap_or(text.len());
    let number: f64 = text[..split]
        .replace('_', "")
        .parse()
        .map_err(|_| format!("not a size: {text:?} (write 4096, 64MiB or 1.5 GB)"))?;
    let factor: u64 = match text[split..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        unit => {
            return Err(format!(
                "no size unit {unit:?} in {text:?} (B, KiB, MiB, GiB, TiB, KB, MB, GB, TB)"
            ));
        }
    };
    Ok((number * factor as f64) as u64)
}

/// Parses bytes per second: `50 MB/s`, `50MiB/s`, `1000000`.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let bytes = text.strip_suffix("/s").unwrap_or(text);
    match parse_bytes(bytes) {
        Ok(0) => Err(format!("not a rate: {text:?} is nothing per second")),
        Ok(bytes) => Ok(bytes),
        Err(why) => Err(format!("not a rate (50 MB/s, 800 KiB/s): {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_printed_short() {
        assert_eq!(format_bytes(0), "0 B");
        assert_eq!(format_bytes(1023), "1023 B");
        assert_eq!(format_bytes(1536), "1.5 KiB");
        assert_eq!(format_bytes(63_963_136), "61 MiB");
        assert_eq!(format_bytes(1_181_116_006), "1.1 GiB");
    }

    #[test]
    fn sizes_are_parsed_with_both_kinds_of_unit() {
        assert_eq!(parse_bytes("4096"), Ok(4096));
        assert_eq!(parse_bytes("64MiB"), Ok(64 << 20));
        assert_eq!(parse_bytes("1.5 GB"), Ok(1_500_000_000));
        assert!(parse_bytes("12 parsecs").is_err());
    }

    #[test]
    fn rates_are_sizes_per_second() {
        assert_eq!(parse_rate("50 MB/s"), Ok(50_000_000));
        assert_eq!(parse_rate("8MiB/s"), Ok(8 << 20));
        assert_eq!(parse_rate("4096"), Ok(4096));
        assert!(parse_rate("0 MB/s").is_err());
        assert!(parse_rate("50 MB/min").is_err());
    }
}
