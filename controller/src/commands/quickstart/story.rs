//! What the quickstart says and corrects. Everything it shows about these sentences is computed when it runs.

/// The functions, as a person would write them.
pub const FUNCTIONS: &str = include_str!("../../../quickstart/functions.json");

/// Sentences that no function answers.
pub const OUT_OF_SCOPE: &str = include_str!("../../../quickstart/out_of_scope.jsonl");

/// A page to answer from, and its name.
pub const KNOWLEDGE: (&str, &str) = ("house.md", include_str!("../../../quickstart/knowledge/house.md"));

/// A sentence with what it means.
pub struct Meaning {
    /// What is said.
    pub text: &'static str,
    /// The function.
    pub function: &'static str,
    /// The arguments as words of the sentence.
    pub arguments: &'static [(&'static str, &'static str)],
}

/// A call with two arguments, and two turns that only the turns before make clear.
pub const CALLS: [&str; 4] = ["wake me at half past six tomorrow", "and on friday?", "set a timer", "twelve minutes"];

/// A question that the page answers.
pub const QUESTION: &str = "where is the fuse box?";

/// Nonsense.
pub const NONSENSE: &str = "gromble the wug until it flibs";

/// A function that nobody wrote an example for, in different words; each is corrected unless it is understood already.
pub const UNKNOWN: [Meaning; 3] = [
    Meaning { text: "my handset has vanished again", function: "find_phone", arguments: &[] },
    Meaning { text: "ring my mobile so i can hear where it is", function: "find_phone", arguments: &[] },
    Meaning { text: "i lost my phone somewhere in the house", function: "find_phone", arguments: &[] },
];

/// The same function in words that were never corrected.
pub const NEW_WORDS: &str = "where did i leave my phone";

/// A question that nothing answers yet, and its answer.
pub const TAUGHT: (&str, &str) = ("who looks after the hens?", "Mr. Osei looks after the hens; he comes at eight.");
