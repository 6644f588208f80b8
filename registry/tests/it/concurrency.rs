//! Several writers at once, each with its own handle, as processes have.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;

use mynah_registry::{Error, Event, Kind, ManifestDraft, Registry};

use crate::support::{Home, ada, draft, gate, name_in_production};

const WRITERS: usize = 8;

/// Runs the same thing in all writers at the same moment.
fn race<T: Send>(home: &Home, run: impl Fn(usize, Registry) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(WRITERS);
    thread::scope(|scope| {
        let start = |writer| {
            let registry = home.reopen();
            let (barrier, run) = (&barrier, &run);
            scope.spawn(move || {
                barrier.wait();
                run(writer, registry)
            })
        };
        let threads: Vec<_> = (0..WRITERS).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn names_are_given_once_and_without_gaps() {
    let home = Home::new();
    let rounds = 3;
    let names = race(&home, |writer, registry| {
        let mut names = Vec::new();
        for round in 0..rounds {
            let model = home.model(&format!("{writer}-{round}"));
            names.push(registry.add_directory(&model, draft(), &ada()).unwrap().name);
            let base = registry.add_directory(&model, ManifestDraft::base("mynah"), &ada()).unwrap();
            assert_eq!(base.kind, Kind::Base);
            names.push(base.name);
        }
        names
    });
    let names: BTreeSet<String> = names.into_iter().flatten().collect();
    let expected = (1..=WRITERS * rounds).flat_map(|number| [format!("v{number}"), format!("base{number}")]);
    assert_eq!(names, expected.collect());
    assert_eq!(home.reopen().log().unwrap().len(), 2 * WRITERS * rounds);
}

#[test]
fn the_same_files_from_all_sides_are_one_version() {
    let home = Home::new();
    let model = home.model("one");
    let names = race(&home, |_, registry| registry.add_directory(&model, draft(), &ada()).unwrap().name);
    assert!(names.iter().all(|name| name == "v1"), "{names:?}");
    assert_eq!(home.registry.journal_head().unwrap(), 1);
}

#[test]
fn one_promotion_wins_per_expected_current() {
    let home = Home::new();
    let versions: Vec<_> = (0..WRITERS).map(|writer| home.add(&writer.to_string())).collect();
    let mut current = None;
    for _ in 0..4 {
        let results =
            race(&home, |writer, registry| registry.promote(&versions[writer], current.as_ref(), gate(), &ada()));
        let before = current;
        current = home.reopen().production().unwrap().map(|version| version.manifest_digest);
        let winners: Vec<_> =
            results.iter().flatten().filter(|entry| is_promotion_from(&entry.event, before)).collect();
        // The version in production may have asked to stay there, and lost nothing.
        let losers = results
            .iter()
            .filter(|result| matches!(result, Err(Error::Conflict { expected, .. }) if *expected == before));
        let stayed = results.iter().flatten().count() - winners.len();
        assert_eq!((winners.len(), stayed + losers.count()), (1, WRITERS - 1));
        assert!(stayed <= 1);
    }
    let promotions =
        home.reopen().log().unwrap().into_iter().filter(|entry| matches!(entry.event, Event::Promote { .. }));
    assert_eq!(promotions.count(), 4);
}

fn is_promotion_from(event: &Event, before: Option<mynah_registry::Digest>) -> bool {
    matches!(event, Event::Promote { expected_current, .. } if *expected_current == before)
}

#[test]
fn everybody_who_retries_gets_through() {
    let home = Home::new();
    let versions: Vec<_> = (0..WRITERS).map(|writer| home.add(&writer.to_string())).collect();
    race(&home, |writer, registry| {
        loop {
            let current = registry.production().unwrap().map(|version| version.manifest_digest);
            match registry.promote(&versions[writer], current.as_ref(), gate(), &ada()) {
                Ok(_) => return,
                Err(Error::Conflict { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
    assert_eq!(home.reopen().log().unwrap().len(), 2 * WRITERS);
    assert!(name_in_production(&home.registry).is_some());
}

#[test]
fn garbage_collection_takes_nothing_from_a_version_being_registered() {
    let home = Home::new();
    race(&home, |writer, registry| {
        for round in 0..3 {
            if writer % 4 == 0 {
                registry.collect_garbage().unwrap();
                continue;
            }
            let version = registry.add_directory(&home.model(&format!("{writer}-{round}")), draft(), &ada()).unwrap();
            // The next writer's collection may come at any moment; the same content may be registered again.
            registry.delete(&version, &ada()).unwrap();
            registry.add_directory(&home.model(&format!("{writer}-{round}")), draft(), &ada()).unwrap();
        }
    });
    assert_eq!(home.reopen().verify_all().unwrap().problems.len(), 0);
}
