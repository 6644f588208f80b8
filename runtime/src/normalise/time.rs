//! Times of day and moments.
//!
//! A bare hour is taken at its word ("seven" is 07:00) unless "pm", "evening" or "tonight" says otherwise.

use jiff::{
    Timestamp, Zoned,
    civil::{Date, Time},
};

use super::{date, duration, words::words};

/// The time of day that the words name; "in ten minutes" counts from `now`.
pub(super) fn time(raw: &str, now: &Zoned) -> Option<Time> {
    let words = words(raw);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    of_words(&words, now)
}

/// `HH:MM`, with seconds only when there are some.
pub(super) fn display(time: Time) -> String {
    match time.second() {
        0 => format!("{:02}:{:02}", time.hour(), time.minute()),
        second => format!("{:02}:{:02}:{second:02}", time.hour(), time.minute()),
    }
}

/// A moment, RFC 3339 with `now`'s offset. A time alone is its next occurrence; a date alone is its midnight.
pub(super) fn date_time(raw: &str, now: &Zoned) -> Option<String> {
    if let Ok(moment) = raw.parse::<Timestamp>() {
        return Some(rfc3339(&moment.to_zoned(now.time_zone().clone())));
    }
    if let Ok(moment) = raw.parse::<jiff::civil::DateTime>()
        && raw.contains(':')
    {
        return moment.to_zoned(now.time_zone().clone()).ok().as_ref().map(rfc3339);
    }
    let words = words(raw);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let Some(moment) = relative(&words, now) {
        return Some(rfc3339(&moment));
    }
    let today = now.date();
    // The date first or last; the longest stretch that is a date wins.
    let split = (1..words.len()).rev().find_map(|at| {
        let leading =
            date::of_words(&words[..at], today).zip(of_words(&with_day_part(&words[..at], &words[at..]), now));
        leading.or_else(|| {
            date::of_words(&words[words.len() - at..], today).zip(of_words(&words[..words.len() - at], now))
        })
    });
    let (day, time) = match split {
        Some(found) => found,
        None => match (of_words(&words, now), date::date(raw, now)) {
            (Some(time), _) => (next_occurrence(time, now)?, time),
            (None, Some(day)) => (day, Time::midnight()),
            (None, None) => return None,
        },
    };
    day.to_datetime(time).to_zoned(now.time_zone().clone()).ok().as_ref().map(rfc3339)
}

/// "tomorrow evening" | "at eight": the part of the day belongs to the time as well.
fn with_day_part<'a>(day: &[&'a str], time: &[&'a str]) -> Vec<&'a str> {
    let mut words = time.to_vec();
    if let Some(part @ ("evening" | "afternoon" | "night" | "tonight" | "morning")) = day.last().copied() {
        words.push(part);
    }
    words
}

fn next_occurrence(time: Time, now: &Zoned) -> Option<Date> {
    match time >= now.time() {
        true => Some(now.date()),
        false => now.date().tomorrow().ok(),
    }
}

fn rfc3339(moment: &Zoned) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

/// "in two hours", "ten minutes from now".
fn relative(words: &[&str], now: &Zoned) -> Option<Zoned> {
    let distance = match words {
        ["now"] => return Some(now.clone()),
        ["in", distance @ ..] => distance,
        [distance @ .., "from", "now"] => distance,
        _ => return None,
    };
    let span: jiff::Span = duration::of_words(distance)?.into();
    now.checked_add(span).ok()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum HalfDay {
    Am,
    Pm,
    Night,
}

/// The time that all the words together name.
pub(super) fn of_words(words: &[&str], now: &Zoned) -> Option<Time> {
    if let Some(moment) = relative(words, now) {
        let time = moment.time();
        return Time::new(time.hour(), time.minute(), 0, 0).ok();
    }
    let (words, half_day) = without_half_day(words);
    let mut words = words.as_slice();
    while let [
        "at" | "around" | "about" | "by" | "for" | "to" | "from" | "until" | "till" | "the" | "on" | "it" | "is"
        | "make" | "it's" | "exactly",
        rest @ ..,
    ] = words
    {
        words = rest;
    }
    while let [rest @ .., "please" | "sharp" | "exactly" | "o'clock" | "oclock" | "instead"] = words {
        words = rest;
    }
    let time = clock(words)?;
    match half_day {
        None => Some(time),
        Some(half_day) => in_half_day(time, half_day),
    }
}

/// Takes "pm", "in the evening", "tonight" and the like out of the words.
fn without_half_day<'a>(words: &[&'a str]) -> (Vec<&'a str>, Option<HalfDay>) {
    let mut kept: Vec<&str> = Vec::with_capacity(words.len());
    let mut half_day = None;
    for word in words {
        let found = match *word {
            "am" | "morning" => HalfDay::Am,
            "pm" | "afternoon" | "evening" => HalfDay::Pm,
            "night" | "tonight" => HalfDay::Night,
            other => {
                kept.push(other);
                continue;
            }
        };
        half_day = Some(found);
        if matches!(*word, "morning" | "afternoon" | "evening" | "night") {
            while kept.len() > 1 && matches!(kept.last(), Some(&("the" | "in" | "at" | "this"))) {
                kept.pop();
            }
        }
    }
    (kept, half_day)
}

