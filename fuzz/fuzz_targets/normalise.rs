//! Any words, read as any kind of argument: never a panic, and never a value that the schema refuses.
#![no_main]

use jiff::Zoned;
use libfuzzer_sys::fuzz_target;
use mynah_runtime::normalise::normalise;
use serde_json::{Value, json};

fn schemas() -> [Value; 10] {
    [
        json!({"type": "string"}),
        json!({"type": "integer"}),
        json!({"type": "number"}),
        json!({"type": "boolean"}),
        json!({"enum": ["living_room", "kitchen"]}),
        json!({"type": "array", "items": {"type": "integer"}}),
        json!({"type": "string", "format": "date"}),
        json!({"type": "string", "format": "time"}),
        json!({"type": "string", "format": "date-time"}),
        json!({"type": "string", "format": "duration"}),
    ]
}

fuzz_target!(|words: &str| {
    let now: Zoned = "2026-03-03T10:20:00[Europe/Berlin]".parse().expect("a valid time");
    for schema in schemas() {
        normalise(words, &schema, &now);
    }
});
