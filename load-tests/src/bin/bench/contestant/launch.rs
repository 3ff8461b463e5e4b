//! How each contestant is started in front of the same upstream, with one thread where it can be told to.
//!
//! The configurations in `peers/` are complete as they stand; only addresses are replaced, so that two runs never meet.
//! Programs that aren't built here are looked for where `scripts/bench-peers` puts them; nothing is installed here.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::contestant::Contestant;
use crate::process::Process;

/// Where things are.
#[derive(Debug)]
pub(crate) struct Places {
    /// The folder of this program, where its neighbours were built.
    pub(crate) programs: PathBuf,
    /// `load-tests/peers`.
    pub(crate) peers: PathBuf,
    /// `target/peers`, where `scripts/bench-peers` installs.
    pub(crate) installed: PathBuf,
    /// `target/bench`, where results go.
    pub(crate) results: PathBuf,
    /// Scratch space of this run.
    pub(crate) scratch: PathBuf,
}

impl Places {
    pub(crate) fn find() -> io::Result<Self> {
        let program = std::env::current_exe()?;
        let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let target = here.join("../target");
        let places = Self {
            programs: program.parent().map(Path::to_path_buf).unwrap_or_default(),
            peers: here.join("peers"),
            installed: target.join("peers"),
            results: target.join("bench"),
            scratch: std::env::temp_dir().join(format!("tollgate-bench-{}", std::process::id())),
        };
        fs::create_dir_all(&places.scratch)?;
        fs::create_dir_all(&places.results)?;
        Ok(places)
    }
}

impl Places {
    /// What a contestant says on standard error.
    pub(crate) fn log(&self, who: Contestant) -> PathBuf {
        self.scratch.join(format!("{}.log", who.name()))
    }
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
    pub(crate) who: Contestant,
    pub(crate) address: SocketAddr,
    pub(crate) process: Option<Process>,
    /// What a call to it says beyond the ordinary, each line with its end.
    pub(crate) headers: String,
}

/// Starts one; the error is a line for the report.
pub(crate) async fn start(
    who: Contestant,
    places: &Places,
    upstream: SocketAddr,
) -> Result<Running, String> {
    start_under(who, places, upstream, |command| command).await
}

/// Starts one by another program, which `wrap` puts before it.
pub(crate) async fn start_under(
    who: Contestant,
    places: &Places,
    upstream: SocketAddr,
    wrap: impl FnOnce(Command) -> Command,
) -> Result<Running, String> {
    let address = free_address().map_err(|error| error.to_string())?;
    let mut running = Running {
        who,
        address,
        process: None,
        headers: String::new(),
    };
    let launch = Launch {
        places,
        address,
        upstream,
    };
    let command = match who {
        Contestant::Direct => {
            running.address = upstream;
            return Ok(running);
        }
        Contestant::BarePingora => launch.bare()?,
        Contestant::Nginx => launch.nginx()?,
        Contestant::Envoy => launch.envoy()?,
        Contestant::LiteLlm => launch.litellm()?,
        Contestant::Portkey => launch.portkey()?,
        Contestant::TollgateOff => launch.tollgate(&["tollgate-off.toml"])?,
        Contestant::TollgateOn => launch.tollgate(&["tollgate-on.toml"])?,
        Contestant::TollgateCache => {
            launch.tollgate(&["tollgate-on.toml", "tollgate-cache.toml"])?
        }
    };
    if who == Contestant::Portkey {
        running.headers = format!(
            "x-portkey-provider: openai\r\nx-portkey-custom-host: http://{upstream}/v1\r\n"
        );
    }
    let mut command = wrap(command);
    let log = places.log(who);
    let file = fs::File::create(&log).map_err(|error| error.to_string())?;
    command.stderr(Stdio::from(file)).stdout(Stdio::null());
    let started = Process::start(command, address, START_BOUND).await;
    running.process = Some(started.map_err(|error| format!("{error}{}", launch.last_words(&log)))?);
    Ok(running)
}

/// LiteLLM takes twenty seconds, and longer where others work too.
const START_BOUND: Duration = Duration::from_secs(120);

/// A port that is free now.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

struct Launch<'a> {
    places: &'a Places,
    address: SocketAddr,
    upstream: SocketAddr,
}

