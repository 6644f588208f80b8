//! Functions offered for a turn, and texts answered without a trace.

use mynah_data::{Function, Functions};
use mynah_runtime::{Choice, Mynah, MynahError, ReplyKind};
use serde_json::{Value, json};
use tempfile::TempDir;

const FUNCTIONS: &str = r#"[{"name": "lights_on", "description": "Turn on the lights.",
    "examples": ["lights on", "turn on the lights", "switch the lights on"], "replies": ["The lights are on."]}]"#;

fn home() -> (TempDir, Mynah) {
    let home = tempfile::tempdir().expect("a directory");
    std::fs::write(home.path().join("functions.json"), FUNCTIONS).expect("written");
    let mynah = Mynah::open(home.path()).expect("opened");
    (home, mynah)
}

fn function(name: &str, description: &str, parameters: Value) -> Function {
    Function {
        name: name.to_owned(),
        description: description.to_owned(),
        parameters,
        examples: Vec::new(),
        replies: Vec::new(),
        confirm: false,
    }
}

fn functions(list: Vec<Function>) -> Functions {
    Functions { functions: list, out_of_scope: Vec::new() }
}

fn garage() -> Function {
    function("open_garage", "Open the garage door.", json!({"type": "object", "properties": {}}))
}

#[test]
fn what_is_offered_is_called_by_its_description_and_nothing_else_is() {
    let (home, mynah) = home();
    let offered = mynah.offer(&functions(vec![garage()]), Choice::Free).expect("a schema");
    assert!(!offered.is_known() && mynah.is_current(&offered));
    let ask = |text: &str| mynah.reply_unlogged(&[], text, Some(&offered)).expect("answered");
    let reply = ask("please open the garage door");
    assert_eq!((reply.kind, reply.calls[0].function.as_str()), (ReplyKind::Call, "open_garage"));
    assert!(ask("turn on the lights").calls.is_empty(), "not offered, however well it is known");
    assert!(ask("my neighbour has a bicycle").calls.is_empty());
    let plain = mynah.reply_unlogged(&[], "turn on the lights", None).expect("answered");
    assert_eq!(plain.text, "The lights are on.");
    assert!(plain.interaction.is_empty() && mynah.log().session_ids().expect("listed").is_empty());
    assert_eq!(std::fs::read_to_string(home.path().join("functions.json")).expect("read"), FUNCTIONS);
}

#[test]
fn a_name_fills_the_one_free_argument_of_a_function_that_is_only_described() {
    let (_home, mynah) = home();
    let place = json!({"type": "object", "required": ["location"], "properties": {"location": {"type": "string"}}});
    let weather = function("get_current_weather", "Get the current weather in a given location.", place);
    let offered = mynah.offer(&functions(vec![garage(), weather]), Choice::Free).expect("a schema");
    let ask = |text: &str| mynah.reply_unlogged(&[], text, Some(&offered)).expect("answered");
    let reply = ask("What is the weather like in Paris today?");
    assert_eq!(Value::Object(reply.calls[0].values()), json!({"location": "Paris"}));
    let reply = ask("what is the weather like");
    assert_eq!((reply.kind, reply.text.as_str()), (ReplyKind::Ask, "Which location?"));
    let answered = mynah.reply_unlogged(&["what is the weather like"], "Oslo", Some(&offered)).expect("answered");
    assert_eq!(Value::Object(answered.calls[0].values()), json!({"location": "Oslo"}));
}

#[test]
fn a_known_function_keeps_its_examples_and_replies() {
    let (_home, mynah) = home();
    let lights = function("lights_on", "Something else.", json!({"type": "object", "properties": {}}));
    let offered = mynah.offer(&functions(vec![lights]), Choice::Free).expect("a schema");
    assert!(offered.is_known());
    let mut session = mynah.session().expect("started");
    let reply = session.respond_with("switch the lights on", Some(&offered)).expect("answered");
    assert_eq!(reply.text, "The lights are on.");
    assert_eq!(
        mynah.log().find_interaction(&reply.interaction).expect("read").expect("logged").text,
        "switch the lights on"
    );
}

#[test]
fn a_required_call_is_made_and_an_empty_offer_makes_none() {
    let (_home, mynah) = home();
    let required = mynah.offer(&functions(vec![garage()]), Choice::Required).expect("a schema");
    let reply = mynah.reply_unlogged(&[], "my neighbour has a bicycle", Some(&required)).expect("answered");
    assert_eq!(reply.calls[0].function, "open_garage");
    let polite = mynah.reply_unlogged(&[], "good morning", Some(&required)).expect("answered");
    assert_eq!(polite.calls[0].function, "open_garage");
    let none = mynah.offer(&functions(Vec::new()), Choice::Free).expect("nothing is a schema");
    assert!(mynah.reply_unlogged(&[], "turn on the lights", Some(&none)).expect("answered").calls.is_empty());
}

#[test]
fn a_broken_schema_is_refused_and_changed_functions_make_an_offer_old() {
    let (home, mynah) = home();
    let broken = function("broken", "Broken.", json!({"type": "object", "properties": {"a": {"type": "strin"}}}));
    assert!(matches!(mynah.offer(&functions(vec![broken]), Choice::Free), Err(MynahError::Schema(_))));
    let offered = mynah.offer(&functions(vec![garage()]), Choice::Free).expect("a schema");
    std::fs::write(home.path().join("functions.json"), FUNCTIONS.replace("are on", "shine")).expect("written");
    assert!(mynah.refresh() && !mynah.is_current(&offered));
}

#[test]
fn texts_before_are_context_and_leave_no_correction_behind() {
    let (_home, mynah) = home();
    let mut session = mynah.session().expect("started");
    session.recall(&["turn on the lights"]);
    let again = session.respond("again").expect("answered");
    assert_eq!(again.text, "The lights are on.");
    let unlogged = mynah.reply_unlogged(&["turn on the lights"], "again", None).expect("answered");
    assert_eq!(unlogged.text, "The lights are on.");
}
