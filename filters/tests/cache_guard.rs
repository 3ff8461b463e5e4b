//! What the guard promises: our own list of paraphrases and of traps, and properties on any text.

#![allow(clippy::unwrap_used)]

use filters::cache::guard::{MAX_BYTES, Reason, Verdict, compare};
use proptest::prelude::*;

#[test]
fn true_paraphrases_pass() {
    let groups: &[&[&str]] = &[
        &[
            "How do I brew coffee?",
            "What's the best way to make coffee?",
            "Explain how coffee is brewed",
            "coffee brewing steps",
            "How to make coffee",
            "Tell me how to brew coffee.",
            "can you please explain how to make coffee",
            "What are the steps to brew coffee?",
        ],
        &[
            "How do I reset my password?",
            "How can I reset a password?",
            "how to reset your password",
            "Steps for resetting the password",
        ],
        &[
            "What is the capital of France?",
            "what is france's capital",
            "capital of France",
            "Tell me the capital of France.",
        ],
        &[
            "How do I change my email address?",
            "Hi there, how do I change my email address?",
            "hey, quick question: how can i change my email address please",
            "Sorry to bother you, but could you tell me how I change my email address? Thanks!",
            "um so how do i change my email address",
            "Is there a way to change my email address?",
            "How do I go about changing my email address?",
            "I was wondering how to change my email address.",
        ],
        &[
            "Why is my broadband connection so slow in the evenings?",
            "Why is my broadband conection so slow in the evenigns?",
        ],
        &[
            "Can I pay by card at the pharmacy?",
            "At the pharmacy, can I pay by card?",
            "Is it possible to pay by card at the pharmacy?",
            "Do you know if I can pay by card at the pharmacy?",
            "Hello, can we pay by card at the pharmacy?",
        ],
        &[
            "How much does a boiler service cost?",
            "How much is a boiler service?",
            "What's the price of a boiler service?",
            "What does a boiler service cost?",
            "How much for a boiler service?",
        ],
        &[
            "Who should I contact about a noisy neighbour?",
            "Who do I contact about a noisy neighbor?",
        ],
        &[
            "What time does the post office close today?",
            "so when does the post office close today",
            "At what time does the post office close today?",
        ],
        &[
            "I can't log in to my online banking, what should I do?",
            "i cannot log in to my online banking what should i do",
        ],
        &[
            "Do you have any rooms with a sea view?",
            "Have you got any rooms with a sea view?",
        ],
        &[
            "In Python, how do I sort a list?",
            "How do I sort a list in Python?",
        ],
        &[
            "How do I get from London to Paris?",
            "How do I get to Paris from London?",
        ],
        &[
            "Why is the sky blue?",
            "Why's the sky blue?",
            "why is the sky blue",
            "What is the reason the sky is blue?",
        ],
        &[
            "Where can I buy 2 bicycles?",
            "Where could I purchase two bicycles?",
        ],
        &[
            "How much is 1,000 USD in EUR?",
            "how much is 1000 USD in EUR",
        ],
    ];
    for group in groups {
        for a in *group {
            for b in *group {
                assert_eq!(compare(a, b), Verdict::Match, "{a} | {b}");
            }
        }
    }
}

