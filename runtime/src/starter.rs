//! The starter model, embedded in the program: a DistilBERT of 8 million parameters (16 MB), so that Mynah works before
//! anything was downloaded or trained. It is a base model: an encoder and a tokenizer without heads.
//!
//! Invariant: the bytes are those of `starter/` in this crate's directory, whose `MODEL_CARD.md` says where they come from.

use std::path::Path;

/// The files of the starter by name: a whole checkpoint directory.
pub static FILES: [(&str, &[u8]); 6] = [
    ("config.json", include_bytes!("../starter/config.json")),
    ("tokenizer.json", include_bytes!("../starter/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../starter/tokenizer_config.json")),
    ("vocab.txt", include_bytes!("../starter/vocab.txt")),
    ("model.safetensors", include_bytes!("../starter/model.safetensors")),
    ("README.md", include_bytes!("../starter/MODEL_CARD.md")),
];

/// Writes the starter's files into a directory that exists, as a checkpoint to register or to fine-tune.
///
/// # Errors
/// The first file that cannot be written, with the system's error.
pub fn write_to(directory: &Path) -> std::io::Result<()> {
    for (name, bytes) in FILES {
        std::fs::write(directory.join(name), bytes)?;
    }
    Ok(())
}
