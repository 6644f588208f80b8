//! Any sequence of operations keeps what the registry promises.

use mynah_registry::{Entry, Error, Event, Registry, Status, Version};
use proptest::prelude::*;

use crate::support::{Home, ada, gate};

#[derive(Clone, Debug)]
enum Operation {
    Add(u8),
    Promote(usize),
    Refuse(usize),
    Rollback,
    RollbackTo(usize),
    Quarantine(usize),
    Delete(usize),
    Tag(usize, u8),
    CollectGarbage,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let version = 0..6usize;
    let operation = prop_oneof![
        4 => (0..5u8).prop_map(Operation::Add),
        4 => version.clone().prop_map(Operation::Promote),
        1 => version.clone().prop_map(Operation::Refuse),
        2 => Just(Operation::Rollback),
        2 => version.clone().prop_map(Operation::RollbackTo),
        1 => version.clone().prop_map(Operation::Quarantine),
        1 => version.clone().prop_map(Operation::Delete),
        1 => (version, 0..2u8).prop_map(|(version, tag)| Operation::Tag(version, tag)),
        1 => Just(Operation::CollectGarbage),
    ];
    prop::collection::vec(operation, 1..24)
}

/// Does it, when there is a version to do it to.
fn apply(home: &Home, operation: &Operation) -> Option<Result<(), Error>> {
    let registry = &home.registry;
    let versions = registry.versions().unwrap();
    let version = |number: usize| versions.get(number);
    Some(match *operation {
        Operation::Add(content) => {
            home.add(&content.to_string());
            Ok(())
        }
        Operation::Promote(number) => {
            let current = registry.production().unwrap().map(|version| version.manifest_digest);
            registry.promote(version(number)?, current.as_ref(), gate(), &ada()).map(drop)
        }
        Operation::Refuse(number) => registry.refuse(version(number)?, gate(), &ada()).map(drop),
        Operation::Rollback => registry.rollback(None, &ada()).map(drop),
        Operation::RollbackTo(number) => registry.rollback(Some(version(number)?), &ada()).map(drop),
        Operation::Quarantine(number) => registry.quarantine(version(number)?, &ada()).map(drop),
        Operation::Delete(number) => registry.delete(version(number)?, &ada()).map(drop),
        Operation::Tag(number, tag) => registry.tag(version(number)?, &format!("tag-{tag}"), &ada()).map(drop),
        Operation::CollectGarbage => registry.collect_garbage().map(drop),
    })
}

fn check(registry: &Registry, before: &[Entry]) -> Vec<Entry> {
    let log = registry.log().unwrap();
    assert!(log.starts_with(before), "the log only grows");
    let versions = registry.versions().unwrap();
    let with = |status| versions.iter().filter(move |version: &&Version| version.status == status);
    let production = registry.production().unwrap();
    assert_eq!(with(Status::Production).next(), production.as_ref());
    assert!(with(Status::Production).count() <= 1);
    let promoted = log.iter().any(|entry| matches!(entry.event, Event::Promote { .. }));
    assert_eq!(production.is_some(), promoted, "once something is served, something always is");
    if let Some(production) = production {
        assert!(registry.verify(&production).is_ok(), "what is served can be loaded");
        let fit = with(Status::Promoted).find(|version| !version.quarantined);
        assert!(!production.quarantined || fit.is_none(), "served though quarantined, with {fit:?} at hand");
        assert_eq!(registry.load_production().unwrap().unwrap().version, production);
    }
    assert!(registry.verify_all().unwrap().problems.is_empty());
    for (number, version) in versions.iter().enumerate() {
        assert_eq!(version.name, format!("v{}", number + 1));
        assert_eq!(&registry.version(&version.name).unwrap(), version);
        assert!(!version.damaged);
    }
    log
}

proptest! {
    // Every operation is followed by a check of everything: the default of 256 cases takes too long where the disk syncs.
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_operations_keeps_the_promises(operations in operations()) {
        let home = Home::new();
        let mut log = Vec::new();
        for operation in &operations {
            let outcome = apply(&home, operation);
            let now = check(&home.reopen(), &log);
            // One decision is one entry; leaving production for quarantine is two.
            prop_assert!(now.len() <= log.len() + 2);
            if matches!(outcome, Some(Err(_))) {
                prop_assert_eq!(&now, &log, "a refusal leaves no trace");
            }
            log = now;
        }
    }
}
