//! Brings an answer's bytes into the form on the wire that a behaviour asks for.
//!
//! Apart from the makers, so that each of them can be padded, compressed, cut or garbled. What the answer says stays the
//! same, but for the garbling that was asked for.

use bytes::Bytes;

use super::behaviour::{Behaviour, BreakageKind};
use super::gzip;
use super::journal::Charge;
use super::reply::{Reply, put};
use super::script::{Piece, cut};

/// Brings the bytes into the form that the behaviour asks for.
pub(crate) fn shape(reply: &mut Reply, behaviour: &Behaviour) {
    let wire = &behaviour.wire;
    if wire.huge_header_bytes > 0 {
        put(
            &mut reply.headers,
            "x-simulator-padding",
            &"x".repeat(wire.huge_header_bytes.min(MAX_HEADER_BYTES)),
        );
    }
    if reply.streamed && wire.crlf {
        for piece in &mut reply.pieces {
            piece.bytes = crlf(&piece.bytes);
        }
    }
    if wire.gzip {
        let charge = reply
            .pieces
            .iter()
            .fold(Charge::default(), |mut sum, piece| {
                sum.add(piece.charge);
                sum
            });
        let whole: Vec<u8> = reply
            .pieces
            .iter()
            .flat_map(|piece| piece.bytes.iter().copied())
            .collect();
        reply.pieces = vec![Piece {
            bytes: Bytes::from(gzip::stored(&whole)),
            charge,
        }];
        put(&mut reply.headers, "content-encoding", "gzip");
    }
    let pieces = std::mem::take(&mut reply.pieces);
    reply.pieces = if reply.streamed {
        cut(pieces, &wire.chunking)
    } else {
        body_pieces(pieces, behaviour)
    };
}

/// As much as a test of bounds needs.
const MAX_HEADER_BYTES: usize = 1 << 20;

fn crlf(bytes: &Bytes) -> Bytes {
    Bytes::from(String::from_utf8_lossy(bytes).replace('\n', "\r\n"))
}

/// An unstreamed body in two halves where it shall break, so that there is something to break after.
fn body_pieces(mut pieces: Vec<Piece>, behaviour: &Behaviour) -> Vec<Piece> {
    let Some(mut piece) = pieces.pop() else {
        return pieces;
    };
    let half = piece.bytes.len() / 2;
    if behaviour.wire.malformed_json {
        piece.bytes.truncate(half);
        return vec![piece];
    }
    let Some(breakage) = behaviour
        .breakage
        .filter(|breakage| breakage.after.is_some())
    else {
        return vec![piece];
    };
    let rest = piece.bytes.split_off(half);
    let mut halves = vec![piece, Piece::free(rest)];
    if breakage.kind == BreakageKind::End {
        halves.truncate(breakage.after.unwrap_or(0));
    }
    halves
}
