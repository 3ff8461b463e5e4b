//! Who is measured, and how each is started in front of the same upstream.
//!
//! The configurations in `peers/` are complete as they stand; only addresses are replaced, so that two runs never meet.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::Process;

/// Who.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contestant {
    /// Nobody in between.
    Direct,
    /// `bare-proxy` of this crate.
    BarePingora,
    /// nginx of the system.
    Nginx,
    /// This project.
    Tollgate,
}

impl Contestant {
    pub(crate) const ALL: [Self; 4] =
        [Self::Direct, Self::BarePingora, Self::Nginx, Self::Tollgate];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::BarePingora => "bare Pingora",
            Self::Nginx => "nginx",
            Self::Tollgate => "tollgate",
        }
    }
}

/// Where things are.
#[derive(Debug)]
pub(crate) struct Places {
    /// The folder of this program, where its neighbours were built.
    pub(crate) programs: PathBuf,
    /// `load-tests/peers`.
    pub(crate) peers: PathBuf,
    /// Scratch space of this run.
    pub(crate) scratch: PathBuf,
}

impl Drop for Places {
    fn drop(&mut self) {
        // What stays behind is in the system's temporary folder.
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

/// A started contestant; `process` is absent for the upstream itself.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) process: Option<Process>,
}

/// Starts one; the error is a line for the report.
pub(crate) async fn start(
    who: Contestant,
    places: &Places,
    upstream: SocketAddr,
) -> Result<Running, String> {
    let address = free_address().map_err(|error| error.to_string())?;
    let command = match who {
        Contestant::Direct => {
            return Ok(Running {
                address: upstream,
                process: None,
            });
        }
        Contestant::BarePingora => bare(places, address, upstream)?,
        Contestant::Nginx => nginx(places, address, upstream)?,
        Contestant::Tollgate => tollgate(places, address, upstream)?,
    };
    let started = Process::start(command, address).await;
    let process = started.map_err(|error| format!("{error}{}", last_words(who, places)))?;
    Ok(Running {
        address,
        process: Some(process),
    })
}

/// What tollgate said last, since it is the one that is under construction.
fn last_words(who: Contestant, places: &Places) -> String {
    let said = match who {
        Contestant::Tollgate => {
            fs::read_to_string(places.scratch.join("tollgate.log")).unwrap_or_default()
        }
        Contestant::Direct | Contestant::BarePingora | Contestant::Nginx => String::new(),
    };
    said.lines()
        .last()
        .map_or_else(String::new, |line| format!("; its last line: {line}"))
}

/// A port that is free now.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

fn bare(places: &Places, address: SocketAddr, upstream: SocketAddr) -> Result<Command, String> {
    let mut command = Command::new(built(places, "bare-proxy", "load-tests")?);
    command
        .arg("--listen")
        .arg(address.to_string())
        .arg("--upstream")
        .arg(upstream.to_string());
    command.stderr(Stdio::null());
    Ok(command)
}

fn nginx(places: &Places, address: SocketAddr, upstream: SocketAddr) -> Result<Command, String> {
    let known = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"];
    let Some(program) = known.iter().find(|path| Path::new(path).exists()) else {
        return Err("not installed; on Debian: apt-get install nginx-light".to_owned());
    };
    let prefix = places.scratch.join("nginx");
    fs::create_dir_all(&prefix).map_err(|error| error.to_string())?;
    let file = configured(places, "nginx.conf", address, upstream)?;
    let mut command = Command::new(program);
    command
        .arg("-p")
        .arg(prefix)
        .arg("-c")
        .arg(file)
        .arg("-e")
        .arg("stderr");
    Ok(command)
}

fn tollgate(places: &Places, address: SocketAddr, upstream: SocketAddr) -> Result<Command, String> {
    let program = built(places, "tollgate", "gateway")?;
    let file = configured(places, "tollgate.toml", address, upstream)?;
    let log =
        fs::File::create(places.scratch.join("tollgate.log")).map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command
        .arg("run")
        .arg("--config")
        .arg(file)
        .stderr(Stdio::from(log));
    Ok(command)
}

fn built(places: &Places, name: &str, package: &str) -> Result<PathBuf, String> {
    let path = places.programs.join(name);
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("not built; cargo build --release -p {package}"))
    }
}

/// Writes the peer's file with this run's addresses.
fn configured(
    places: &Places,
    name: &str,
    address: SocketAddr,
    upstream: SocketAddr,
) -> Result<PathBuf, String> {
    let source = places.peers.join(name);
    let text =
        fs::read_to_string(&source).map_err(|error| format!("{}: {error}", source.display()))?;
    let admin = free_address().map_err(|error| error.to_string())?;
    let text = text
        .replace(UPSTREAM, &upstream.to_string())
        .replace(LISTEN, &address.to_string())
        .replace(ADMIN, &admin.to_string());
    let target = places.scratch.join(name);
    fs::write(&target, text).map_err(|error| error.to_string())?;
    Ok(target)
}

const UPSTREAM: &str = "127.0.0.1:18480";
const LISTEN: &str = "127.0.0.1:18481";
const ADMIN: &str = "127.0.0.1:18482";
