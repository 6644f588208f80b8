//! Dates: named days, days of a month, distances, digits.
//!
//! Written here rather than left to a library: the one that was tried (interim 0.2) panics on the year 9999.
//!
//! A weekday alone means its next occurrence after today; "next friday" is the friday of the week after this one
//! (weeks begin on Monday). A day of a month without a year is the next one that is not past.

use jiff::{
    ToSpan, Zoned,
    civil::{Date, Weekday},
};

use super::{
    duration,
    words::{ordinal, words},
};

/// The day that the words name, seen from `now`.
pub(super) fn date(raw: &str, now: &Zoned) -> Option<Date> {
    if let Ok(date) = raw.parse::<Date>() {
        return Some(date);
    }
    let words = words(raw);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    of_words(&words, now.date())
}

/// The day that all the words together name.
pub(super) fn of_words(words: &[&str], today: Date) -> Option<Date> {
    let mut words = words;
    while let ["on" | "for" | "at" | "by" | "about" | "until" | "till" | "from" | "the" | "and" | "to", rest @ ..] =
        words
    {
        words = rest;
    }
    while let [rest @ .., "please" | "then" | "instead"] = words {
        words = rest;
    }
    if let [.., "morning" | "afternoon" | "evening" | "night"] = words
        && let [day @ .., _] = words
        && !day.is_empty()
        && day != ["this"]
    {
        words = day;
    }
    match words {
        ["today" | "tonight" | "now"] | ["this", "morning" | "afternoon" | "evening"] => Some(today),
        ["later", "today"] => Some(today),
        [day, "next", "week"] | ["next", "week", day] if weekday(day).is_some() => of_next_week(today, weekday(day)?),
        [day, "this", "week"] | ["this", "week", day] if weekday(day).is_some() => after(today, weekday(day)?),
        [day @ .., "of", "this", "month"] => of_month(day, today),
        [day @ .., "of", "next", "month"] => of_month(day, today.checked_add(1.month()).ok()?),
        ["tomorrow"] => today.tomorrow().ok(),
        ["yesterday"] => today.yesterday().ok(),
        ["day", "after", "tomorrow"] => today.checked_add(2.days()).ok(),
        ["day", "before", "yesterday"] => today.checked_sub(2.days()).ok(),
        ["next", "week"] => today.checked_add(1.week()).ok(),
        ["next", "month"] => today.checked_add(1.month()).ok(),
        ["next", "year"] => today.checked_add(1.year()).ok(),
        ["last", "week"] => today.checked_sub(1.week()).ok(),
        ["weekend"] | ["this", "weekend"] => on_or_after(today, Weekday::Saturday),
        ["next", "weekend"] => on_or_after(today, Weekday::Saturday)?.checked_add(1.week()).ok(),
        ["this" | "coming", day] => after(today, weekday(day)?),
        ["next", day] if weekday(day).is_some() => of_next_week(today, weekday(day)?),
        ["last", day] if weekday(day).is_some() => {
            after(today, weekday(day)?)?.checked_sub(1.week()).ok().filter(|date| *date < today)
        }
        [day] if weekday(day).is_some() => after(today, weekday(day)?),
        [digits] if digits.starts_with(|c: char| c.is_ascii_digit()) && digits.contains(['/', '.']) => {
            numeric(digits, today)
        }
        ["in", distance @ ..] => shifted(today, distance, 1),
        [distance @ .., "from", "now" | "today"] => shifted(today, distance, 1),
        [distance @ .., "ago"] => shifted(today, distance, -1),
        _ => day_of_month(words, today),
    }
}

/// "march 5th", "5 march 2027", "the second of may", "the 5th".
fn day_of_month(words: &[&str], today: Date) -> Option<Date> {
    let words: Vec<&str> = words.iter().copied().filter(|word| !matches!(*word, "of" | "the")).collect();
    let (month_name, day, year) = match words.as_slice() {
        [name, number] if month(name).is_some() => (month(name), *number, None),
        [number, name] => (Some(month(name)?), *number, None),
        [name, number, year] if month(name).is_some() => (month(name), *number, Some(*year)),
        [number, name, year] => (Some(month(name)?), *number, Some(*year)),
        [number] => (None, *number, None),
        _ => return None,
    };
    let (day, is_ordinal) = match day {
        "second" => (2, true),
        word => ordinal(word)?,
    };
    let day = i8::try_from(day).ok()?;
    let Some(month) = month_name else {
        // A bare number is no date; "the 5th" is.
        return is_ordinal.then(|| next_day_number(today, day)).flatten();
    };
    match year {
        Some(year) => Date::new(year.parse().ok()?, month, day).ok(),
        None => next_in_year(today, month, day),
    }
}

