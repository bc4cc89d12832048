//! A medium has one writer, which notices if its files are taken away.

use std::fs;
use std::os::unix::fs::symlink;

use datapipe::limits::MIN_VOLUME_SIZE;
use datapipe::media::{MediumError, VirtualTape, VolumeOptions, find_writer};

use crate::site::{MAGIC, Site, real};

/// Sites of each form, with and without content.
fn sites() -> Vec<Site<datapipe::media::FileSystem>> {
    let mut sites = Vec::new();
    for many in [true, false] {
        sites.push(real(many));
        let full = real(many);
        full.one_volume(&[crate::site::Thing::Record(MAGIC.to_vec())]);
        sites.push(full);
    }
    sites
}

#[test]
fn second_writer_is_refused_and_sees_the_first() {
    for place in sites() {
        let mut medium = place.create(None, true).unwrap();
        for created in [
            place.create(None, true),
            place.create(None, false),
            place.create_in_place(None),
        ] {
            let error = created.map(drop).unwrap_err();
            let MediumError::InUse { path, writer } = &error else {
                panic!("{error}");
            };
            assert_eq!(*path, place.path);
            assert_eq!(writer.process, Some(std::process::id()));
            let text = error.to_string();
            let process = format!(
                "is being written by process {}, since 2",
                std::process::id()
            );
            assert!(text.contains(&process), "{text}");
            assert_eq!(find_writer(&place.path).unwrap(), Some(*writer));
        }
        medium.write(MAGIC).unwrap();
        medium.finish().unwrap();
        assert!(place.create(None, true).is_err(), "until it is dropped");
        drop(medium);
        assert_eq!(find_writer(&place.path).unwrap(), None);
        drop(place.create(None, true).unwrap());
        let left = fs::read_dir(place.path.parent().unwrap()).unwrap().count();
        assert_eq!(left, 1, "nothing is left beside the medium");
        if place.many {
            assert_eq!(fs::read_dir(&place.path).unwrap().count(), 1, "or in it");
        }
    }
}

/// A writer that was killed leaves the file of its lock, and no lock.
#[test]
fn lock_file_of_a_dead_writer_does_not_block() {
    let place = real(true);
    fs::create_dir(&place.path).unwrap();
    fs::write(place.path.join(".datapipe-lock"), "").unwrap();
    assert_eq!(find_writer(&place.path).unwrap(), None);
    drop(place.create(None, false).unwrap());
    assert!(!place.path.join(".datapipe-lock").exists());
}

#[test]
fn file_that_was_taken_away_is_an_error_at_the_next_sync() {
    for many in [true, false] {
        for replaced in [true, false] {
            let place = real(many);
            let mut medium = place.create(None, false).unwrap();
            medium.write(MAGIC).unwrap();
            medium.sync().unwrap();
            fs::remove_file(place.file(1)).unwrap();
            if replaced {
                fs::write(place.file(1), "theirs").unwrap();
            }
            let error = medium.finish().unwrap_err();
            let is_displaced =
                matches!(&error, MediumError::Displaced { path } if *path == place.file(1));
            assert!(is_displaced, "{error}");
            assert!(medium.sync().is_err());
        }
    }
}

/// Another program cuts a file that is being written, to clean up say.
#[test]
fn file_that_was_cut_is_an_error_at_the_end() {
    for many in [true, false] {
        let place = real(many);
        let mut medium = place.create(None, false).unwrap();
        medium.write(MAGIC).unwrap();
        medium.sync().unwrap();
        let file = fs::File::options().write(true).open(place.file(1));
        file.unwrap().set_len(1).unwrap();
        let error = medium.finish().unwrap_err().to_string();
        assert!(error.contains("another program has cut it"), "{error}");
    }
}

#[test]
fn volume_of_a_directory_that_is_written_is_locked() {
    let place = real(true);
    let medium = place.create(Some(MIN_VOLUME_SIZE), false).unwrap();
    let holder = find_writer(&place.path).unwrap().unwrap();
    for volume in [1, 2] {
        let options = VolumeOptions::default().overwrite(true);
        let error = VirtualTape::create(place.file(volume), options).map(drop);
        let error = error.unwrap_err();
        let is_in_use = matches!(&error, MediumError::InUse { path, writer }
            if *path == place.file(volume) && *writer == holder);
        assert!(is_in_use, "{error}");
    }
    drop(medium);
    drop(VirtualTape::create(place.file(2), VolumeOptions::default()).unwrap());
}

#[test]
fn earlier_volume_that_was_taken_away_is_an_error_at_the_end() {
    let place = real(true);
    let mut medium = place.create(Some(MIN_VOLUME_SIZE), false).unwrap();
    medium.write(MAGIC).unwrap();
    medium.next_volume().unwrap();
    medium.write(MAGIC).unwrap();
    fs::remove_file(place.file(1)).unwrap();
    medium.sync().unwrap();
    let error = medium.finish().unwrap_err();
    assert!(
        matches!(&error, MediumError::Displaced { path } if *path == place.file(1)),
        "{error}"
    );
}

#[test]
fn dangling_link_is_named() {
    let place = real(false);
    symlink("nowhere", &place.path).unwrap();
    let error = place.create(None, true).map(drop).unwrap_err().to_string();
    assert!(
        error.contains("it is a symbolic link to a file that does not exist"),
        "{error}"
    );
}
