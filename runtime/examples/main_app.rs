//! An app with two functions of its own and a conversation on standard input.
//!
//! `cargo run --release -p mynah-runtime --example main_app -- HOME` listens to standard input;
//! `… -- HOME demo` says what a person might: a confirmation, a follow-up, a correction.

use std::path::Path;

use mynah_runtime::{Call, Feedback, HandlerError, Mynah};

const FUNCTIONS: &str = r#"[
  {"name": "set_timer", "description": "Set a timer",
   "parameters": {"type": "object", "required": ["duration"], "properties": {
     "duration": {"type": "string", "format": "duration", "description": "How long?"}}},
   "examples": ["set a timer for [ten minutes](duration)", "start a [two hour](duration) timer", "timer please",
     "count down [90 seconds](duration)", "wake me from my nap in [half an hour](duration)"]},
  {"name": "set_light", "description": "Switch the light in a room", "confirm": true,
   "parameters": {"type": "object", "required": ["room", "on"], "properties": {
     "room": {"type": "string", "enum": ["living_room", "kitchen", "bedroom"], "description": "Which room?"},
     "on": {"type": "boolean"}}},
   "examples": ["turn [on](on) the light in the [kitchen](room)", "switch the [bedroom](room) lamp [off](on)", "lights [off](on) in the [living room](room)",
     "it is too dark in the [bedroom](room), lights [on](on)"]}
]"#;

/// Asked before it acts; the call again for another room; a correction, which is logged as one.
const DEMO: [&str; 8] = [
    "turn on the light in the kitchen",
    "yes please",
    "and the bedroom?",
    "yes",
    "set a timer for ten minutes",
    "no, I meant twenty minutes",
    "what is the airspeed of a swallow?",
    "thank you!",
];

fn set_timer(call: &Call) -> Result<String, HandlerError> {
    let duration = call.text("duration").ok_or_else(|| HandlerError::new("how long?"))?;
    let seconds = duration.parse::<jiff::SignedDuration>()?.as_secs();
    Ok(format!("I'll ring in {seconds} seconds."))
}

fn set_light(call: &Call) -> Result<String, HandlerError> {
    let on = call.value("on").is_some_and(|on| on == true);
    Ok(format!(
        "The {} is {} now.",
        call.text("room").unwrap_or("light").replace('_', " "),
        if on { "bright" } else { "dark" }
    ))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let home = std::env::args().nth(1).unwrap_or_else(|| "mynah-home".to_owned());
    std::fs::create_dir_all(&home)?;
    std::fs::write(Path::new(&home).join("functions.json"), FUNCTIONS)?;

    let builder = Mynah::builder(Path::new(&home)).function_handler("set_timer", set_timer);
    let mynah = builder.function_handler("set_light", set_light).open()?;
    let mut session = mynah.session()?;
    let mut last = String::new();
    let demo = std::env::args().nth(2).is_some_and(|mode| mode == "demo");
    if !demo {
        println!("Say something; `=answer` teaches the answer to what you said last.");
    }
    let typed = std::io::stdin().lines();
    let lines: Box<dyn Iterator<Item = std::io::Result<String>>> = match demo {
        true => Box::new(
            DEMO.iter()
                .map(|line| Ok((*line).to_owned()))
                .inspect(|line| println!("> {}", line.as_deref().unwrap_or_default())),
        ),
        false => Box::new(typed),
    };
    for line in lines {
        let line = line?;
        if let Some(answer) = line.strip_prefix('=') {
            session.feedback(&last, Feedback::correct_answer(answer.trim()))?;
            continue;
        }
        let reply = session.respond(&line)?;
        println!("{} [{:?}, {:.2}]", reply.text, reply.kind, reply.confidence);
        last = reply.interaction;
    }
    Ok(session.end("end of input")?)
}
