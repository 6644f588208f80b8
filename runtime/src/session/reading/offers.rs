//! What a reply offered and an acceptance takes over.

use super::lexicon::lower_words;
use super::mentions::Finder;
use crate::functions::Argument;
use crate::mynah::Understanding;

/// Adds what the last reply said of arguments that nobody has given a value yet; of an alternative to what failed, also
/// what it says of the others. The thing itself may have been named by an earlier reply, or by both.
pub(super) fn accept(finder: &Finder<'_>, said: &[String], text: &str, changes: &mut Vec<Argument>) {
    let Some(last) = said.last() else { return };
    let words = lower_words(last);
    let says = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
    let failed = says(&FAILED) && last.contains('?');
    let asks = last.trim_end().ends_with('?') || says(&["confirm", "verify", "review", "correct", "check"]);
    let offers = finder.for_offers();
    for argument in offers.find(last, "", &Understanding::nothing()) {
        let known = finder.before.arguments.iter().any(|known| known.name == argument.name);
        let wanted = match known {
            true => failed && offers.is_moment(&argument.name),
            false => {
                asks || offers.is_needed(&argument.name)
                    && (offers.is_name(&argument.name) || offers.is_moment(&argument.name))
            }
        };
        if wanted {
            add(changes, argument.carried());
        }
    }
    let Some(name) = offers.missing_name() else { return };
    let repeated = offers.names(text).into_iter().find(|one| said.iter().any(|said| said.contains(&one.raw)));
    let offered = || said.iter().rev().find_map(|said| offers.names(said).into_iter().next()).map(Argument::carried);
    let is_taken =
        |one: &Argument| changes.iter().any(|change| change.raw.contains(&one.raw) || one.raw.contains(&change.raw));
    if let Some(one) = repeated.or_else(offered).filter(|one| !is_taken(one)) {
        add(changes, Argument { name: name.name.clone(), ..one });
    }
}

fn add(changes: &mut Vec<Argument>, argument: Argument) {
    if !changes.iter().any(|change| change.name == argument.name) {
        changes.push(argument);
    }
}

/// What a reply says that could not do what was asked.
const FAILED: [&str; 12] = [
    "sorry",
    "couldn't",
    "unfortunately",
    "unable",
    "cannot",
    "can't",
    "failed",
    "unsuccessful",
    "apologies",
    "wasn't",
    "regret",
    "not",
];
