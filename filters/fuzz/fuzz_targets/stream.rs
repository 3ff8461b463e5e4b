//! However a stream is cut, the same events come of it, and no byte is lost.

#![no_main]

use bytes::Bytes;
use filters::answer::{Seen, StreamMeter};
use filters::route::Shape;
use filters::sse::{PieceKind, Splitter};
use filters::usage::Usage;
use libfuzzer_sys::fuzz_target;

const MAX_EVENT_BYTES: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let shape = match first % 3 {
        0 => Shape::Chat,
        1 => Shape::Completions,
        _ => Shape::Responses,
    };
    let step = usize::from(first / 3 % 40) + 1;
    let bytes = Bytes::copy_from_slice(rest);
    let whole = read(shape, std::iter::once(bytes.clone()));
    let cut = read(shape, rest.chunks(step).map(Bytes::copy_from_slice));
    assert_eq!(whole, cut);
    assert_eq!(whole.2, rest);
});

type Reading = (Vec<Seen>, Option<Usage>, Vec<u8>, Vec<String>);

fn read(shape: Shape, chunks: impl Iterator<Item = Bytes>) -> Reading {
    let mut splitter = Splitter::new(MAX_EVENT_BYTES);
    let mut meter = StreamMeter::new(shape);
    let (mut pieces, mut seen, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for chunk in chunks {
        splitter.push(chunk, &mut pieces);
        for piece in pieces.drain(..) {
            if piece.kind != PieceKind::LineFeed {
                seen.push(meter.read(&piece.event()));
            }
            bytes.extend_from_slice(&piece.bytes);
        }
    }
    bytes.extend_from_slice(&splitter.finish().unwrap_or_default());
    let texts = meter.texts().map(str::to_owned).collect();
    (seen, meter.usage(), bytes, texts)
}
