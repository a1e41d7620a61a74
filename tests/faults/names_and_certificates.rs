//! What comes before the first byte: the service's name, and its certificate. Both are good when
//! it is mounted.

use std::fs;
use std::time::Instant;

use super::operations::OPERATIONS;
use super::{Fault, SLACK, TIMEOUT, Way, try_all};
use crate::common::{
    Bed, Certificate, Door, Front, HOST, Meaning, Mounted, Names, is_mounted, program, run,
};
use crate::point::eventually;

const SOURCE: &str = "cognito://us-east-1";

pub fn mount_by_tls(bed: &Bed, options: &str) -> (Way, Mounted) {
    let usual = Door::Tls(Certificate::Good);
    let front = Front::new(bed, usual);
    let trusted = bed.directory.path().join("trusted.pem");
    front.write_trusted(&trusted);
    let options = format!("{options},endpoint=https://localhost:{}", front.port);
    let environment = [("SSL_CERT_FILE", trusted.to_str().unwrap())];
    let mounted = Mounted::with_environment(bed, SOURCE, &options, &environment);
    (Way::Front(front, usual), mounted)
}

pub fn mount_by_name(bed: &Bed, options: &str) -> (Way, Mounted) {
    let front = Front::new(bed, Door::Plain);
    let names = Names::new(bed);
    let options = format!("{options},endpoint=http://{HOST}:{}", front.port);
    let mounted = Mounted::with_environment(bed, SOURCE, &options, &names.environment());
    (Way::Name(names, front), mounted)
}

/// Tries every operation: each is told why, and none is taken for perhaps done.
fn try_unsent(fault: Fault, cause: &str) {
    let stage = try_all(fault, &[libc::EHOSTUNREACH], false);
    let told = stage.told();
    let named = told.iter().filter(|line| line.contains(cause));
    assert!(named.count() >= OPERATIONS.len(), "{cause}: {told:?}");
    let log = stage.mounted.log();
    assert!(!log.contains("no telling"), "{fault:?}: {log}");
}

#[test]
fn under_an_untrusted_certificate() {
    let fault = Fault::Door(Door::Tls(Certificate::Untrusted));
    try_unsent(fault, "invalid peer certificate: UnknownIssuer");
}

#[test]
fn under_a_certificate_for_another_name() {
    let fault = Fault::Door(Door::Tls(Certificate::Misnamed));
    let cause = r#"certificate not valid for name "localhost"; certificate is only valid for"#;
    try_unsent(fault, cause);
}

#[test]
fn under_an_expired_certificate() {
    let fault = Fault::Door(Door::Tls(Certificate::Expired));
    try_unsent(fault, "invalid peer certificate: certificate expired");
}

