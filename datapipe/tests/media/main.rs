//! Media: one suite, over directories and tapes, on the file system and on a storage that fails on
//! request.

mod append; // media that are opened to append
mod faults; // storages that fail, fill up, crash
mod one_writer; // a medium has one writer, and keeps its files
mod records; // volume records, and volumes of other media
mod replace; // old content that is replaced
mod site; // a medium, its storage, and readers independent of the library's
mod suite; // the tests that each medium passes
mod unwritten; // media whose writer was stopped before its first record

/// Makes a test of each function of the suite for each medium and storage.
macro_rules! suite {
    ($($test:ident)*) => {
        mod directory_on_the_file_system {
            $(#[test] fn $test() { crate::suite::$test(&crate::site::real(true)); })*
        }
        mod directory_on_a_faulty_storage {
            $(#[test] fn $test() { crate::suite::$test(&crate::site::faulty(1, true)); })*
        }
        mod tape_on_the_file_system {
            $(#[test] fn $test() { crate::suite::$test(&crate::site::real(false)); })*
        }
        mod tape_on_a_faulty_storage {
            $(#[test] fn $test() { crate::suite::$test(&crate::site::faulty(1, false)); })*
        }
    };
}

suite! {
    written_records_are_read_back
    position_can_be_sought
    reading_backwards_matches_reading_forwards
    reading_backwards_through_damage_ends
    truncation_keeps_whole_records
    flipped_byte_spares_other_records
    garbage_is_covered_and_bounded
    items_do_not_depend_on_the_way_to_them
    record_after_damage_of_any_length_is_found
    volume_of_false_lengths_ends
    words_of_other_writers_are_classified
    volume_size_is_kept_and_its_reserve_is_usable
    nonempty_medium_is_not_overwritten
    empty_and_oversized_records_are_rejected
}
