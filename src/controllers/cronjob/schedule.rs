//! Cron schedules: five fields, or `@hourly` and the like, in a time zone.
//!
//! Upstream: github.com/robfig/cron/v3 ParseStandard and SpecSchedule.Next, which the API promises.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

/// When something is due.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    zone: TimeZone,
    due: Due,
}

#[derive(Debug, Clone)]
enum Due {
    Fields(Fields),
    Every(Duration),
}

/// One bit for each value; whether days were left open.
#[derive(Debug, Clone, Default)]
struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    any_day: bool,
    any_weekday: bool,
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const NAMED: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

impl Schedule {
    /// A schedule may name its zone itself: `TZ=Europe/Rome 0 5 * * *`.
    pub(super) fn parse(text: &str, zone: &TimeZone) -> Result<Self, String> {
        let text = text.trim();
        if let Some(rest) = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
            let (name, rest) = rest.split_once(' ').ok_or("no schedule after the time zone")?;
            let zone = TimeZone::get(name).map_err(|error| format!("provided bad location {name}: {error}"))?;
            return Self::parse(rest, &zone);
        }
        let due = if let Some(every) = text.strip_prefix("@every ") {
            let every = duration(every).ok_or_else(|| format!("failed to parse duration {text}"))?;
            Due::Every(Duration::from_secs(every.as_secs().max(1)))
        } else if text.starts_with('@') {
            let named = NAMED.iter().find(|(name, _)| *name == text);
            let (_, fields) = named.ok_or_else(|| format!("unrecognized descriptor: {text}"))?;
            Due::Fields(Fields::parse(fields)?)
        } else {
            Due::Fields(Fields::parse(text)?)
        };
        Ok(Self { zone: zone.clone(), due })
    }

    /// The first time after `after`; `None` when there is none in five years.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.due {
            Due::Every(every) => {
                Timestamp::from_second(after.as_second().checked_add(every.as_secs().try_into().ok()?)?).ok()
            }
            Due::Fields(fields) => {
                let start = Timestamp::from_second(after.as_second() + 1).ok()?.to_zoned(self.zone.clone());
                fields.first_from(start).ok()?.map(|at| at.timestamp())
            }
        }
    }
}

impl Fields {
    fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = parts[..] else {
            return Err(format!("expected exactly 5 fields, found {}: [{}]", parts.len(), parts.join(" ")));
        };
        let (days, any_day) = field(days, 1, 31, &[])?;
        let (weekdays, any_weekday) = field(weekdays, 0, 6, &WEEKDAYS)?;
        Ok(Self {
            minutes: field(minutes, 0, 59, &[])?.0,
            hours: field(hours, 0, 23, &[])?.0,
            days,
            months: field(months, 1, 12, &MONTHS)?.0,
            weekdays,
            any_day,
            any_weekday,
        })
    }

    /// Where both kinds of day are given, either will do.
    fn on_day(&self, at: &Zoned) -> bool {
        let day = has(self.days, at.day());
        let weekday = has(self.weekdays, at.weekday().to_sunday_zero_offset());
        if self.any_day || self.any_weekday { day && weekday } else { day || weekday }
    }

    /// Goes on by the largest unit that does not match. Hours pass as they do on the wall: one that is skipped is not
    /// due, one that comes twice is due twice.
    fn first_from(&self, mut at: Zoned) -> Result<Option<Zoned>, jiff::Error> {
        let last_year = at.year() + 5;
        while at.year() <= last_year {
            if !has(self.months, at.month()) {
                at = at.first_of_month()?.start_of_day()?.checked_add(1.month())?.start_of_day()?;
            } else if !self.on_day(&at) {
                at = at.tomorrow()?.start_of_day()?;
            } else if !has(self.hours, at.hour()) {
                at = at.with().minute(0).second(0).build()?.checked_add(1.hour())?;
            } else if !has(self.minutes, at.minute()) || at.second() != 0 {
                at = at.with().second(0).build()?.checked_add(1.minute())?;
            } else {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }
}

fn has(bits: u64, value: i8) -> bool {
    bits >> value & 1 == 1
}

/// The bits of a field, and whether it is open (`*`).
fn field(text: &str, lowest: u32, highest: u32, names: &[&str]) -> Result<(u64, bool), String> {
    let (mut bits, mut open) = (0, false);
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (range, step) = match part.split_once('/') {
            None => (part, None),
            Some((range, step)) => (range, Some(number(step, lowest, &[])?)),
        };
        let (first, last) = match range.split_once('-') {
            _ if matches!(range, "*" | "?") => {
                open |= step.is_none_or(|step| step == 1);
                (lowest, highest)
            }
            Some((first, last)) => (number(first, lowest, names)?, number(last, lowest, names)?),
            None => {
                let first = number(range, lowest, names)?;
                (first, if step.is_some() { highest } else { first })
            }
        };
        let step = step.unwrap_or(1);
        if first < lowest {
            return Err(format!("beginning of range ({first}) below minimum ({lowest}): {part}"));
        }
        if last > highest {
            return Err(format!("end of range ({last}) above maximum ({highest}): {part}"));
        }
        if first > last {
            return Err(format!("beginning of range ({first}) beyond end of range ({last}): {part}"));
        }
        if step == 0 {
            return Err(format!("step of range should be a positive number: {part}"));
        }
        bits |= (first..=last).step_by(step as usize).fold(0, |bits, value| bits | 1 << value);
    }
    Ok((bits, open))
}

