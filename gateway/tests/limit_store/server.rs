//! A redis-server of the test's own, on a free port, in its own folder: alone, in a cluster, or behind a sentinel.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// A Redis, whatever it is made of.
pub trait Place {
    fn url(&self) -> String;
    /// The server that has the counters.
    fn holder(&mut self) -> &mut Server;
}

/// Ends with the test.
pub struct Server {
    port: u16,
    folder: TempDir,
    program: Program,
    process: Child,
    /// A line for each setting.
    settings: String,
    /// What redis-cli must say to be let in.
    client: Vec<String>,
}

/// What is run.
pub struct Program {
    /// A redis-server, or what takes its place.
    pub path: PathBuf,
    /// What is told to it beside its settings.
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
        Self::with("")
    }

    /// Starts one that can join a cluster. One that isn't heard of for half a second is replaced.
    pub fn node() -> Self {
        let bus = free_port();
        Self::with(&format!(
            "cluster-enabled yes\ncluster-port {bus}\ncluster-node-timeout 500\n"
        ))
    }

    /// Starts one that speaks TLS alone, and lets in nobody but the user `tollgate`, whose password is `let-me-in`.
    pub fn guarded(certificate: &Path, key: &Path, authority: &Path) -> Self {
        let [certificate, key, authority] = [certificate, key, authority].map(Path::display);
        let port = free_port();
        let settings = format!(
            "port 0\ntls-port {port}\ntls-cert-file {certificate}\ntls-key-file {key}\ntls-ca-cert-file {authority}\n\
             tls-auth-clients no\nuser default off\nuser tollgate on >let-me-in ~{{tollgate}}:* &{{tollgate}}:* +@all\n{VOLATILE}"
        );
        let client = format!(
            "--tls --cacert {authority} --user tollgate --pass let-me-in --no-auth-warning"
        );
        let client = client.split(' ').map(str::to_owned).collect();
        Self::begin(port, Program::installed(&[]), settings, client)
    }

    /// Starts one that watches the server on this port, by the name `counters`, and any that follow it.
    fn sentinel(watched: u16) -> Self {
        let port = free_port();
        let settings = format!(
            "port {port}\nsentinel monitor counters 127.0.0.1 {watched} 1\n\
             sentinel down-after-milliseconds counters 500\nsentinel failover-timeout counters 2000\n"
        );
        let program = Program::installed(&["--sentinel"]);
        Self::begin(port, program, settings, Vec::new())
    }

    fn with(settings: &str) -> Self {
        Self::set_up(Program::installed(&[]), settings)
    }

    /// Starts this one and waits until it answers.
    pub fn run(program: Program) -> Self {
        Self::set_up(program, "")
    }

    fn set_up(program: Program, settings: &str) -> Self {
        let port = free_port();
        let settings = format!("port {port}\n{VOLATILE}{settings}");
        Self::begin(port, program, settings, Vec::new())
    }

    fn begin(port: u16, program: Program, settings: String, client: Vec<String>) -> Self {
        let folder = TempDir::new().unwrap();
        let process = run(&folder, &program, &settings);
        let server = Server {
            port,
            folder,
            program,
            process,
            settings,
            client,
        };
        server.wait();
        server
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The address of one that is guarded.
    pub fn authority(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Kills it, without a chance to save anything.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again, empty: data and scripts are lost. A node of a cluster is still one.
    pub fn restart(&mut self) {
        self.process = run(&self.folder, &self.program, &self.settings);
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
            .args(&self.client)
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Waits until whoever takes its place knows what it knows.
    pub fn replicate(&self) {
        for _ in 0..1_000 {
            let told = self.ask(&["info", "replication"]);
            let after = |name: &str| {
                let digits = told.split(name).nth(1)?.split([',', '\r', '\n']).next()?;
                digits.parse::<u64>().ok()
            };
            if after(",offset=").is_some_and(|offset| Some(offset) == after("master_repl_offset:"))
            {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("redis-server on port {} isn't replicated", self.port);
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

impl Place for Server {
    fn url(&self) -> String {
        Server::url(self)
    }

    fn holder(&mut self) -> &mut Server {
        self
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

/// Nothing of it is kept.
const VOLATILE: &str = "save \"\"\nappendonly no\n";

fn run(folder: &TempDir, program: &Program, settings: &str) -> Child {
    // A sentinel writes down in its file what it finds out.
    let file = folder.path().join("redis.conf");
    std::fs::write(&file, format!("bind 127.0.0.1\n{settings}")).unwrap();
    Command::new(&program.path)
        .arg(&file)
        .args(&program.options)
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server isn't there; install it: apt-get install -y redis-server")
}

/// Three of them that share the slots, maybe each with another that takes its place.
pub struct Cluster {
    nodes: Vec<Server>,
}

impl Cluster {
    /// Starts one and waits until every node knows of it.
    pub fn start() -> Self {
        Self::of(3, "0")
    }

    /// Starts one in which each node has another that takes its place, and waits until those have its data.
    pub fn replicated() -> Self {
        let cluster = Self::of(6, "1");
        for node in &cluster.nodes {
            if node.ask(&["role"]).starts_with("slave") {
                node.wait_for(&["info", "replication"], "master_link_status:up");
            }
        }
        cluster
    }

    fn of(nodes: usize, replicas: &str) -> Self {
        let nodes: Vec<Server> = (0..nodes).map(|_| Server::node()).collect();
        let addresses = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port));
        let done = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(addresses)
            .args(["--cluster-replicas", replicas, "--cluster-yes"])
            .stdout(Stdio::null())
            .status();
        assert!(done.unwrap().success());
        for node in &nodes {
            node.wait_for(&["cluster", "info"], "cluster_state:ok");
        }
        Cluster { nodes }
    }

    pub fn url(&self) -> String {
        let port = |node: &Server| format!("127.0.0.1:{}", node.port);
        let others = self.nodes[1..]
            .iter()
            .map(|node| format!("node={}", port(node)));
        let others: Vec<String> = others.collect();
        format!(
            "redis-cluster://{}?{}",
            port(&self.nodes[0]),
            others.join("&")
        )
    }

    /// How many nodes hold keys.
    pub fn nodes_with_keys(&self) -> usize {
        let holds = |node: &&Server| node.ask(&["dbsize"]) != "0";
        self.nodes.iter().filter(holds).count()
    }
}

impl Place for Cluster {
    fn url(&self) -> String {
        Cluster::url(self)
    }

    fn holder(&mut self) -> &mut Server {
        let holds = |node: &Server| {
            node.ask(&["role"]).starts_with("master") && node.ask(&["exists", "{tollgate}"]) == "0"
        };
        self.nodes.iter_mut().find(|node| holds(node)).unwrap()
    }
}

/// Two of them, and a sentinel that names the one that is asked.
pub struct Watched {
    sentinel: Server,
    first: Server,
    _second: Server,
}

impl Watched {
    /// Starts them and waits until each knows the others.
    pub fn start() -> Self {
        let first = Server::start();
        let second = Server::with(&format!("replicaof 127.0.0.1 {}\n", first.port));
        second.wait_for(&["info", "replication"], "master_link_status:up");
        let sentinel = Server::sentinel(first.port);
        sentinel.wait_for(&["sentinel", "replicas", "counters"], "flags");
        Watched {
            sentinel,
            first,
            _second: second,
        }
    }
}

impl Place for Watched {
    fn url(&self) -> String {
        format!(
            "redis-sentinel://127.0.0.1:{}/0?sentinelServiceName=counters",
            self.sentinel.port
        )
    }

    fn holder(&mut self) -> &mut Server {
        &mut self.first
    }
}