/// "the 5th" of the month that a day is in.
fn of_month(words: &[&str], month: Date) -> Option<Date> {
    let words: Vec<&str> = words.iter().copied().filter(|word| *word != "the").collect();
    let day = match words.as_slice() {
        ["second"] => 2,
        [word] => ordinal(word)?.0,
        _ => return None,
    };
    Date::new(month.year(), month.month(), i8::try_from(day).ok()?).ok()
}

/// The next day, from today on, whose number in its month is `day`.
fn next_day_number(today: Date, day: i8) -> Option<Date> {
    const MONTHS_WITHOUT_A_31ST_IN_A_ROW: i64 = 2;
    (0..=MONTHS_WITHOUT_A_31ST_IN_A_ROW)
        .filter_map(|months| {
            let month = today.first_of_month().checked_add(months.months()).ok()?;
            Date::new(month.year(), month.month(), day).ok()
        })
        .find(|date| *date >= today)
}

fn shifted(today: Date, distance: &[&str], sign: i64) -> Option<Date> {
    let span: jiff::Span = duration::of_words(distance)?.into();
    match sign {
        1 => today.checked_add(span).ok(),
        _ => today.checked_sub(span).ok(),
    }
}

fn after(today: Date, weekday: Weekday) -> Option<Date> {
    on_or_after(today.tomorrow().ok()?, weekday)
}

fn on_or_after(day: Date, weekday: Weekday) -> Option<Date> {
    let ahead = day.weekday().until(weekday);
    day.checked_add(i64::from(ahead).days()).ok()
}

fn of_next_week(today: Date, weekday: Weekday) -> Option<Date> {
    let to_monday = 7 - i64::from(today.weekday().to_monday_zero_offset());
    today.checked_add((to_monday + i64::from(weekday.to_monday_zero_offset())).days()).ok()
}

pub(super) fn weekday(word: &str) -> Option<Weekday> {
    Some(match word {
        "monday" | "mondays" | "mon" => Weekday::Monday,
        "tuesday" | "tuesdays" | "tue" | "tues" => Weekday::Tuesday,
        "wednesday" | "wednesdays" | "wed" => Weekday::Wednesday,
        "thursday" | "thursdays" | "thu" | "thur" | "thurs" => Weekday::Thursday,
        "friday" | "fridays" | "fri" => Weekday::Friday,
        "saturday" | "saturdays" | "sat" => Weekday::Saturday,
        "sunday" | "sundays" | "sun" => Weekday::Sunday,
        _ => return None,
    })
}

/// The names of the months, in order.
pub(crate) const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

fn month(word: &str) -> Option<i8> {
    let short = if word == "sept" { "sep" } else { word };
    let at = MONTHS.iter().position(|name| *name == word || name[..3] == *short)?;
    i8::try_from(at + 1).ok()
}

/// `12/24`, `12/24/2026` (month first, unless it can only be the day) or `24.12.2026` (day first).
fn numeric(word: &str, today: Date) -> Option<Date> {
    let slashed = word.contains('/');
    let parts: Vec<&str> = word.split(if slashed { '/' } else { '.' }).collect();
    let (first, second, year) = match parts.as_slice() {
        [first, second] if slashed => (first, second, None),
        [first, second, year] => (first, second, Some(*year)),
        _ => return None,
    };
    let (first, second): (i8, i8) = (first.parse().ok()?, second.parse().ok()?);
    const MONTHS: i8 = 12;
    let (month, day) = if slashed && first <= MONTHS { (first, second) } else { (second, first) };
    match year {
        // "26" is this century's.
        Some(year) if year.len() == 2 => Date::new(year.parse::<i16>().ok()?.checked_add(2000)?, month, day).ok(),
        Some(year) => Date::new(year.parse().ok()?, month, day).ok(),
        None => next_in_year(today, month, day),
    }
}

/// The next such day that is not past.
fn next_in_year(today: Date, month: i8, day: i8) -> Option<Date> {
    let years = [today.year(), today.year().checked_add(1)?];
    years.into_iter().filter_map(|year| Date::new(year, month, day).ok()).find(|date| *date >= today)
}
