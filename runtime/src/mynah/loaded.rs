//! The state that replies are made from, and what it understands of a text.
//!
//! Invariant: a [`Loaded`] never changes; its memory and knowledge were embedded with its own model.

use std::sync::Arc;

use jiff::Zoned;
use mynah_data::{Functions, Slot};
use mynah_registry::Version;

use super::offered::Offer;
use crate::decision::{Decision, Evidence, Label, Neighbour, Prototype, Thresholds, decide, is_question};
use crate::extract::Text;
use crate::functions::{Draft, Parameter, Tool, Toolbox};
use crate::knowledge::{Found, Knowledge, PassageAnswer, READ_PASSAGES, ReadingThresholds, read};
use crate::memory::{Entry, Meaning, Memory, Search, head};
use crate::model::{Model, Prediction};
use crate::normalise::{Normalised, is_recognisable};
use crate::settings::RuntimeSettings;

/// Remembered sentences that have a say in a decision.
pub(crate) const NEIGHBOURS: usize = 12;

/// Remembered sentences that are looked through for [`NEIGHBOURS`] when not every function may be called.
const OFFERED_NEIGHBOURS: usize = 96;

/// Functions that have a say as a whole.
const PROTOTYPES: usize = 3;

/// Examples of a function that are tried as patterns for its arguments.
const MAX_PATTERNS: usize = 40;

/// The version that made a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// `v12`, or `base1` before anything was trained.
    pub name: String,
    /// The digest of its manifest.
    pub digest: String,
}

impl From<&Version> for Served {
    fn from(version: &Version) -> Self {
        Self { name: version.name.clone(), digest: version.manifest_digest.to_string() }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub model: Arc<Model>,
    pub version: Option<Served>,
    pub toolbox: Arc<Toolbox>,
    pub functions: Arc<Functions>,
    pub memory: Memory,
    pub knowledge: Arc<Knowledge>,
    pub thresholds: Thresholds,
    /// Whether the same or nearly the same words decide.
    remembers: bool,
    /// The functions that may be called, when they are not all there are.
    pub offer: Option<Arc<Offer>>,
}

/// What is known of a text, and what follows from it.
#[derive(Debug, Clone)]
pub(crate) struct Understanding<'a> {
    pub prediction: Prediction,
    pub evidence: Evidence,
    pub decision: Decision,
    /// The passages nearest to it, nearest first.
    pub passages: Vec<Found<'a>>,
}

impl Understanding<'_> {
    /// What is known of nothing.
    pub fn nothing() -> Self {
        let decision = Decision::Abstain { reason: crate::decision::Unknown::Unsure, confidence: 0.0 };
        Self { prediction: Prediction::default(), evidence: Evidence::default(), decision, passages: Vec::new() }
    }
}

impl Loaded {
    pub fn new(
        model: Arc<Model>,
        version: Option<Served>,
        toolbox: Arc<Toolbox>,
        functions: Arc<Functions>,
        memory: Memory,
        knowledge: Arc<Knowledge>,
        settings: &RuntimeSettings,
    ) -> Self {
        let thresholds = thresholds(&model, settings);
        Self {
            model,
            version,
            toolbox,
            functions,
            memory,
            knowledge,
            thresholds,
            remembers: settings.memory,
            offer: None,
        }
    }

    pub fn set_model(&mut self, model: Arc<Model>, version: Option<Served>, settings: &RuntimeSettings) {
        self.thresholds = thresholds(&model, settings);
        (self.model, self.version) = (model, version);
    }

    /// The functions of `functions.json`, then those that only the model knows.
    pub fn function_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.functions.functions.iter().map(|function| function.name.clone()).collect();
        for name in &self.model.labels().functions {
            if !crate::memory::is_out_of_scope(name) && !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    /// Whether the name of any function that a text could call is such.
    pub fn has_function_that(&self, is_such: impl Fn(&str) -> bool) -> bool {
        let listed = self.functions.functions.iter().map(|function| function.name.as_str());
        let learned = self.model.labels().functions.iter().map(String::as_str);
        listed.chain(learned).chain(self.memory.function_names()).any(is_such)
    }

    /// Whether there is anything that a text could call: without, whatever is understood of one is no call.
    pub fn knows_functions(&self) -> bool {
        self.model.has_functions() || self.memory.has_functions()
    }

    /// Whether there is an example of a function to compare with, or the head was trained on it.
    pub fn has_examples_of(&self, function: &str) -> bool {
        self.model.labels().function_id(function).is_some() || self.memory.fixed().has_function(function)
    }

    /// What a text means.
    pub fn understand(&self, text: &str) -> Understanding<'_> {
        // Beside nothing there is no time for a head start.
        let head_start = self.model.has_functions();
        let search = |embedding: &[f32]| self.memory.search(embedding, self.neighbours_asked(), head_start);
        let (prediction, search) = self.model.predict_beside(head(text), search);
        self.weigh(text, prediction, search)
    }

