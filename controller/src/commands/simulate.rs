//! `mynah simulate`: how often gate and watch err, on candidates whose worth is known.

mod watch;

use clap::{Args, Subcommand};
use mynah_pipelines::{
    DriftSimulation, GateSettings, SimulatedCase, SimulatedDrift, SimulatedGate, Simulation, simulate_drift,
    simulate_gate,
};
use serde::Serialize;

use super::Context;
use crate::failure::{Exit, Stopped, usage};
use crate::interrupt::Interrupt;
use crate::output::{percent, table};

/// The commands below `simulate`.
#[derive(Debug, Subcommand)]
pub enum SimulateCommand {
    /// The gate, with the settings of [gate]: what it promotes and refuses, by the size of the held-out set
    #[command(
        after_help = "Every candidate is made up: as good as production, better or worse by so many points, with or without a newly\n\
        learned correction. `churn` is the share of the examples on which an equal candidate differs in being right: half of them\n\
        fixed, half broken. Needs no home; a home's [gate] is used where there is one.\n\n\
        Columns: `equal` promoted because a score seemed better, and for no reason at all; `equal+` (with a newly learned correction)\n\
        promoted; `-2` and `-5` points, and one function -40 points, with a newly learned correction: refused; `+2` and `+5` points:\n\
        promoted.\n\n\
        Then candidates with new functions, which have so many held-out examples for each of the others, and are as good on what\n\
        production knows, or worse; and candidates that lost one old correction in twenty. Then candidates in a row, each half a\n\
        point worse than the production it meets (`-0.5`) or as good (`0`), with the rule `drift` and without: how many are promoted, what\n\
        production has really lost in the end, and when that rule refused for the first time.\n\n\
        Examples:\n  mynah simulate gate\n  mynah simulate gate --examples 1000 --churn 0.06 --json"
    )]
    Gate(SimulateGateArgs),
    /// The watch, with the settings of [watch]: which promotions it takes back, by how much goes wrong
    #[command(
        after_help = "Every promotion is made up: turns before it, of which a share goes wrong, and turns after it, of which as many or\n\
        more do. With `spread`, sessions differ: some people complain more. `x1` is a version as good as the one before: rolling it\n\
        back is an error. `x2`: twice as much goes wrong. Needs no home; a home's [watch] is used where there is one.\n\n\
        Examples:\n  mynah simulate watch\n  mynah simulate watch --rate 0.1 --factor 1,1.5,2,3 --baseline 300,2000 --json"
    )]
    Watch(watch::SimulateWatchArgs),
}

/// Flags of `simulate gate`.
#[derive(Debug, Args)]
pub struct SimulateGateArgs {
    /// Held-out examples
    #[arg(long, default_value = "80,100,300,1000,3000", value_delimiter = ',', value_name = "N,…")]
    pub examples: Vec<usize>,
    /// Candidates of every kind
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub candidates: usize,
    /// Production's share of right answers
    #[arg(long, default_value_t = 0.9, value_name = "SHARE")]
    pub accuracy: f64,
    /// Share of the examples that an equally good candidate answers differently in being right
    #[arg(long, default_value = "0.02,0.06,0.1", value_delimiter = ',', value_name = "SHARE,…")]
    pub churn: Vec<f64>,
    /// Functions, with equally many examples each
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub functions: usize,
    /// Old corrections, which are checked too
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub corrections: usize,
    /// Held-out examples of new functions, for each of the others
    #[arg(long, default_value = "0.03,0.1,0.3", value_delimiter = ',', value_name = "SHARE,…")]
    pub new: Vec<f64>,
    /// Candidates one after the other, each a little worse than the one before
    #[arg(long, default_value_t = 30, value_name = "N")]
    pub in_a_row: usize,
    /// Seed of the draws
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
}

/// What each of the candidates in a row loses.
const DRIFTS: [f64; 2] = [0.005, 0.0];
/// A row of candidates takes as long as that many of them.
const DRIFT_REPEATED_OF: usize = 5;

