//! Texts that are one wish each and may not be taken for several.

use std::fs::File;
use std::path::Path;

use mynah_data::{Home, ImportOptions, Imported, SplitName};
use mynah_runtime::{Mynah, RuntimeSettings};
use serde::Serialize;

use super::evaluate::today;

/// The files of single wishes.
pub const SETS: [&str; 2] = ["snips_cased", "massive_en_us"];

/// How many validation texts of a file were taken for several wishes.
#[derive(Debug, Serialize)]
pub struct SingleWishes {
    /// The file.
    pub set: String,
    /// Validation texts.
    pub texts: usize,
    /// Those that were cut.
    pub cut: usize,
    /// Their share, in [0, 1].
    pub share: f64,
    /// Some of them.
    pub examples: Vec<String>,
}

/// Reads the validation texts with the training texts in memory; `None` where the file is not there.
///
/// # Errors
/// When the file cannot be read.
pub fn measure(directory: &Path, set: &str) -> anyhow::Result<Option<SingleWishes>> {
    const SHOWN: usize = 10;
    let name = format!("{set}.jsonl.gz");
    let path = directory.join(&name);
    if !path.is_file() {
        return Ok(None);
    }
    let directory = tempfile::tempdir()?;
    let home = Home::new(directory.path());
    home.create()?;
    mynah_data::import(&home, File::open(&path)?, &name, &ImportOptions::default())?;
    let mynah = Mynah::builder(home.root()).settings(RuntimeSettings::default()).clock(today).open()?;
    let (mut texts, mut cut, mut examples) = (0_usize, 0_usize, Vec::new());
    for record in mynah_data::read_examples(File::open(&path)?, &name, None) {
        let Ok(Imported::Example(example)) = record else { continue };
        if example.split != Some(SplitName::Validation) {
            continue;
        }
        texts += 1;
        let functions = mynah.functions_asked(&example.text);
        if functions.len() > 1 {
            cut += 1;
            if examples.len() < SHOWN {
                examples.push(format!("{} ({})", example.text, functions.join(", ")));
            }
        }
    }
    let share = if texts == 0 { 0.0 } else { cut as f64 / texts as f64 };
    Ok(Some(SingleWishes { set: set.to_owned(), texts, cut, share, examples }))
}