#[test]
fn traps_are_stopped() {
    let traps: &[(&str, &str, Reason)] = &[
        (
            "What is the weather in Paris?",
            "What is the weather in London?",
            Reason::Name,
        ),
        (
            "what is the weather in paris",
            "what is the weather in london",
            Reason::Swapped,
        ),
        (
            "Who won the cup in 2023?",
            "Who won the cup in 2024?",
            Reason::Number,
        ),
        (
            "Who won the cup?",
            "Who won the cup in 2024?",
            Reason::Number,
        ),
        (
            "Why is the sky blue?",
            "Why is the sky not blue?",
            Reason::Negation,
        ),
        (
            "Why do cats purr?",
            "Why don't cats purr?",
            Reason::Negation,
        ),
        ("coffee with milk", "coffee without milk", Reason::Negation),
        (
            "What does `foo(1)` return?",
            "What does `foo(2)` return?",
            Reason::Quote,
        ),
        (
            "What does snake_case mean?",
            "What does kebab_case mean?",
            Reason::Code,
        ),
        (
            "Translate \"cat\" to French",
            "Translate \"dog\" to French",
            Reason::Quote,
        ),
        (
            "Read https://a.example/x",
            "Read https://a.example/y",
            Reason::Code,
        ),
        ("Who is John Smith?", "Who is John Miller?", Reason::Name),
        (
            "Did the dog bite the man?",
            "Did the man bite the dog?",
            Reason::Order,
        ),
        (
            "who hit whom, Tom hit Jim",
            "who hit whom, Jim hit Tom",
            Reason::Order,
        ),
        (
            "flights from New York to Florida",
            "flights from Florida to New York",
            Reason::Order,
        ),
        (
            "How do I enable 2FA?",
            "How do I disable 2FA?",
            Reason::Swapped,
        ),
        (
            "How do I cancel my subscription?",
            "How do I renew my subscription?",
            Reason::Swapped,
        ),
        (
            "Is it safe to take aspirin before surgery?",
            "Is it safe to take aspirin after surgery?",
            Reason::Opposite,
        ),
        (
            "How to turn on the alarm",
            "How to turn off the alarm",
            Reason::Opposite,
        ),
        (
            "How do I emigrate from France?",
            "How do I emigrate to France?",
            Reason::Opposite,
        ),
        (
            "What is the maximum speed?",
            "What is the minimum speed?",
            Reason::Swapped,
        ),
        (
            "Is 5 km more than 5 miles?",
            "Is 5 km less than 5 miles?",
            Reason::Swapped,
        ),
        (
            "Convert 10 km to miles",
            "Convert 10 kg to pounds",
            Reason::Number,
        ),
        ("Add 5 and 7", "Add 5 and -7", Reason::Number),
        ("What is 5 + 3?", "What is 5 * 3?", Reason::Code),
        ("Sort in C++", "Sort in C#", Reason::Code),
        ("Who are you?", "Who am I?", Reason::Person),
        ("Does she love him?", "Does he love her?", Reason::Order),
        (
            "Why should I learn Rust?",
            "How should I learn Rust?",
            Reason::Intent,
        ),
        (
            "Can I eat raw eggs?",
            "Should I eat raw eggs?",
            Reason::Intent,
        ),
        (
            "What is machine learning?",
            "How is machine learning done?",
            Reason::Intent,
        ),
        (
            "What is the best laptop?",
            "What is a laptop?",
            Reason::Added,
        ),
        (
            "What is the capital of France?",
            "What was the capital of France?",
            Reason::Added,
        ),
        (
            "How do I lose weight?",
            "How do I lose weight fast?",
            Reason::Added,
        ),
        ("What is MAX_SIZE?", "What is max_size?", Reason::Code),
        ("Is IT hard?", "Is it hard?", Reason::Name),
        ("What is IT?", "What is it?", Reason::Name),
        ("Is 100 Mb fast?", "Is 100 MB fast?", Reason::Name),
        ("Is Polish hard?", "Is polish hard?", Reason::Name),
        (
            "How do I serve Turkey?",
            "How do I serve turkey?",
            Reason::Name,
        ),
        (
            "Translate to German: I am glad.",
            "Translate to German: I am happy.",
            Reason::Quote,
        ),
        (
            "What does this print?\nif x:\n    a()\nb()",
            "What does this print?\nif x:\n    a()\n    b()",
            Reason::Quote,
        ),
        (
            "Which of these is best?\nred\nblue",
            "Which of these is best?\nblue\nred",
            Reason::Quote,
        ),
        (
            "Hi!\nReply to this:\nCan you come?",
            "Hi!\nReply to this:\nCould you come?",
            Reason::Quote,
        ),
        (
            "Fix the commas in it: Let us eat, Bob",
            "Fix the commas in it: Let us eat Bob",
            Reason::Quote,
        ),
        (
            "What does the regex ab? match",
            "What does the regex ab match",
            Reason::Quote,
        ),
        (
            "What do I type for ab?+",
            "What do I type for ab?",
            Reason::Code,
        ),
        // A mark that nobody sees, a letter of another script that looks the same, and one that is put together from two.
        (
            "Who owns paypal.com?",
            "Who owns p\u{430}ypal.com?",
            Reason::Language,
        ),
        (
            "How do I log in?",
            "How do I log\u{200b} in?",
            Reason::Language,
        ),
        (
            "How do I log in?",
            "\u{202e}How do I log in?",
            Reason::Language,
        ),
        (
            "Where is my resume?",
            "Where is my re\u{301}sume\u{301}?",
            Reason::Language,
        ),
        ("What does 👍 mean?", "What does 👎 mean?", Reason::Language),
        ("如何重置我的密码？", "如何取消我的订阅？", Reason::Language),
        (
            "Wie koche ich Kaffee?",
            "Wie röste ich Kaffee?",
            Reason::Language,
        ),
        (
            "Est-ce que Paul aime Marie?",
            "Est-ce que Marie aime Paul?",
            Reason::Language,
        ),
        ("What is it?", "How is it?", Reason::Intent),
        ("", "What is it?", Reason::Wording),
    ];
    for (a, b, reason) in traps {
        assert_eq!(compare(a, b), Verdict::Differs(*reason), "{a} | {b}");
        assert_eq!(compare(b, a), Verdict::Differs(*reason), "{b} | {a}");
    }
}