/// Candidates in a row, with the rule and without.
#[derive(Debug, Serialize)]
struct DriftRow {
    drift: DriftSimulation,
    with_rule: SimulatedDrift,
    without_rule: SimulatedDrift,
}

/// One size of the held-out set, at one churn.
#[derive(Debug, Serialize)]
struct Row {
    simulation: Simulation,
    cases: Vec<SimulatedGate>,
}

impl Row {
    fn share(&self, case: SimulatedCase, count: impl Fn(&SimulatedGate) -> usize) -> f64 {
        let found = self.cases.iter().find(|simulated| simulated.case == case);
        found.map_or(0.0, |simulated| count(simulated) as f64 / simulated.candidates.max(1) as f64)
    }
}

/// Simulates and prints.
///
/// # Errors
/// When a share is none, or the user stopped it.
pub fn run(context: &Context, command: &SimulateCommand, interrupt: &Interrupt) -> anyhow::Result<Exit> {
    match command {
        SimulateCommand::Gate(args) => gate(context, args, interrupt),
        SimulateCommand::Watch(args) => watch::run(context, args, interrupt),
    }
}

fn gate(context: &Context, args: &SimulateGateArgs, interrupt: &Interrupt) -> anyhow::Result<Exit> {
    let shares = args.churn.iter().map(|churn| ("--churn", *churn)).chain([("--accuracy", args.accuracy)]);
    for (name, share) in shares.chain(args.new.iter().map(|share| ("--new", *share))) {
        if !(0.0..=1.0).contains(&share) {
            return Err(usage(
                format!("{name} is {share}, but is a share"),
                "give a number between 0 and 1".to_owned(),
            ));
        }
    }
    let settings = &context.settings.gate;
    let (mut rows, mut new, mut drifts) = (Vec::new(), Vec::new(), Vec::new());
    for &examples in &args.examples {
        for &churn in &args.churn {
            let simulation = Simulation {
                examples,
                candidates: args.candidates,
                accuracy: args.accuracy,
                churn,
                functions: args.functions,
                corrections: args.corrections,
                new_share: 0.0,
                seed: args.seed,
            };
            let is_new = |case: &SimulatedCase| case.brings_functions();
            rows.push(judged(settings, simulation, |case| !is_new(case), interrupt)?);
            for &new_share in &args.new {
                new.push(judged(settings, Simulation { new_share, ..simulation }, is_new, interrupt)?);
            }
            drifts.extend(drift_rows(settings, simulation, args.in_a_row, interrupt)?);
        }
    }
    if context.output.json {
        context.output.value(&serde_json::json!({"gate": settings, "rows": rows, "new": new, "drift": drifts}))?;
        return Ok(Exit::Done);
    }
    let style = context.output.style;
    for (number, cells) in [cells(&rows), new_cells(&new), drift_cells(&drifts)].iter().enumerate() {
        if number > 0 {
            context.output.line("")?;
        }
        for line in table(cells, |row, _, cell| if row == 0 { style.dim(cell) } else { cell }) {
            context.output.line(line)?;
        }
    }
    Ok(Exit::Done)
}

fn judged(
    settings: &GateSettings,
    simulation: Simulation,
    is_meant: impl Fn(&SimulatedCase) -> bool,
    interrupt: &Interrupt,
) -> anyhow::Result<Row> {
    let mut cases = Vec::new();
    for case in SimulatedCase::ALL.into_iter().filter(is_meant) {
        proceed(interrupt)?;
        cases.push(simulate_gate(settings, &simulation, case));
    }
    Ok(Row { simulation, cases })
}

