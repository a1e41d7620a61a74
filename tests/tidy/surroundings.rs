//! What `api`, `store` and `sync` are given, and do not take for themselves: time, chance and
//! tasks. Whoever gives them the same again sees the same happen again.

use std::collections::BTreeSet;

use super::tokens::{Token, paths_from, tokens};
use super::{expect_none, layer, sources};

/// The layers this is about.
const LAYERS: &[&str] = &["api", "store", "sync"];

/// The one file that may take them.
const GIVER: &str = "api/surroundings.rs";

/// Words that are wrong wherever they stand, and what they do.
const WORDS: &[(&str, &str)] = &[
    ("elapsed", "reads a clock"),
    ("getrandom", "draws lots"),
    ("RandomState", "draws lots"),
    ("spawn_blocking", "begins a task"),
    ("spawn_local", "begins a task"),
    ("block_in_place", "begins a task"),
    ("JoinSet", "begins tasks"),
];

/// Words that are wrong in a path behind another, and what they do.
const BEHIND: &[(&str, &str)] = &[
    ("now", "reads a clock"),
    ("now_utc", "reads a clock"),
    ("spawn", "begins a task"),
    // Timers for a moment, `sleep_until` and `timeout_at`, are given it.
    ("sleep", "reads a clock"),
    ("timeout", "reads a clock"),
    ("interval", "reads a clock"),
    ("watch", "draws lots for who wakes first"),
];

/// They wait for another process, which no clock that is given makes faster.
const ALLOWED: &[(&str, &str)] = &[
    ("store/journal.rs", "thread::sleep"),
    ("store/journals/disk/directory.rs", "thread::sleep"),
];

/// Returns the tokens without items that are compiled for tests only: each from `#[cfg(test)]` to
/// the end of its braces, or to its semicolon.
fn without_tests(all: &[Token]) -> Vec<Token> {
    let mark = tokens("#[cfg(test)]");
    let mut kept = Vec::new();
    let mut rest = all;
    while let Some((first, behind)) = rest.split_first() {
        rest = match rest.strip_prefix(mark.as_slice()) {
            Some(item) => &item[length_of_item(item)..],
            None => {
                kept.push(first.clone());
                behind
            }
        }
    }
    kept
}

fn length_of_item(tokens: &[Token]) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Other('{') => depth += 1,
            Token::Other('}') => depth -= 1,
            Token::Other(';') => {}
            _ => continue,
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// Returns the paths that a file names, as far as they matter: pairs of words, and what is reached
/// from the crates that have clocks and tasks.
fn paths(tokens: &[Token]) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = BTreeSet::new();
    for three in tokens.windows(3) {
        if let [Token::Word(first), Token::Path, Token::Word(last)] = three {
            found.insert(format!("{first}::{last}"));
        }
    }
    for origin in ["std", "tokio"] {
        let reached = paths_from(tokens, origin).into_iter();
        found.extend(reached.map(|path| format!("{origin}::{path}")));
    }
    found
}

/// Returns what a file takes and has to be given.
fn taken(file: &str, text: &str) -> Vec<String> {
    let is_test = file.ends_with("/tests.rs") || file.contains("/tests/");
    if !LAYERS.contains(&layer(file)) || file == GIVER || is_test {
        return Vec::new();
    }
    let tokens = without_tests(&tokens(text));
    let words = WORDS
        .iter()
        .filter(|(word, _)| tokens.contains(&Token::Word((*word).to_owned())));
    let mut faults: BTreeSet<String> = words
        .map(|(word, does)| format!("src/{file}: {word} {does}, which {GIVER} gives"))
        .collect();
    let allowed = |path: &str| {
        let here = ALLOWED.iter().filter(|(place, _)| *place == file);
        here.into_iter().any(|(_, allowed)| path.ends_with(allowed))
    };
    for path in paths(&tokens).iter().filter(|path| !allowed(path)) {
        let mut behind = path.split("::").skip(1);
        if let Some((_, does)) = behind.find_map(|it| BEHIND.iter().find(|(word, _)| *word == it)) {
            faults.insert(format!("src/{file}: {path} {does}, which {GIVER} gives"));
        }
    }
    let select = |five: &[Token]| {
        five.starts_with(&self::tokens("select!")) && !five.ends_with(&self::tokens("biased;"))
    };
    if tokens.windows(5).any(select) {
        faults.insert(format!(
            "src/{file}: select! draws lots, unless it is biased"
        ));
    }
    faults.into_iter().collect()
}

#[test]
fn time_chance_and_tasks_are_given() {
    let faults = sources("src")
        .into_iter()
        .flat_map(|(file, text)| taken(&file, &text));
    expect_none(faults.collect());
}

#[test]
fn the_check_of_what_is_given_can_fail() {
    for (text, told) in [
        ("let at = Instant::now();", "Instant::now"),
        ("std::time::SystemTime::now()", "SystemTime::now"),
        ("if at.elapsed() > ttl {}", "elapsed"),
        ("getrandom::fill(&mut bytes)", "getrandom"),
        ("tokio::spawn(async {})", "tokio::spawn"),
        ("use tokio::{spawn, time};", "tokio::spawn"),
        ("thread::spawn(work)", "thread::spawn"),
        ("tokio::task::spawn_blocking(work)", "spawn_blocking"),
        ("tokio::time::sleep(pause).await", "time::sleep"),
        ("use tokio::sync::{oneshot, watch};", "tokio::sync::watch"),
        ("tokio::select! { a = b => {} }", "select!"),
        (
            "#[cfg(test)] mod tests {} fn f() { Date::now() }",
            "Date::now",
        ),
    ] {
        for file in ["api/client.rs", "store/cache.rs", "sync/dataset.rs"] {
            let faults = taken(file, text);
            let begin = format!("src/{file}: ");
            assert!(
                faults.iter().any(|fault| fault.contains(told))
                    && faults.iter().all(|fault| fault.starts_with(&begin)),
                "{text}: {faults:?}"
            );
        }
    }
    for text in [
        "tokio::time::timeout_at(deadline.into(), work)",
        "self.surroundings.sleep(pause).await; surroundings.now()",
        "tokio::select! { biased; a = b => {} }",
        "#[cfg(test)] mod tests { fn f() { Instant::now(); } } // Instant::now",
        "#[cfg(test)] use std::thread::spawn; fn f() {}",
    ] {
        assert_eq!(taken("store/cache.rs", text), [""; 0], "{text}");
    }
    let clock = "Instant::now()";
    for file in [GIVER, "fs/file.rs", "sync/dataset/tests.rs"] {
        assert_eq!(taken(file, clock), [""; 0], "{file}");
    }
}
