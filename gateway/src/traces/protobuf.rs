//! OTLP's `ExportTraceServiceRequest` in the wire format of protocol buffers, written by hand.
//!
//! Five messages with a dozen fields are less than the crates that would generate them. The numbers are those of
//! `opentelemetry/proto/trace/v1/trace.proto` and its imports; a real collector reads it in `gateway/tests/traces.rs`.
//! Never reads anything.

use super::span::{Kind, Span, Value};

/// Who tells: attributes of the resource.
pub type Resource = Vec<(&'static str, String)>;

/// The whole message.
pub fn request(resource: &Resource, spans: &[Span]) -> Vec<u8> {
    let mut scope_spans = Message::default();
    scope_spans.message(1, |scope| {
        scope.text(1, "tollgate");
        scope.text(2, env!("CARGO_PKG_VERSION"));
    });
    for span in spans {
        scope_spans.message(2, |message| write(message, span));
    }
    let mut resource_spans = Message::default();
    resource_spans.message(1, |message| {
        for (key, value) in resource {
            message.message(1, |attribute| {
                attribute.text(1, key);
                attribute.message(2, |any| any.text(1, value));
            });
        }
    });
    resource_spans.bytes(2, &scope_spans.0);
    let mut request = Message::default();
    request.bytes(1, &resource_spans.0);
    request.0
}

fn write(message: &mut Message, span: &Span) {
    message.bytes(1, &span.trace_id.to_be_bytes());
    message.bytes(2, &span.span_id.to_be_bytes());
    if let Some(parent_id) = span.parent_id {
        message.bytes(4, &parent_id.to_be_bytes());
    }
    message.text(5, &span.name);
    message.number(
        6,
        match span.kind {
            Kind::Internal => 1,
            Kind::Server => 2,
            Kind::Client => 3,
        },
    );
    message.fixed(7, span.begun_ns);
    message.fixed(8, span.ended_ns);
    for (key, value) in &span.attributes {
        message.message(9, |attribute| {
            attribute.text(1, key);
            attribute.message(2, |any| match value {
                Value::Text(text) => any.text(1, text),
                Value::Number(number) => any.number(3, *number),
                Value::Fraction(number) => any.fixed(4, number.to_bits()),
            });
        });
    }
    if span.is_error {
        // STATUS_CODE_ERROR
        message.message(15, |status| status.number(3, 2));
    }
    // The sampled flag of the trace context.
    message.fixed32(16, 1);
}

#[derive(Default)]
struct Message(Vec<u8>);

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

impl Message {
    fn message(&mut self, field: u64, fill: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        fill(&mut inner);
        self.bytes(field, &inner.0);
    }

    fn text(&mut self, field: u64, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | LENGTH);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn number(&mut self, field: u64, number: u64) {
        self.varint(field << 3 | VARINT);
        self.varint(number);
    }

    fn fixed(&mut self, field: u64, number: u64) {
        self.varint(field << 3 | FIXED64);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn fixed32(&mut self, field: u64, number: u32) {
        self.varint(field << 3 | FIXED32);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// Seven bits a byte, the lowest first.
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_are_as_the_encoding_guide_has_them() {
        let mut message = Message::default();
        message.number(1, 150);
        message.text(2, "testing");
        let expected = [
            0x08, 0x96, 0x01, 0x12, 0x07, b't', b'e', b's', b't', b'i', b'n', b'g',
        ];
        assert_eq!(message.0, expected);
    }
}