fn drift_rows(
    settings: &GateSettings,
    simulation: Simulation,
    in_a_row: usize,
    interrupt: &Interrupt,
) -> anyhow::Result<Vec<DriftRow>> {
    let simulation = Simulation { candidates: simulation.candidates.div_ceil(DRIFT_REPEATED_OF), ..simulation };
    let without = GateSettings { drift_allowance: 1.0, ..settings.clone() };
    let rows = DRIFTS.into_iter().map(|loss| {
        proceed(interrupt)?;
        let drift = DriftSimulation { simulation, in_a_row, loss };
        let (with_rule, without_rule) = (simulate_drift(settings, &drift), simulate_drift(&without, &drift));
        Ok(DriftRow { drift, with_rule, without_rule })
    });
    rows.collect()
}

fn proceed(interrupt: &Interrupt) -> anyhow::Result<()> {
    if interrupt.is_asked() {
        return Err(Stopped("the simulation was stopped").into());
    }
    Ok(())
}

fn new_cells(rows: &[Row]) -> Vec<Vec<String>> {
    use SimulatedCase as Case;
    let head =
        ["held out", "churn", "new", "new, kept: promoted", "new, -2: refused", "new, -5: refused", "new, -8: refused"];
    let mut cells = vec![head.map(str::to_owned).to_vec()];
    let refused = |simulated: &SimulatedGate| simulated.candidates - simulated.promoted;
    cells.extend(rows.iter().map(|row| {
        vec![
            row.simulation.examples.to_string(),
            percent(row.simulation.churn),
            (row.simulation.new_share * row.simulation.examples as f64).round().to_string(),
            percent(row.share(Case::NewKept, |it| it.promoted)),
            percent(row.share(Case::NewLostTwoPoints, refused)),
            percent(row.share(Case::NewLostFivePoints, refused)),
            percent(row.share(Case::NewLostEightPoints, refused)),
        ]
    }));
    cells
}

fn drift_cells(rows: &[DriftRow]) -> Vec<Vec<String>> {
    let head = [
        "held out",
        "churn",
        "each loses",
        "promoted",
        "without the rule",
        "lost in the end",
        "without",
        "at the first refusal",
    ];
    let mut cells = vec![head.map(str::to_owned).to_vec()];
    let points = |share: f64| format!("{:.1}", 100.0 * share);
    cells.extend(rows.iter().map(|DriftRow { drift, with_rule, without_rule }| {
        let of = |promoted: f64| format!("{promoted:.1} of {}", drift.in_a_row);
        vec![
            drift.simulation.examples.to_string(),
            percent(drift.simulation.churn),
            points(drift.loss),
            of(with_rule.promoted),
            of(without_rule.promoted),
            points(with_rule.lost),
            points(without_rule.lost),
            points(with_rule.lost_at_refusal),
        ]
    }));
    cells
}

fn cells(rows: &[Row]) -> Vec<Vec<String>> {
    use SimulatedCase as Case;
    let head = [
        "held out",
        "churn",
        "equal: better",
        "equal: noise",
        "equal+: promoted",
        "-2: refused",
        "-5: refused",
        "function: refused",
        "corrections: refused",
        "+2: promoted",
        "+5: promoted",
    ];
    let mut cells = vec![head.map(str::to_owned).to_vec()];
    let refused = |simulated: &SimulatedGate| simulated.candidates - simulated.promoted;
    cells.extend(rows.iter().map(|row| {
        vec![
            row.simulation.examples.to_string(),
            percent(row.simulation.churn),
            percent(row.share(Case::Equal, |it| it.because_better)),
            percent(row.share(Case::Equal, |it| it.for_noise)),
            percent(row.share(Case::EqualWithCorrection, |it| it.promoted)),
            percent(row.share(Case::LostTwoPoints, refused)),
            percent(row.share(Case::LostFivePoints, refused)),
            percent(row.share(Case::LostFunction, refused)),
            percent(row.share(Case::LostCorrections, refused)),
            percent(row.share(Case::GainedTwoPoints, |it| it.promoted)),
            percent(row.share(Case::GainedFivePoints, |it| it.promoted)),
        ]
    }));
    cells
}
