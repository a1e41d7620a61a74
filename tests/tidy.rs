//! The rules of the source itself: who may use whom, and that the documentation tells what the
//! code does.
//!
//! Each check names the file and what is wrong with it.

mod surroundings;
mod tokens;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cognitofs::cli::options::OPTIONS;
use cognitofs::wire::operation::Call;
use tokens::{Token, paths_from, tokens};

/// More lines than this are more than one responsibility.
const MAX_LINES: usize = 600;

/// What a module of `src/` may use of the others; a module that is not here may use all. A name
/// behind `::` allows that item only.
const LAYERS: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("api", &["wire"]),
    ("sync", &["wire"]),
    ("store", &["sync", "api", "wire"]),
    (
        "fs",
        &[
            "store",
            "sync::Base",
            "sync::Change",
            "sync::Kind",
            "sync::Landed",
            "sync::Left",
            "sync::Mark",
            "sync::Remote",
            "sync::Shown",
            "sync::Ticket",
            "sync::Unseen",
            // Values of the core, and how two changes make one; not its state.
            "sync::pending::Base",
            "sync::pending::Change",
            "sync::pending::DatasetId",
            "sync::pending::Digest",
            "sync::pending::Event",
            "sync::pending::Kind",
            "sync::pending::Landed",
            "sync::pending::Made",
            "sync::pending::Outcome",
            "sync::pending::Refusal",
            "sync::pending::Resolution",
            "sync::pending::Sent",
            "sync::pending::Settled",
            "sync::pending::Ticket",
            "sync::pending::View",
            "sync::pending::compose",
            "wire::names",
            "wire::text",
            "wire::timestamp",
        ],
    ),
    ("fuse", &["fs"]),
    ("mount", &[]),
    ("server", &["wire"]),
    ("main", &["cli"]),
];

/// Modules that have no layer: they put the others together, or only name them.
const UNBOUND: &[&str] = &["cli", "lib"];

/// External crates that are known in few places, each a file or a directory's beginning.
const CRATES: &[(&str, &[&str])] = &[
    ("fuser", &["fuse.rs", "fuse/", "mount.rs", "mount/"]),
    ("reqwest", &["api/transport.rs"]),
    ("aws_sigv4", &["wire/sigv4.rs"]),
    ("aws_config", &["api/credentials.rs"]),
    ("clap", &["cli/"]),
    ("clap_complete", &["cli/"]),
    (
        "rusqlite",
        &[
            "server/storage.rs",
            "server/storage/",
            "store/journal.rs",
            "store/journal/",
            "store/journals.rs",
            "store/journals/",
        ],
    ),
];

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the Rust files below a directory, as paths from it, and their texts.
fn sources(directory: &str) -> Vec<(String, String)> {
    let base = root().join(directory);
    let mut directories = vec![base.clone()];
    let mut found = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&base).unwrap().to_str().unwrap();
                found.push((name.to_owned(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty());
    found
}

fn expect_none(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

// A reader of Rust, good enough for paths.

/// Says which layer a file of `src/` belongs to.
fn layer(file: &str) -> &str {
    let first = file.split('/').next().unwrap();
    first.strip_suffix(".rs").unwrap_or(first)
}

fn allows(allowed: &[&str], path: &str) -> bool {
    allowed.iter().any(|allowed| {
        let rest = path.strip_prefix(allowed);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    })
}

/// Returns what a file uses and may not.
fn layer_faults(file: &str, text: &str) -> Vec<String> {
    let layer = layer(file);
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
        return match UNBOUND.contains(&layer) {
            true => Vec::new(),
            false => vec![format!(
                "src/{file}: {layer} has no line in the table of layers"
            )],
        };
    };
    let tokens = tokens(text);
    let mut used = paths_from(&tokens, "crate");
    used.extend(paths_from(&tokens, "cognitofs"));
    let wrong = used.into_iter().filter(|path| {
        let within = path == layer || path.starts_with(&format!("{layer}::"));
        !within && !allows(allowed, path)
    });
    wrong
        .map(|path| format!("src/{file}: {layer} may not use {path}"))
        .collect()
}

/// Returns the external crates that a file names and may not.
fn crate_faults(file: &str, text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let named = |name: &str| {
        let mut places = tokens.iter().enumerate();
        places.any(|(at, token)| {
            *token == Token::Word(name.to_owned())
                && at
                    .checked_sub(1)
                    .is_none_or(|before| tokens[before] != Token::Other('.'))
        })
    };
    let here = |place: &str| file == place || (place.ends_with('/') && file.starts_with(place));
    let wrong = CRATES
        .iter()
        .filter(|(name, places)| !places.iter().any(|place| here(place)) && named(name));
    wrong
        .map(|(name, places)| format!("src/{file}: {name} is known in {places:?} only"))
        .collect()
}

#[test]
fn modules_use_the_layers_below_only() {
    let faults = sources("src")
        .into_iter()
        .flat_map(|(file, text)| layer_faults(&file, &text));
    expect_none(faults.collect());
}

#[test]
fn external_crates_stay_where_they_belong() {
    let faults = sources("src")
        .into_iter()
        .flat_map(|(file, text)| crate_faults(&file, &text));
    expect_none(faults.collect());
}

/// Says whether a path in a file climbs by `super` to the root of the crate. From there it would
/// go down as no `crate::` path does, and the table of layers would not see it.
fn climbs_out(file: &str, text: &str) -> bool {
    let depth = file.split('/').count() - usize::from(file.ends_with("mod.rs"));
    let mut inline = 0;
    let mut climbed = 0;
    let tokens = tokens(text);
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Word(word) if word == "super" => climbed += 1,
            // `mod tests {` is one deeper, and so is all behind it.
            Token::Word(word)
                if word == "mod" && tokens.get(at + 2) == Some(&Token::Other('{')) =>
            {
                inline = 1;
                climbed = 0;
            }
            Token::Path => {}
            _ => climbed = 0,
        }
        if climbed >= depth + inline {
            return climbed > 0;
        }
    }
    false
}

