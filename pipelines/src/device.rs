//! Where a fine-tune computes: the CPU, or a graphics card through burn, behind the features `cuda` and `wgpu`.
//!
//! On the CPU the steps are [`crate::native`]'s; elsewhere burn differentiates [`crate::autodiff`], which has the same model,
//! losses and dropout masks. Whatever is computed once for a run (embeddings of the base, production's logits, what the frozen
//! layers make of a text) is computed on the CPU in any case, and evaluation always is.
//!
//! *Invariant:* a device that is not there is found out before a run begins, and a run on the CPU opens no other device.

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

use crate::error::Error;
use crate::fine_tune::panic_message;
use crate::trainee::Engine;

/// A device as settings and flags name it: `cpu`, `cuda`, `cuda:1`, `wgpu`, `wgpu:1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TrainingDevice {
    /// This processor.
    #[default]
    Cpu,
    /// An NVIDIA card; without a number the first.
    Cuda(Option<usize>),
    /// Any card with Vulkan, Metal or DirectX 12; without a number the one that wgpu takes for the fastest.
    Wgpu(Option<usize>),
}

/// A name that no device has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no device; known are cpu, cuda, cuda:1, wgpu, wgpu:1 and so on")]
pub struct UnknownDevice(String);

impl FromStr for TrainingDevice {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        let unknown = || UnknownDevice(text.to_string());
        let (kind, index) = match text.split_once(':') {
            Some((kind, index)) => (kind, Some(index.parse().map_err(|_| unknown())?)),
            None => (text, None),
        };
        match (kind, index) {
            ("cpu", None) => Ok(Self::Cpu),
            ("cuda", index) => Ok(Self::Cuda(index)),
            ("wgpu", index) => Ok(Self::Wgpu(index)),
            _ => Err(unknown()),
        }
    }
}

impl TryFrom<String> for TrainingDevice {
    type Error = UnknownDevice;

    fn try_from(text: String) -> Result<Self, UnknownDevice> {
        text.parse()
    }
}

impl From<TrainingDevice> for String {
    fn from(device: TrainingDevice) -> Self {
        device.to_string()
    }
}

impl fmt::Display for TrainingDevice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.kind())?;
        match self {
            Self::Cuda(Some(index)) | Self::Wgpu(Some(index)) => write!(formatter, ":{index}"),
            _ => Ok(()),
        }
    }
}

impl TrainingDevice {
    /// The name without a number, which is that of the feature too.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda(_) => "cuda",
            Self::Wgpu(_) => "wgpu",
        }
    }

    /// Whether this program can compute there at all; nothing is opened.
    ///
    /// # Errors
    /// [`Error::DeviceNotBuilt`].
    pub fn check_built(self) -> Result<(), Error> {
        let is_built = match self {
            Self::Cpu => true,
            Self::Cuda(_) => cfg!(feature = "cuda"),
            Self::Wgpu(_) => cfg!(feature = "wgpu"),
        };
        if is_built { Ok(()) } else { Err(Error::DeviceNotBuilt { device: self }) }
    }

    /// Opens the device and has it compute something.
    ///
    /// # Errors
    /// [`Error::DeviceNotBuilt`], and [`Error::NoDevice`] when there is no such card, no driver, or it does not compute.
    pub(crate) fn open(self) -> Result<Compute, Error> {
        if self == Self::Cpu {
            return Ok(Compute::cpu());
        }
        self.check_built()?;
        let missing = |message: String| Error::NoDevice { device: self, message };
        // Drivers are foreign code: burn gives up on some of their failures by a panic.
        let opened = std::thread::scope(|scope| {
            let opened = scope.spawn(|| {
                let device = self.find()?;
                try_out(&device)?;
                Ok((name_of(&device), device))
            });
            opened.join().unwrap_or_else(|panic| Err(panic_message(panic.as_ref())))
        });
        let (name, device) = opened.map_err(missing)?;
        let engine = format!("{} on {name}", self.kind());
        Ok(Compute { device: device.autodiff(), engine: Engine::Autodiff, name: engine })
    }

    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    fn find(self) -> Result<Device, String> {
        use burn::tensor::DeviceType;
        let (index, found) = match self {
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => (Some(index.unwrap_or(0)), Device::enumerate(DeviceType::Cuda)),
            #[cfg(feature = "wgpu")]
            Self::Wgpu(index) => (index, Device::enumerate(DeviceType::Wgpu)),
            _ => return Err("this program computes on the processor only".into()),
        };
        let count = found.len();
        match (index, found.into_iter().nth(index.unwrap_or(0))) {
            (_, None) if count == 0 => Err(format!("no driver offers a {} device", self.kind())),
            (_, None) => Err(format!("no such card among the {count} that there are, counted from 0")),
            #[cfg(feature = "wgpu")]
            (None, Some(_)) => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
            (_, Some(device)) => Ok(device),
        }
    }

    #[cfg(not(any(feature = "cuda", feature = "wgpu")))]
    fn find(self) -> Result<Device, String> {
        Err("this program computes on the processor only".into())
    }
}

/// An opened device and who computes the steps there.
#[derive(Clone, Debug)]
pub(crate) struct Compute {
    /// With gradients.
    pub device: Device,
    /// Who computes the steps.
    pub engine: Engine,
    /// What the manifest of a version calls it.
    pub name: String,
}

impl Compute {
    /// This processor, by [`crate::native`].
    pub fn cpu() -> Self {
        Self { device: host().autodiff(), engine: Engine::Native, name: "flex".into() }
    }
}

/// burn's CPU device, without gradients: where weights rest before and after the steps.
pub(crate) fn host() -> Device {
    Device::flex()
}

/// Whether the numbers of a tensor on `device` lie in this process's memory.
pub(crate) fn is_host(device: &Device) -> bool {
    *device == host()
}

/// A matrix product with a known sum.
fn try_out(device: &Device) -> Result<(), String> {
    let ones = Tensor::<2>::ones([64, 64], device);
    let sum = ones.clone().matmul(ones).sum().into_data().iter::<f32>().next();
    if sum == Some(262_144.0) { Ok(()) } else { Err(format!("it takes 64 x 64 x 64 for {sum:?}")) }
}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn name_of(device: &Device) -> String {
    device.identity().map_or_else(|| "an unnamed card".into(), |identity| identity.name)
}

#[cfg(not(any(feature = "cuda", feature = "wgpu")))]
fn name_of(device: &Device) -> String {
    format!("{device:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_written_as_they_are_read() {
        for text in ["cpu", "cuda", "cuda:1", "wgpu", "wgpu:0"] {
            let device: TrainingDevice = text.parse().unwrap();
            assert_eq!(device.to_string(), text);
            let json = serde_json::to_string(&device).unwrap();
            assert_eq!(json, format!("{text:?}"));
            assert_eq!(serde_json::from_str::<TrainingDevice>(&json).unwrap(), device);
        }
        for text in ["gpu", "cpu:0", "cuda:", "cuda:one", "wgpu:-1", ""] {
            let error = text.parse::<TrainingDevice>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}` is no device")), "{error}");
        }
    }

    #[test]
    fn a_device_that_was_not_built_in_says_how_to_build_it() {
        for device in [TrainingDevice::Cuda(None), TrainingDevice::Wgpu(Some(1))] {
            if device.check_built().is_ok() {
                continue;
            }
            let error = device.open().unwrap_err();
            assert!(matches!(error, Error::DeviceNotBuilt { .. }), "{error}");
            assert!(error.hint().unwrap().contains(&format!("--features {}", device.kind())));
        }
        assert_eq!(TrainingDevice::Cpu.open().unwrap().engine, Engine::Native);
    }
}
