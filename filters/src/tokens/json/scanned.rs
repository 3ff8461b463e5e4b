//! The values of a body, read by the scan that passes over texts by vector instructions.
//!
//! Takes no more than serde does, and gives the same (a test holds the two against each other). Never says why it didn't.

use super::{LIST_VALUES, Node};
use crate::scan::Scan;

/// As deep as serde reads: a value within so many lists and objects isn't taken.
const LEVELS: usize = 128;

/// Reads a whole text of at most so many values; `None` where serde has to judge.
pub(super) fn parse(text: &str, values: u32) -> Option<Node<'_>> {
    let mut reading = Reading {
        scan: Scan::new(text),
        left: values,
    };
    reading.scan.blank();
    let node = reading.value(LEVELS)?;
    reading.scan.is_at_end()?;
    Some(node)
}

struct Reading<'a> {
    scan: Scan<'a>,
    left: u32,
}

impl<'a> Reading<'a> {
    fn take(&mut self, values: u32) -> Option<()> {
        self.left = self.left.saturating_sub(values);
        (self.left > 0).then_some(())
    }

    fn value(&mut self, levels: usize) -> Option<Node<'a>> {
        self.take(1)?;
        match self.scan.peek()? {
            b'"' => self.scan.text().map(Node::Text),
            b'{' => self.object(levels - 1),
            b'[' => self.list(levels - 1),
            b't' => self.scan.word(b"true").map(|()| Node::Bool(true)),
            b'f' => self.scan.word(b"false").map(|()| Node::Bool(false)),
            b'n' => self.scan.word(b"null").map(|()| Node::Null),
            _ => {
                let written = self.scan.written_number()?;
                serde_json::from_str(written).ok().map(Node::Number)
            }
        }
    }

    fn list(&mut self, levels: usize) -> Option<Node<'a>> {
        self.enter(levels)?;
        let mut items = Vec::new();
        while self.goes_on(items.is_empty(), b']')? {
            items.push(self.value(levels)?);
        }
        Some(Node::List(items))
    }

    fn object(&mut self, levels: usize) -> Option<Node<'a>> {
        self.enter(levels)?;
        let mut members = Vec::new();
        while self.goes_on(members.is_empty(), b'}')? {
            let name = self.scan.name()?;
            self.scan.blank();
            members.push((name, self.value(levels)?));
        }
        Some(Node::Object(members))
    }

    fn enter(&mut self, levels: usize) -> Option<()> {
        self.scan.next()?;
        self.take(LIST_VALUES)?;
        (levels > 0).then_some(())
    }

    /// Whether another one comes before the bracket that closes; it is next.
    fn goes_on(&mut self, is_first: bool, close: u8) -> Option<bool> {
        self.scan.blank();
        match (self.scan.peek()?, is_first) {
            (byte, _) if byte == close => {
                self.scan.next()?;
                Some(false)
            }
            (_, true) => Some(true),
            (b',', false) => {
                self.scan.next()?;
                self.scan.blank();
                Some(true)
            }
            (_, false) => None,
        }
    }
}
