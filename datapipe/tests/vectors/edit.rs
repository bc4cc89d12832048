//! Changes a tape at one position, and corrects the checksums, so that nothing else is wrong.

use datapipe::wire::{
    RECORD_HEADER_LEN, RecordHeader, RecordKind, UNIT_HEADER_LEN, UnitHeader, UnitKind,
    VolumeRecord,
};

/// A volume of frames after its volume record: each is a record, or empty if it is a mark. The last
/// field is the volume record.
#[derive(Clone)]
pub(crate) struct Tape(pub(crate) Vec<Vec<u8>>, pub(crate) Vec<u8>);

impl Tape {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let (mut frames, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
            frames.push(bytes[at + 4..at + 4 + length].to_vec());
            at += if length == 0 { 4 } else { length + 8 };
        }
        let record = frames.remove(0);
        assert!(VolumeRecord::parse(&record).is_ok());
        Self(frames, record)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let record = Some(&self.1).filter(|record| !record.is_empty());
        for frame in record.into_iter().chain(&self.0) {
            let length = (frame.len() as u32).to_le_bytes();
            bytes.extend(length);
            if !frame.is_empty() {
                bytes.extend_from_slice(frame);
                bytes.extend(length);
            }
        }
        bytes
    }

    /// Returns the stream that the data records carry.
    pub(crate) fn stream(&self) -> Vec<u8> {
        let data = self.0.iter().filter(|frame| is_data(frame));
        data.flat_map(|frame| frame[RECORD_HEADER_LEN..].to_vec())
            .collect()
    }

    /// Returns the units of the stream and their offsets in it.
    pub(crate) fn units(&self) -> Vec<(UnitHeader, usize)> {
        let (stream, mut at, mut units) = (self.stream(), 0, Vec::new());
        while at < stream.len() {
            let header = UnitHeader::parse(&stream[at..]).unwrap();
            units.push((header, at));
            at += header.unit_len();
        }
        units
    }

    /// Changes the record in frame `n`, and corrects the checksum of its header.
    pub(crate) fn record(&mut self, n: usize, change: impl FnOnce(&mut [u8])) {
        change(&mut self.0[n]);
        let crc = crc32fast::hash(&self.0[n][..RECORD_HEADER_LEN - 4]);
        self.0[n][RECORD_HEADER_LEN - 4..RECORD_HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
    }

    /// Changes the `nth` unit of a kind, with its padding, and corrects its checksums. Also changes
    /// the copy of the session header on the label.
    pub(crate) fn unit(&mut self, kind: UnitKind, nth: usize, change: impl Fn(&mut [u8])) {
        self.unit_as_is(kind, nth, |unit| {
            let stored = UnitHeader::parse(unit).unwrap().stored as usize;
            change(unit);
            let body = crc32fast::hash(&unit[UNIT_HEADER_LEN..][..stored]);
            unit[44..48].copy_from_slice(&body.to_le_bytes());
            let header = crc32fast::hash(&unit[..UNIT_HEADER_LEN - 4]);
            unit[UNIT_HEADER_LEN - 4..UNIT_HEADER_LEN].copy_from_slice(&header.to_le_bytes());
        });
    }

    /// Changes a unit as [`unit`](Self::unit) does, but leaves the checksums as they are.
    pub(crate) fn unit_as_is(&mut self, kind: UnitKind, nth: usize, change: impl Fn(&mut [u8])) {
        let units = self.units();
        let (header, at) = units
            .iter()
            .filter(|(header, _)| header.kind == kind)
            .nth(nth)
            .unwrap();
        let mut stream = self.stream();
        change(&mut stream[*at..at + header.unit_len()]);
        let mut rest = &stream[..];
        for frame in self.0.iter_mut().filter(|frame| is_data(frame)) {
            let (now, later) = rest.split_at(frame.len() - RECORD_HEADER_LEN);
            frame[RECORD_HEADER_LEN..].copy_from_slice(now);
            rest = later;
        }
        if kind == UnitKind::SessionHeader {
            change(&mut self.0[0][RECORD_HEADER_LEN..]);
        }
    }

    /// Returns the frame in which the first unit of a kind begins.
    pub(crate) fn frame_of(&self, kind: UnitKind) -> usize {
        let at = self
            .units()
            .iter()
            .find(|(header, _)| header.kind == kind)
            .unwrap()
            .1 as u64;
        let holds = |frame: &Vec<u8>| {
            RecordHeader::parse(frame).is_ok_and(|(header, _)| {
                header.kind == RecordKind::Data
                    && (header.position..header.position + u64::from(header.length)).contains(&at)
            })
        };
        self.0.iter().position(holds).unwrap()
    }
}

fn is_data(frame: &[u8]) -> bool {
    RecordHeader::parse(frame).is_ok_and(|(header, _)| header.kind == RecordKind::Data)
}
