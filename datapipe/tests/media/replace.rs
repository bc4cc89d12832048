//! Old content stays until the new one is complete.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use datapipe::limits::MIN_VOLUME_SIZE;
use datapipe::media::{MediumError, MediumWriter, VolumeOptions};
use datapipe::testkit::StorageCall;

use crate::site::{FRAME, Files, MAGIC, Site, Thing, faulty, only_things, ours, read, real};

/// A record that says which content it belongs to.
fn one(tag: u8) -> Vec<u8> {
    [MAGIC, &[tag; 40]].concat()
}

/// Writes `volumes` volumes of one record each; one volume on a tape.
fn fill(medium: &mut dyn MediumWriter, tag: u8, volumes: u32) -> Result<(), MediumError> {
    for volume in 1..=volumes {
        medium.write(&one(tag))?;
        if volume < volumes {
            medium.next_volume()?;
        }
    }
    medium.finish()
}

/// The tags of all records, of which there is at least one.
fn tags<S: Files>(place: &Site<S>) -> Vec<u8> {
    let found = only_things(read(&mut *place.open_with(ours).unwrap()));
    let tags: Vec<u8> = found
        .iter()
        .filter_map(|thing| match thing {
            Thing::Record(bytes) => bytes.last().copied(),
            _ => None,
        })
        .collect();
    assert!(!tags.is_empty(), "{found:?}");
    tags
}

/// A site with old content, of three volumes in a directory.
fn old<S: Files>(place: Site<S>) -> Site<S> {
    let volumes = if place.many { 3 } else { 1 };
    fill(&mut *place.create(None, false).unwrap(), 1, volumes).unwrap();
    place
}

#[test]
fn old_content_stays_until_the_new_one_is_finished() {
    for many in [true, false] {
        for new in if many { vec![1, 2, 5] } else { vec![1] } {
            let place = old(real(many));
            let was = tags(&place);
            let mut medium = place.create(Some(MIN_VOLUME_SIZE), true).unwrap();
            medium.write(&one(9)).unwrap();
            medium.sync().unwrap();
            assert_eq!(tags(&place), was);
            drop(medium);
            assert_eq!(tags(&place), was, "it was not finished");
            let mut medium = place.create(None, true).unwrap();
            fill(&mut *medium, 2, new).unwrap();
            assert_eq!(tags(&place), vec![2; new as usize]);
            drop(medium);
            assert_eq!(tags(&place), vec![2; new as usize]);
            let folder = if many {
                place.path.as_path()
            } else {
                place.path.parent().unwrap()
            };
            assert_eq!(
                fs::read_dir(folder).unwrap().count(),
                new as usize,
                "no more"
            );
        }
    }
}

#[test]
fn old_content_stays_until_the_first_write_in_place() {
    for many in [true, false] {
        let place = old(real(many));
        let was = tags(&place);
        let medium = place.create_in_place(None).unwrap();
        assert!(!medium.accepts_empty());
        assert_eq!(tags(&place), was);
        drop(medium);
        assert_eq!(tags(&place), was);
        let mut medium = place.create_in_place(None).unwrap();
        medium.write(&one(2)).unwrap();
        assert_eq!(tags(&place), [2]);
        medium.finish().unwrap();
        assert_eq!(tags(&place), [2]);
    }
}

#[test]
fn replacing_medium_accepts_no_empty_archive_unless_allowed() {
    for many in [true, false] {
        let place = real(many);
        assert!(
            place.create(None, true).unwrap().accepts_empty(),
            "nothing to lose"
        );
        let place = old(place_without_volumes(place));
        assert!(!place.create(None, true).unwrap().accepts_empty());
        let options = VolumeOptions::default().overwrite(true).allow_empty(true);
        assert!(place.create_with(options).unwrap().accepts_empty());
    }
}

/// The site without the empty volume that a writer has left.
fn place_without_volumes<S: Files>(place: Site<S>) -> Site<S> {
    place.storage.remove(&place.file(1)).unwrap();
    place
}

