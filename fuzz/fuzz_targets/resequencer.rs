//! The resequencer compared with its model, a sorted map.
#![no_main]

use std::collections::BTreeMap;

use datapipe::sequence::Resequencer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u64, u8, Vec<(u8, bool)>)| {
    let (first, window, moves) = input;
    let (first, window) = (first / 2, usize::from(window) + 1);
    let mut resequencer = Resequencer::new(first, window);
    let mut model = BTreeMap::new();
    let mut next = first;
    for (offset, pop) in moves {
        if pop {
            let expected = model.remove(&next).map(|item| (next, item));
            next += u64::from(expected.is_some());
            assert_eq!(resequencer.pop(), expected);
        } else {
            let number = (next + u64::from(offset)).saturating_sub(8);
            let fits =
                number >= next && number - next < window as u64 && !model.contains_key(&number);
            assert_eq!(resequencer.push(number, offset).is_ok(), fits);
            if fits {
                model.insert(number, offset);
            }
        }
        assert_eq!((resequencer.next(), resequencer.len()), (next, model.len()));
    }
});
