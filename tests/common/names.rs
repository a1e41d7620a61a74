//! What a host's name means to a mount: a library says so that is preloaded into its daemon.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::bed::Bed;

/// Plain http is allowed to it.
pub const HOST: &str = "service.localhost";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    Here,
    /// An address where nobody listens.
    Elsewhere,
    /// There is no such name.
    Nothing,
    /// Those who would know cannot be asked.
    Failure,
    /// Whoever asks gets no answer until it means something else, or for ten seconds.
    Silence,
}

pub struct Names {
    library: PathBuf,
    meaning: PathBuf,
}

impl Names {
    pub fn new(bed: &Bed) -> Self {
        let library = bed.directory.path().join("names.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/names.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"]);
        let compiled = cc.arg(&library).arg(source).arg("-ldl").status();
        assert!(compiled.unwrap().success());
        let names = Self {
            library,
            meaning: bed.directory.path().join("meaning"),
        };
        names.mean(Meaning::Here);
        names
    }

    /// What a daemon's environment has to have.
    pub fn environment(&self) -> [(&'static str, &str); 3] {
        [
            ("LD_PRELOAD", self.library.to_str().unwrap()),
            ("COGNITOFS_TEST_HOST", HOST),
            ("COGNITOFS_TEST_MEANING", self.meaning.to_str().unwrap()),
        ]
    }

    pub fn mean(&self, meaning: Meaning) {
        let word = match meaning {
            Meaning::Here => "127.0.0.1",
            Meaning::Elsewhere => "127.0.0.2",
            Meaning::Nothing => "nothing",
            Meaning::Failure => "failure",
            Meaning::Silence => "silence",
        };
        let next = self.meaning.with_extension("next");
        fs::write(&next, word).unwrap();
        fs::rename(&next, &self.meaning).unwrap();
    }
}
