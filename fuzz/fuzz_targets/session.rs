//! A conversation of any lines: every line gets a reply, and every argument is a stretch of the text that was said.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use mynah_runtime::Mynah;

const FUNCTIONS: &str = r#"[
  {"name": "set_alarm", "parameters": {"type": "object", "required": ["time"], "properties": {
     "time": {"type": "string", "format": "time"}, "day": {"type": "string", "format": "date"}}},
   "examples": ["wake me at [seven](time)", "set an alarm for [noon](time) [tomorrow](day)", "alarm please"]},
  {"name": "set_light", "confirm": true, "parameters": {"type": "object", "required": ["room", "on"], "properties": {
     "room": {"type": "string", "enum": ["living_room", "kitchen"]}, "on": {"type": "boolean"}}},
   "examples": ["turn [on](on) the light in the [kitchen](room)", "lights [off](on) in the [living room](room)"]}
]"#;

fn mynah() -> &'static Mynah {
    static MYNAH: OnceLock<Mynah> = OnceLock::new();
    MYNAH.get_or_init(|| {
        let home = tempfile::tempdir().expect("a directory").keep();
        std::fs::write(home.join("functions.json"), FUNCTIONS).expect("written");
        Mynah::open(&home).expect("opened")
    })
}

fuzz_target!(|lines: &str| {
    const MAX_TURNS: usize = 6;
    let mut session = mynah().session().expect("started");
    for line in lines.split('\n').take(MAX_TURNS) {
        let reply = session.respond(line).expect("replied");
        let characters: Vec<char> = line.chars().collect();
        for argument in reply.calls.iter().flat_map(|call| &call.arguments) {
            if let Some(slot) = argument.slot() {
                let said: String = characters[slot.start..slot.end].iter().collect();
                assert_eq!(said, slot.value, "{line:?}");
            }
        }
    }
    session.end("fuzz").expect("ended");
});
