//! Tables of evidence and verdicts.

use std::collections::BTreeMap;

use mynah_runtime::Precision;

use super::*;
use crate::paired::Paired;
use crate::precision::PrecisionReport;

fn measured(n: usize, function_agreement: f64) -> PrecisionReport {
    PrecisionReport {
        served: Precision::Int8,
        n,
        function_agreement,
        argument_agreement: 0.98,
        max_logit_difference: 0.2,
        mean_logit_difference: 0.05,
    }
}

fn paired(n: usize, fixed: usize, broken: usize) -> Paired {
    Paired { n, fixed, broken }
}

fn evidence() -> Evidence {
    Evidence {
        held_out: 200,
        accuracy: 0.95,
        exact_match: 0.90,
        false_accept_rate: Some(0.2),
        precision: Some(measured(200, 0.995)),
        latency_ms: 2.0,
        size_mb: 32.0,
        corrections: Corrections { n: 3, candidate_right: 3, newly_right: 3, ..Corrections::default() },
        expectations: Expectations::default(),
        new_labels: 0,
        answers: None,
        production: Some(Comparison {
            exact_match: 0.90,
            exact: paired(200, 2, 2),
            known: paired(200, 2, 2),
            new: paired(0, 0, 0),
            out_of_scope: paired(20, 0, 0),
            functions: BTreeMap::from([("a".into(), paired(20, 0, 1))]),
        }),
        best: Some(Best { version: "v2".into(), exact_match: 0.905, exact: paired(200, 2, 3) }),
    }
}

fn with(change: impl Fn(&mut Evidence)) -> Vec<String> {
    let mut evidence = evidence();
    change(&mut evidence);
    broken(&evidence)
}

fn against(change: impl Fn(&mut Comparison)) -> Vec<String> {
    with(|evidence| evidence.production.iter_mut().for_each(&change))
}

fn drifted(exact: Paired) -> Vec<String> {
    with(|evidence| evidence.best.iter_mut().for_each(|best| best.exact = exact))
}

fn broken(evidence: &Evidence) -> Vec<String> {
    match Gate::new(&GateSettings::default()).judge(evidence) {
        Ok(_) => Vec::new(),
        Err(rejected) => rejected.report().broken().map(|rule| rule.name.clone()).collect(),
    }
}

#[test]
fn an_equal_candidate_that_learned_a_correction_passes() {
    assert!(broken(&evidence()).is_empty());
}

#[test]
fn every_rule_refuses_alone() {
    assert!(with(|e| e.precision = Some(measured(200, 0.98))).is_empty(), "four where two are allowed: p = 0.14");
    assert_eq!(with(|e| e.precision = Some(measured(200, 0.97))), ["precision"]);
    assert_eq!(with(|e| e.precision = None), ["precision"]);
    assert_eq!(against(|p| p.known = paired(200, 2, 9)), ["not worse"]);
    assert_eq!(drifted(paired(200, 1, 4)), ["drift"]);
    assert_eq!(against(|p| p.functions.extend([("b".into(), paired(10, 0, 4))])), ["no function falls"]);
    assert_eq!(against(|p| p.out_of_scope = paired(20, 0, 4)), ["out of scope"]);
    assert_eq!(with(|e| e.corrections.candidate_right = 2), ["corrections"]);
    assert_eq!(with(|e| e.size_mb = 1e6), ["budget"]);
    assert_eq!(with(|e| e.corrections = Corrections::default()), ["better"]);
    let pinned = Expectations { n: 9, missed: vec!["\"lights off\" is lights_on instead of lights_off".into()] };
    assert_eq!(with(|e| e.expectations = pinned.clone()), ["expectations"]);
    assert!(with(|e| e.expectations = Expectations { n: 9, missed: Vec::new() }).is_empty());
}