fn in_half_day(time: Time, half_day: HalfDay) -> Option<Time> {
    const NOON: i8 = 12;
    const FIRST_HOUR_OF_NIGHT: i8 = 6;
    let hour = match (half_day, time.hour()) {
        // "midnight tonight" and "18:00 pm" need no shift; "13 am" is nonsense.
        (HalfDay::Am, NOON) => 0,
        (HalfDay::Am, hour) if hour > NOON => return None,
        (HalfDay::Am, hour) => hour,
        (HalfDay::Pm, hour @ 1..NOON) => hour + NOON,
        (HalfDay::Night, NOON) => 0,
        (HalfDay::Night, hour @ FIRST_HOUR_OF_NIGHT..NOON) => hour + NOON,
        (HalfDay::Pm, hour) if hour != NOON => return None,
        (_, hour) => hour,
    };
    Time::new(hour, time.minute(), time.second(), 0).ok()
}

/// The words of a clock: "seven", "7:30", "seven thirty", "half past six", "quarter to noon".
fn clock(words: &[&str]) -> Option<Time> {
    let at = |hour: i64, minute: i64| Time::new(i8::try_from(hour % 24).ok()?, i8::try_from(minute).ok()?, 0, 0).ok();
    match words {
        [one] => single(one),
        ["half", "past", hour] => at(hour_of(hour)?, 30),
        ["a", rest @ ..] => clock(rest),
        [minutes, "past" | "after", hour] => at(hour_of(hour)?, minutes_of(minutes)?),
        [minutes, "minutes" | "minute", "past" | "after", hour] => at(hour_of(hour)?, minutes_of(minutes)?),
        [minutes, "to" | "before" | "of" | "till", hour] | [minutes, "minutes" | "minute", "to" | "before", hour] => {
            let minutes = minutes_of(minutes)?;
            let hour = hour_of(hour)?;
            match minutes {
                0 => at(hour, 0),
                minutes => at((hour + 23) % 24, 60 - minutes),
            }
        }
        [hour, "oh" | "o", minute] => at(hour_of(hour)?, minutes_of(minute).filter(|minute| *minute < 10)?),
        [hour, "h"] => at(hour_of(hour)?, 0),
        [hour, "h", minute] | [hour, minute] => at(hour_of(hour)?, minutes_of(minute)?),
        _ => None,
    }
}

fn single(word: &str) -> Option<Time> {
    match word {
        "noon" | "midday" => return Time::new(12, 0, 0, 0).ok(),
        "midnight" => return Some(Time::midnight()),
        _ => {}
    }
    let parts: Vec<&str> = word.split([':', '.']).collect();
    let small = |part: &str| {
        (part.len() <= 2 && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse::<i8>().ok()).flatten()
    };
    match parts.as_slice() {
        [hour] => Time::new(i8::try_from(hour_of(hour)?).ok()? % 24, 0, 0, 0).ok(),
        [hour, minute] if minute.len() == 2 => Time::new(small(hour)?, small(minute)?, 0, 0).ok(),
        [hour, minute, second] if minute.len() == 2 && second.len() == 2 => {
            Time::new(small(hour)?, small(minute)?, small(second)?, 0).ok()
        }
        _ => None,
    }
}

fn hour_of(word: &str) -> Option<i64> {
    match word {
        "noon" | "midday" => Some(12),
        "midnight" => Some(0),
        word => number(word).filter(|hour| (0..=24).contains(hour)),
    }
}

fn minutes_of(word: &str) -> Option<i64> {
    match word {
        "quarter" => Some(15),
        word => number(word).filter(|minute| (0..60).contains(minute)),
    }
}

fn number(word: &str) -> Option<i64> {
    (word.len() <= 2 && word.bytes().all(|b| b.is_ascii_digit())).then(|| word.parse().ok()).flatten()
}