/// Each call of the storage fails in turn, or the machine stops there: afterwards there is the old
/// content or the new one, whole, and the next writer has no trouble.
#[test]
fn failure_at_any_step_leaves_old_or_new_content() {
    use StorageCall::{Create, Open, Remove, Rename, Sync, SyncDirectory, Truncate, Write};
    let (mut failed, mut kept) = (0, 0);
    for many in [true, false] {
        for call in [
            Create,
            Open,
            Remove,
            Rename,
            Sync,
            SyncDirectory,
            Truncate,
            Write,
        ] {
            for (nth, crashes) in (1..12).flat_map(|nth| [(nth, false), (nth, true)]) {
                let new = if many { 2 } else { 1 };
                let place = old(faulty(nth, many));
                let was = tags(&place);
                place.storage.fail(call, nth);
                let result = place
                    .create(None, true)
                    .and_then(|mut medium| fill(&mut *medium, 2, new));
                place.storage.fail(call, u64::MAX);
                if crashes {
                    place.storage.crash();
                }
                let what = format!("{call:?} {nth}, many {many}, crashes {crashes}: {result:?}");
                let found = tags(&place);
                let is_new = found == vec![2; new as usize];
                assert!(
                    is_new || result.is_err() && found == was,
                    "{what}: {found:?}"
                );
                failed += u32::from(result.is_err());
                kept += u32::from(!is_new);
                let mut medium = place.create(None, true).expect(&what);
                fill(&mut *medium, 3, 4 * u32::from(many) + 1 - u32::from(many)).expect(&what);
                drop(medium);
                assert!(tags(&place).iter().all(|tag| *tag == 3), "{what}");
                let names = place.storage.files();
                let volumes = names
                    .iter()
                    .filter(|name| !name.ends_with("medium"))
                    .count();
                assert_eq!(volumes, if many { 4 } else { 0 }, "{what}: {names:?}");
            }
        }
    }
    assert!(
        failed > 20 && kept > 10,
        "{failed} failed, {kept} kept the old content"
    );
}

/// Writers that were killed leave new volumes: before the switch they are removed, after its begin
/// they are what a reader gets.
#[test]
fn leftovers_of_a_dead_writer_are_removed_or_completed() {
    let place = old(real(true));
    let new = |number: u32| place.path.join(format!("{number:06}.tap.new"));
    let volume = fs::read(place.file(1)).unwrap();
    let (record, items) = volume.split_at(FRAME);
    let items = items.iter().map(|byte| if *byte == 1 { 2 } else { *byte });
    let tagged: Vec<u8> = record.iter().copied().chain(items).collect();
    fs::write(new(1), &tagged).unwrap();
    fs::write(new(2), &tagged).unwrap();
    assert_eq!(tags(&place), [1, 1, 1]);
    fs::write(place.path.join("000002.tap.last"), "").unwrap();
    assert_eq!(tags(&place), [2, 2]);
    fs::rename(new(1), place.file(1)).unwrap();
    assert_eq!(tags(&place), [2, 2]);
    let error = place.create(None, false).map(drop).unwrap_err();
    assert!(matches!(error, MediumError::NotEmpty { .. }), "{error}");
    assert_eq!(tags(&place), [2, 2]);
    assert_eq!(fs::read_dir(&place.path).unwrap().count(), 2);

    fs::write(new(1), "half").unwrap();
    drop(place.create(None, false));
    assert!(!new(1).exists());

    let place = old(real(false));
    let beside = place.path.with_file_name(".medium.datapipe-new");
    fs::write(&beside, &fs::read(&place.path).unwrap()[..30]).unwrap();
    fill(&mut *place.create(None, true).unwrap(), 2, 1).unwrap();
    assert_eq!(tags(&place), [2]);
    assert!(!beside.exists());
}

#[test]
fn hidden_file_of_a_killed_overwrite_is_removed_by_an_append() {
    let place = old(real(false));
    let beside = place.path.with_file_name(".medium.datapipe-new");
    fs::write(&beside, &fs::read(&place.path).unwrap()[..30]).unwrap();
    fill(&mut *place.append(None).unwrap(), 2, 1).unwrap();
    assert_eq!(tags(&place), [1, 2]);
    assert!(!beside.exists());

    // A file of that name that is not a tape stays, and is in no way of an append.
    fs::write(&beside, "a letter").unwrap();
    fill(&mut *place.append(None).unwrap(), 3, 1).unwrap();
    assert_eq!(tags(&place), [1, 2, 3]);
    assert_eq!(fs::read(&beside).unwrap(), b"a letter");
}

