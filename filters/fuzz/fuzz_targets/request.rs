//! A body is read without a panic, and what is spliced into it gives the body that was meant.

#![no_main]

use bytes::Bytes;
use filters::request::{BodyFacts, read_json, read_multipart, spliced};
use filters::route::Shape;
use libfuzzer_sys::fuzz_target;

const SHAPES: [Shape; 5] = [
    Shape::Chat,
    Shape::Completions,
    Shape::Embeddings,
    Shape::Responses,
    Shape::Other,
];

fuzz_target!(|data: &[u8]| {
    let Some((first, body)) = data.split_first() else {
        return;
    };
    if first & 0x80 != 0 {
        let kind = "multipart/form-data; boundary=x";
        if let Ok(facts) = read_multipart(kind, body)
            && let Some(changed) = renamed(&facts, body)
        {
            let again = read_multipart(kind, &changed).expect("a changed form is still a form");
            assert_eq!(again.model.as_deref(), Some("other"));
        }
        return;
    }
    let shape = SHAPES[usize::from(*first) % SHAPES.len()];
    let Ok(facts) = read_json(shape, body) else {
        return;
    };
    let whole: Result<serde_json::Value, _> = serde_json::from_slice(body);
    let Some(changed) = renamed(&facts, body) else {
        return;
    };
    if let Ok(mut expected) = whole {
        let changed: serde_json::Value =
            serde_json::from_slice(&changed).expect("what was JSON still is");
        expected["model"] = "other".into();
        let (mut changed, mut expected) = (changed, expected);
        // What is asked of a stream's usage is the other edit.
        for value in [&mut changed, &mut expected] {
            value
                .as_object_mut()
                .map(|all| all.remove("stream_options"));
        }
        assert_eq!(changed, expected);
    }
});

fn renamed(facts: &BodyFacts, body: &[u8]) -> Option<Vec<u8>> {
    let splices = [facts.model_as("other")?]
        .into_iter()
        .chain(facts.with_usage());
    Some(spliced(&Bytes::copy_from_slice(body), splices.collect()).concat())
}
