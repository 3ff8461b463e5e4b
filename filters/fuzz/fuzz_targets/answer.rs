//! An answer's usage is read from anything, whole or by its end, without a panic.

#![no_main]

use filters::answer::{read_body, read_id, read_tail};
use filters::route::Shape;
use filters::usage::Usage;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for shape in [
        Shape::Chat,
        Shape::Completions,
        Shape::Embeddings,
        Shape::Responses,
        Shape::Other,
    ] {
        let answer = read_body(shape, data);
        if let Some(usage) = answer.usage {
            assert!(usage.cached <= usage.prompt || usage.prompt == 0);
        }
    }
    let _ = (read_id(data), read_tail(data), Usage::read(data));
});
