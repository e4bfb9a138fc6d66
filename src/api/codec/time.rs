//! Times and durations in Go's text forms.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Seconds from 1970 of Go's zero time, 0001-01-01T00:00:00Z, which counts as unset.
const GO_ZERO: i64 = -62_135_596_800;

const SECONDS: &str = "2006-01-02T15:04:05Z07:00";
const MICROS: &str = "2006-01-02T15:04:05.000000Z07:00";

/// An RFC 3339 time as seconds and nanoseconds; `None` inside for Go's zero time.
/// Upstream: apimachinery pkg/apis/meta/v1 time.go and micro_time.go.
pub(super) fn parse(text: &str, micro: bool) -> Result<Option<(i64, u32)>, String> {
    let (seconds, nanos) = read(text.as_bytes()).ok_or_else(|| {
        format!(
            "parsing time {} as {}: cannot parse it as RFC 3339",
            crate::quoting::quote(text),
            crate::quoting::quote(if micro { MICROS } else { SECONDS })
        )
    })?;
    Ok(((seconds, nanos) != (GO_ZERO, 0)).then_some((seconds, nanos)))
}

fn read(text: &[u8]) -> Option<(i64, u32)> {
    let number = |from: usize, to: usize| -> Option<i16> {
        text.get(from..to)?.iter().try_fold(0_i16, |sum, digit| {
            digit.is_ascii_digit().then(|| sum.wrapping_mul(10).wrapping_add(i16::from(digit - b'0')))
        })
    };
    let mark = |at: usize, byte: u8| text.get(at) == Some(&byte);
    if !(mark(4, b'-') && mark(7, b'-') && mark(10, b'T') && mark(13, b':') && mark(16, b':')) {
        return None;
    }
    let mut at = 19;
    let mut nanos = 0_u32;
    if mark(at, b'.') || mark(at, b',') {
        at += 1;
        let start = at;
        let mut scale = 100_000_000;
        while let Some(digit) = text.get(at).filter(|byte| byte.is_ascii_digit()) {
            nanos += u32::from(digit - b'0') * scale;
            scale /= 10;
            at += 1;
        }
        if at == start {
            return None;
        }
    }
    let offset = match text.get(at)? {
        b'Z' if text.len() == at + 1 => 0,
        sign @ (b'+' | b'-') if text.len() == at + 6 && mark(at + 3, b':') => {
            let (hours, minutes) = (number(at + 1, at + 3)?, number(at + 4, at + 6)?);
            if hours > 24 || minutes > 60 {
                return None;
            }
            let seconds = i64::from(hours) * 3600 + i64::from(minutes) * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    let part = |from: usize| number(from, from + 2).map(|number| number as i8);
    let civil = DateTime::new(number(0, 4)?, part(5)?, part(8)?, part(11)?, part(14)?, part(17)?, 0).ok()?;
    let seconds = TimeZone::UTC.to_timestamp(civil).ok()?.as_second();
    Some((seconds - offset, nanos))
}

/// UTC with whole seconds, or with six digits of a second.
pub(super) fn format(seconds: i64, nanos: u32, micro: bool) -> Option<String> {
    let civil = TimeZone::UTC.to_datetime(Timestamp::from_second(seconds).ok()?);
    let (year, month, day) = (civil.year(), civil.month(), civil.day());
    let (hour, minute, second) = (civil.hour(), civil.minute(), civil.second());
    let fraction = if micro { format!(".{:06}", nanos / 1000) } else { String::new() };
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z"))
}

/// Whether a text already is what `format` gives, so that it may stand as it is.
pub(super) fn is_canonical(text: &str, micro: bool) -> bool {
    text.len() == if micro { 27 } else { 20 } && text.ends_with('Z') && (!micro || text.as_bytes()[19] == b'.')
}

/// Whether protobuf's empty message stands for this time.
pub(super) fn is_zero(seconds: i64, nanos: u32) -> bool {
    (seconds, nanos) == (GO_ZERO, 0)
}

/// Go's time.ParseDuration, in nanoseconds.
pub(super) fn parse_duration(text: &str) -> Result<i64, String> {
    duration(text).ok_or_else(|| format!("time: invalid duration {}", crate::quoting::quote(text)))
}

fn duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_i128;
    while !rest.is_empty() {
        let whole = digits(rest);
        let mut number = rest[..whole].parse::<i128>().ok().or((whole == 0).then_some(0))?;
        rest = &rest[whole..];
        let mut scale = 1_i128;
        if let Some(fraction) = rest.strip_prefix('.') {
            let count = digits(fraction);
            if whole == 0 && count == 0 {
                return None;
            }
            for digit in fraction[..count.min(15)].bytes() {
                number = number * 10 + i128::from(digit - b'0');
                scale *= 10;
            }
            rest = &fraction[count..];
        } else if whole == 0 {
            return None;
        }
        let (unit, nanos) = UNITS.iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        total = total.checked_add(number.checked_mul(*nanos)? / scale)?;
        if total > i128::from(i64::MAX) + i128::from(negative) {
            return None;
        }
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// Longer names before those that begin them.
const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// Go's Duration.String: `1h0m0s`, `1.5s`, `100ms`.
pub(super) fn format_duration(nanos: i64) -> String {
    let magnitude = nanos.unsigned_abs();
    let sign = if nanos < 0 { "-" } else { "" };
    if magnitude == 0 {
        return "0s".to_owned();
    }
    if magnitude < 1_000_000_000 {
        let (unit, scale) = match magnitude {
            0..1_000 => ("ns", 1),
            1_000..1_000_000 => ("\u{b5}s", 1_000),
            _ => ("ms", 1_000_000),
        };
        return format!("{sign}{}{unit}", decimal(magnitude, scale));
    }
    let seconds = magnitude / 1_000_000_000;
    let last = decimal(magnitude - seconds / 60 * 60 * 1_000_000_000, 1_000_000_000);
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{sign}{last}s"),
        (0, minutes) => format!("{sign}{minutes}m{last}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{last}s"),
    }
}

fn decimal(value: u64, scale: u64) -> String {
    let (whole, rest) = (value / scale, value % scale);
    if rest == 0 {
        return whole.to_string();
    }
    let width = scale.ilog10() as usize;
    format!("{whole}.{}", format!("{rest:0width$}").trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_become_utc_and_lose_what_the_form_does_not_show() {
        let canonical = |text: &str, micro| {
            parse(text, micro).map(|time| time.and_then(|(seconds, nanos)| format(seconds, nanos, micro)))
        };
        assert_eq!(canonical("2026-02-03T04:05:06.789+02:00", false), Ok(Some("2026-02-03T02:05:06Z".into())));
        assert_eq!(canonical("2026-02-03T04:05:06.7891234Z", true), Ok(Some("2026-02-03T04:05:06.789123Z".into())));
        assert_eq!(canonical("0001-01-01T00:00:00Z", false), Ok(None));
        for bad in [
            "",
            "2026-02-30T00:00:00Z",
            "2026-02-03t00:00:00Z",
            "2026-02-03T00:00:60Z",
            "2026-02-03T00:00:00",
            "2026-02-03",
        ] {
            assert!(canonical(bad, false).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_written_as_go_does() {
        for (text, canonical) in [
            ("90m", "1h30m0s"),
            ("1.5s", "1.5s"),
            ("0", "0s"),
            ("-1500ms", "-1.5s"),
            ("1us", "1\u{b5}s"),
            ("3600s", "1h0m0s"),
        ] {
            assert_eq!(parse_duration(text).map(format_duration).as_deref(), Ok(canonical));
        }
        for bad in ["", "1", "s", "1x", "9999999999h", "."] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