/// `guard/traps.txt`: two prompts a line that look alike and aren't.
#[test]
fn no_trap_of_our_list_is_a_match() {
    let mut count = 0;
    for line in include_str!("guard/traps.txt").lines() {
        let (a, b) = line.split_once(" | ").unwrap();
        for (a, b) in [(a, b), (b, a)] {
            assert_ne!(compare(a, b), Verdict::Match, "{a} | {b}");
            let (a, b) = (a.to_lowercase(), b.to_lowercase());
            assert_ne!(compare(&a, &b), Verdict::Match, "{a} | {b}");
            let greeted = format!("Hi, {b} please");
            assert_ne!(compare(&a, &greeted), Verdict::Match, "{a} | {greeted}");
        }
        count += 1;
    }
    assert!(count > 400);
}

#[test]
fn in_any_script_the_same_text_matches() {
    for (a, b) in [
        ("如何重置我的密码？", " 如何重置我的密码？ "),
        ("Как сварить кофе?", "Как  сварить кофе"),
        ("Wie koche ich Kaffee?", "Wie  koche ich Kaffee"),
    ] {
        assert_eq!(compare(a, b), Verdict::Match, "{a} | {b}");
    }
}

#[test]
fn what_is_too_long_matches_only_itself() {
    let long = "word ".repeat(MAX_BYTES / 5 + 1);
    assert_eq!(compare(&long, &long), Verdict::Match);
    let other = format!("{long}more");
    assert_eq!(compare(&long, &other), Verdict::Differs(Reason::TooLong));
}

#[test]
fn texts_made_to_cost_time_are_read_in_one_pass() {
    for piece in [
        "\"", "`", "“", "a", "a ", "1", "-", "x's ", "a.", "no ", "to the ", "5km,", "\u{300}",
    ] {
        let text = piece.repeat(MAX_BYTES / piece.len());
        let other = format!("{} z", &text[..text.floor_char_boundary(MAX_BYTES - 16)]);
        assert_ne!(compare(&text, &other), Verdict::Differs(Reason::TooLong));
    }
}

/// Words that the guard has rules for, and others.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(vec![
            "how", "what", "not", "to", "from", "Paris", "London", "2023", "two", "the", "is",
            "coffee", "make", "brew", "best", "way", "I", "you", "he", "\"x\"", "`y`", "a.b_c",
            ",", "?", "dog", "bites", "man", "don't", "5km", "und", "é",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,6}",
    ]
}

fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(word(), 0..12).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn any_text_matches_itself_and_the_order_of_two_does_not_matter(a in text(), b in text()) {
        prop_assert_eq!(compare(&a, &a), Verdict::Match);
        prop_assert_eq!(compare(&a, &b), compare(&b, &a));
    }

    #[test]
    fn another_number_or_a_negation_more_never_matches(before in text(), after in text()) {
        let with = |word: &str| format!("{before} {word} {after}");
        prop_assert_ne!(compare(&with("2023"), &with("2024")), Verdict::Match);
        prop_assert_ne!(compare(&with("7"), &with("")), Verdict::Match);
        prop_assert_ne!(compare(&with("not"), &with("")), Verdict::Match);
        prop_assert_ne!(compare(&with("snake_case"), &with("kebab_case")), Verdict::Match);
    }
}