/// A hundredth of the examples may be lost in all, one in any case, whatever chance could have made of it.
#[test]
fn what_is_lost_little_by_little_adds_up() {
    assert!(drifted(paired(200, 0, 2)).is_empty());
    assert_eq!(drifted(paired(200, 0, 3)), ["drift"]);
    assert!(drifted(paired(40, 0, 1)).is_empty());
    assert_eq!(drifted(paired(40, 0, 2)), ["drift"]);
    assert!(drifted(paired(1000, 60, 70)).is_empty());
    assert_eq!(drifted(paired(1000, 60, 71)), ["drift"]);
    assert!(drifted(paired(0, 0, 0)).is_empty(), "nothing is comparable");
    let evidence = Evidence {
        best: Some(Best { version: "v2".into(), exact_match: 0.905, exact: paired(200, 1, 4) }),
        ..evidence()
    };
    let reason = Gate::new(&GateSettings::default()).judge(&evidence).expect_err("refused").report().reason();
    assert_eq!(
        reason,
        "exact match 89.0 % against 90.5 % of v2, the best version so far: of 200 examples 1 fixed, 4 broken (2 more may be)"
    );
    // What is new may cost the same here as beside production.
    let brings = |e: &mut Evidence| {
        let production = e.production.as_mut().expect("it has one");
        (production.exact, production.new) = (paired(260, 62, 2), paired(60, 60, 0));
        e.best = Some(Best { version: "v2".into(), exact_match: 0.9, exact: paired(200, 0, 3) });
    };
    assert!(with(brings).is_empty());
}

/// What is let pass, and what is not, at the sizes of real homes.
#[test]
fn not_worse_in_small_and_large_sets() {
    for (counts, kept) in [
        // Nothing to compare, or nothing lost.
        (paired(0, 0, 0), true),
        (paired(12, 0, 0), true),
        (paired(80, 3, 3), true),
        // One example is no evidence, two are: where nothing can be ruled out, nothing more is let pass.
        (paired(40, 0, 1), true),
        (paired(80, 3, 4), true),
        (paired(82, 3, 5), false),
        (paired(40, 0, 2), false),
        // Two hundred cannot rule out a loss of two points beside that much change, a thousand can.
        (paired(200, 8, 10), false),
        (paired(1000, 8, 10), true),
        (paired(1000, 20, 40), false),
        (paired(1000, 20, 30), false),
        // As much change as that hides two points even in a thousand; a tie says nothing then.
        (paired(1000, 75, 75), false),
        (paired(499, 40, 40), true),
        (paired(1000, 28, 30), true),
        // A small loss beyond doubt: (1/2)^6 = 0.016.
        (paired(3000, 0, 6), false),
        (paired(3000, 2, 6), true),
    ] {
        let verdict = against(|p| p.known = counts);
        assert_eq!(verdict.is_empty(), kept, "{counts:?}: {verdict:?}");
    }
}

#[test]
fn what_is_new_makes_up_for_little_of_what_is_lost() {
    let brings = |broken: usize, new: usize| {
        move |p: &mut Comparison| {
            p.exact = paired(200 + new, 2 + new, broken);
            p.known = paired(200, 2, broken);
            p.new = paired(new, new, 0);
        }
    };
    // 3.5 points are lost where a third is new, but not 6, not where a seventh is, and not to three.
    assert!(against(brings(9, 70)).is_empty());
    assert_eq!(against(brings(14, 70)), ["not worse"]);
    assert_eq!(against(brings(14, 200)), ["not worse"]);
    assert_eq!(against(brings(9, 30)), ["not worse"]);
    assert_eq!(against(brings(9, 3)), ["not worse"]);
}

#[test]
fn a_function_that_falls_is_seen_among_many_that_waver() {
    let functions = |fallen: Option<Paired>| {
        let mut functions: BTreeMap<String, Paired> = (0..150)
            .map(|n| (format!("f{n}"), paired(30, usize::from(n % 2 == 0), 1 + usize::from(n % 3 == 0))))
            .collect();
        functions.extend(fallen.map(|fallen| ("zz".to_owned(), fallen)));
        functions
    };
    assert!(against(|p| p.functions = functions(None)).is_empty());
    assert_eq!(against(|p| p.functions = functions(Some(paired(30, 0, 8)))), ["no function falls"]);
    // Some one of a hundred and fifty does this by chance; alone it would be a fall.
    let lucky = |p: &mut Comparison| {
        p.functions = functions(None).into_keys().map(|name| (name, paired(30, 2, 2))).collect();
        p.functions.extend((0..8).map(|n| (format!("g{n}"), paired(30, 0, 4))));
    };
    assert!(against(lucky).is_empty());
    assert_eq!(against(|p| p.functions.extend([("g".into(), paired(30, 0, 4))])), ["no function falls"]);
}

