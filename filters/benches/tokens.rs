//! What counting a prompt costs: `cargo bench -p filters --bench tokens`.
//!
//! First a chat of 2 KB and one of 100 KB, the first time and seen before, and the bound by bytes that often
//! makes counting needless. Then bodies made to be slow, at 100 KB and at 1 MB: the larger may take 15 times as
//! long as the smaller, since anything that grows faster than the text is a way to stop a gateway. Where one
//! takes longer, the verdict says so and the exit status is 1. Times are CPU time; they are printed and not judged.

#![allow(clippy::print_stdout, reason = "it prints its result")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use filters::route::Shape;
use filters::tokens::{load, most, prompt, prompt_with};

#[path = "../tests/tokens/seen.rs"]
mod seen;

use seen::Seen;

/// Ten times the text may take this many times as long.
const RATIO_MAX: f64 = 15.0;

const SMALL_BYTES: usize = 100_000;
const LARGE_BYTES: usize = 1_000_000;

fn main() -> ExitCode {
    load();
    // `cargo bench -- first` prints nothing else, for a profiler.
    if std::env::args().any(|argument| argument == "first") {
        first_time(100 << 10, 400);
        return ExitCode::SUCCESS;
    }
    for (bytes, rounds) in [(2 << 10, 10_000), (100 << 10, 300)] {
        println!("chat of {} KB:", bytes >> 10);
        first_time(bytes, rounds);
        seen_before(bytes, rounds);
        one_more_turn(bytes, rounds);
        bound(bytes, rounds);
    }
    let slow = HARMS.iter().filter(|harm| !harm.is_linear()).count();
    println!("{slow} of {} grow more than {RATIO_MAX} times", HARMS.len());
    ExitCode::from(u8::from(slow > 0))
}

// ---- ordinary chats

fn first_time(bytes: usize, rounds: u64) {
    let bodies: Vec<String> = (0..rounds).map(|seed| chat(seed, bytes)).collect();
    let began = cpu_time();
    let tokens: u64 = bodies
        .iter()
        .filter_map(|body| prompt("gpt-4o", Shape::Chat, body.as_bytes()))
        .map(|estimate| estimate.tokens)
        .sum();
    let spent = cpu_time().saturating_sub(began);
    println!(
        "  first time: {} us, {} ns a token, {:.0} MB/s",
        microseconds(spent, rounds),
        spent.as_nanos() / u128::from(tokens.max(1)),
        (bytes as u64 * rounds) as f64 / spent.as_secs_f64() / 1e6,
    );
}

fn seen_before(bytes: usize, rounds: u64) {
    let memo = Seen::default();
    let body = chat(1_000_000, bytes);
    let count = || prompt_with(&memo, "gpt-4o", Shape::Chat, black_box(body.as_bytes()));
    let (first, rounds) = (count(), rounds * 5);
    let began = cpu_time();
    for _ in 0..rounds {
        assert_eq!(black_box(count()), first);
    }
    println!(
        "  seen before: {} us",
        microseconds(cpu_time().saturating_sub(began), rounds)
    );
}

/// The history of each call was seen, its last message wasn't.
fn one_more_turn(bytes: usize, rounds: u64) {
    let memo = Seen::default();
    let history = messages(1_000_000, bytes);
    let turns: Vec<String> = (0..rounds)
        .map(|seed| wrap(&format!("{history},{}", messages(2_000_000 + seed, 500))))
        .collect();
    prompt_with(&memo, "gpt-4o", Shape::Chat, wrap(&history).as_bytes());
    let began = cpu_time();
    for turn in &turns {
        black_box(prompt_with(&memo, "gpt-4o", Shape::Chat, turn.as_bytes()));
    }
    println!(
        "  seen before but for a new message: {} us",
        microseconds(cpu_time().saturating_sub(began), rounds)
    );
}

fn bound(bytes: usize, rounds: u64) {
    let (body, rounds) = (chat(1_000_000, bytes), rounds * 100);
    let began = cpu_time();
    for _ in 0..rounds {
        black_box(most(Shape::Chat, black_box(body.as_bytes())));
    }
    println!(
        "  bound by bytes: {} us",
        microseconds(cpu_time().saturating_sub(began), rounds)
    );
}

fn microseconds(spent: Duration, rounds: u64) -> String {
    format!("{:.1}", spent.as_secs_f64() * 1e6 / rounds as f64)
}

/// Numbers that look like chance and are the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

fn chat(seed: u64, bytes: usize) -> String {
    wrap(&messages(seed, bytes))
}