/// A writer removed files of its own names, and what they had, without a word.
#[test]
fn files_with_the_names_of_a_writer_and_other_content_stay() {
    let place = old(real(false));
    let beside = place.path.with_file_name(".medium.datapipe-new");
    fs::write(&beside, "a letter").unwrap();
    let error = place.create(None, true).map(drop).unwrap_err();
    let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    assert!(text.contains("not a tape that a writer has left"), "{text}");
    assert_eq!(fs::read(&beside).unwrap(), b"a letter");
    assert_eq!(tags(&place), [1]);

    let place = old(real(true));
    let lock = place.path.join(".datapipe-lock");
    fs::write(&lock, "a letter").unwrap();
    fill(&mut *place.create(None, true).unwrap(), 2, 2).unwrap();
    assert_eq!(fs::read(&lock).unwrap(), b"a letter");
    assert_eq!(tags(&place), [2, 2]);
}

/// In a directory of several users, one of them creates the file of a switch. The next writer
/// removed the volumes after its number, and a reader took the new volumes of that user.
#[test]
fn switch_that_another_user_has_begun_is_refused() {
    const OTHER: u32 = 4_000_000_001;
    let place = old(real(true));
    fs::set_permissions(&place.path, Permissions::from_mode(0o1777)).unwrap();
    let switch = place.path.join("000001.tap.last");
    let new = place.path.join("000001.tap.new");
    for theirs in [&switch, &new] {
        fs::write(&switch, "").unwrap();
        fs::copy(place.file(2), &new).unwrap();
        if chown(theirs, Some(OTHER), Some(OTHER)).is_err() {
            println!("skipped: only root can give files to other users");
            return;
        }
        let refusals = [
            place.create(None, false).map(drop).unwrap_err(),
            place.create(None, true).map(drop).unwrap_err(),
            place.open_with(ours).map(drop).unwrap_err(),
        ];
        for error in refusals {
            let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
            assert!(text.contains("belongs to user id 4000000001"), "{text}");
        }
        for file in [&switch, &new] {
            fs::remove_file(file).unwrap();
        }
    }
    assert_eq!(tags(&place), [1, 1, 1]);
}

#[test]
fn replaced_tape_keeps_its_link_and_its_permissions() {
    let place = old(real(false));
    let file = place.path.with_file_name("file");
    fs::rename(&place.path, &file).unwrap();
    symlink("file", &place.path).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    fill(&mut *place.create(None, true).unwrap(), 2, 1).unwrap();
    assert_eq!(tags(&place), [2]);
    assert!(fs::symlink_metadata(&place.path).unwrap().is_symlink());
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o7777,
        0o640
    );
}

/// Another program puts a file in the place of the old tape while the new one is written.
#[test]
fn tape_that_was_exchanged_meanwhile_is_not_replaced() {
    let place = old(real(false));
    let mut medium = place.create(None, true).unwrap();
    medium.write(&one(2)).unwrap();
    fs::rename(&place.path, place.path.with_file_name("kept")).unwrap();
    fs::write(&place.path, "theirs").unwrap();
    let error = medium.finish().unwrap_err();
    assert!(
        matches!(&error, MediumError::Displaced { path } if path.ends_with("medium")),
        "{error}"
    );
    drop(medium);
    assert_eq!(fs::read(&place.path).unwrap(), b"theirs");
    assert_eq!(
        fs::read_dir(place.path.parent().unwrap()).unwrap().count(),
        2
    );
}

#[test]
fn full_file_system_is_named_and_keeps_the_old_content() {
    let place = old(faulty(3, false));
    place.storage.set_capacity(2 * FRAME as u64 + 300);
    let mut medium = place.create(None, true).unwrap();
    let refused = loop {
        match medium.write(&one(2)) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(
        matches!(refused, MediumError::EndOfVolume { .. }),
        "{refused}"
    );
    let error = medium.next_volume().unwrap_err().to_string();
    let mentions = |text: &str| assert!(error.contains(text), "{error}");
    mentions("No space left on device (ENOSPC)");
    mentions("overwrite in place");
    drop(medium);
    assert_eq!(tags(&place), [1]);
}