#[test]
fn a_correction_that_was_right_stays_right() {
    let lost = Corrections {
        n: 40,
        candidate_right: 39,
        production_right: 38,
        newly_right: 2,
        lost: vec!["dim the hall".into()],
    };
    assert_eq!(with(|e| e.corrections = lost.clone()), ["corrections"]);
    let report = Gate::new(&GateSettings::default())
        .judge(&Evidence { corrections: lost, ..evidence() })
        .expect_err("refused")
        .report()
        .reason();
    assert!(report.contains("right before and wrong now (0 at most): \"dim the hall\""), "{report}");
    // Of many, one in a hundred may be.
    let many = Corrections {
        n: 200,
        candidate_right: 198,
        production_right: 190,
        newly_right: 10,
        lost: vec!["dim the hall".into(), "wake me".into()],
    };
    assert!(with(|e| e.corrections = many.clone()).is_empty());
    // One that production has learned from already is no reason to promote.
    let again = Corrections { n: 40, candidate_right: 40, production_right: 39, ..Corrections::default() };
    assert_eq!(with(|e| e.corrections = again.clone()), ["better"]);
}

#[test]
fn gains_are_new_or_beyond_chance() {
    let settings = GateSettings::default();
    let gains = |change: &dyn Fn(&mut Evidence, &mut Comparison)| {
        let mut evidence = evidence();
        evidence.corrections = Corrections::default();
        let mut production = evidence.production.take().expect("it has one");
        change(&mut evidence, &mut production);
        evidence.production = Some(production);
        let gains = Gate::new(&settings).gains(&evidence);
        gains.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(gains(&|_, _| {}), "");
    // 5 of 5 is (1/2)^5 = 0.031, 6 of 6 is 0.016.
    assert_eq!(gains(&|_, p| p.exact = paired(200, 5, 0)), "held-out exact match +2.5 points (p = 0.031)");
    assert_eq!(gains(&|_, p| p.exact = paired(200, 4, 0)), "");
    // Beside the answers it has half of the 0.05.
    let beside_answers = |fixed: usize| {
        gains(&move |e, p| {
            p.exact = paired(200, fixed, 0);
            e.answers = Some(Answers { is_new: false, f1: None, production_f1: None, right: paired(90, 5, 0) });
        })
    };
    assert_eq!(beside_answers(5), "");
    assert_eq!(beside_answers(6), "held-out exact match +3.0 points (p = 0.016)");
    // New functions count unless not one of their held-out examples is right.
    assert_eq!(gains(&|e, _| e.new_labels = 2), "2 new functions or arguments");
    let useless = |e: &mut Evidence, p: &mut Comparison| {
        e.new_labels = 2;
        p.new = paired(12, 0, 0);
    };
    assert_eq!(gains(&useless), "");
}

#[test]
fn answers_are_compared_like_calls() {
    let answers = |fixed, broken| Answers {
        is_new: false,
        f1: Some(0.5),
        production_f1: Some(0.6),
        right: paired(100, fixed, broken),
    };
    assert_eq!(with(|e| e.answers = Some(answers(1, 12))), ["answers"]);
    assert!(with(|e| e.answers = Some(answers(3, 4))).is_empty());
    let gain = |answers: Answers| {
        with(|e| {
            e.corrections = Corrections::default();
            e.answers = Some(answers);
        })
    };
    assert!(gain(answers(12, 1)).is_empty());
    assert!(gain(Answers { is_new: true, ..answers(0, 0) }).is_empty());
    assert_eq!(gain(answers(1, 0)), ["better"]);
}

#[test]
fn f32_agrees_with_itself_and_one_text_in_a_few_is_no_evidence() {
    assert!(with(|e| e.precision = Some(measured(20, 0.95))).is_empty(), "one of twenty");
    assert_eq!(with(|e| e.precision = Some(measured(20, 0.90))), ["precision"]);
    let f32 = PrecisionReport { served: Precision::F32, ..measured(20, 0.90) };
    assert!(with(|e| e.precision = Some(f32.clone())).is_empty());
}

#[test]
fn a_first_version_needs_a_minimum() {
    let mut first = evidence();
    first.production = None;
    first.corrections = Corrections::default();
    assert!(broken(&first).is_empty());
    first.accuracy = 0.3;
    assert_eq!(broken(&first), ["first"]);
}
