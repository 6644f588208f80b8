//! Lengths of time, as ISO 8601 durations.

use std::fmt;

use super::{number::leading, words::words};

/// A length of time in the units it was said in; displayed as an ISO 8601 duration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Duration {
    pub years: i64,
    pub months: i64,
    pub weeks: i64,
    pub days: i64,
    pub hours: i64,
    pub minutes: i64,
    pub seconds: i64,
}

/// Reads "ten minutes", "an hour and a half", "1h30" or an ISO 8601 duration.
pub(super) fn duration(raw: &str) -> Option<Duration> {
    if let Some(iso) = iso(raw) {
        return Some(iso);
    }
    let words = words(raw);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    of_words(&words)
}

/// The duration that all the words together are.
pub(super) fn of_words(words: &[&str]) -> Option<Duration> {
    let mut words = words;
    while let ["for" | "in" | "about" | "around" | "of" | "to" | "the" | "exactly", rest @ ..] = words {
        words = rest;
    }
    while let [rest @ .., "please" | "long" | "exactly"] = words {
        words = rest;
    }
    let mut total = Duration::default();
    let mut last_unit = None;
    let mut any = false;
    while !words.is_empty() {
        let (amount, unit, rest) = match words {
            ["and", rest @ ..] if any => {
                words = rest;
                continue;
            }
            // "an hour and a half": half of the unit before
            ["a" | "an", "half"] | ["half"] if any => (0.5, last_unit?, &words[words.len()..]),
            ["half", "a" | "an", unit, rest @ ..] | ["a", "half", unit, rest @ ..] => (0.5, Unit::named(unit)?, rest),
            ["a", "quarter", "of", "an" | "a", unit, rest @ ..] => (0.25, Unit::named(unit)?, rest),
            ["a", "couple", "of", unit, rest @ ..] => (2.0, Unit::named(unit)?, rest),
            ["a" | "an", unit, rest @ ..] if Unit::named(unit).is_some() => (1.0, Unit::named(unit)?, rest),
            _ => {
                let (amount, used) = leading(words)?;
                match &words[used..] {
                    [unit, rest @ ..] => (amount, Unit::named(unit)?, rest),
                    // "1h30": the unit below the one before
                    [] => (amount, last_unit?.below()?, &words[words.len()..]),
                }
            }
        };
        total.add(amount, unit)?;
        last_unit = Some(unit);
        any = true;
        words = rest;
    }
    (any && total != Duration::default()).then_some(total)
}

fn iso(raw: &str) -> Option<Duration> {
    if !raw.starts_with(['P', 'p']) {
        return None;
    }
    let span: jiff::Span = raw.parse().ok()?;
    if span.is_negative() || span.is_zero() {
        return None;
    }
    Some(Duration {
        years: span.get_years().into(),
        months: span.get_months().into(),
        weeks: span.get_weeks().into(),
        days: span.get_days().into(),
        hours: span.get_hours().into(),
        minutes: span.get_minutes(),
        seconds: span.get_seconds(),
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Year,
    Month,
    Week,
    Day,
    Hour,
    Minute,
    Second,
}

impl Unit {
    fn named(word: &str) -> Option<Self> {
        Some(match word {
            "year" | "years" => Self::Year,
            "month" | "months" => Self::Month,
            "week" | "weeks" => Self::Week,
            "day" | "days" | "d" => Self::Day,
            "hour" | "hours" | "h" | "hr" | "hrs" => Self::Hour,
            "minute" | "minutes" | "m" | "min" | "mins" => Self::Minute,
            "second" | "seconds" | "s" | "sec" | "secs" => Self::Second,
            _ => return None,
        })
    }

    fn below(self) -> Option<Self> {
        match self {
            Self::Hour => Some(Self::Minute),
            Self::Minute => Some(Self::Second),
            _ => None,
        }
    }
}

impl Duration {
    /// Adds `amount` units; a part of a unit is given in the units below. `None` when it does not come out even.
    fn add(&mut self, amount: f64, unit: Unit) -> Option<()> {
        const MAX_AMOUNT: f64 = 1e6;
        if !(0.0..=MAX_AMOUNT).contains(&amount) {
            return None;
        }
        let whole = amount.trunc();
        let part = amount.fract();
        let count = whole as i64;
        match unit {
            Unit::Year => self.years += count,
            Unit::Month => self.months += count,
            Unit::Week => self.weeks += count,
            Unit::Day => self.days += count,
            Unit::Hour => self.hours += count,
            Unit::Minute => self.minutes += count,
            Unit::Second => self.seconds += count,
        }
        if part == 0.0 {
            return Some(());
        }
        match unit {
            Unit::Year => self.add((part * 12.0).round(), Unit::Month),
            Unit::Day => self.add((part * 24.0).round(), Unit::Hour),
            Unit::Hour => self.add((part * 60.0).round(), Unit::Minute),
            Unit::Minute => self.add((part * 60.0).round(), Unit::Second),
            Unit::Month | Unit::Week | Unit::Second => None,
        }
    }
}

impl From<Duration> for jiff::Span {
    fn from(duration: Duration) -> Self {
        jiff::Span::new()
            .try_years(duration.years)
            .and_then(|span| span.try_months(duration.months))
            .and_then(|span| span.try_weeks(duration.weeks))
            .and_then(|span| span.try_days(duration.days))
            .and_then(|span| span.try_hours(duration.hours))
            .and_then(|span| span.try_minutes(duration.minutes))
            .and_then(|span| span.try_seconds(duration.seconds))
            .unwrap_or_default()
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("P")?;
        let units = [(self.years, 'Y'), (self.months, 'M'), (self.weeks, 'W'), (self.days, 'D')];
        for (amount, unit) in units.into_iter().filter(|(amount, _)| *amount > 0) {
            write!(f, "{amount}{unit}")?;
        }
        let clock = [(self.hours, 'H'), (self.minutes, 'M'), (self.seconds, 'S')];
        if clock.iter().any(|(amount, _)| *amount > 0) {
            f.write_str("T")?;
        }
        for (amount, unit) in clock.into_iter().filter(|(amount, _)| *amount > 0) {
            write!(f, "{amount}{unit}")?;
        }
        Ok(())
    }
}
