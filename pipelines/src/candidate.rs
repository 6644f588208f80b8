//! Writing a candidate as a checkpoint directory, the contract between training and serving.

use mynah_runtime::{Calibration, Checkpoint, Labels};
use serde_json::{Map, Value, json};
use std::path::Path;

use crate::answers::AnswerScores;
use crate::distilbert::JointModel;
use crate::error::Error;
use crate::files;
use crate::report::EvaluationReport;
use crate::weights;

/// Everything of a candidate but its scores.
pub(crate) struct Candidate<'a> {
    /// The trained weights.
    pub model: &'a JointModel,
    /// Functions and tags, row by row.
    pub labels: &'a Labels,
    /// What it was trained from: sizes and tokenizer are the same.
    pub parent: &'a Checkpoint,
}

impl Candidate<'_> {
    /// Writes weights, `config.json`, `labels.json` and the tokenizer's files.
    pub fn write(&self, directory: &Path) -> Result<(), Error> {
        files::create_directory(directory)?;
        weights::save(self.model, self.labels, directory)?;
        files::write_json(&directory.join("config.json"), &self.config()?)?;
        files::write(&directory.join("labels.json"), &self.labels.to_json())?;
        for name in ["tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"] {
            if let Some(bytes) = self.parent.file(name)? {
                files::write(&directory.join(name), &bytes)?;
            }
        }
        Ok(())
    }

    /// The parent's configuration with this candidate's labels, as `transformers` reads it.
    fn config(&self) -> Result<Value, Error> {
        let bytes = self.parent.config().to_json();
        let mut config: Map<String, Value> = serde_json::from_slice(&bytes)
            .map_err(|source| Error::Serialize { path: "config.json".into(), message: source.to_string() })?;
        if self.labels.functions.is_empty() {
            config.insert("architectures".into(), json!(["DistilBertForQuestionAnswering"]));
        } else {
            let functions = self.labels.functions.iter().enumerate();
            let id2label: Map<String, Value> =
                functions.clone().map(|(id, name)| (id.to_string(), json!(name))).collect();
            let label2id: Map<String, Value> = functions.map(|(id, name)| (name.clone(), json!(id))).collect();
            config.insert("architectures".into(), json!(["DistilBertForSequenceClassification"]));
            config.insert("id2label".into(), Value::Object(id2label));
            config.insert("label2id".into(), Value::Object(label2id));
            config.insert("problem_type".into(), json!("single_label_classification"));
        }
        config.remove("torch_dtype");
        config.insert("dtype".into(), json!("float32"));
        config.sort_keys();
        Ok(Value::Object(config))
    }
}

/// What a version says about how it was made.
pub(crate) struct Provenance<'a> {
    /// Resolved settings and lineage; goes into `training.json`.
    pub training: &'a Value,
    /// Held-out scores; goes into `evaluation.json`.
    pub report: &'a EvaluationReport,
    /// Temperature and thresholds.
    pub calibration: &'a Calibration,
    /// Sizes in words.
    pub description: String,
}

impl Provenance<'_> {
    /// Adds `calibration.json`, `training.json`, `evaluation.json` and the model card.
    ///
    /// Nothing in these files depends on the clock: the same run gives the same bytes.
    pub fn write(&self, directory: &Path) -> Result<(), Error> {
        files::write(&directory.join("calibration.json"), &self.calibration.to_json())?;
        files::write_json(&directory.join("training.json"), self.training)?;
        let mut report = serde_json::to_value(self.report).unwrap_or_default();
        if let Some(report) = report.as_object_mut() {
            report.remove("version");
        }
        files::write_json(&directory.join("evaluation.json"), &report)?;
        files::write(&directory.join("README.md"), self.card().as_bytes())
    }

    fn card(&self) -> String {
        let report = self.report;
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let optional = |share: Option<f64>| share.map_or_else(|| "none held out".to_string(), percent);
        format!(
            "---\nlibrary_name: transformers\npipeline_tag: text-classification\ntags: [distilbert, mynah]\n---\n\
             # A Mynah model\n\n\
             A DistilBERT encoder ({}) with a function head (`classifier`), an argument head\n\
             (`slot_classifier`, BIO tags on the first token of every word; see `labels.json`), made by Mynah on its\n\
             user's device from that user's examples and conversations.\n\n\
             `DistilBertForSequenceClassification.from_pretrained` opens it and gives the same function logits.\n\n\
             ## Held-out scores\n\n\
             | score | value |\n| --- | --- |\n\
             | examples | {} |\n| function accuracy | {} |\n| in-scope accuracy | {} |\n\
             | out-of-scope recall | {} |\n| argument F1 (exact spans) | {} |\n| exact match | {} |\n\
             | expected calibration error | {:.3} |\n| same function as in f32 | {} |\n{}\n\
             Measured on the int8 serving path unless `training.json` says otherwise. A text whose most probable\n\
             function is less certain than {:.3}, or any function than {:.3} (temperature {:.3}), is answered with\n\
             \"I don't know\".\n\n\
             ## Limits\n\n\
             It knows the functions in `labels.json` and nothing else. It may repeat what its user's texts taught it;\n\
             treat it as private data.\n",
            self.description,
            report.n,
            percent(report.function.accuracy),
            optional(report.function.in_scope_accuracy),
            optional(report.out_of_scope.recall),
            percent(report.arguments.f1),
            percent(report.exact_match),
            report.expected_calibration_error,
            optional(report.precision.as_ref().map(|precision| precision.function_agreement)),
            report.answers.map(|answers| answer_rows(&answers)).unwrap_or_default(),
            self.calibration.threshold,
            self.calibration.scope_threshold,
            self.calibration.temperature,
        )
    }
}

/// Rows of the score table about answers from passages.
fn answer_rows(answers: &AnswerScores) -> String {
    let AnswerScores { n, exact_match, f1, served_f1, .. } = answers;
    format!(
        "| questions on passages (`qa_outputs`) | {n} |\n| answer exact match | {:.1} % |\n| answer F1 | {:.1} % |\n\
         | answer F1 with silence below the threshold | {:.1} % |\n",
        100.0 * exact_match,
        100.0 * f1,
        100.0 * served_f1,
    )
}
