//! `mynah service`: the service as a unit of the user's systemd, started at login and again after a failure.
//!
//! Invariant: the unit may write to the home and nowhere else, and gains no privileges.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Subcommand;
use serde_json::json;

use super::Context;
use crate::client::Client;
use crate::failure::{Exit, hinted};

/// The name of the unit.
const UNIT: &str = "mynah.service";

/// The commands below `service`.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Write the unit, start it now and at every login
    Install {
        /// Write the unit only
        #[arg(long)]
        no_start: bool,
    },
    /// Stop the service and remove the unit; the home stays
    Uninstall,
    /// Whether it is installed and runs
    Status,
}

/// Carries out one of the commands below `service`.
///
/// # Errors
/// When the unit cannot be written, or systemd refuses.
pub fn run(context: &Context, command: &ServiceCommand) -> anyhow::Result<Exit> {
    let path = unit_path(context)?;
    match command {
        ServiceCommand::Install { no_start } => install(context, &path, *no_start),
        ServiceCommand::Uninstall => uninstall(context, &path),
        ServiceCommand::Status => status(context, &path),
    }
}

fn unit_path(context: &Context) -> anyhow::Result<PathBuf> {
    let directory = context.environment.config_directory.as_ref().ok_or_else(|| {
        hinted("no configuration directory: neither XDG_CONFIG_HOME nor HOME is set", "set HOME to your own directory")
    })?;
    Ok(directory.join("systemd/user").join(UNIT))
}

fn install(context: &Context, path: &Path, no_start: bool) -> anyhow::Result<Exit> {
    let program = std::env::current_exe()?;
    let cannot = |error: std::io::Error| {
        hinted(format!("cannot write {}: {error}", path.display()), "check the permissions of the directory")
    };
    // Its namespace is made before the program runs, and needs the home to be there.
    context.home.create()?;
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(cannot)?;
    }
    std::fs::write(path, unit(&program, context.home.root())).map_err(cannot)?;
    if !no_start {
        systemctl(&["daemon-reload"])?;
        systemctl(&["enable", "--now", UNIT])?;
    }
    done(context, path, if no_start { "written" } else { "started" })
}

fn uninstall(context: &Context, path: &Path) -> anyhow::Result<Exit> {
    if !path.exists() {
        return done(context, path, "not installed");
    }
    // Without a systemd to ask there is nothing to be stopped.
    let stopped = systemctl(&["disable", "--now", UNIT]);
    std::fs::remove_file(path)?;
    if stopped.is_ok() {
        systemctl(&["daemon-reload"])?;
    }
    done(context, path, "removed")
}

fn status(context: &Context, path: &Path) -> anyhow::Result<Exit> {
    let installed = path.exists();
    let active = Command::new("systemctl").args(["--user", "is-active", UNIT]).output();
    let active = active
        .map_or_else(|_| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let client = Client::connect(&context.home);
    let (address, url) = client.as_ref().map(|client| (client.address(), client.url())).unzip();
    if context.output.json {
        let value = json!({"installed": installed, "unit": path, "systemd": active, "address": address, "url": url});
        context.output.value(&value)?;
        return Ok(Exit::Done);
    }
    let state = if installed {
        format!("installed ({}), systemd says {active}", path.display())
    } else {
        "not installed; `mynah service install` does it".to_owned()
    };
    context.output.line(state)?;
    context.output.line(match url {
        Some(url) => format!("answering on {url}"),
        None => "nothing answers for this home".to_owned(),
    })?;
    Ok(Exit::Done)
}

fn done(context: &Context, path: &Path, state: &str) -> anyhow::Result<Exit> {
    match context.output.json {
        true => context.output.value(&json!({"unit": path, "state": state}))?,
        false => context.output.line(format_args!("{}: {state}", path.display()))?,
    }
    Ok(Exit::Done)
}

fn systemctl(arguments: &[&str]) -> anyhow::Result<()> {
    let hint = format!("start it by hand with `mynah serve`, or look at `systemctl --user status {UNIT}`");
    let output = Command::new("systemctl").arg("--user").args(arguments).output();
    let output = output.map_err(|error| hinted(format!("cannot run systemctl: {error}"), hint.as_str()))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(hinted(format!("systemctl {}: {said}", arguments.join(" ")), hint))
        }
    }
}

/// The unit: told by the program when it is ready, and kept to the home.
fn unit(program: &Path, home: &Path) -> String {
    let (program, home) = (quoted(program), quoted(home));
    format!(
        "[Unit]\n\
        Description=Mynah, a local assistant that learns\n\
        StartLimitIntervalSec=300\n\
        StartLimitBurst=5\n\n\
        [Service]\n\
        Type=notify\n\
        ExecStart={program} serve --home {home}\n\
        ExecReload=/bin/kill -HUP $MAINPID\n\
        Restart=on-failure\n\
        RestartSec=2\n\
        TimeoutStartSec=120\n\
        TimeoutStopSec=60\n\
        UMask=0077\n\
        NoNewPrivileges=yes\n\
        ProtectSystem=strict\n\
        ProtectHome=read-only\n\
        ReadWritePaths={home}\n\
        PrivateTmp=yes\n\
        PrivateDevices=yes\n\
        ProtectKernelTunables=yes\n\
        ProtectKernelModules=yes\n\
        ProtectKernelLogs=yes\n\
        ProtectControlGroups=yes\n\
        ProtectClock=yes\n\
        ProtectHostname=yes\n\
        RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX\n\
        RestrictNamespaces=yes\n\
        RestrictRealtime=yes\n\
        RestrictSUIDSGID=yes\n\
        LockPersonality=yes\n\
        MemoryDenyWriteExecute=yes\n\
        SystemCallArchitectures=native\n\
        CapabilityBoundingSet=\n\n\
        [Install]\n\
        WantedBy=default.target\n"
    )
}

/// A path as systemd.syntax(7) wants it: in quotes, with its own quotes, backslashes, `%` and `$` escaped.
fn quoted(path: &Path) -> String {
    let mut text = String::from("\"");
    for c in path.display().to_string().chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '%' => text.push_str("%%"),
            '$' => text.push_str("$$"),
            c => text.push(c),
        }
    }
    text + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_as_systemd_wants_them() {
        assert_eq!(quoted(Path::new("/home/a b/100%\"x")), "\"/home/a b/100%%\\\"x\"");
    }

    #[test]
    fn the_unit_tells_when_it_is_ready_and_writes_to_the_home_only() {
        let unit = unit(Path::new("/usr/bin/mynah"), Path::new("/home/me/my home"));
        for line in [
            "Type=notify",
            "ExecStart=\"/usr/bin/mynah\" serve --home \"/home/me/my home\"",
            "ProtectSystem=strict",
            "ReadWritePaths=\"/home/me/my home\"",
            "WantedBy=default.target",
        ] {
            assert!(unit.lines().any(|one| one == line), "{line}\n{unit}");
        }
    }
}
