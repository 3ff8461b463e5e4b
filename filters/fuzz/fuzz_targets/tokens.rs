//! Any body is counted without a panic, images by their own headers included, and never beyond what its bytes allow
//! by much: pictures and audio cost a bounded number each.

#![no_main]

use filters::route::Shape;
use filters::tokens::prompt;
use libfuzzer_sys::fuzz_target;

const MODELS: [&str; 4] = ["gpt-4o", "gpt-4", "gpt-5-mini", "o3"];

fuzz_target!(|data: &[u8]| {
    let Some((first, body)) = data.split_first() else {
        return;
    };
    let model = MODELS[usize::from(first / 5) % MODELS.len()];
    let shape = match first % 5 {
        0 => Shape::Chat,
        1 => Shape::Completions,
        2 => Shape::Embeddings,
        3 => Shape::Responses,
        _ => Shape::Other,
    };
    let (one, two) = (prompt(model, shape, body), prompt(model, shape, body));
    assert_eq!(format!("{one:?}"), format!("{two:?}"));
});