#[test]
fn under_what_is_no_tls() {
    let fault = Fault::Door(Door::Says(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    try_unsent(fault, "InvalidContentType");
}

#[test]
fn under_a_handshake_that_is_refused() {
    // An alert: handshake_failure.
    let fault = Fault::Door(Door::Says(&[21, 3, 3, 0, 2, 2, 40]));
    try_unsent(fault, "fatal alert: HandshakeFailure");
}

#[test]
fn under_a_handshake_that_breaks_off() {
    try_unsent(Fault::Door(Door::Says(b"")), "tls handshake eof");
}

#[test]
fn under_a_handshake_that_is_not_answered() {
    try_unsent(Fault::Door(Door::Silent), "timed out");
}

#[test]
fn under_a_name_that_is_gone() {
    let fault = Fault::Name(Meaning::Nothing);
    try_unsent(fault, "Name or service not known");
}

#[test]
fn under_a_name_that_cannot_be_asked_for() {
    let fault = Fault::Name(Meaning::Failure);
    try_unsent(fault, "Temporary failure in name resolution");
}

#[test]
fn under_a_name_that_leads_elsewhere() {
    try_unsent(Fault::Name(Meaning::Elsewhere), "Connection refused");
}

#[test]
fn under_a_name_that_nobody_answers_for() {
    try_unsent(Fault::Name(Meaning::Silence), "timed out");
}

/// With `commit=async` nobody is told by a close: the status tells it.
#[test]
fn s08_changes_wait_for_a_good_certificate() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v")), ("old", Some("v"))]);
    let (way, mounted) = mount_by_tls(&bed, "timeout=1s,ttl=60s,commit=async");
    let Way::Front(front, usual) = way else {
        panic!("it is mounted by a front");
    };
    let dataset = bed.dataset(&mounted, "data");
    for key in ["k", "old"] {
        fs::read(dataset.join(key)).unwrap();
    }
    front.open(Door::Tls(Certificate::Expired));
    fs::write(dataset.join("k"), "new").unwrap();
    eventually("status that names the cause", || {
        let status = program(&bed).arg("status").arg(&mounted.path).output();
        let status = String::from_utf8(status.unwrap().stdout).unwrap();
        status.contains("1 file, 1 tried in vain: the service cannot be reached")
            && status.contains("certificate expired")
    });
    fs::remove_file(dataset.join("old")).unwrap();
    bed.forget_calls();
    front.open(usual);
    eventually("change that is sent", || {
        let remote = |key| bed.remote("data", key).flatten();
        remote("k").as_deref() == Some("new") && remote("old").is_none()
    });
    let calls = bed.calls();
    let updates = calls.iter().filter(|call| **call == "UpdateRecords");
    assert_eq!(updates.count(), 2, "{calls:?}");
    assert!(!mounted.log().contains("no telling"), "{}", mounted.log());
}

/// What is wrong from the beginning is told in time, whatever a thread is waiting for.
#[test]
fn s17_a_mount_that_fails_names_the_cause() {
    let bed = Bed::new();
    let front = Front::new(&bed, Door::Plain);
    let trusted = bed.directory.path().join("trusted.pem");
    front.write_trusted(&trusted);
    let names = Names::new(&bed);
    let point = bed.directory.path().join("point");
    fs::create_dir(&point).unwrap();
    let fails = |url: String, cause: &str| {
        let begun = Instant::now();
        let options = format!("timeout=1s,endpoint={url}:{}", front.port);
        let output = program(&bed)
            .envs(names.environment())
            .env("SSL_CERT_FILE", &trusted)
            .args(["mount", "-o", &options, SOURCE])
            .arg(&point)
            .output()
            .unwrap();
        let took = begun.elapsed();
        assert!(took < TIMEOUT + SLACK, "{cause}: {took:?}");
        assert_eq!(output.status.code(), Some(32), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(cause), "{cause}: {said}");
        assert!(!is_mounted(&point), "{cause}");
    };
    for (meaning, cause) in [
        (Meaning::Nothing, "Name or service not known"),
        (Meaning::Failure, "Temporary failure in name resolution"),
        (Meaning::Elsewhere, "Connection refused"),
        (Meaning::Silence, "timed out"),
    ] {
        names.mean(meaning);
        fails(format!("http://{HOST}"), cause);
    }
    for (door, cause) in [
        (Door::Tls(Certificate::Untrusted), "UnknownIssuer"),
        (Door::Tls(Certificate::Misnamed), "not valid for name"),
        (Door::Tls(Certificate::Expired), "certificate expired"),
        (Door::Says(b"no TLS"), "InvalidContentType"),
        (Door::Silent, "timed out"),
    ] {
        front.open(door);
        fails("https://localhost".to_owned(), cause);
    }
}

/// A machine that trusts nobody can serve itself.
#[test]
fn s17_plain_http_needs_no_certificates() {
    let bed = Bed::new();
    let missing = bed.directory.path().join("missing");
    let point = bed.directory.path().join("point");
    fs::create_dir(&point).unwrap();
    let mount = |source: &str| {
        let mut mount = program(&bed);
        mount
            .env("SSL_CERT_FILE", &missing)
            .env("SSL_CERT_DIR", &missing)
            .args(["mount", source])
            .arg(&point);
        mount.output().unwrap()
    };
    let output = mount(SOURCE);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("No CA certificates"), "{said}");
    let store = bed.directory.path().join("store.db");
    let output = mount(&format!("local:{}", store.display()));
    assert!(output.status.success(), "{output:?}");
    run(bed.directory.path(), "umount point");
}
