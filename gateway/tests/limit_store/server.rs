//! A redis-server of the test's own, on a free port, in its own folder.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// Ends with the test.
pub struct Server {
    port: u16,
    folder: TempDir,
    program: Program,
    process: Child,
}

/// What is run.
pub struct Program {
    /// A redis-server, or what takes its place.
    pub path: PathBuf,
    /// What is told to it beside its port.
    pub options: Vec<String>,
}

impl Program {
    /// That of the machine.
    fn installed(options: &[&str]) -> Self {
        Program {
            path: "redis-server".into(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
        }
    }
}

impl Server {
    /// Starts one and waits until it answers.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one that can join a cluster.
    pub fn node() -> Self {
        let bus = free_port().to_string();
        Self::with(&["--cluster-enabled", "yes", "--cluster-port", &bus])
    }

    fn with(options: &[&str]) -> Self {
        Self::run(Program::installed(options))
    }

    /// Starts this one and waits until it answers.
    pub fn run(program: Program) -> Self {
        let port = free_port();
        let folder = TempDir::new().unwrap();
        let process = run(port, &folder, &program);
        let server = Server {
            port,
            folder,
            program,
            process,
        };
        server.wait();
        server
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Kills it, without a chance to save anything.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again, empty: data and scripts are lost.
    pub fn restart(&mut self) {
        self.process = run(self.port, &self.folder, &self.program);
        self.wait();
    }

    /// Stops it in the middle of whatever it does.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal("CONT");
    }

    /// What a command answers, by redis-cli.
    pub fn ask(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        let done = Command::new("kill").args(["-s", name, &id]).status();
        assert!(done.unwrap().success());
    }

    fn wait(&self) {
        self.wait_for(&["ping"], "PONG");
    }

    fn wait_for(&self, command: &[&str], answer: &str) {
        for _ in 0..1_000 {
            if self.ask(command).contains(answer) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("redis-server on port {} doesn't say {answer}", self.port);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone where the test killed it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn run(port: u16, folder: &TempDir, program: &Program) -> Child {
    Command::new(&program.path)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no"])
        .args(&program.options)
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server isn't there; install it: apt-get install -y redis-server")
}

/// Three of them that share the slots.
pub struct Cluster {
    nodes: Vec<Server>,
}

impl Cluster {
    /// Starts one and waits until every node knows of it.
    pub fn start() -> Self {
        let nodes: Vec<Server> = (0..3).map(|_| Server::node()).collect();
        let addresses = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port));
        let done = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(addresses)
            .args(["--cluster-replicas", "0", "--cluster-yes"])
            .stdout(Stdio::null())
            .status();
        assert!(done.unwrap().success());
        for node in &nodes {
            node.wait_for(&["cluster", "info"], "cluster_state:ok");
        }
        Cluster { nodes }
    }

    pub fn url(&self) -> String {
        format!("redis-cluster://127.0.0.1:{}", self.nodes[0].port)
    }

    /// How many nodes hold keys.
    pub fn nodes_with_keys(&self) -> usize {
        let holds = |node: &&Server| node.ask(&["dbsize"]) != "0";
        self.nodes.iter().filter(holds).count()
    }
}