#[test]
fn no_module_climbs_out_of_its_layer() {
    let outside = sources("src")
        .into_iter()
        .filter(|(file, text)| climbs_out(file, text));
    expect_none(
        outside
            .map(|(file, _)| format!("src/{file}: climbs out by super"))
            .collect(),
    );
    assert!(climbs_out("fs/file.rs", "use super::super::api;"));
    assert!(climbs_out("fuse.rs", "use super::api;"));
    assert!(!climbs_out(
        "fs/file.rs",
        "use super::node; mod tests { use super::super::node; }"
    ));
}

#[test]
fn the_checks_of_layers_can_fail() {
    let faults = |text: &str| layer_faults("fs/file.rs", text);
    assert_eq!(
        faults("use crate::store::{self, Dataset};\n// crate::api::Client\n"),
        [""; 0]
    );
    assert_eq!(
        faults("let s = \"crate::api\"; use crate::fs::Error; use super::node::Node;"),
        [""; 0]
    );
    assert_eq!(
        faults("use crate::wire::{names::{PoolId, Scope}, text::Text as T};"),
        [""; 0]
    );
    for (text, told) in [
        ("use crate::api::Client;", "api::Client"),
        ("use crate::sync::DatasetState;", "sync::DatasetState"),
        ("use crate::sync::*;", "sync::*"),
        (
            "fn f(x: crate::wire::records::Record) {}",
            "wire::records::Record",
        ),
        (
            "use crate::{store::Store, server::http as h};",
            "server::http",
        ),
        ("let c = '\"'; use crate::fuse::Adapter;", "fuse::Adapter"),
        ("let r = r#\"\"\"#; use crate::cli;", "cli"),
    ] {
        let faults = faults(text);
        assert!(
            faults.len() == 1 && faults[0].ends_with(told),
            "{text}: {faults:?}"
        );
    }
    assert_eq!(layer_faults("new/mod.rs", "").len(), 1);
    assert_eq!(crate_faults("fs/file.rs", "use fuser::Errno;").len(), 1);
    assert_eq!(
        crate_faults("api/client.rs", "fn f<'a>(c: &'a reqwest::Client) {}").len(),
        1
    );
    assert_eq!(
        crate_faults("api/transport.rs", "use reqwest::Url;"),
        [""; 0]
    );
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut faults = Vec::new();
    for directory in ["src", "tests"] {
        for (file, text) in sources(directory) {
            if !text.starts_with("//! ") {
                faults.push(format!("{directory}/{file}: does not begin with //!"));
            }
        }
    }
    expect_none(faults);
}

#[test]
fn no_file_is_too_long() {
    let lengths = sources("src")
        .into_iter()
        .map(|(file, text)| (file, text.lines().count()));
    let long = lengths.filter(|(_, lines)| *lines > MAX_LINES);
    expect_none(
        long.map(|(file, lines)| format!("src/{file}: {lines} lines"))
            .collect(),
    );
}

#[test]
fn code_and_comments_are_ascii() {
    // Quotes are left out by the reader of Rust, so what it returns, and comments, are what counts.
    let mut faults = Vec::new();
    for (file, text) in sources("src") {
        for (number, line) in text.lines().enumerate() {
            let comment = line.trim_start().starts_with("//");
            let outside = match comment {
                true => line.to_owned(),
                false => outside_quotes(line),
            };
            if !outside.is_ascii() {
                faults.push(format!("src/{file}:{}: {line}", number + 1));
            }
        }
    }
    expect_none(faults);
}

/// Returns a line without what stands between its first quote and its last. Good enough: a string
/// over several lines needs a quote on each that is not ASCII.
fn outside_quotes(line: &str) -> String {
    match (line.find('"'), line.rfind('"')) {
        (Some(first), Some(last)) => format!("{}{}", &line[..first], &line[last..]),
        _ => line.to_owned(),
    }
}

// The documentation.

/// Returns what stands between a heading and the next of its kind.
fn section<'a>(text: &'a str, heading: &str, next: &str) -> &'a str {
    let begin = text.find(heading);
    let begin = begin.unwrap_or_else(|| panic!("there is no {heading:?}")) + heading.len();
    let length = text[begin..].find(next).unwrap_or(text.len() - begin);
    &text[begin..begin + length]
}

