//! What can go wrong in a run. A failed gate is a result, not an error.

use std::path::PathBuf;

use crate::device::TrainingDevice;

/// Why a run could not be finished.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The log or the examples.
    #[error(transparent)]
    Data(#[from] mynah_data::Error),
    /// The registry.
    #[error(transparent)]
    Registry(#[from] mynah_registry::Error),
    /// A checkpoint or the serving path.
    #[error(transparent)]
    Runtime(#[from] mynah_runtime::Error),
    /// A file of the run.
    #[error("can't {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A file of the run that can't be put into its format.
    #[error("can't write {}: {message}", path.display())]
    Serialize {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// The report of a run that is none.
    #[error("can't read the report {}: {message}", path.display())]
    Report {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// No base model is registered.
    #[error("no base model to start from")]
    NoBase,
    /// Nothing is labelled.
    #[error("no labelled examples to learn from")]
    NoExamples,
    /// One function only.
    #[error("only one function, {function:?}, has examples; a classifier needs two")]
    OneFunction {
        /// The function.
        function: String,
    },
    /// A setting out of its range.
    #[error("`{key}` in [{table}] is {value}, but must be {expected}")]
    Setting {
        /// The table of `mynah.toml`.
        table: &'static str,
        /// The key.
        key: &'static str,
        /// What it is.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A vocabulary that nothing can be masked in.
    #[error("the base's vocabulary has no token `[MASK]`, so that it can't be adapted to unlabelled texts")]
    NoMaskToken,
    /// A device that this program was built without.
    #[error("this program was built without `{}`, so it can't train on `{device}`", device.kind())]
    DeviceNotBuilt {
        /// The device.
        device: TrainingDevice,
    },
    /// A device that is not there or does not compute.
    #[error("can't train on `{device}`: {message}")]
    NoDevice {
        /// The device.
        device: TrainingDevice,
        /// Why.
        message: String,
    },
    /// The weights became infinite or not a number.
    #[error("training diverged: the weights are no longer finite numbers")]
    Diverged,
    /// burn stopped.
    #[error("training stopped: {message}")]
    Training {
        /// burn's words.
        message: String,
    },
    /// A tensor of the wrong type.
    #[error("can't read a tensor: {message}")]
    Tensor {
        /// burn's words.
        message: String,
    },
    /// The person asked to stop.
    #[error("the run was stopped; nothing was promoted")]
    Cancelled,
}

impl Error {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Data(source) => Some(source.hint()),
            Error::Registry(source) => source.hint(),
            Error::Runtime(_) => None,
            Error::Io { path, .. } => Some(format!("check that {} is writable and the disk has room", path.display())),
            Error::Serialize { .. } => Some("check that the disk has room".into()),
            Error::Report { .. } => Some("score the version anew: `mynah evaluate --examples FILE --html PAGE`".into()),
            Error::NoBase => Some("choose one with `mynah init --base starter`".into()),
            Error::NoExamples => Some(
                "add examples to functions.json, import a file with `mynah import`, or correct a reply in `mynah chat`"
                    .into(),
            ),
            Error::OneFunction { .. } => {
                Some("add examples of a second function, or of out-of-scope texts (intent \"oos\")".into())
            }
            Error::Setting { key, table, .. } => Some(format!("change `{key}` in the [{table}] table of mynah.toml")),
            Error::NoMaskToken => Some("set `adaptation_epochs = 0` in the [training] table of mynah.toml".into()),
            Error::DeviceNotBuilt { device } => Some(format!(
                "build it with `cargo build --release --features {}`, or train on the processor with `--device cpu`",
                device.kind()
            )),
            Error::NoDevice { device: TrainingDevice::Cuda(_), .. } => Some(
                "it needs an NVIDIA card with its driver; `nvidia-smi` lists cards, `--device cpu` trains on the processor".into(),
            ),
            Error::NoDevice { .. } => Some(
                "it needs a card with a driver for Vulkan, Metal or DirectX 12; on Linux `vulkaninfo --summary` lists them, \
                 `--device cpu` trains on the processor"
                    .into(),
            ),
            Error::Diverged => Some("lower `learning_rate` in the [training] table of mynah.toml".into()),
            Error::Cancelled => Some("the same command goes on from the last finished epoch".into()),
            Error::Training { .. } | Error::Tensor { .. } => None,
        }
    }
}
