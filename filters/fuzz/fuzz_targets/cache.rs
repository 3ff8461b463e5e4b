//! A prompt is read for the cache without a panic; a text agrees with itself, and agreement goes both ways.

#![no_main]

use filters::cache::guard::compare;
use filters::cache::prompt::{Scope, SystemMessages, read};
use filters::route::Shape;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let scope = || Scope {
        policy: "p",
        api: "a",
        operation: "chat-completions",
        model: "m",
        vary_by: &[],
    };
    for shape in [Shape::Chat, Shape::Responses, Shape::Completions] {
        let one = read(shape, data, scope(), SystemMessages::Embedded);
        let two = read(shape, data, scope(), SystemMessages::Embedded);
        assert_eq!(one, two);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let (a, b) = text.split_once('\n').unwrap_or((text, text));
        assert_eq!(
            format!("{:?}", compare(a, b)),
            format!("{:?}", compare(b, a))
        );
    }
});