impl Launch<'_> {
    fn bare(&self) -> Result<Command, String> {
        let mut command = Command::new(self.built("bare-proxy", "load-tests")?);
        command
            .args(["--listen", &self.address.to_string()])
            .args(["--upstream", &self.upstream.to_string()]);
        Ok(command)
    }

    fn nginx(&self) -> Result<Command, String> {
        let known = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"];
        let program = known.iter().map(Path::new).find(|path| path.exists());
        let program = program.ok_or_else(|| missing("nginx"))?;
        let prefix = self
            .places
            .scratch
            .join(format!("nginx-{}", self.address.port()));
        fs::create_dir_all(&prefix).map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command
            .arg("-p")
            .arg(prefix)
            .arg("-c")
            .arg(self.configured(&["nginx.conf"])?)
            .args(["-e", "stderr"]);
        Ok(command)
    }

    fn envoy(&self) -> Result<Command, String> {
        let libraries = self.places.installed.join("envoy/lib");
        let versions = fs::read_dir(libraries).map_err(|_| missing("envoy"))?;
        let program = versions
            .flatten()
            .map(|version| version.path().join("site-packages/envoy/_bin/envoy"))
            .find(|path| path.exists())
            .ok_or_else(|| missing("envoy"))?;
        let mut command = Command::new(program);
        command
            .arg("-c")
            .arg(self.configured(&["envoy.yaml"])?)
            .args(["--concurrency", "1", "-l", "error"])
            .args([
                "--disable-hot-restart",
                "--file-flush-interval-msec",
                "1000",
            ]);
        Ok(command)
    }

    fn litellm(&self) -> Result<Command, String> {
        let program = self.installed("litellm/bin/litellm", "litellm")?;
        let mut command = Command::new(program);
        command
            .arg("--config")
            .arg(self.configured(&["litellm.yaml"])?)
            .args(["--host", "127.0.0.1", "--num_workers", "1"])
            .args(["--port", &self.address.port().to_string()])
            .env("LITELLM_LOG", "ERROR")
            .env("LITELLM_MODE", "PRODUCTION")
            // It would otherwise fetch prices from the network.
            .env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
        Ok(command)
    }

    fn portkey(&self) -> Result<Command, String> {
        let script = "portkey/node_modules/@portkey-ai/gateway/build/start-server.js";
        let mut command = Command::new("node");
        command
            .arg(self.installed(script, "portkey")?)
            .arg(format!("--port={}", self.address.port()))
            .arg("--headless");
        Ok(command)
    }

    fn tollgate(&self, parts: &[&str]) -> Result<Command, String> {
        let mut command = Command::new(self.built("tollgate", "gateway")?);
        command
            .args(["run", "--config"])
            .arg(self.configured(parts)?);
        Ok(command)
    }

    fn built(&self, name: &str, package: &str) -> Result<PathBuf, String> {
        let path = self.places.programs.join(name);
        if path.exists() {
            Ok(path)
        } else {
            Err(format!("not built; cargo build --release -p {package}"))
        }
    }

    fn installed(&self, path: &str, name: &str) -> Result<PathBuf, String> {
        let path = self.places.installed.join(path);
        if path.exists() {
            Ok(path)
        } else {
            Err(missing(name))
        }
    }

    /// Writes the contestant's file, which may have parts, with this run's addresses.
    fn configured(&self, parts: &[&str]) -> Result<PathBuf, String> {
        let mut text = String::new();
        for part in parts {
            let source = self.places.peers.join(part);
            let read = fs::read_to_string(&source);
            text += &read.map_err(|error| format!("{}: {error}", source.display()))?;
        }
        let name = parts.last().copied().unwrap_or_default();
        let (host, port) = (self.address.ip(), self.address.port());
        let admin = free_address().map_err(|error| error.to_string())?;
        let scratch = self.places.scratch.display().to_string();
        let text = text
            .replace(UPSTREAM, &self.upstream.to_string())
            .replace(LISTEN, &self.address.to_string())
            .replace(ADMIN, &admin.to_string())
            .replace(SCRATCH, &scratch)
            .replace(
                ENVOY_LISTEN,
                &format!("address: {host}, port_value: {port}"),
            )
            .replace(
                ENVOY_UPSTREAM,
                &format!(
                    "address: {}, port_value: {}",
                    self.upstream.ip(),
                    self.upstream.port()
                ),
            );
        // A process may watch its file; the next one's is another.
        let target = self.places.scratch.join(format!("{port}-{name}"));
        fs::write(&target, text).map_err(|error| error.to_string())?;
        Ok(target)
    }

    fn last_words(&self, log: &Path) -> String {
        let said = fs::read_to_string(log).unwrap_or_default();
        said.lines()
            .last()
            .map_or_else(String::new, |line| format!("; its last line: {line}"))
    }
}

fn missing(name: &str) -> String {
    format!("not installed; scripts/bench-peers {name}")
}

const UPSTREAM: &str = "127.0.0.1:18480";
const LISTEN: &str = "127.0.0.1:18481";
const ADMIN: &str = "127.0.0.1:18482";
const SCRATCH: &str = "/tmp/tollgate-bench";
const ENVOY_UPSTREAM: &str = "address: 127.0.0.1, port_value: 18480";
const ENVOY_LISTEN: &str = "address: 127.0.0.1, port_value: 18481";
