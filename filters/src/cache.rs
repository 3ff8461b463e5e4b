//! The semantic cache, as far as it is a decision: which prompts may share an answer, and what is kept.
//!
//! Reading order: `prompt` (what a body asks, and the partition it may be answered from) -> `exact` (a repeat,
//! found before any embedding) -> `embedding`, `score`, `index` (the nearest prompts by their embeddings) -> `guard` (whether
//! the nearest one means the same) -> `entry` (the answer that is kept, and how it is given to a caller).
//!
//! No embedding tells "is" from "is not" or 2023 from 2024: their distances are smaller than those of true
//! paraphrases. So a hit needs all three: the same partition by digest, a small distance, and the guard's word.
//!
//! Never here: an embedding, a store, a clock. The gateway has those and brings what they say.

mod canonical;
pub mod embedding;
pub mod entry;
pub mod exact;
pub mod guard;
pub mod index;
pub mod likeness;
mod message;
pub mod prompt;
pub mod score;
