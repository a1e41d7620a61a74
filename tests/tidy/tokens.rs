//! Rust text as tokens, and the paths that it names.

use std::collections::BTreeSet;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Word(String),
    /// `::`
    Path,
    Other(char),
}

/// Splits Rust into words and signs, without comments and without what is in quotes.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if first == '"' || rest.starts_with("b\"") {
            quoted(rest)
        } else if rest.starts_with("r\"") || rest.starts_with("r#\"") || rest.starts_with("br") {
            match raw(rest) {
                Some(length) => length,
                None => word(rest, &mut tokens),
            }
        } else if first == '\'' {
            character(rest)
        } else if first.is_alphanumeric() || first == '_' {
            word(rest, &mut tokens)
        } else if rest.starts_with("::") {
            tokens.push(Token::Path);
            2
        } else {
            if !first.is_whitespace() {
                tokens.push(Token::Other(first));
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

fn word(text: &str, tokens: &mut Vec<Token>) -> usize {
    let end = text.find(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
    let end = end.unwrap_or(text.len());
    tokens.push(Token::Word(text[..end].to_owned()));
    end
}

/// Returns the length of a string at the beginning of `text`.
fn quoted(text: &str) -> usize {
    let begin = text.find('"').unwrap() + 1;
    let mut escaped = false;
    for (at, letter) in text[begin..].char_indices() {
        match letter {
            '"' if !escaped => return begin + at + 1,
            _ => escaped = letter == '\\' && !escaped,
        }
    }
    text.len()
}

/// Returns the length of a raw string at the beginning of `text`, if one is there.
fn raw(text: &str) -> Option<usize> {
    let begin = text.find('r')? + 1;
    let hashes = text[begin..]
        .bytes()
        .take_while(|byte| *byte == b'#')
        .count();
    let body = begin + hashes + 1;
    if text.as_bytes().get(body - 1) != Some(&b'"') {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    Some(
        text[body..]
            .find(&end)
            .map_or(text.len(), |at| body + at + end.len()),
    )
}

/// Returns the length of a character at the beginning of `text`, or 1 for a lifetime's quote.
fn character(text: &str) -> usize {
    let mut letters = text.char_indices().skip(1);
    match letters.next() {
        Some((_, '\\')) => {
            letters.next();
            letters
                .find(|(_, letter)| *letter == '\'')
                .map_or(text.len(), |(at, _)| at + 1)
        }
        _ => match letters.next() {
            Some((at, '\'')) => at + 1,
            _ => 1,
        },
    }
}

/// Returns every path that begins with `first::`, without it; the braces of a `use` are spread out.
pub(super) fn paths_from(tokens: &[Token], first: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, token) in tokens.iter().enumerate() {
        let begins = *token == Token::Word(first.to_owned())
            && tokens.get(at + 1) == Some(&Token::Path)
            && at
                .checked_sub(1)
                .is_none_or(|before| tokens[before] != Token::Path);
        if begins {
            tree(&tokens[at + 2..], "", &mut found);
        }
    }
    found
}

/// Reads the tree behind `::` and returns how many tokens it has.
fn tree(tokens: &[Token], before: &str, found: &mut BTreeSet<String>) -> usize {
    match tokens.first() {
        Some(Token::Word(word)) => {
            let path = match before {
                "" => word.clone(),
                _ => format!("{before}::{word}"),
            };
            if tokens.get(1) == Some(&Token::Path) {
                return 2 + tree(&tokens[2..], &path, found);
            }
            found.insert(path);
            1
        }
        Some(Token::Other('{')) => {
            let mut at = 1;
            while at < tokens.len() && tokens[at] != Token::Other('}') {
                match tokens[at] {
                    Token::Other(',') => at += 1,
                    _ => {
                        at += tree(&tokens[at..], before, found);
                        // `as NAME`
                        while !matches!(tokens.get(at), None | Some(Token::Other(',' | '}'))) {
                            at += 1;
                        }
                    }
                }
            }
            at + 1
        }
        _ => {
            found.insert(format!("{before}::*"));
            1
        }
    }
}
