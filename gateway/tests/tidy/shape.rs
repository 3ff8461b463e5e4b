//! Sizes and forms: how long a file and a function may be, how a file opens, what it may not be called.

use super::source::{Source, block, words};

/// Lines of a file, its tests not counted.
pub const FILE_LINES: usize = 400;
/// Lines of a function, from its name to its end.
pub const FUNCTION_LINES: usize = 70;
/// Lines in the body of a method of `proxy.rs`.
pub const PROXY_METHOD_LINES: usize = 10;

/// Files that don't say what they are before anything else.
pub fn without_header(sources: &[Source]) -> Vec<String> {
    let bare = |source: &&Source| !source.text.starts_with("//!");
    let tell = |source: &Source| format!("{}: doesn't open with `//!`", source.path);
    sources.iter().filter(bare).map(tell).collect()
}

/// Files that are too long without their tests.
pub fn long_files(sources: &[Source]) -> Vec<String> {
    sources
        .iter()
        .filter(|source| !is_test(source))
        .map(|source| (source, source.code.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES)
        .map(|(source, lines)| format!("{}: {lines} lines, {FILE_LINES} at most", source.path))
        .collect()
}

/// Functions that are too long, tests apart.
pub fn long_functions(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| !is_test(source)) {
        for function in functions(&source.code) {
            if function.lines > FUNCTION_LINES {
                let (name, lines) = (function.name, function.lines);
                found.push(format!(
                    "{}: {name}: {lines} lines, {FUNCTION_LINES} at most",
                    source.path
                ));
            }
        }
    }
    found
}

/// Methods of `proxy.rs` that do more than route.
pub fn long_proxy_methods(proxy: &Source) -> Vec<String> {
    functions(&proxy.code)
        .into_iter()
        .filter(|function| function.body_lines > PROXY_METHOD_LINES)
        .map(|function| {
            let (name, lines) = (function.name, function.body_lines);
            format!(
                "{}: {name}: {lines} lines in its body, {PROXY_METHOD_LINES} at most",
                proxy.path
            )
        })
        .collect()
}

/// Files named `mod.rs`, and build scripts.
pub fn forbidden_names(paths: &[String]) -> Vec<String> {
    let name = |path: &&String| matches!(path.rsplit('/').next(), Some("mod.rs" | "build.rs"));
    let tell = |path: &String| format!("{path}: no mod.rs, no build script");
    paths.iter().filter(name).map(tell).collect()
}

fn is_test(source: &Source) -> bool {
    source.path.contains("/tests/") || source.path.contains("/benches/")
}

struct Function {
    name: String,
    lines: usize,
    body_lines: usize,
}

fn functions(code: &str) -> Vec<Function> {
    words(code, "fn")
        .filter_map(|at| function(&code[at..]))
        .collect()
}

/// The function that the code opens with; none where `fn` is a type or has no body.
fn function(code: &str) -> Option<Function> {
    let after = code["fn".len()..].trim_start();
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    let name: String = after.chars().take_while(|c| in_name(*c)).collect();
    if name.is_empty() {
        return None;
    }
    let open = body(code)?;
    let length = open + block(&code[open..]);
    let body = code[open..length].lines().count();
    Some(Function {
        name,
        lines: code[..length].lines().count(),
        body_lines: body.saturating_sub(2),
    })
}

/// Where the body opens; a `;` outside of brackets before it means that there is none.
fn body(code: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(at),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_body(lines: usize) -> Source {
        let text = format!(
            "//! x\nfn f(a: [u8; 2]) -> u8\nwhere\n{{\n{}}}\n",
            "a;\n".repeat(lines)
        );
        Source::new("gateway/src/proxy.rs", &text)
    }

    #[test]
    fn a_long_function_is_found() {
        assert_eq!(long_functions(&[with_body(66)]).len(), 0);
        assert_eq!(long_functions(&[with_body(67)]).len(), 1);
        assert_eq!(long_proxy_methods(&with_body(10)).len(), 0);
        assert_eq!(long_proxy_methods(&with_body(11)).len(), 1);
    }

    #[test]
    fn a_function_without_a_body_is_no_function() {
        assert!(functions("trait T { fn f(&self); } type F = fn(u8) -> u8;").is_empty());
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_are_not_counted() {
        let body = "//! x\n".to_owned() + &"const A: u8 = 1;\n".repeat(399);
        let tests = "#[cfg(test)]\nmod tests {\n".to_owned() + &"// a\n".repeat(300) + "}\n";
        let fits = Source::new("gateway/src/a.rs", &(body.clone() + &tests));
        assert!(long_files(&[fits]).is_empty(), "{}", body.lines().count());
        let long = Source::new("gateway/src/a.rs", &(body + "const B: u8 = 1;\n"));
        assert_eq!(long_files(&[long]).len(), 1);
    }

    #[test]
    fn a_file_without_a_header_is_found() {
        let sources = [
            Source::new("a.rs", "//! says what\n"),
            Source::new("b.rs", "// says\n"),
        ];
        assert_eq!(without_header(&sources).len(), 1);
    }

    #[test]
    fn forbidden_names_are_found() {
        let paths = ["a/mod.rs", "build.rs", "a/modern.rs"].map(str::to_owned);
        assert_eq!(forbidden_names(&paths).len(), 2);
    }
}
