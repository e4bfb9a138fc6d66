//! The grammar of cron schedules. Upstream: github.com/robfig/cron/v3 ParseStandard.

/// Name, lowest and highest value, names of values from the lowest on.
const FIELDS: [(u64, u64, &[&str]); 5] = [
    (0, 59, &[]),
    (0, 23, &[]),
    (1, 31, &[]),
    (1, 12, &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]),
    (0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];

const DESCRIPTORS: &[&str] = &["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// What is wrong with a schedule.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    let mut rest = schedule;
    if rest.starts_with("TZ=") || rest.starts_with("CRON_TZ=") {
        let (zone, after) = rest.split_once(' ').unwrap_or((rest, ""));
        let name = zone.split_once('=').map_or("", |(_, name)| name);
        if !matches!(name, "" | "UTC" | "Local") && jiff::tz::TimeZone::get(name).is_err() {
            return Err(format!("provided bad location {name}: unknown time zone {name}"));
        }
        rest = after.trim();
    }
    if rest.starts_with('@') {
        return descriptor(rest);
    }
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if fields.len() != 5 {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    fields.iter().zip(FIELDS).try_for_each(|(text, limits)| text.split(',').try_for_each(|part| range(part, limits)))
}

fn descriptor(text: &str) -> Result<(), String> {
    if DESCRIPTORS.contains(&text) {
        return Ok(());
    }
    match text.strip_prefix("@every ") {
        Some(duration) if is_duration(duration) => Ok(()),
        Some(duration) => {
            let quoted = crate::quoting::quote(duration);
            Err(format!("failed to parse duration {text}: time: invalid duration {quoted}"))
        }
        None => Err(format!("unrecognized descriptor: {text}")),
    }
}

/// As Go writes durations: `1h30m`.
fn is_duration(text: &str) -> bool {
    let mut rest = text.trim_start_matches(['-', '+']);
    if rest == "0" {
        return true;
    }
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
        let unit = ["ns", "us", "µs", "ms", "s", "m", "h"].iter().find(|unit| {
            rest[digits..].strip_prefix(**unit).is_some_and(|after| !after.starts_with(char::is_alphabetic))
        });
        let Some(unit) = unit.filter(|_| digits > 0) else { return false };
        rest = &rest[digits + unit.len()..];
    }
    !text.is_empty()
}

fn range(text: &str, (low, high, names): (u64, u64, &[&str])) -> Result<(), String> {
    let (whole, step) = match text.split('/').collect::<Vec<_>>()[..] {
        [whole] => (whole, None),
        [whole, step] => (whole, Some(step)),
        _ => return Err(format!("too many slashes: {text}")),
    };
    let (first, last) = match whole.split('-').collect::<Vec<_>>()[..] {
        ["*" | "?"] => (low, high),
        [single] => {
            let number = value(single, low, names)?;
            (number, if step.is_some() { high } else { number })
        }
        ["*" | "?", _] => (low, high),
        [first, last] => (value(first, low, names)?, value(last, low, names)?),
        _ => return Err(format!("too many hyphens: {text}")),
    };
    let step = step.map_or(Ok(1), number)?;
    if first < low {
        return Err(format!("beginning of range ({first}) below minimum ({low}): {text}"));
    }
    if last > high {
        return Err(format!("end of range ({last}) above maximum ({high}): {text}"));
    }
    if first > last {
        return Err(format!("beginning of range ({first}) beyond end of range ({last}): {text}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    Ok(())
}

fn value(text: &str, low: u64, names: &[&str]) -> Result<u64, String> {
    let lower = text.to_lowercase();
    match names.iter().position(|name| *name == lower) {
        Some(place) => Ok(low + place as u64),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u64, String> {
    let quoted = crate::quoting::quote(text);
    let parsed: i64 = text
        .parse()
        .map_err(|_| format!("failed to parse int from {text}: strconv.Atoi: parsing {quoted}: invalid syntax"))?;
    u64::try_from(parsed).map_err(|_| format!("negative number ({parsed}) not allowed: {text}"))
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn schedules_have_five_fields_or_a_name() {
        for good in
            ["*/5 * * * *", "@hourly", "@every 1h30m", "0 0 1,15 JAN-MAR mon", "TZ=UTC 0 0 * * *", "1-5/2 * ? * 0"]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("at noon", "expected exactly 5 fields, found 2: [at noon]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("@never", "unrecognized descriptor: @never"),
            ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
        ] {
            assert_eq!(check(bad), Err(why.to_owned()), "{bad}");
        }
    }
}