    /// What a text means that was predicted already.
    pub fn understand_predicted(&self, text: &str, prediction: Prediction) -> Understanding<'_> {
        let search = self.memory.search(&prediction.embedding, self.neighbours_asked(), false);
        self.weigh(text, prediction, search)
    }

    fn neighbours_asked(&self) -> usize {
        // Of those of all functions many may not be offered.
        if self.offer.is_some() { OFFERED_NEIGHBOURS } else { NEIGHBOURS }
    }

    /// Weighs everything that is known about a text.
    fn weigh(&self, text: &str, prediction: Prediction, search: Search) -> Understanding<'_> {
        let neighbour = |entry: usize, similarity: f32| {
            let remembered = self.memory.entry(entry)?;
            let label = match &remembered.meaning {
                Meaning::Function { name, .. } | Meaning::Description(name) => Label::Function(name.clone()),
                Meaning::Answer(_) => Label::Answer,
            };
            let known_to_head =
                matches!(&label, Label::Function(name) if self.model.labels().function_id(name).is_some());
            Some(Neighbour { entry, label, similarity, live: remembered.is_live(), known_to_head })
        };
        let offer = self.offer.as_deref();
        let may = |one: &Neighbour| offer.is_none_or(|offer| offer.has_label(&one.label));
        let exact = self.remembers.then(|| self.memory.exact(text)).flatten().and_then(|entry| neighbour(entry, 1.0));
        let nearest = self
            .memory
            .found(search, &prediction.embedding, self.model.encoder().helpers())
            .into_iter()
            .filter_map(|(entry, similarity)| neighbour(entry, similarity))
            .filter(may)
            .take(NEIGHBOURS);
        let asked = if offer.is_some() { usize::MAX } else { PROTOTYPES };
        let prototypes = self.memory.functions(&prediction.embedding, asked).into_iter();
        let prototypes = prototypes.map(|(name, similarity)| Prototype {
            function: name.to_owned(),
            similarity,
            known_to_head: self.model.labels().function_id(name).is_some(),
        });
        let prototypes = match offer {
            None => prototypes.collect(),
            Some(offer) => {
                let mut offered: Vec<Prototype> = prototypes
                    .filter(|one| offer.has(&one.function))
                    .chain(offer.prototypes(&prediction.embedding))
                    .collect();
                offered.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
                offered.truncate(PROTOTYPES);
                offered
            }
        };
        let head = match offer {
            None => prediction.function.clone().map(|function| (function, prediction.confidence)),
            Some(offer) => offer.of_head(&prediction),
        };
        let passages = self.knowledge.nearest_passages(&prediction.embedding, READ_PASSAGES);
        let evidence = Evidence {
            head,
            in_scope: prediction.in_scope,
            exact: exact.filter(may),
            nearest: nearest.collect(),
            prototypes,
            passage: passages.first().map(|found| found.similarity),
            question: is_question(text),
        };
        let decision = decide(&evidence, &self.thresholds);
        let decision = match offer {
            None => decision,
            Some(offer) => offer.decided(decision, &evidence),
        };
        Understanding { prediction, evidence, decision, passages }
    }

    /// The answer to a question from the passages nearest to it.
    pub fn read_passages<'a>(&self, question: &str, passages: &[Found<'a>]) -> Option<PassageAnswer<'a>> {
        let near = passages.iter().filter(|found| found.similarity >= self.thresholds.knowledge);
        let found = near.cloned().collect();
        let thresholds = ReadingThresholds {
            answer: self.model.calibration().answer_threshold(),
            // Between near enough to be read and the same words.
            sentence: (self.thresholds.knowledge + 1.0) / 2.0,
        };
        read(question, found, &self.model, thresholds)
    }

    /// The arguments of a function in a text.
    ///
    /// A remembered sentence of the same words knows them; else the arguments head tags them; what it was not trained on
    /// is read off the nearest examples or recognised by its form.
    pub fn draft(&self, function: &str, text: &str, understanding: &Understanding, now: &Zoned) -> Draft {
        let words = Text::new(text);
        let remembered = understanding.evidence.exact.as_ref().and_then(|exact| self.memory.entry(exact.entry));
        if let Some(Entry { text: same, meaning: Meaning::Function { name, slots }, .. }) = remembered
            && name == function
            && !slots.is_empty()
        {
            let slots = if same == text { slots.clone() } else { words.align(same, slots) };
            let draft = self.toolbox.draft(function, &slots, now);
            if draft.missing.is_empty() && !draft.arguments.is_empty() {
                return draft;
            }
        }
        let tagged = self.tagged(function, &understanding.prediction.slots);
        let Some(tool) = self.toolbox.get(function) else { return self.toolbox.draft(function, &tagged, now) };
        let mut draft = self.toolbox.draft(function, &tagged, now);
        let untaught = |parameter: &&Parameter| self.model.labels().tag_id(&format!("B-{}", parameter.name)).is_none();
        if tool.parameters.iter().any(|parameter| untaught(&parameter)) {
            let aligned = self.read_off_examples(tool, &words, understanding, now);
            self.add(
                &mut draft,
                aligned
                    .into_iter()
                    .filter(|slot| tool.parameter(&slot.name).is_some_and(|parameter| untaught(&parameter))),
                now,
            );
        }
        for parameter in tool.parameters.iter().filter(|parameter| parameter.required || untaught(parameter)) {
            if draft.arguments.iter().any(|argument| argument.name == parameter.name) {
                continue;
            }
            let taken: Vec<Slot> = draft.arguments.iter().filter_map(|argument| argument.slot()).collect();
            let found = words.recognise(parameter, &taken, now);
            self.add(&mut draft, found.into_iter(), now);
        }
        self.add_name(&mut draft, tool, &words, now);
        draft
    }

    /// What nothing but a description says something about is read off the form of the words: the one free argument that a
    /// function cannot do without is a name, if one is there.
    fn add_name(&self, draft: &mut Draft, tool: &Tool, words: &Text, now: &Zoned) {
        if !self.offer.as_ref().is_some_and(|offer| offer.is_described(&draft.function)) {
            return;
        }
        let [missing] = draft.missing.as_slice() else { return };
        let taken: Vec<Slot> = draft.arguments.iter().filter_map(|argument| argument.slot()).collect();
        if let Some(parameter) = tool.parameter(missing)
            && !is_recognisable(&parameter.schema)
        {
            self.add(draft, words.proper_name(&parameter.name, &taken).into_iter(), now);
        }
    }

    /// What the arguments head found that the function can have.
    pub fn tagged(&self, function: &str, slots: &[Slot]) -> Vec<Slot> {
        let can_have = |slot: &&Slot| match (self.toolbox.get(function), self.model.labels().arguments.get(function)) {
            (Some(tool), _) => tool.parameter(&slot.name).is_some(),
            (None, Some(names)) => names.contains(&slot.name),
            (None, None) => true,
        };
        slots.iter().filter(can_have).cloned().collect()
    }

    fn add(&self, draft: &mut Draft, slots: impl Iterator<Item = Slot>, now: &Zoned) {
        for slot in slots {
            let overlaps = draft
                .arguments
                .iter()
                .any(|known| known.name == slot.name || (slot.start < known.end && slot.end > known.start));
            let read = self.toolbox.draft(&draft.function, std::slice::from_ref(&slot), now).arguments;
            if let (false, Some(argument)) = (overlaps, read.into_iter().next()) {
                self.toolbox.set(draft, argument);
            }
        }
    }

    /// The arguments by the example that explains most of them; of equal ones the nearest.
    fn read_off_examples(&self, tool: &Tool, words: &Text, understanding: &Understanding, now: &Zoned) -> Vec<Slot> {
        let near = understanding.evidence.nearest.iter().filter_map(|one| self.memory.entry(one.entry));
        let others = self.memory.live().entries().iter().chain(self.memory.fixed().entries());
        let patterns = near.chain(others).filter_map(|entry| match &entry.meaning {
            Meaning::Function { name, slots } if *name == tool.function.name && !slots.is_empty() => {
                Some((entry.text.as_str(), slots))
            }
            _ => None,
        });
        let readable = |slot: Slot| {
            let parameter = tool.parameter(&slot.name)?;
            // Words in the place of a time that are none say something else: "a table at Luigi's".
            matches!(parameter.read(&slot.value, now)?, Normalised::Exact(_)).then_some(())?;
            Some(words.tighten(slot, parameter, now))
        };
        let mut best: Vec<Slot> = Vec::new();
        for (text, slots) in patterns.take(MAX_PATTERNS) {
            let found: Vec<Slot> = words.align(text, slots).into_iter().filter_map(readable).collect();
            if found.len() > best.len() {
                best = found;
            }
        }
        best
    }
}

fn thresholds(model: &Model, settings: &RuntimeSettings) -> Thresholds {
    let calibration = model.calibration();
    Thresholds {
        act: settings.threshold.unwrap_or(calibration.threshold),
        scope: settings.scope_threshold.unwrap_or(calibration.scope_threshold),
        // Above every cosine when nothing may be remembered: examples then only vote.
        memory: if settings.memory { settings.memory_threshold.unwrap_or(calibration.memory_threshold) } else { 2.0 },
        vote: settings.vote_threshold,
        knowledge: settings.knowledge_threshold,
    }
}
