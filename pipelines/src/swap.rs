//! More examples out of few: copies whose arguments carry the values of other examples.
//!
//! "wake me at \[seven\](time)" and "an alarm for \[half past six\](time)" teach four wordings instead of
//! two. Only training examples are swapped, with values of training examples.

use mynah_data::{Example, Slot};
use std::collections::BTreeMap;

use crate::dropout::split_mix;

/// Above so many examples there are values enough.
pub(crate) const LIMIT: usize = 4_000;
/// In a run after a conversation, which is to be short.
pub(crate) const SESSION_LIMIT: usize = 500;

/// `examples` followed by `copies` of each that has arguments, with values drawn by `seed` from those
/// that the same function gives the same argument; without copies where there are more than `limit`.
pub(crate) fn with_swapped_values(mut examples: Vec<Example>, copies: usize, limit: usize, seed: u64) -> Vec<Example> {
    if copies == 0 || examples.len() > limit {
        return examples;
    }
    let mut values: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for example in &examples {
        for slot in &example.slots {
            values.entry((&example.function, &slot.name)).or_default().push(&slot.value);
        }
    }
    for list in values.values_mut() {
        list.sort_unstable();
        list.dedup();
    }
    let mut random = seed;
    let mut swapped = Vec::new();
    for example in &examples {
        for _ in 0..copies {
            let copy = swap(example, |slot| {
                let list = values.get(&(example.function.as_str(), slot.name.as_str()))?;
                random = random.wrapping_add(0x9E37_79B9_7F4A_7C15);
                list.get((split_mix(random) % list.len() as u64) as usize).copied()
            });
            swapped.extend(copy.filter(|copy| copy.text != example.text));
        }
    }
    examples.extend(swapped);
    examples
}

/// A copy of `example` with the values that `value` chooses; none without arguments.
fn swap<'a>(example: &Example, mut value: impl FnMut(&Slot) -> Option<&'a str>) -> Option<Example> {
    if example.slots.is_empty() {
        return None;
    }
    let characters: Vec<char> = example.text.chars().collect();
    let mut slots: Vec<&Slot> = example.slots.iter().collect();
    slots.sort_by_key(|slot| slot.start);
    let mut text = String::new();
    let mut length = 0;
    let mut place = 0;
    let mut placed = Vec::with_capacity(slots.len());
    for slot in slots {
        let between = characters.get(place..slot.start)?;
        text.extend(between);
        length += between.len();
        let value = value(slot)?.to_string();
        let end = length + value.chars().count();
        text.push_str(&value);
        placed.push(Slot { name: slot.name.clone(), start: length, end, value });
        length = end;
        place = slot.end;
    }
    text.extend(characters.get(place..)?);
    Some(Example { text, slots: placed, ..example.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mynah_data::{Source, check_slots};

    fn example(text: &str, slots: &[(&str, usize, usize)]) -> Example {
        let slots = slots.iter().map(|(name, start, end)| Slot {
            name: (*name).into(),
            start: *start,
            end: *end,
            value: text.chars().skip(*start).take(end - start).collect(),
        });
        Example {
            text: text.into(),
            function: "alarm".into(),
            slots: slots.collect(),
            split: None,
            source: Source::Written,
            origin: "test".into(),
            at: None,
            weight: 1.0,
        }
    }

    #[test]
    fn copies_carry_each_others_values_at_the_right_places() {
        let examples = vec![
            example("wake me at seven today", &[("time", 11, 16), ("day", 17, 22)]),
            example("alarm für half past six", &[("time", 10, 23)]),
            example("alarm", &[]),
        ];
        let all = with_swapped_values(examples, 8, LIMIT, 1);
        assert!(all.iter().any(|e| e.text == "wake me at half past six today"), "{all:?}");
        assert!(all.iter().any(|e| e.text == "alarm für seven"), "{all:?}");
        for mut example in all {
            assert_eq!(check_slots(&example.text, &mut example.slots), Ok(()));
        }
    }
}
