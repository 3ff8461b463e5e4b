//! Operations that aren't understood: carried as they are, and no way around an allow-list.

use crate::CHAT;
use crate::world::{World, credential, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_transcription_form_goes_on_with_its_model_renamed() {
    let world = World::start().await;
    let form = |model: &str| {
        format!(
            "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\
             Content-Type: audio/wav\r\n\r\n\u{0}\u{1}binary\r\n-\r\n--b\r\n\
             Content-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n--b--\r\n"
        )
    };
    let kind = [("content-type", "multipart/form-data; boundary=b")];
    for (model, name) in [("same", "same"), ("renamed", "other-name")] {
        let answer = world.request(
            "POST",
            "/openai/openai/audio/transcriptions",
            &kind,
            &form(model),
        );
        assert_eq!(answer.status, 200, "{}", answer.text());
        let sent = world.last();
        assert_eq!(sent.path, "/v1/audio/transcriptions");
        assert_eq!(text(&sent), form(name));
        assert_eq!(sent.headers["content-type"], kind[0].1);
    }
    // A name in the path: the form is left alone.
    let path = "/azure-openai/azure-openai/deployments/renamed/audio/transcriptions";
    let answer = world.request("POST", path, &kind, &form("renamed"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        world.last().path,
        "/openai/deployments/other-name/audio/transcriptions"
    );
    assert_eq!(text(&world.last()), form("renamed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_operations_pass_untouched_to_the_default_pool() {
    let world = World::start().await;
    let form = "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--b--\r\n";
    let multipart = "multipart/form-data; boundary=b";
    let table = [
        ("POST", "files", multipart, form),
        ("GET", "files?limit=2&after=x", "", ""),
        ("GET", "files/file-1/content", "", ""),
        ("DELETE", "files/file-1", "", ""),
        ("GET", "models", "", ""),
        ("GET", "models/gpt", "", ""),
        ("POST", "something/new", "application/json", "{ \"any\" :1}"),
        ("POST", "something/new", "text/plain", "not { json"),
        (
            "PUT",
            "something/new?x=%20",
            "application/x-thing",
            "\u{0}bytes\r\n",
        ),
        ("PATCH", "threads/t/messages/m", "application/json", "{}"),
    ];
    for (method, operation, kind, body) in table {
        let case = format!("{method} {operation}");
        let headers = [
            ("content-type", kind),
            ("x-own", "1"),
            ("openai-beta", "v2"),
        ];
        let headers = if kind.is_empty() {
            &headers[1..]
        } else {
            &headers[..]
        };
        let answer = world.request(
            method,
            &format!("/openai/openai/{operation}"),
            headers,
            body,
        );
        assert_eq!(answer.status, 200, "{case}: {}", answer.text());
        let sent = world.last();
        let (path, query) = operation.split_once('?').unwrap_or((operation, ""));
        assert_eq!(sent.method.as_str(), method);
        assert_eq!(sent.path, format!("/v1/{path}"), "{case}");
        assert_eq!(sent.query, query, "{case}");
        assert_eq!(text(&sent), body, "{case}");
        assert_eq!(sent.headers["openai-beta"], "v2", "{case}");
        let sent_kind = sent
            .headers
            .get("content-type")
            .map(|value| value.to_str().unwrap());
        assert_eq!(sent_kind.unwrap_or(""), kind, "{case}");
        credential(&sent, "openai", &case);
    }
    let answer = world.request(
        "GET",
        "/azure-openai/azure-openai/files?api-version=2024-10-21",
        &[],
        "",
    );
    assert_eq!(answer.status, 200);
    assert_eq!(world.last().path, "/openai/files");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_off_the_list_cannot_be_reached_by_any_spelling() {
    let world = World::start().await;
    let count = world.simulator.requests().len();
    for path in [
        "embeddings",
        "responses",
        "Embeddings",
        "embedding%73",
        "embeddings/",
        "chat/../embeddings",
        "chat/completions/../../embeddings",
        "chat%2fcompletions",
        "./embeddings",
        "/embeddings",
        "chat/completions/x",
        "embeddings;x",
        "something/new",
        "openai/deployments/same/embeddings",
        "v1/embeddings",
    ] {
        let body = r#"{"model":"same","input":"x"}"#;
        let answer = world.post(&format!("/listed/{path}"), body);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (404, "not_found"),
            "{path}"
        );
    }
    assert_eq!(world.simulator.requests().len(), count);
    assert_eq!(world.post("/listed/chat/completions", CHAT).status, 200);
    assert_eq!(world.post("/listed/chat/completions/", CHAT).status, 200);
}