/// A number, or the name of a month or day, the first of which is `lowest`.
fn number(text: &str, lowest: u32, names: &[&str]) -> Result<u32, String> {
    if let Some(position) = names.iter().position(|name| text.eq_ignore_ascii_case(name)) {
        return Ok(position as u32 + lowest);
    }
    text.parse().map_err(|_| format!("failed to parse int from {text}"))
}

/// A Go duration in whole units: `1h30m`.
fn duration(text: &str) -> Option<Duration> {
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|it: char| !it.is_ascii_digit() && it != '.')?;
        let amount: f64 = rest[..end].parse().ok()?;
        let unit = &rest[end..];
        let length = unit.find(|it: char| it.is_ascii_digit()).unwrap_or(unit.len());
        let seconds = match &unit[..length] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        total += amount * seconds;
        rest = &unit[length..];
    }
    Duration::try_from_secs_f64(total).ok().filter(|_| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(schedule: &str, zone: &str, from: &str, count: usize) -> String {
        let schedule = Schedule::parse(schedule, &TimeZone::get(zone).unwrap()).unwrap();
        let mut at: Timestamp = from.parse().unwrap();
        let times = std::iter::from_fn(|| {
            at = schedule.next(at)?;
            Some(at.to_string())
        });
        times.take(count).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn schedules_name_times() {
        let cases = [
            ("*/15 * * * *", "2026-03-01T10:07:30Z", "2026-03-01T10:15:00Z 2026-03-01T10:30:00Z"),
            ("0 5 * * mon-fri", "2026-03-06T06:00:00Z", "2026-03-09T05:00:00Z 2026-03-10T05:00:00Z"),
            ("0 0 13 * 5", "2026-03-01T00:00:00Z", "2026-03-06T00:00:00Z 2026-03-13T00:00:00Z"),
            ("0 0 31 * *", "2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z 2026-07-31T00:00:00Z"),
            ("30 3/12 * FEB ?", "2026-01-31T00:00:00Z", "2026-02-01T03:30:00Z 2026-02-01T15:30:00Z"),
            ("0 0 30 2 *", "2026-01-31T00:00:00Z", ""),
            ("@hourly", "2026-01-31T23:59:59Z", "2026-02-01T00:00:00Z 2026-02-01T01:00:00Z"),
            ("@every 1h30m", "2026-01-31T23:00:00Z", "2026-02-01T00:30:00Z 2026-02-01T02:00:00Z"),
            ("TZ=Asia/Tokyo 0 9 * * *", "2026-01-31T23:00:00Z", "2026-02-01T00:00:00Z 2026-02-02T00:00:00Z"),
        ];
        for (schedule, from, expected) in cases {
            assert_eq!(times(schedule, "UTC", from, 2), expected, "{schedule}");
        }
    }

    #[test]
    fn clocks_that_jump() {
        // 02:30 does not exist on 29 March; 01:30 comes twice on 25 October.
        let spring = times("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 2);
        assert_eq!(spring, "2026-03-28T01:30:00Z 2026-03-30T00:30:00Z");
        let autumn = times("30 2 * * *", "Europe/Berlin", "2026-10-24T22:30:00Z", 2);
        assert_eq!(autumn, "2026-10-25T00:30:00Z 2026-10-25T01:30:00Z");
    }

    #[test]
    fn what_is_no_schedule_is_said() {
        for text in
            ["", "* * * *", "60 * * * *", "* * 0 * *", "5-1 * * * *", "*/0 * * * *", "x * * * *", "@often", "* * * * 7"]
        {
            assert!(Schedule::parse(text, &TimeZone::UTC).is_err(), "{text}");
        }
    }
}
