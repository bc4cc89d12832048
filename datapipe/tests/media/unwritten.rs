//! Media whose writer was stopped before its first record.

use std::fs;

use datapipe::media::{MediumError, MediumWriter, VirtualTape, VolumeDirectory, VolumeOptions};

type Made = Result<Box<dyn MediumWriter>, MediumError>;

fn create(form: &str, dir: &std::path::Path) -> Made {
    let options = VolumeOptions::default();
    Ok(match form {
        "tape" => Box::new(VirtualTape::create(dir.join("tape"), options)?),
        _ => Box::new(VolumeDirectory::create(dir.join("volumes"), options)?),
    })
}

// A signal between the creation of the medium and the first block left an empty volume, and the
// next job refused to overwrite it.
#[test]
fn medium_without_a_record_does_not_block_the_next_writer() {
    for form in ["tape", "volumes"] {
        let dir = tempfile::tempdir().unwrap();
        drop(create(form, dir.path()).unwrap());
        let mut medium = create(form, dir.path()).unwrap();
        medium.write(b"a record").unwrap();
        medium.finish().unwrap();
        drop(medium);
        let error = create(form, dir.path()).err().unwrap();
        assert!(matches!(error, MediumError::NotEmpty { .. }), "{error}");
    }
}

// One volume with content is content, also if another volume has none.
#[test]
fn empty_volume_beside_one_with_content_stays() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("volumes")).unwrap();
    fs::write(dir.path().join("volumes/000001.tap"), "").unwrap();
    fs::write(dir.path().join("volumes/000002.tap"), "content").unwrap();
    let error = create("volumes", dir.path()).err().unwrap();
    assert!(matches!(error, MediumError::NotEmpty { .. }), "{error}");
    assert!(dir.path().join("volumes/000001.tap").exists());
}
