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
        // What a backend says of itself is believed, so only that it is the same twice can be held to.
        assert_eq!(read_body(shape, data).usage, read_body(shape, data).usage);
    }
    let _ = (read_id(data), read_tail(data), Usage::read(data));
});
