//! What the quickstart says and corrects. Everything it shows about these sentences is computed when it runs.

/// The functions, as a person would write them.
pub const FUNCTIONS: &str = include_str!("../../../quickstart/functions.json");

/// Sentences that no function answers.
pub const OUT_OF_SCOPE: &str = include_str!("../../../quickstart/out_of_scope.jsonl");

/// A page to answer from, and its name.
pub const KNOWLEDGE: (&str, &str) = (
    "house.md",
    include_str!("../../../quickstart/knowledge/house.md"),
);

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
pub const CALLS: [&str; 4] = [
    "wake me at half past six tomorrow",
    "and on friday?",
    "set a timer",
    "twelve minutes",
];

/// A question that the page answers.
pub const QUESTION: &str = "where is the fuse box?";

/// Nonsense.
pub const NONSENSE: &str = "how many moons fit into a sock";

/// Odd ways to say something; the first one that is not understood is corrected.
pub const ODD: [Meaning; 5] = [
    Meaning {
        text: "should i pack a raincoat for porto",
        function: "get_weather",
        arguments: &[("city", "porto")],
    },
    Meaning {
        text: "is everybody still asleep in osaka",
        function: "get_time",
        arguments: &[("city", "osaka")],
    },
    Meaning {
        text: "my ears hurt, 2 is plenty",
        function: "set_volume",
        arguments: &[("level", "2")],
    },
    Meaning {
        text: "brrr, 23 would be nicer",
        function: "set_temperature",
        arguments: &[("degrees", "23")],
    },
    Meaning {
        text: "the soup needs nine minutes more",
        function: "set_timer",
        arguments: &[("duration", "nine minutes")],
    },
];

/// A question that nothing answers yet, and its answer.
pub const TAUGHT: (&str, &str) = (
    "who looks after the hens?",
    "Mr. Osei looks after the hens; he comes at eight.",
);
