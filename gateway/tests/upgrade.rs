//! Another process takes the listeners over: no caller is refused, what is in flight ends as it began, and a new process that
//! fails changes nothing. SIGUSR2 has the running one start it, as the unit of systemd does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::os::unix::net::UnixDatagram;

use load_tests::simulator::{Behaviour, Handle, Simulator};
use support::caller::Caller;
use support::gateway::Gateway;
use support::{before, http, wait_until};

const STREAM: &[u8] =
    br#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"Say it."}]}"#;
const PLAIN: &[u8] = br#"{"model":"gpt-4o","messages":[{"role":"user","content":"Say it."}]}"#;
const PATH: &str = "/v1/chat/completions";

const CONFIG: &str = r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"
upgrade-socket = "@FOLDER@/upgrade.sock"
[apis.openai]
path = "/v1"
schema = "openai"
models = { "*" = "main" }
[subscriptions.team]
keys = ["@KEY@"]
[backends.main]
url = "@BACKEND@/v1"
auth = "none"
[pools.main]
members = [{ backend = "main" }]
"#;

fn config(simulator: &Handle) -> String {
    CONFIG
        .replace("@KEY@", before::KEY)
        .replace("@BACKEND@", &simulator.url())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_takes_over_while_a_stream_goes_on() {
    let simulator = Simulator::start_default().await.unwrap();
    simulator.set(Behaviour::tokens(5).with_gate());
    let former = Gateway::start(&config(&simulator));
    let mut stream = Caller::connect(&former.url);
    stream.post(PATH, "whole", STREAM);
    simulator.gate().release(3);
    assert_eq!(stream.head().0, 200);
    let mut body = stream.read_until(b"\n\n");
    let mut kept = Caller::connect(&former.url);
    kept.post("/nowhere", "kept", PLAIN);
    kept.answer().unwrap();

    let next = former.upgrade();
    // A connection to the former is still served, and asked to close.
    former.wait_for_log("\"stopping\"");
    kept.post("/nowhere", "kept", PLAIN);
    let asked = kept.answer().unwrap();
    assert_eq!(
        (asked.status, asked.header("connection")),
        (404, Some("close"))
    );
    // The admin listener has gone over too: the new process has nothing in flight.
    let status = http::get(&format!("{}/status", next.admin_url)).json();
    assert_eq!(status["in_flight"], 0);
    assert_eq!(http::get(&format!("{}/readyz", next.admin_url)).status, 200);
    simulator.gate().open();
    loop {
        match stream.chunk().unwrap() {
            chunk if chunk.is_empty() => break,
            chunk => body.extend(chunk),
        }
    }
    assert!(body.ends_with(b"data: [DONE]\n\n"));
    assert!(former.ended().success());
    let mut caller = Caller::connect(&next.url);
    caller.post(PATH, "next", PLAIN);
    assert_eq!(caller.answer().unwrap().status, 200);

    // And again: the path is the new one's by now.
    next.wait_for_log("waits for another process");
    let third = next.upgrade();
    assert!(next.ended().success());
    assert_eq!(
        http::get(&format!("{}/readyz", third.admin_url)).status,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_that_cannot_start_changes_nothing() {
    let simulator = Simulator::start_default().await.unwrap();
    let gateway = Gateway::start(&config(&simulator));
    gateway.wait_for_log("waits for another process");
    // Refused before it asks.
    gateway.rewrite("[server]\nlisten = 1\n");
    assert_eq!(gateway.try_upgrade().ended().code(), Some(2));
    // Has the listeners, and then can't bind one more.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let h2c = format!("h2c = \"{}\"\nupgrade-socket", taken.local_addr().unwrap());
    gateway.rewrite(&config(&simulator).replace("upgrade-socket", &h2c));
    assert_eq!(gateway.try_upgrade().ended().code(), Some(1));
    gateway.wait_for_log("no other process took over; this one goes on");
    assert_eq!(
        http::get(&format!("{}/readyz", gateway.admin_url)).status,
        200
    );
    let mut caller = Caller::connect(&gateway.url);
    caller.post(PATH, "after", PLAIN);
    assert_eq!(caller.answer().unwrap().status, 200);
    // Without a running process there is nothing to take over.
    gateway.rewrite(&config(&simulator).replace("upgrade.sock", "nobody.sock"));
    let lonely = gateway.try_upgrade();
    lonely.wait_for_log("no running process hands its listeners over");
    assert_eq!(lonely.ended().code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn sigusr2_starts_the_successor_and_the_service_manager_is_told() {
    let simulator = Simulator::start_default().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify.sock");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(support::DEADLINE)).unwrap();
    let told = || {
        let mut message = [0; 256];
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let notify = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let gateway = Gateway::start_with(&config(&simulator), &notify);
    let url = gateway.admin_url.clone();
    let ready = |pid: u32| format!("MAINPID={pid}\nREADY=1");
    assert_eq!(told(), ready(gateway.pid()));
    gateway.wait_for_log("waits for another process");
    gateway.signal("USR2");
    let message = told();
    let pid: u32 = message
        .trim_start_matches("MAINPID=")
        .trim_end_matches("\nREADY=1")
        .parse()
        .unwrap();
    assert_ne!(pid, gateway.pid());
    assert!(gateway.ended().success());
    assert_eq!(http::get(&format!("{url}/readyz")).status, 200);
    let stopped = std::process::Command::new("sh")
        .args(["-c", &format!("kill -TERM {pid}")])
        .status();
    assert!(stopped.unwrap().success());
    assert_eq!(told(), "STOPPING=1");
    wait_until("nobody listens", || {
        http::try_get(&url).is_err().then_some(())
    });
}
