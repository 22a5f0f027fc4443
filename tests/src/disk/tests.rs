//! The disk as programs meet it: through the kernel.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use super::Disk;
use crate::random::Random;

fn lose_power(disk: &mut Disk) {
    disk.lose_power(&mut Random::new(1), 0);
}

#[test]
fn a_file_that_is_synced_is_found_again_and_one_that_is_not_is_lost() {
    let mut disk = Disk::new();
    fs::write(disk.path().join("lost"), "lost").expect("a file");
    let mut kept = File::create(disk.path().join("kept")).expect("a file");
    kept.write_all(b"kept").expect("a file is written");
    kept.sync_data().expect("a file is synced");
    kept.write_all(b", but for this")
        .expect("a file is written");
    drop(kept);
    lose_power(&mut disk);
    let kept = fs::read_to_string(disk.path().join("kept"));
    assert_eq!(kept.expect("it was synced"), "kept");
    // "lost" came first: its name was in the journal before.
    let lost = fs::read_to_string(disk.path().join("lost"));
    assert_eq!(lost.expect("its name was synced"), "");
}

#[test]
fn names_are_kept_when_their_directory_is_synced() {
    let mut disk = Disk::new();
    let directory = disk.directory("directory");
    let (old, new) = (directory.join("old"), directory.join("new"));
    fs::write(&old, "text").expect("a file");
    File::open(&old)
        .and_then(|file| file.sync_all())
        .expect("a file is synced");
    fs::rename(&old, &new).expect("a file is renamed");
    lose_power(&mut disk);
    assert!(old.exists() && !new.exists());
    fs::rename(&old, &new).expect("a file is renamed");
    File::open(&directory)
        .and_then(|it| it.sync_all())
        .expect("a directory is synced");
    lose_power(&mut disk);
    assert!(!old.exists() && new.exists());
    assert_eq!(fs::read_to_string(&new).expect("a file"), "text");
}

#[test]
fn a_file_that_is_opened_for_synchronous_writes_needs_no_sync() {
    let mut disk = Disk::new();
    let path = disk.path().join("file");
    let synchronous = rustix::fs::OFlags::DSYNC.bits().cast_signed();
    let file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .custom_flags(synchronous)
        .open(&path);
    let mut file = file.expect("a file");
    file.write_all(b"text").expect("a file is written");
    drop(file);
    lose_power(&mut disk);
    assert_eq!(fs::read_to_string(&path).expect("a file"), "text");
}

#[test]
fn a_directory_is_listed_while_it_is_emptied() {
    let disk = Disk::new();
    for number in 0..1_000 {
        File::create(disk.path().join(number.to_string())).expect("a file");
    }
    for entry in fs::read_dir(disk.path()).expect("a directory") {
        fs::remove_file(entry.expect("an entry").path()).expect("a file is removed");
    }
    assert_eq!(fs::read_dir(disk.path()).expect("a directory").count(), 0);
}

#[test]
fn a_disk_that_is_gone_is_mounted_no_more() {
    let disk = Disk::new();
    let path = disk.path().to_owned();
    let left_open = File::create(path.join("file")).expect("a file");
    drop(disk);
    assert!(!path.exists());
    drop(left_open);
}
