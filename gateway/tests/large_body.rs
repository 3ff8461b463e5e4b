//! A body of 20 MiB arrives byte for byte, whichever way it comes, and many at once stay within their bound.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::io::{BufRead, BufReader, Write};
use std::sync::Arc;

use load_tests::simulator::{Behaviour, Handle, Options, Record, Simulator};
use sha2::{Digest, Sha256};
use support::certificates::Authority;
use support::curl;
use support::gateway::{Gateway, free_address};
use support::http::{self, Answer};
use support::plain::{self, BACKEND_KEY, KEY};

#[tokio::test(flavor = "multi_thread")]
async fn twenty_mebibytes_arrive_by_length_over_http_1() {
    let simulator = simulator().await;
    let gateway = Gateway::start(&plain::config("", &plain::openai(&simulator.url())));
    for upload in uploads() {
        let answer = send(&gateway.url, &upload, Framing::Length);
        arrived(&simulator, &upload, &answer).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_mebibytes_arrive_in_chunks_over_http_1() {
    let simulator = simulator().await;
    let gateway = Gateway::start(&plain::config("", &plain::openai(&simulator.url())));
    for upload in uploads() {
        let answer = send(&gateway.url, &upload, Framing::Chunks);
        arrived(&simulator, &upload, &answer).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_mebibytes_are_asked_for_with_100_continue_before_they_are_sent() {
    let simulator = simulator().await;
    let gateway = Gateway::start(&plain::config("", &plain::openai(&simulator.url())));
    for upload in uploads() {
        let answer = send(&gateway.url, &upload, Framing::Expect);
        arrived(&simulator, &upload, &answer).await;
        let last = simulator.requests().pop().unwrap();
        assert!(!last.headers.contains_key("expect"), "{:?}", last.headers);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_mebibytes_arrive_from_curl_over_each_version() {
    let simulator = simulator().await;
    let authority = Authority::new("tests");
    let identity = authority.issue(&["localhost"]);
    let (h2c, tls) = (free_address(), free_address());
    let server = format!(
        "h2c = \"{h2c}\"\n[server.tls]\nlisten = \"{tls}\"\ncertificate = {:?}\nkey = {:?}\n",
        identity.certificate, identity.key
    );
    let gateway = Gateway::start(&plain::config(&server, &plain::openai(&simulator.url())));
    let tls = tls.replace("127.0.0.1", "localhost");
    let trusted = format!("--cacert={}", authority.certificate.display());
    let trusted = trusted.split_once('=').unwrap().1;
    let ways = [
        (gateway.url.clone(), vec!["--http1.1"], "1.1"),
        (
            format!("http://{h2c}"),
            vec!["--http2-prior-knowledge"],
            "2",
        ),
        (
            format!("https://{tls}"),
            vec!["--http2", "--cacert", trusted],
            "2",
        ),
        (
            format!("https://{tls}"),
            vec!["--http1.1", "--cacert", trusted],
            "1.1",
        ),
    ];
    for (base, options, version) in ways {
        for upload in uploads() {
            let url = format!("{base}{}", upload.path);
            let (key, kind) = (
                format!("api-key: {KEY}"),
                format!("content-type: {}", upload.kind),
            );
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &*upload.body).unwrap();
            let data = format!("@{}", file.path().display());
            let mut arguments = options.clone();
            arguments.extend([
                url.as_str(),
                "-H",
                &key,
                "-H",
                &kind,
                "--data-binary",
                &data,
            ]);
            let seen = curl::curl(&arguments);
            assert_eq!(seen.version, version);
            arrived(&simulator, &upload, &seen.answer).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_at_once_stay_within_the_bound_and_the_rest_are_told_to_come_back() {
    let simulator = simulator().await;
    simulator.set(Behaviour::default().with_gate());
    let server = "max-request-body = \"32MiB\"\nmax-buffered-bodies = \"512MiB\"";
    let gateway = Gateway::start(&plain::config(server, &plain::openai(&simulator.url())));
    let upload = Arc::new(Upload {
        path: "/v1/files",
        ..form()
    });
    let (finished, answers) = std::sync::mpsc::channel();
    for _ in 0..40 {
        let (upload, url, finished) = (upload.clone(), gateway.url.clone(), finished.clone());
        std::thread::spawn(move || finished.send(send(&url, &upload, Framing::Length)));
    }
    let whole = |records: &[Record]| records.iter().filter(|record| record.body.complete).count();
    simulator
        .wait_until(support::DEADLINE, |records| whole(records) == 25)
        .await
        .unwrap();
    for _ in 25..40 {
        let refused = answers.recv_timeout(support::DEADLINE).unwrap();
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (503, "overloaded")
        );
        assert_eq!(refused.header("retry-after"), Some("2"));
    }
    let held = gateway.metric("tollgate_buffered_bytes", &[]);
    assert_eq!(held, 25.0 * upload.body.len() as f64);
    simulator.gate().open();
    for _ in 0..25 {
        assert_eq!(answers.recv_timeout(support::DEADLINE).unwrap().status, 200);
    }
    gateway.wait_for_metric("tollgate_buffered_bytes", &[], 0.0);
    assert!(
        simulator
            .requests()
            .iter()
            .all(|record| record.body.sha256 == upload.sha256)
    );
    let refused = [("reason", "overloaded")];
    assert_eq!(gateway.metric("tollgate_refusals_total", &refused), 15.0);
    let peak_mib = peak_memory_mib(gateway.pid());
    assert!(peak_mib < 512 + REST_MIB, "{peak_mib} MiB at most");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_good_for_more_after_an_upload_that_found_no_room() {
    let simulator = simulator().await;
    simulator.set(Behaviour::default().with_gate().times(1));
    let server = "max-request-body = \"1MiB\"\nmax-buffered-bodies = \"1MiB\"";
    let gateway = Gateway::start(&plain::config(server, &plain::openai(&simulator.url())));
    let body = vec![b'x'; 700 << 10];
    let authority = gateway.url["http://".len()..].to_owned();
    let head = post("/v1/files", &format!("content-length: {}\r\n", body.len()));
    let mut first = http::connect(&authority).unwrap();
    first.write_all(head.as_bytes()).unwrap();
    first.write_all(&body).unwrap();
    simulator
        .wait_for(|records| records.len() == 1)
        .await
        .unwrap();

    let mut second = http::connect(&authority).unwrap();
    let mut answers = BufReader::new(second.try_clone().unwrap());
    second.write_all(head.as_bytes()).unwrap();
    second.write_all(&body).unwrap();
    let refused = http::read_answer(&mut answers).unwrap();
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (503, "overloaded")
    );
    second
        .write_all(post("/v1/files", "content-length: 1\r\n").as_bytes())
        .unwrap();
    second.write_all(b"x").unwrap();
    assert_eq!(http::read_answer(&mut answers).unwrap().status, 200);
    simulator.gate().open();
    assert_eq!(
        http::read_answer(&mut BufReader::new(first))
            .unwrap()
            .status,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_has_begun_holds_no_images() {
    let simulator = simulator().await;
    simulator.set(Behaviour::tokens(5).with_gate().times(1));
    let server = "max-request-body = \"1MiB\"\nmax-buffered-bodies = \"1MiB\"";
    let gateway = Gateway::start(&plain::config(server, &plain::openai(&simulator.url())));
    let authority = gateway.url["http://".len()..].to_owned();
    let image = "A".repeat(700 << 10);
    let content = format!(
        r#"[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{image}"}}}}]"#
    );
    let body = format!(
        r#"{{"model":"gpt-4o","stream":true,"messages":[{{"role":"user","content":{content}}}]}}"#
    );
    let fields = format!("content-length: {}\r\n", body.len());
    let request = post("/v1/chat/completions", &fields) + &body;
    let mut first = http::connect(&authority).unwrap();
    first.write_all(request.as_bytes()).unwrap();
    simulator.gate().release(3);
    let mut answer = BufReader::new(first);
    let mut begun = String::new();
    while !begun.contains("content\":") {
        assert_ne!(answer.read_line(&mut begun).unwrap(), 0, "{begun}");
    }

    let mut second = http::connect(&authority).unwrap();
    second.write_all(request.as_bytes()).unwrap();
    let whole = http::read_answer(&mut BufReader::new(second)).unwrap();
    assert_eq!(whole.status, 200, "{:?}", whole.text());
    simulator.gate().open();
    while !begun.contains("[DONE]") {
        assert_ne!(answer.read_line(&mut begun).unwrap(), 0, "{begun}");
    }
}

/// What the process needs beside the bodies, debug build and tokenizer tables included.
const REST_MIB: u64 = 200;

enum Framing {
    Length,
    Chunks,
    Expect,
}

struct Upload {
    path: &'static str,
    kind: &'static str,
    body: Vec<u8>,
    sha256: String,
}

fn uploads() -> [Upload; 2] {
    [chat(), form()]
}

/// The model comes last: to find it, the whole body has to be read.
fn chat() -> Upload {
    let mut body = b"{\"messages\":[{\"role\":\"user\",\"content\":\"".to_vec();
    body.extend(noise(20 << 20));
    body.extend(b"\"}],\"model\":\"gpt-4o\"}");
    upload("/v1/chat/completions", "application/json", body)
}

fn form() -> Upload {
    let mut body =
        b"--mark\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n"
            .to_vec();
    body.extend(noise(20 << 20));
    body.extend(b"\r\n--mark\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--mark--\r\n");
    upload(
        "/v1/audio/transcriptions",
        "multipart/form-data; boundary=mark",
        body,
    )
}

fn upload(path: &'static str, kind: &'static str, body: Vec<u8>) -> Upload {
    let sha256 = Sha256::digest(&body);
    Upload {
        path,
        kind,
        sha256: sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
        body,
    }
}

/// Letters that don't repeat in a way that a lost or doubled piece could hide in.
fn noise(length: usize) -> impl Iterator<Item = u8> {
    let mut state = 1_u64;
    std::iter::repeat_with(move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        b'a' + (state >> 33) as u8 % 26
    })
    .take(length)
}

fn post(path: &str, fields: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: tollgate\r\napi-key: {KEY}\r\n{fields}\r\n")
}

fn send(url: &str, upload: &Upload, framing: Framing) -> Answer {
    let mut stream = http::connect(&url["http://".len()..]).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let length = upload.body.len();
    let fields = match framing {
        Framing::Length => format!("content-length: {length}\r\n"),
        Framing::Expect => format!("content-length: {length}\r\nexpect: 100-continue\r\n"),
        Framing::Chunks => "transfer-encoding: chunked\r\n".to_owned(),
    };
    let fields = format!("content-type: {}\r\n{fields}", upload.kind);
    stream
        .write_all(post(upload.path, &fields).as_bytes())
        .unwrap();
    match framing {
        Framing::Length => stream.write_all(&upload.body).unwrap(),
        Framing::Expect => {
            let (status, _) = http::read_head(&mut answers).unwrap();
            assert_eq!(status, 100);
            stream.write_all(&upload.body).unwrap();
        }
        Framing::Chunks => {
            for chunk in upload.body.chunks(77_777) {
                write!(stream, "{:x}\r\n", chunk.len()).unwrap();
                stream.write_all(chunk).unwrap();
                stream.write_all(b"\r\n").unwrap();
            }
            stream.write_all(b"0\r\n\r\n").unwrap();
        }
    }
    http::read_answer(&mut answers).unwrap()
}

/// The last request at the simulator is this upload, with its exact length stated.
async fn arrived(simulator: &Handle, upload: &Upload, answer: &Answer) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let last = simulator.requests().pop().unwrap();
    assert_eq!(last.path, upload.path);
    assert_eq!(last.body.length, upload.body.len() as u64);
    assert_eq!(last.body.sha256, upload.sha256);
    assert_eq!(
        last.headers["content-length"],
        upload.body.len().to_string()
    );
    assert!(!last.headers.contains_key("transfer-encoding"));
}

async fn simulator() -> Handle {
    let options = Options {
        api_key: Some(BACKEND_KEY.to_owned()),
        ..Options::default()
    };
    Simulator::start(options).await.unwrap()
}

/// The most memory that the process ever had.
fn peak_memory_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kibibytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kibibytes >> 10
}
