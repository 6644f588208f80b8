//! What the machine is up to: battery and load, where the system tells.
//!
//! Nothing here fails: what cannot be read is not known, and what is not known holds nothing up.

use std::fs;
use std::path::Path;

/// What was read.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Machine {
    /// It runs on its battery.
    pub on_battery: bool,
    /// Runnable processes for each core over the last minute.
    pub load: f64,
}

impl Machine {
    /// Reads `/sys/class/power_supply` and `/proc/loadavg`.
    pub fn read() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let load = fs::read_to_string("/proc/loadavg").ok().and_then(|text| load_of(&text));
        Self { on_battery: on_battery(Path::new("/sys/class/power_supply")), load: load.unwrap_or(0.0) / cores as f64 }
    }
}

/// The load over the last minute.
fn load_of(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

/// Whether a battery of the machine itself gives its power away while no other supply is at work.
fn on_battery(supplies: &Path) -> bool {
    let Ok(entries) = fs::read_dir(supplies) else { return false };
    let mut discharging = false;
    for entry in entries.flatten() {
        let fact = |name: &str| {
            fs::read_to_string(entry.path().join(name)).map(|text| text.trim().to_owned()).unwrap_or_default()
        };
        match fact("type").as_str() {
            // A mouse has a battery as well; its scope is `Device`.
            "Battery" => discharging |= fact("status") == "Discharging" && fact("scope") != "Device",
            _ if fact("online") == "1" => return false,
            _ => {}
        }
    }
    discharging
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supply(directory: &Path, name: &str, facts: &[(&str, &str)]) {
        let supply = directory.join(name);
        fs::create_dir_all(&supply).unwrap();
        facts.iter().for_each(|(fact, value)| fs::write(supply.join(fact), format!("{value}\n")).unwrap());
    }

    #[test]
    fn only_a_discharging_battery_of_the_machine_without_other_power_counts() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!on_battery(directory.path()));
        assert!(!on_battery(&directory.path().join("none")));
        supply(directory.path(), "mouse", &[("type", "Battery"), ("status", "Discharging"), ("scope", "Device")]);
        assert!(!on_battery(directory.path()));
        supply(directory.path(), "BAT0", &[("type", "Battery"), ("status", "Discharging")]);
        supply(directory.path(), "AC", &[("type", "Mains"), ("online", "0")]);
        assert!(on_battery(directory.path()));
        supply(directory.path(), "AC", &[("type", "Mains"), ("online", "1")]);
        assert!(!on_battery(directory.path()));
        supply(directory.path(), "AC", &[("type", "Mains"), ("online", "0")]);
        supply(directory.path(), "BAT0", &[("type", "Battery"), ("status", "Charging")]);
        assert!(!on_battery(directory.path()));
    }

    #[test]
    fn the_load_is_the_first_figure() {
        assert_eq!(load_of("0.52 0.58 0.59 1/467 1234\n"), Some(0.52));
        assert_eq!(load_of(""), None);
    }
}