fn wrap(messages: &str) -> String {
    format!(r#"{{"model":"gpt-4o","messages":[{messages}]}}"#)
}

/// Messages of some 500 bytes each.
fn messages(seed: u64, bytes: usize) -> String {
    let mut chance = Chance(seed);
    let mut out = String::with_capacity(bytes + 600);
    while out.len() < bytes {
        let role = ["user", "assistant"][(out.len() / 500) % 2];
        let comma = if out.is_empty() { "" } else { "," };
        out.push_str(&format!(r#"{comma}{{"role":"{role}","content":""#));
        let end = (out.len() + 460).min(bytes.saturating_sub(2).max(out.len() + 1));
        while out.len() < end {
            word(&mut chance, &mut out);
        }
        out.push_str("\"}");
    }
    out
}

/// Most are common; one in eight is a name or a number that no vocabulary has whole.
fn word(chance: &mut Chance, out: &mut String) {
    match chance.below(16) {
        0 => {
            for _ in 0..2 + chance.below(3) {
                out.push_str(SYLLABLES[chance.below(SYLLABLES.len() as u64) as usize]);
            }
        }
        1 => out.push_str(&chance.below(100_000).to_string()),
        _ => out.push_str(WORDS[chance.below(WORDS.len() as u64) as usize]),
    }
    out.push_str([" ", " ", " ", " ", " ", ", ", ". ", "\\n"][chance.below(8) as usize]);
}

const SYLLABLES: &[&str] = &[
    "Kor", "van", "te", "ral", "qui", "nos", "bre", "zh", "ome", "ti", "lux", "dra",
];

const WORDS: &[&str] = &[
    "the",
    "request",
    "and",
    "token",
    "of",
    "a",
    "gateway",
    "counts",
    "to",
    "limit",
    "answer",
    "is",
    "when",
    "caller",
    "model",
    "stream",
    "for",
    "usage",
    "with",
    "it",
    "returns",
    "error",
    "function",
    "that",
    "we",
    "should",
    "configuration",
    "minute",
    "after",
    "retry",
    "not",
    "before",
    "between",
    "message",
    "every",
    "deployment",
    "Please",
    "explain",
    "how",
    "this",
    "works",
    "because",
    "values",
    "however",
    "understanding",
];

// ---- bodies made to be slow

struct Harm {
    name: &'static str,
    body: fn(usize) -> String,
}

impl Harm {
    fn is_linear(&self) -> bool {
        let [small, large] = [SMALL_BYTES, LARGE_BYTES].map(|bytes| cost((self.body)(bytes)));
        let ratio = large.as_secs_f64() / small.as_secs_f64().max(1e-9);
        let verdict = if ratio <= RATIO_MAX { "ok" } else { "TOO SLOW" };
        println!(
            "  {:<34} {small:>10.1?} {large:>10.1?} {ratio:>6.1} {verdict}",
            self.name
        );
        ratio <= RATIO_MAX
    }
}

/// CPU time of counting a body once, as the mean of many times.
fn cost(body: String) -> Duration {
    let (began, mut rounds) = (cpu_time(), 0);
    loop {
        black_box(prompt("gpt-4o", Shape::Chat, black_box(body.as_bytes())));
        rounds += 1;
        let spent = cpu_time().saturating_sub(began);
        if rounds >= ROUNDS_MIN && spent >= SPENT_MIN {
            return spent / rounds;
        }
    }
}

const ROUNDS_MIN: u32 = 3;

/// The kernel brings its figure up to date every few milliseconds.
const SPENT_MIN: Duration = Duration::from_millis(150);

/// Time that this thread was running, so that what else a machine does isn't measured. Where the kernel
/// doesn't tell, all time is taken.
fn cpu_time() -> Duration {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.and_then(|line| line.split(' ').next()?.parse().ok());
    nanoseconds.map_or_else(|| BEGAN.elapsed(), Duration::from_nanos)
}

const HARMS: &[Harm] = &[
    Harm {
        name: "spaces",
        body: |bytes| said(&" ".repeat(bytes)),
    },
    Harm {
        name: "spaces, then a letter",
        body: |bytes| said(&(" ".repeat(bytes) + "x")),
    },
    Harm {
        name: "line ends",
        body: |bytes| said(&"\\n".repeat(bytes / 2)),
    },
    Harm {
        name: "one letter",
        body: |bytes| said(&"a".repeat(bytes)),
    },
    Harm {
        name: "one capital",
        body: |bytes| said(&"A".repeat(bytes)),
    },
    Harm {
        name: "chance letters, one word",
        body: |bytes| said(&of(bytes, b"abcdefghijklmnopqrstuvwxyz")),
    },
    Harm {
        name: "base64",
        body: |bytes| said(&of(bytes, BASE64)),
    },
    Harm {
        name: "marks",
        body: |bytes| said(&"_".repeat(bytes)),
    },
    Harm {
        name: "digits",
        body: |bytes| said(&of(bytes, b"0123456789")),
    },
    Harm {
        name: "emoji",
        body: |bytes| said(&"👨‍👩‍👧".repeat(bytes / 18)),
    },
    Harm {
        name: "accents on nothing",
        body: |bytes| said(&"\u{300}".repeat(bytes / 2)),
    },
    Harm {
        name: "Chinese without spaces",
        body: |bytes| said(&chinese(bytes / 3)),
    },
    Harm {
        name: "\\u escapes",
        body: |bytes| said(&"\\u6f22\\ud83d\\ude00".repeat(bytes / 18)),
    },
    Harm {
        name: "special tokens",
        body: |bytes| said(&"<|endoftext|>".repeat(bytes / 13)),
    },
    Harm {
        name: "deep nesting",
        body: |bytes| {
            format!(
                r#"{{"messages":{}{}}}"#,
                "[".repeat(bytes / 2),
                "]".repeat(bytes / 2)
            )
        },
    },
    Harm {
        name: "deep nesting, again and again",
        body: |bytes| wrap(&list(bytes / 250, |_| "[".repeat(120) + &"]".repeat(120))),
    },
    Harm {
        name: "tiny messages",
        body: |bytes| {
            wrap(&list(bytes / 30, |_| {
                r#"{"role":"user","content":"a"}"#.to_owned()
            }))
        },
    },
    Harm {
        name: "messages that aren't any",
        body: |bytes| wrap(&list(bytes / 2, |_| "1".to_owned())),
    },
    Harm {
        name: "members",
        body: |bytes| {
            wrap(&format!(
                "{{{}}}",
                list(bytes / 12, |index| format!(r#""k{index:07}":0"#))
            ))
        },
    },
    Harm {
        name: "numbers",
        body: |bytes| {
            format!(
                r#"{{"messages":[],"x":[{}]}}"#,
                list(bytes / 7, |_| "1.5e17".to_owned())
            )
        },
    },
    Harm {
        name: "parts",
        body: |bytes| {
            wrap(&format!(
                r#"{{"role":"user","content":[{}]}}"#,
                list(bytes / 25, |_| r#"{"type":"text","text":""}"#.to_owned())
            ))
        },
    },
    Harm {
        name: "images without any",
        body: |bytes| {
            wrap(&format!(
                r#"{{"role":"user","content":[{}]}}"#,
                list(bytes / 21, |_| r#"{"type":"image_url"}"#.to_owned())
            ))
        },
    },
    Harm {
        name: "answers to one long name",
        body: long_name,
    },
    Harm {
        name: "arguments",
        body: |bytes| {
            wrap(&format!(
                r#"{{"role":"assistant","tool_calls":[{}]}}"#,
                list(bytes / 60, |index| format!(
                    r#"{{"id":"{index:06}","function":{{"name":"f","arguments":"[[["}}}}"#
                ))
            ))
        },
    },
    Harm {
        name: "references to a wide schema",
        body: |bytes| {
            tool(&format!(
                r#""properties":{{{}}},"$defs":{{"w":{{{}}}}}"#,
                list(bytes / 60, |index| format!(
                    r##""p{index:06}":{{"$ref":"#/$defs/w"}}"##
                )),
                list(bytes / 30, |index| format!(r#""k{index:06}":{{}}"#)),
            ))
        },
    },
    Harm {
        name: "references that double",
        body: |bytes| {
            tool(&format!(
                r##""properties":{{"a":{{"$ref":"#/$defs/d0"}},"z":{{"description":"{}"}}}},"$defs":{{{}}}"##,
                "x ".repeat(bytes / 2),
                list(24, |index| format!(
                    r##""d{index}":{{"properties":{{"a":{{"$ref":"#/$defs/d{0}"}},"b":{{"$ref":"#/$defs/d{0}"}}}}}}"##,
                    index + 1
                )),
            ))
        },
    },
    Harm {
        name: "a description for each type",
        body: |bytes| {
            tool(&format!(
                r#""properties":{{"a":{{"description":"{}","type":[{}]}}}}"#,
                "x ".repeat(bytes / 4),
                list(bytes / 14, |_| r#""null""#.to_owned()),
            ))
        },
    },
];

const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn said(text: &str) -> String {
    wrap(&format!(r#"{{"role":"user","content":"{text}"}}"#))
}

fn of(bytes: usize, letters: &[u8]) -> String {
    let mut chance = Chance(7);
    let letter = |_| char::from(letters[chance.below(letters.len() as u64) as usize]);
    (0..bytes).map(letter).collect()
}

fn chinese(characters: usize) -> String {
    let mut chance = Chance(8);
    let character = |_| char::from_u32(0x4E00 + chance.below(4000) as u32).unwrap_or('漢');
    (0..characters).map(character).collect()
}

fn list(items: usize, item: impl Fn(usize) -> String) -> String {
    (0..items).map(item).collect::<Vec<_>>().join(",")
}

fn tool(parameters: &str) -> String {
    format!(
        r#"{{"messages":[],"tools":[{{"type":"function","function":{{"name":"f","parameters":{{{parameters}}}}}}}]}}"#
    )
}

/// Half of the body is a function's name, and each message of the other half answers a call of it.
fn long_name(bytes: usize) -> String {
    let called = format!(
        r#"{{"role":"assistant","tool_calls":[{{"id":"a","function":{{"name":"{}","arguments":""}}}}]}}"#,
        "ab ".repeat(bytes / 6)
    );
    let answer = |_| r#"{"role":"tool","tool_call_id":"a"}"#.to_owned();
    wrap(&format!("{called},{}", list(bytes / 70, answer)))
}
