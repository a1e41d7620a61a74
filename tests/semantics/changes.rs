//! Renames, datasets and limits (S10, S11, S13).

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use super::{close, errno, names, rewrite, wait_for_text};
use crate::common::{Bed, alone, run};

#[test]
fn s10_a_rename_is_one_update() {
    let bed = Bed::new();
    bed.change("data", &[("a", Some("A")), ("b", Some("B"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    run(&dataset, "cat a b");
    let (_, calls) = bed.calls_of(|| run(&dataset, "mv a c"));
    assert_eq!(
        calls
            .iter()
            .filter(|call| **call == "UpdateRecords")
            .count(),
        1
    );
    assert_eq!(bed.remote("data", "a"), Some(None));
    assert_eq!(bed.remote("data", "c"), Some(Some("A".to_owned())));
    // Over an existing file.
    let (_, calls) = bed.calls_of(|| run(&dataset, "mv -f c b"));
    assert_eq!(
        calls
            .iter()
            .filter(|call| **call == "UpdateRecords")
            .count(),
        1
    );
    assert_eq!(bed.remote("data", "b"), Some(Some("A".to_owned())));
    assert_eq!(names(&dataset), ["b"]);
}

#[test]
fn s10_an_open_file_follows_its_rename() {
    let bed = Bed::new();
    bed.change("data", &[("a", Some("A"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    let mut file = OpenOptions::new()
        .write(true)
        .open(dataset.join("a"))
        .unwrap();
    file.write_all(b"unsent").unwrap();
    fs::rename(dataset.join("a"), dataset.join("b")).unwrap();
    assert_eq!(bed.remote("data", "b"), Some(Some("unsent".to_owned())));
    file.write_all(b" and more").unwrap();
    close(file).unwrap();
    assert_eq!(
        bed.remote("data", "b"),
        Some(Some("unsent and more".to_owned()))
    );
    assert_eq!(bed.remote("data", "a"), Some(None));
}

#[test]
fn s10_noreplace_and_exchange() {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    let bed = Bed::new();
    bed.change("data", &[("a", Some("A")), ("b", Some("BB"))]);
    let mounted = bed.mount("");
    let dataset = bed.dataset(&mounted, "data");
    let (a, b) = (dataset.join("a"), dataset.join("b"));
    let rename = |flags| renameat2(AT_FDCWD, &a, AT_FDCWD, &b, flags);
    assert_eq!(
        rename(RenameFlags::RENAME_NOREPLACE),
        Err(nix::Error::EEXIST)
    );
    let (result, calls) = bed.calls_of(|| rename(RenameFlags::RENAME_EXCHANGE));
    result.unwrap();
    assert_eq!(
        calls
            .iter()
            .filter(|call| **call == "UpdateRecords")
            .count(),
        1
    );
    assert_eq!(fs::read_to_string(&a).unwrap(), "BB");
    assert_eq!(fs::read_to_string(&b).unwrap(), "A");
    assert_eq!(bed.remote("data", "a"), Some(Some("BB".to_owned())));
}

#[test]
fn s10_across_datasets_mv_copies() {
    let bed = Bed::new();
    bed.change("one", &[("k", Some("v"))]);
    bed.change("two", &[("x", Some("y"))]);
    let mounted = bed.mount("");
    let identity = bed.dataset(&mounted, "");
    let cross = fs::rename(identity.join("one/k"), identity.join("two/k"));
    assert_eq!(errno(cross), libc::EXDEV);
    assert_eq!(
        errno(fs::rename(identity.join("one"), identity.join("three"))),
        libc::EXDEV
    );
    run(&identity, "mv one/k two/k");
    assert_eq!(bed.remote("two", "k"), Some(Some("v".to_owned())));
    assert_eq!(bed.remote("one", "k"), Some(None));
}

#[test]
fn s11_mkdir_is_local_until_the_first_record() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("");
    let identity = bed.dataset(&mounted, "");
    assert_eq!(names(&identity), ["data"]);
    let (_, calls) = bed.calls_of(|| fs::create_dir(identity.join("new")).unwrap());
    assert!(!calls.contains(&"UpdateRecords"));
    assert_eq!(names(&identity), ["data", "new"]);
    assert!(!bed.list("new").dataset_exists());
    fs::write(identity.join("new/first"), "x").unwrap();
    assert!(bed.list("new").dataset_exists());
    assert_eq!(errno(fs::create_dir(identity.join("new"))), libc::EEXIST);
    assert_eq!(
        errno(fs::create_dir(identity.join("not a name"))),
        libc::EINVAL
    );
}

#[test]
fn s11_rmdir_looks_once_more() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("ttl=60s");
    let identity = bed.dataset(&mounted, "");
    assert_eq!(
        errno(fs::remove_dir(identity.join("data"))),
        libc::ENOTEMPTY
    );
    fs::remove_file(identity.join("data/k")).unwrap();
    bed.change("data", &[("theirs", Some("v"))]);
    assert_eq!(
        errno(fs::remove_dir(identity.join("data"))),
        libc::ENOTEMPTY
    );
    bed.change("data", &[("theirs", None)]);
    fs::remove_dir(identity.join("data")).unwrap();
    assert!(!bed.list("data").dataset_exists());
    assert_eq!(names(&identity), [""; 0]);
    // One that was never sent is only forgotten.
    fs::create_dir(identity.join("brief")).unwrap();
    let file = File::create(identity.join("brief/f")).unwrap();
    assert_eq!(
        errno(fs::remove_dir(identity.join("brief"))),
        libc::ENOTEMPTY
    );
    fs::remove_file(identity.join("brief/f")).unwrap();
    drop(file);
    let (_, calls) = bed.calls_of(|| fs::remove_dir(identity.join("brief")).unwrap());
    assert!(!calls.contains(&"DeleteDataset"), "{calls:?}");
}

#[test]
fn s11_pools_identities_and_nested_directories_are_not_made() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("");
    let pool = mounted.path.join(bed.pool.as_str());
    let other = "us-east-1:00000000-0000-4000-8000-0000000000ff";
    assert_eq!(errno(fs::create_dir(mounted.path.join("x"))), libc::EPERM);
    assert_eq!(errno(fs::create_dir(pool.join("x"))), libc::EPERM);
    assert_eq!(
        errno(fs::remove_dir(pool.join(bed.identity.as_str()))),
        libc::EPERM
    );
    assert_eq!(
        errno(fs::create_dir(bed.dataset(&mounted, "data/nested"))),
        libc::EPERM
    );
    assert!(mounted.log().contains("a dataset holds records"));
    assert_eq!(errno(File::create(pool.join("file"))), libc::EPERM);
    // A restore never goes to a mistyped identity.
    let (result, calls) = bed.calls_of(|| fs::create_dir(pool.join(other).join("data")));
    assert_eq!(errno(result), libc::ENOENT);
    assert!(calls.contains(&"DescribeIdentity"), "{calls:?}");
    assert_eq!(errno(fs::read_dir(pool.join(other))), libc::ENOENT);
}

#[test]
fn s11_an_identity_without_data_is_checked_once() {
    let bed = Bed::new();
    let mounted = bed.mount("ttl=0");
    let identity = bed.dataset(&mounted, "");
    let (_, calls) = bed.calls_of(|| {
        assert_eq!(names(&identity), [""; 0]);
        assert_eq!(names(&identity), [""; 0]);
        fs::create_dir(identity.join("new")).unwrap();
    });
    let checks = calls.iter().filter(|call| **call == "DescribeIdentity");
    assert_eq!(checks.count(), 1, "{calls:?}");
}

#[test]
fn s13_what_cannot_be_carried_is_refused_before_it_is_sent() {
    alone(
        "semantics::changes::s13_what_cannot_be_carried_is_refused_before_it_is_sent",
        || {
            let bed = Bed::new();
            bed.change("data", &[("k", Some("v"))]);
            let mounted = bed.mount("");
            let dataset = bed.dataset(&mounted, "data");
            let (_, calls) = bed.calls_of(|| {
                let mut file = File::create(dataset.join("big")).unwrap();
                let most = vec![b'x'; 1_048_575];
                file.write_all(&most).unwrap();
                assert_eq!(errno(file.write(b"y")), libc::EFBIG);
                file.seek(SeekFrom::Start(1 << 40)).unwrap();
                assert_eq!(errno(file.write(b"y")), libc::EFBIG);
                assert_eq!(errno(file.set_len(1_048_576)), libc::EFBIG);
                fs::remove_file(dataset.join("big")).unwrap();
                let mut file = File::create(dataset.join("bytes")).unwrap();
                file.write_all(b"\xff\xfe").unwrap();
                assert_eq!(errno(close(file)), libc::EILSEQ);
            });
            assert!(!calls.contains(&"UpdateRecords"), "{calls:?}");
            // The kernel releases a file after close has returned.
            let begun = Instant::now();
            while names(&dataset) != ["k"] {
                assert!(begun.elapsed() < Duration::from_secs(10));
            }
        },
    );
}

#[test]
fn s13_the_service_decides_quotas() {
    let bed = Bed::new();
    bed.change("data", &[("k", Some("v"))]);
    let mounted = bed.mount("");
    let identity = bed.dataset(&mounted, "");
    let big = "x".repeat(700_000);
    fs::write(identity.join("data/one"), &big).unwrap();
    assert_eq!(
        errno(rewrite(&identity.join("data/two"), &big)),
        libc::EDQUOT
    );
    assert_eq!(errno(rewrite(&identity.join("data/k"), &big)), libc::EDQUOT);
    assert_eq!(bed.remote("data", "k"), Some(Some("v".to_owned())));
    wait_for_text(&identity.join("data/k"), "v");
    for n in 1..20 {
        bed.change(&format!("more{n}"), &[("k", Some("v"))]);
    }
    fs::create_dir(identity.join("twentyfirst")).unwrap();
    assert_eq!(
        errno(rewrite(&identity.join("twentyfirst/k"), "v")),
        libc::EDQUOT
    );
}