/// Returns the names in the source that `libc::` stands before.
fn errnos_of_code(text: &str) -> BTreeSet<String> {
    let found = paths_from(&tokens(text), "libc");
    found
        .into_iter()
        .filter(|name| name.starts_with('E'))
        .collect()
}

/// Returns the entries of a manual's section of errors.
fn errnos_of_page(page: &str) -> BTreeSet<String> {
    let lines = section(page, ".Sh ERRORS", "\n.Sh ").lines();
    lines
        .filter_map(|line| line.strip_prefix(".It Bq Er "))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_manual_has_every_errno_and_no_other() {
    let code = errnos_of_code(&read("src/fs/errno.rs"));
    let page = errnos_of_page(&read("man/cognitofs.7"));
    assert!(code.len() > 10, "{code:?}");
    let missing = code
        .difference(&page)
        .map(|name| format!("man/cognitofs.7 lacks {name}"));
    let surplus = page
        .difference(&code)
        .map(|name| format!("man/cognitofs.7 invents {name}"));
    expect_none(missing.chain(surplus).collect());
}

/// Returns the options as the user writes them.
fn options_of_code() -> BTreeSet<String> {
    let options = OPTIONS.iter().map(|option| match option.value {
        Some(value) => format!("{}={value}", option.name),
        None => option.name.to_owned(),
    });
    options.collect()
}

/// Reads `.It Cm NAME` and `.It Cm NAME Ns = Ns Ar VALUE` in a manual's section of options.
fn options_of_page(page: &str) -> BTreeSet<String> {
    let lines = section(page, ".Sh MOUNT OPTIONS", "\n.Sh ").lines();
    let items = lines.filter_map(|line| line.strip_prefix(".It Cm "));
    let written = |item: &str| item.replace(" Ns = Ns Ar ", "=");
    items.map(written).collect()
}

/// Reads the first column of the table of options.
fn options_of_readme(readme: &str) -> BTreeSet<String> {
    let lines = section(readme, "\n## Mount options\n", "\n## ").lines();
    let rows = lines.filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_manual_and_the_readme_have_every_option_and_no_other() {
    let code = options_of_code();
    let mut faults = Vec::new();
    for (name, told) in [
        (
            "man/mount.cognitofs.8",
            options_of_page(&read("man/mount.cognitofs.8")),
        ),
        ("README.md", options_of_readme(&read("README.md"))),
    ] {
        faults.extend(
            code.difference(&told)
                .map(|option| format!("{name} lacks {option}")),
        );
        faults.extend(
            told.difference(&code)
                .map(|option| format!("{name} invents {option}")),
        );
    }
    expect_none(faults);
}

/// Returns the rows of the README's table of operations: an operation, and how it is reached.
fn operations_of_readme(readme: &str) -> Vec<(&str, &str)> {
    let lines = section(readme, "\n## Operations\n", "\n## ").lines();
    let rows = lines.filter_map(|line| {
        line.strip_prefix("| ")?
            .strip_suffix(" |")?
            .split_once(" | ")
    });
    rows.skip(1).collect()
}

#[test]
fn the_readme_tells_how_every_operation_is_reached() {
    let readme = read("README.md");
    let rows = operations_of_readme(&readme);
    let told: Vec<&str> = rows.iter().map(|(operation, _)| *operation).collect();
    assert_eq!(told, Call::NAMES);
    assert_eq!(told.len(), 17);
    assert!(section(&readme, "\n## Operations\n", "\n| ").contains("All 17 operations"));
    let vague = rows.iter().filter(|(_, by)| by.matches('`').count() < 2);
    expect_none(
        vague
            .map(|(operation, by)| format!("README.md: {operation} is reached by {by:?}"))
            .collect(),
    );
}

#[test]
fn the_manuals_have_no_warnings() {
    let mut pages: Vec<PathBuf> = fs::read_dir(root().join("man"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    pages.sort();
    assert!(pages.len() >= 3, "{pages:?}");
    expect_none(
        pages
            .iter()
            .filter_map(|page| groff_warning(page))
            .collect(),
    );
}

/// Formats a manual and returns what is wrong with it.
fn groff_warning(page: &Path) -> Option<String> {
    let formatted = Command::new("groff")
        .args(["-mandoc", "-Tutf8", "-ww", "-rCHECKSTYLE=10"])
        .arg(page)
        .output();
    let formatted = match formatted {
        Ok(formatted) => formatted,
        Err(error) => {
            eprintln!("SKIPPED: groff cannot be run ({error}); install it to check the manuals");
            return None;
        }
    };
    let warnings = String::from_utf8_lossy(&formatted.stderr);
    let good = formatted.status.success() && warnings.trim().is_empty();
    (!good).then(|| format!("{}: {warnings}", page.display()))
}

#[test]
fn a_lock_is_never_held_across_an_await() {
    let lints = read("Cargo.toml");
    let lints = section(&lints, "[lints.clippy]", "\n[");
    assert!(lints.contains("await_holding_lock = \"deny\""), "{lints}");
}
