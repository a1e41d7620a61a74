//! Which names are those of editors' passing files (rule S12).

/// What a file is by its name, as long as it never was a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class<'a> {
    Ordinary,
    /// Nobody but the program that made it wants it.
    Litter,
    /// It becomes a record when it is renamed, or when nobody does so in time.
    Passing,
    /// A copy beside the file of this name, if there is one: litter then, passing otherwise.
    Backup(&'a str),
    /// As `Passing` while it is empty: vim makes it to see whether it may.
    Probe,
    /// As `Passing` if it was made for its owner alone and had to be new.
    Private,
}

/// Returns the class of a name.
pub fn class(name: &str) -> Class<'_> {
    if is_litter(name) {
        return Class::Litter;
    }
    if let Some(of) = name
        .strip_prefix('#')
        .and_then(|name| name.strip_suffix('#'))
        && !of.is_empty()
    {
        return Class::Backup(of);
    }
    if let Some(of) = backed_up(name) {
        return Class::Backup(of);
    }
    if name == "4913" {
        return Class::Probe;
    }
    if name.starts_with(".goutputstream-") {
        return Class::Passing;
    }
    match is_private(name) {
        true => Class::Private,
        false => Class::Ordinary,
    }
}

/// Returns the name whose backup a name is: `X` of `X~`.
pub fn backed_up(name: &str) -> Option<&str> {
    name.strip_suffix('~').filter(|of| !of.is_empty())
}

fn is_litter(name: &str) -> bool {
    let swap = |name: &str| {
        let (_, extension) = name.rsplit_once('.')?;
        let mut letters = extension.chars();
        let is_swap = letters.next() == Some('s') && letters.next() == Some('w');
        Some(is_swap && letters.next().is_some() && letters.next().is_none())
    };
    let hidden_swap = name.len() > 5 && name.starts_with('.') && swap(name) == Some(true);
    hidden_swap
        || name.starts_with(".#")
        || (name.starts_with(".~lock.") && name.ends_with('#'))
        || name.starts_with("._")
        || name == ".DS_Store"
        || name.starts_with(".Trash")
}

/// rsync's `.NAME.XXXXXX`, sed's `sedXXXXXX` and patch's `NAME.oXXXXXX`.
fn is_private(name: &str) -> bool {
    let random =
        |text: &str| text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let rsync = || {
        let (of, suffix) = name.strip_prefix('.')?.rsplit_once('.')?;
        Some(!of.is_empty() && random(suffix))
    };
    let patch = || {
        let (of, suffix) = name.rsplit_once(".o")?;
        Some(!of.is_empty() && random(suffix))
    };
    rsync() == Some(true) || name.strip_prefix("sed").is_some_and(random) || patch() == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s12_names_have_the_class_their_programs_give_them() {
        for litter in [
            ".k.swp",
            ".k.swo",
            ".#k",
            ".~lock.k#",
            "._k",
            ".DS_Store",
            ".Trash-1000",
        ] {
            assert_eq!(class(litter), Class::Litter, "{litter}");
        }
        for (backup, of) in [("k~", "k"), ("#k#", "k"), ("k~~", "k~")] {
            assert_eq!(class(backup), Class::Backup(of), "{backup}");
        }
        assert_eq!(class("4913"), Class::Probe);
        assert_eq!(class(".goutputstream-AB12"), Class::Passing);
        for private in [".k.Ab3dEf", "sedAb3dEf", "k.oAb3dEf"] {
            assert_eq!(class(private), Class::Private, "{private}");
        }
        for ordinary in [
            "k", "~", "#", "##", ".swp", "a.swp", ".k", "sed", "sedAb3dE", "k.swap", ".k.sw",
            "..Ab3dEf", "4914",
        ] {
            assert_eq!(class(ordinary), Class::Ordinary, "{ordinary}");
        }
    }
}
