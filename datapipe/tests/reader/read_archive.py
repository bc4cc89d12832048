#!/usr/bin/env python3
"""Reads what DataPipe wrote, written from docs/wire-format.md alone.

    read_archive.py TAPE OUT [--key FILE | --passphrase FILE | --identity FILE] [--session N] [--archive N]
                    [--restored DIR]

TAPE is a volume file, or a directory of them. The stream of its archives goes to OUT: of all, or of session N of the
medium, or of archive N of that session, or of the first one. With --restored, the files of a tree that was restored to
DIR must have the digests of the archive. Everything that the page says of a whole session is checked; the first thing
that is not so ends it with 1. An archive of an unfinished session is read if N selects it. What it cannot do here,
because a package
is missing, ends it with 3.
"""

import argparse
import hashlib
import os
import struct
import subprocess
import sys
import zlib

MAX_RECORD, MAX_BLOCK, MAX_BODY = 16 << 20, 64 << 20, 16 << 20
MAX_ENTRIES, MAX_CHUNKS, MAX_ARCHIVES, RECENT_CHUNKS, MAX_VOLUMES = 65_536, 262_144, 1_024, 1_024, 65_536
MAX_SPECIALS, MAX_SPECIAL = 16, 65536
LABEL, DATA, VOLUME = 1, 2, 3
SESSION_HEADER, ARCHIVE_HEADER, CHUNK_HEADER, BLOCK = range(1, 5)
CHUNK_FOOTER, ARCHIVE_FOOTER, SESSION_FOOTER, LOCATOR, VOLUMES, LOST = range(6, 12)
HEADER, ONCE, HEADER_FOOTER = 1, 2, 3
MARKED, REJECTED, LAST = 1, 2, 8
DATA_BLOCK, CATALOGUE, CLOSING, SPECIAL, CHECKPOINT = range(5)
COUNTED = (DATA_BLOCK, CATALOGUE, CLOSING)
STREAM, TREE = 1, 2
COPY_OF = 1
ORIGIN = 3
OBJECT, ATTRIBUTE, EXTENT, END, REFERENCE, SAME, INODE, OWNER = range(1, 9)
ENTRY, START = 16, 17
ALLOWED = {DATA_BLOCK: (OBJECT, ATTRIBUTE, EXTENT, END, INODE, OWNER), CATALOGUE: (ENTRY,), CLOSING: (OWNER, ENTRY, START)}
# Kinds with numbers that may be relative to those of the entry before.
RELATIVE = (OBJECT, ATTRIBUTE, EXTENT, END, INODE, ENTRY)
CELL = 262_144
# A number that is not known.
NONE = 2**64 - 1


class Wrong(Exception):
    """The page says otherwise."""


class Incomplete(Wrong):
    """An archive that has no end, and the unit at which another one begins."""

    def __init__(self, what, at):
        super().__init__(what)
        self.at = at


class Missing(Exception):
    """Something that this program needs is not there."""


def need(condition, what):
    if not condition:
        raise Wrong(what)


def crc(data):
    return zlib.crc32(data) & 0xFFFFFFFF


# --- volumes: a sequence of records and marks


def volume_files(path):
    if not os.path.isdir(path):
        return [path]
    names = sorted(n for n in os.listdir(path) if len(n) == 10 and n.endswith(".tap") and n[:6].isdigit())
    need(names, "no volume in the directory")
    for number, name in enumerate(names, 1):
        need(name == f"{number:06}.tap", f"volume {number} is missing")
    return [os.path.join(path, name) for name in names]


def objects(data):
    """(byte, record) or (byte, None) for a mark."""
    at = 0
    while at < len(data):
        need(at + 4 <= len(data), f"half a word at byte {at}")
        word = struct.unpack_from("<I", data, at)[0]
        if word == 0xFFFFFFFF:
            return
        if word == 0xFFFFFFFE:
            at += 4
        elif word == 0:
            yield at, None
            at += 4
        else:
            length, padded = word & 0x0FFFFFFF, (word & 0x0FFFFFFF) + (word & 1)
            need(word >> 28 == 0 and length <= MAX_RECORD, f"the word {word:08x} at byte {at}")
            need(at + 8 + padded <= len(data), f"the frame at byte {at} is cut off")
            need(struct.unpack_from("<I", data, at + 4 + padded)[0] == word, f"the frame at byte {at} does not close")
            yield at, data[at + 4:at + 4 + length]
            at += 8 + padded


# --- records


class Record:
    def __init__(self, data):
        need(72 <= len(data) <= MAX_RECORD, f"a record of {len(data)} bytes")
        (magic, self.kind, version, zero1, self.session, self.sequence, self.volume, self.length, self.position,
         self.first, zero2, check) = struct.unpack_from("<4sBBH16sQIIQIQI", data)
        need(magic == b"DPrc", "a record without its magic")
        need(check == crc(data[:60]), "a record header's CRC")
        need(version == 1, f"a record of version {version}")
        need(zero1 == 0 and zero2 == 0, "reserved bytes of a record header")
        need(self.kind in (LABEL, DATA, VOLUME) or self.kind >= 128, f"a record of kind {self.kind}")
        need(8 <= self.length <= len(data) - 64 and self.length % 8 == 0, "a record's length")
        self.content = data[64:64 + self.length]
        need(not any(data[64 + self.length:]), "the bytes after a record's content")


class VolumeRecord:
    def __init__(self, record):
        need((record.sequence, record.volume, record.position, record.first) == (0, 0, 0, 0xFFFFFFFF),
             "a volume record's header")
        need(len(record.content) == 448, "a volume record's length")
        (self.id, self.medium, _, nanoseconds, self.ordinal, once, pool, label, zero1, extensions, zero2, pools, labels,
         run, zero3, check) = struct.unpack("<16s16sqIIBBBBIQ64s64s248sII", record.content)
        need(check == crc(record.content[:444]), "a volume record's CRC")
        need(self.id == record.session, "a volume record's id")
        need(nanoseconds < 1_000_000_000 and once <= 1 and zero1 == zero2 == zero3 == 0, "a volume record")
        self.pool, self.label = self.text(pools, pool), self.text(labels, label)
        need(extensions <= 248 and extensions % 8 == 0 and not any(run[extensions:]), "an extension run's length")
        at = 0
        while at < extensions:
            identifier, length = struct.unpack_from("<HH", run, at)
            need(identifier < 32768, f"the extension {identifier}")
            end = at + 4 + length
            at = end + -end % 8
            need(at <= extensions and not any(run[end:at]), "an extension's length")

    @staticmethod
    def text(field, length):
        need(length <= 64 and not any(field[length:]), "a text of a volume record")
        return field[:length].decode()


class Session:
    """The records of a session: their contents put together, and where each begins."""

    def __init__(self, record, before, place):
        self.id, self.before, self.label = record.session, before, place
        self.stream, self.starts, self.marks, self.labels = bytearray(), [], [], []
        self.lengths, self.volumes, self.sequence = [], [], 0
        # Known when the units were read: an unfinished session gets its marks from the next one.
        self.is_finished = None

    def add(self, record, volume, place):
        number = volume - self.before
        where = f"volume {volume}, record {place[1]}"
        need(record.sequence == self.sequence, f"record {self.sequence} of the session is missing before {where}")
        need(record.volume == number, f"volume {record.volume} of the session where {number} should be")
        is_first = len(self.labels) < number
        need((record.kind == LABEL) == is_first, f"{where}: label or not")
        need(record.position == len(self.stream), f"{where}: its position")
        self.sequence += 1
        if record.kind >= 128:
            return
        if record.kind == LABEL:
            need(record.first == 0, "a label's first unit")
            self.labels.append((record.content, len(self.stream)))
        else:
            self.starts.append((len(self.stream), (number, *place[1:]), record.first))
            self.lengths.append(len(record.content))
            self.stream += record.content

    def place(self, position):
        """Volume, record and byte of the record with the byte at `position` of the stream."""
        low, high = 0, len(self.starts)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.starts[middle][0] <= position else (low, middle)
        return self.starts[low][1]


class Medium:
    """The sessions of a medium."""

    def __init__(self, path):
        self.sessions, self.volumes = [], []
        for volume, name in enumerate(volume_files(path), 1):
            with open(name, "rb") as file:
                data = file.read()
            for number, (byte, record) in enumerate(objects(data)):
                if record is None:
                    need(number > 0, f"volume {volume} begins with a mark")
                    if self.sessions:
                        self.sessions[-1].marks.append(len(self.sessions[-1].stream))
                    continue
                record = Record(record)
                need((record.kind == VOLUME) == (number == 0), f"volume {volume}, record {number}: volume record or not")
                if number == 0:
                    self.add_volume(VolumeRecord(record), volume)
                    continue
                self.add(record, volume, (volume, number, byte))
        need(self.sessions, "no record")

    def add(self, record, volume, place):
        if not self.sessions or self.sessions[-1].id != record.session:
            where = f"volume {volume}, record {place[1]}"
            need((record.kind, record.sequence) == (LABEL, 0), f"{where} is foreign")
            need(record.session not in [session.id for session in self.sessions], f"{where} is of an earlier session")
            before = self.sessions[-1] if self.sessions else None
            need(before is None or len(before.marks) > 1 and before.marks[-2] == before.marks[-1],
                 f"{where} is foreign: no two marks end the session before")
            self.sessions.append(Session(record, volume - 1, place))
        session = self.sessions[-1]
        session.add(record, volume, place)
        own = self.volumes[volume - 1]
        if own not in session.volumes:
            session.volumes.append(own)

    def add_volume(self, record, number):
        first = self.volumes[0] if self.volumes else record
        need(record.medium == first.medium, f"the wrong volume: volume {number} is of another medium")
        need(record.ordinal == number, f"volume {record.ordinal} of the medium where {number} should be")
        need(record.id not in [other.id for other in self.volumes], f"the id of volume {number}")
        self.volumes.append(record)


# --- units


class Unit:
    def __init__(self, data, at, session):
        need(at + 64 <= len(data), "a unit header is cut off")
        self.header = data[at:at + 64]
        (magic, self.kind, version, self.flags, self.archive, self.chunk, self.number, self.offset, self.plain,
         self.stored, self.compression, self.cipher, self.content, self.what, body_crc, self.position, self.session,
         check) = struct.unpack("<4sBBHIIQQIIBBBBIQ4sI", self.header)
        need(magic == b"DPun", f"no unit at byte {at}")
        need(check == crc(self.header[:60]), f"the CRC of the unit header at byte {at}")
        need(version == 1, f"a unit of version {version}")
        need(1 <= self.kind <= 11 and self.kind != 5 or self.kind >= 128, f"a unit of kind {self.kind}")
        need(self.session == session[:4], "a unit of another session")
        need(self.flags & ~(MARKED | REJECTED | LAST) == 0, "an unknown flag")
        need(self.compression <= 2, f"compression {self.compression}")
        need(self.cipher <= 1, f"encryption {self.cipher}")
        need(self.what <= 4 or self.what >= 128, f"a block that is {self.what}")
        need(self.plain <= MAX_BLOCK, "plain bytes")
        need(self.stored <= (self.plain + 16 if self.kind == BLOCK else MAX_BODY), "stored bytes")
        if self.kind < 128:
            self.check_fields()
        end = at + 64 + self.stored
        self.end = end + -end % 8
        need(self.end <= len(data), "a body is cut off")
        self.body = data[at + 64:end]
        need(crc(self.body) == body_crc, f"the CRC of the body of the unit at byte {at}")
        need(not any(data[end:self.end]), "padding")

    def check_fields(self):
        if self.compression == 0 and not self.flags & REJECTED:
            need(self.plain == self.stored - (16 if self.cipher else 0), "plain and stored bytes differ")
        if self.kind != BLOCK:
            need(self.compression == 0 and self.content == 0 and self.what == 0 and self.flags == 0,
                 "a field that only blocks have")
            need(self.cipher == 0, "a unit that is not to be encrypted")
            need(self.offset == 0, "an offset in a unit that is not a block")
            return
        if self.flags & REJECTED:
            need(self.compression == 0 and self.stored == (16 if self.cipher else 0), "a rejected block with a body")
        need(not self.flags & LAST or self.what == 0, "a last block that is not data")

    def counted(self):
        """Bytes that count in the offsets of later blocks."""
        return self.plain if self.what in COUNTED else 0

    def associated(self):
        return self.header[4:8] + self.header[16:24] + self.header[32:44]

    def opened(self, key):
        """The body, decrypted."""
        if key is None:
            need(self.cipher == 0, "encrypted, and there is no key")
            return self.body
        need(self.cipher == 1, "not encrypted")
        nonce = struct.pack("<Q4x", self.number)
        return open_sealed(key, nonce, self.body, self.associated())


class Fields:
    """Fields of a body, one after the other."""

    def __init__(self, body):
        self.body, self.at = body, 0

    def take(self, form):
        form = "<" + form
        need(self.at + struct.calcsize(form) <= len(self.body), "a body is too short")
        values = struct.unpack_from(form, self.body, self.at)
        self.at += struct.calcsize(form)
        return values if len(values) > 1 else values[0]

    def raw(self, length):
        need(self.at + length <= len(self.body), "a body is too short")
        self.at += length
        return self.body[self.at - length:self.at]

    def end(self):
        need(self.at == len(self.body), "a body is too long")


def padded(f):
    """Zeros up to the next multiple of 8 of a body."""
    need(not any(f.raw(-f.at % 8)), "padding in a body")


def extensions(f, length):
    need(length <= 16_384 and length % 8 == 0, f"extensions of {length} bytes")
    end = f.at + length
    while f.at < end:
        name, size = f.take("HH")
        f.raw(size)
        need(name < 32_768, f"extension {name} is required")
        padded(f)
    need(f.at == end, "an extension that goes on")


class SessionHeader:
    def __init__(self, body):
        f = Fields(body)
        self.id, _, nanoseconds, self.record_len, self.framing, zeros = f.take("16sqIIB3s")
        need(nanoseconds < 1_000_000_000, "nanoseconds")
        need(zeros == bytes(3), "reserved bytes of the session header")
        need(self.framing in (HEADER, ONCE, HEADER_FOOTER), f"framing {self.framing}")
        lengths, extension_length = f.take("HHH"), f.take("H")
        need(max(lengths) <= 255, "a text that is too long")
        self.before = f.take("I16s16sQQ")
        self.host, self.program, self.label = (f.raw(length).decode() for length in lengths)
        padded(f)
        extensions(f, extension_length)
        f.end()


class ArchiveHeader:
    def __init__(self, body):
        f = Fields(body)
        (self.id, self.salt, _, nanoseconds, self.block_len, self.content, self.cipher, part, extension_length, main,
         first, previous, self.key_id) = f.take("16s32sqIIBBHI16sQ32s16s")
        need(nanoseconds < 1_000_000_000, "the archive header")
        need(self.content in (1, 2), f"content {self.content}")
        need(self.cipher in (0, 1), f"encryption {self.cipher}")
        bases, zeros = f.take("H6s")
        need(zeros == bytes(6) and 0 < self.block_len <= MAX_BLOCK, "the archive header's lengths")
        need(first == 0 and previous == bytes(32), f"a continuation from block {first}")
        need(part == 0 and main == self.id, f"part {part} of a set")
        need(bases == 0, f"{bases} bases")
        extensions(f, extension_length)
        self.identity = body[:f.at]
        count, zeros = f.take("B7s")
        need(count <= 8 and zeros == bytes(7), f"{count} key slots")
        self.slots = [f.raw(128) for _ in range(count)]
        need(self.cipher == 1 or (not count and self.key_id == bytes(16)), "slots or a key id, but not encrypted")
        f.end()


# --- keys


def crypto():
    try:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    except ImportError as error:
        raise Missing("the package cryptography is not installed") from error
    return hashes, AESGCM, HKDF


def hkdf(key, salt, info):
    hashes, _, HKDF = crypto()
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=info).derive(key)


def open_sealed(key, nonce, sealed, associated):
    _, AESGCM, _ = crypto()
    from cryptography.exceptions import InvalidTag
    try:
        return AESGCM(key).decrypt(nonce, sealed, associated)
    except (InvalidTag, ValueError) as error:
        raise Wrong("does not authenticate") from error


def argon2id(passphrase, salt, memory, passes, lanes):
    try:
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
        return Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory).derive(passphrase)
    except ImportError:
        pass
    try:
        from argon2.low_level import Type, hash_secret_raw
    except ImportError as error:
        raise Missing("neither cryptography >= 44 nor argon2-cffi is installed, for passphrases") from error
    return hash_secret_raw(passphrase, salt, passes, memory, lanes, 32, Type.ID, version=0x13)


def shared_key(identity, ephemeral):
    """The key of a recipient's slot."""
    try:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    except ImportError as error:
        raise Missing("the package cryptography is not installed") from error
    private = X25519PrivateKey.from_private_bytes(identity)
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(ephemeral))
    except ValueError as error:
        raise Wrong("the slot's ephemeral key gives no shared secret") from error
    return hkdf(shared, ephemeral + public, b"datapipe 1 recipient")


def unwrap(slot, secret, key_id):
    kind, kdf, reserved, memory, passes, lanes = struct.unpack_from("<BBHIII", slot)
    salt, check, wrapped = slot[16:48], slot[48:80], slot[80:]
    need(kind in (1, 2, 3) and kdf == (1 if kind == 2 else 0) and reserved == 0, "an unknown key slot")
    need(kind == 2 or memory == passes == lanes == 0, "a key file or a recipient with a cost")
    need(secret[0] == kind, "the slot needs another kind of secret")
    if kind == 1:
        own = secret[1]
        need(len(own) == 32, "a key file has 32 bytes")
    elif kind == 2:
        need(1 <= lanes <= 16 and 1 <= passes <= 16 and 8 * lanes <= memory <= 1 << 20, "a slot's cost")
        own = argon2id(secret[1], salt, memory, passes, lanes)
    else:
        own = shared_key(secret[1], salt)
    need(hkdf(own, salt, b"datapipe 1 key check") == check, "the secret is wrong")
    data_key = open_sealed(hkdf(own, salt, b"datapipe 1 key wrap"), bytes(12), wrapped, key_id + slot[:80])
    need(hkdf(data_key, b"", b"datapipe 1 key id")[:16] == key_id, "the slot has another data key")
    return data_key


def unlock(header, secret):
    need(header.slots, "no key slots")
    errors = []
    for slot in header.slots:
        try:
            return unwrap(slot, secret, header.key_id)
        except Wrong as error:
            errors.append(str(error))
    raise Wrong("no key slot opens: " + "; ".join(errors))


def identity_of(line):
    """The secret key of a recipient, from the line of its file."""
    line = line[:-2] if line.endswith(b"\r\n") else line[:-1] if line.endswith(b"\n") else line
    digits = line[18:]
    need(line[:18] == b"datapipe-secret-1 " and len(digits) == 64, "not the file of an identity")
    need(all(digit in b"0123456789abcdefABCDEF" for digit in digits), "not the file of an identity")
    return bytes.fromhex(digits.decode())
# --- BLAKE3 and the digest of a file


IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8


def compress(chain, words, counter, length, flags):
    """The compression function of BLAKE3: the chaining value of a block."""
    v = list(chain) + list(IV[:4]) + [counter & 0xFFFFFFFF, counter >> 32, length, flags]

    def mix(a, b, c, d, x, y):
        v[a] = (v[a] + v[b] + x) & 0xFFFFFFFF
        v[d] ^= v[a]
        v[d] = (v[d] >> 16 | v[d] << 16) & 0xFFFFFFFF
        v[c] = (v[c] + v[d]) & 0xFFFFFFFF
        v[b] ^= v[c]
        v[b] = (v[b] >> 12 | v[b] << 20) & 0xFFFFFFFF
        v[a] = (v[a] + v[b] + y) & 0xFFFFFFFF
        v[d] ^= v[a]
        v[d] = (v[d] >> 8 | v[d] << 24) & 0xFFFFFFFF
        v[c] = (v[c] + v[d]) & 0xFFFFFFFF
        v[b] ^= v[c]
        v[b] = (v[b] >> 7 | v[b] << 25) & 0xFFFFFFFF

    for turn in range(7):
        for lane in range(4):
            mix(lane, 4 + lane, 8 + lane, 12 + lane, words[2 * lane], words[2 * lane + 1])
        for lane in range(4):
            mix(lane, 4 + (lane + 1) % 4, 8 + (lane + 2) % 4, 12 + (lane + 3) % 4, words[8 + 2 * lane],
                words[9 + 2 * lane])
        words = [words[at] for at in PERMUTATION]
    return [v[at] ^ v[at + 8] for at in range(8)]


def chunk_value(data, counter, root):
    chain = IV
    for at in range(0, max(len(data), 1), 64):
        block = data[at:at + 64]
        flags = (CHUNK_START if at == 0 else 0) | (CHUNK_END | root if at + 64 >= len(data) else 0)
        chain = compress(chain, struct.unpack("<16I", block.ljust(64, b"\0")), counter, len(block), flags)
    return chain


def tree_value(data, counter, root):
    if len(data) <= 1024:
        return chunk_value(data, counter, root)
    left = 1024 << ((len(data) - 1) // 1024).bit_length() - 1
    both = tree_value(data[:left], counter, 0) + tree_value(data[left:], counter + left // 1024, 0)
    return compress(IV, both, 0, 64, PARENT | root)


def blake3(data):
    return struct.pack("<8I", *tree_value(data, 0, ROOT))


def digest_of(cells, size):
    """The digest of a file: `cells` has the number and content of each, or of those that are not zeros only."""
    h = bytes(32)
    for number, cell in cells:
        if any(cell):
            h = blake3(h + struct.pack("<Q", number) + blake3(cell))
    return blake3(h + struct.pack("<Q", size))[:16]


def digest_of_file(path):
    with open(path, "rb") as file:
        cells = enumerate(iter(lambda: file.read(CELL), b""))
        return digest_of(cells, os.path.getsize(path))


# --- trees


def absolute(kind, obj, body, before, is_relative):
    """The object and the body of an entry; `before` has the numbers of the last ones of the block."""
    fields = [("obj", 0, 8)]
    if kind == ENTRY:
        fields = [("first", 32, 8), ("last", 40, 8), ("offset", 48, 4), ("inode", 72, 8)]
    body = bytearray(body)
    for name, at, size in fields:
        value = obj if name == "obj" else int.from_bytes(body[at:at + size], "little")
        if is_relative:
            value = (value + before.get(name, 0)) % 256**size
        before[name] = value
        if name == "obj":
            obj = value
        else:
            body[at:at + size] = value.to_bytes(size, "little")
    return obj, bytes(body)


class Tree:
    """The objects of an archive, from the data of its blocks."""

    def __init__(self):
        self.begun, self.open, self.files = {}, {}, {}
        self.last, self.names, self.ended, self.bytes = 0, {}, [], 0
        self.listed = {CATALOGUE: [], CLOSING: []}
        self.start = None

    def block(self, number, what, data, capacity):
        at, numbers = 0, {}
        while at < len(data):
            need(at + 16 <= len(data), f"block {number}: half an entry header")
            kind, flags, zero, length, obj = struct.unpack_from("<BBHIQ", data, at)
            need(flags <= 4 and zero == 0, f"block {number}: reserved bytes of an entry")
            body, end = data[at + 16:at + 16 + length], at + 16 + length
            need(end <= len(data), f"block {number}: an entry is cut off")
            need(kind >= 128 or kind in ALLOWED[what], f"block {number}: an entry of kind {kind} in a block of {what}")
            start = (number, at)
            need(flags < 4 or kind in RELATIVE, "a relative entry of a kind that has no relative numbers")
            if kind in RELATIVE and flags in (0, 4):
                obj, body = absolute(kind, obj, body, numbers, flags == 4)
            elif flags and kind < 128:
                need(kind not in (EXTENT, START), "an entry in pieces")
                need(at == 0 or not flags & 2, "a piece that is not the first entry")
                need(bool(flags & 2) == (what in self.begun), "a piece without the one before")
                start, before_kind, before_obj, before = self.begun.pop(what, (start, kind, obj, b""))
                need((kind, obj) == (before_kind, before_obj), "pieces of several entries")
                body = before + body
                if flags & 1:
                    need(end == len(data), "a piece that is not the last entry")
                    self.begun[what] = (start, kind, obj, body)
                    at = end
                    continue
            need(what not in self.begun, "an entry that goes on, and does not")
            if kind < 128:
                self.entry(kind, obj, body, start, number, what)
            at = end

    def entry(self, kind, obj, body, start, number, what):
        f = Fields(body)
        need((obj == 0) == (kind in (OWNER, START)) or kind == ENTRY, "the object of an entry")
        if kind == OBJECT:
            need(obj > self.last, f"object {obj} after {self.last}")
            self.last = obj
            (type_, linked, zero1, mode, _, _, seconds, nanoseconds, zero2, _, _, _, link, path_len,
             target_len) = f.take("BBHIIIqIIQIIQII")
            need(zero1 == 0 and zero2 == 0 and linked < 2 and 1 <= type_ <= 7, "an object's fields")
            path, target = f.raw(path_len), f.raw(target_len)
            parts = path.split(b"/")
            need(not {b"", b".", b".."} & set(parts) and b"\0" not in path, f"the path {path}")
            self.open[obj] = dict(type=type_, mode=mode, time=(seconds, nanoseconds), link=link, linked=linked,
                                  path=path, target=target, start=start, cells={}, end=0, order=OBJECT)
        elif kind == OWNER:
            owner, group, length = f.take("IHH")
            name = f.raw(length)
            need(group < 2 and 1 <= length <= 255, "an owner's name")
            need(not any(byte < 32 or byte in (58, 127) for byte in name), f"the name {name}")
            self.names.setdefault((group, owner), name)
        elif kind == START:
            need(self.start is None and not self.listed[CLOSING], "a start within the run")
            self.start = f.take("QQ")
        elif kind == ENTRY:
            need(what == CATALOGUE or self.start is not None, "a closing run without start")
            self.list_entry(obj, f, what)
        else:
            self.of_object(kind, self.open[obj], obj, f, number)
        f.end()

    def of_object(self, kind, found, obj, f, number):
        orders = {INODE: 2, ATTRIBUTE: 3, EXTENT: 4, END: 5}
        need(orders[kind] >= found["order"] and (kind != INODE or found["order"] == 1), "the order of entries")
        found["order"] = orders[kind]
        if kind == ATTRIBUTE:
            name_len, zero, value_len = f.take("HHI")
            need(1 <= name_len <= 255 and value_len <= 65536 and zero == 0, "an attribute")
            f.raw(name_len + value_len)
        elif kind == INODE:
            flags, zero1, made, nanoseconds, zero2 = f.take("IIqII")
            need(zero1 == 0 and zero2 == 0, "an inode's fields")
            need(nanoseconds < 10**9 or (made, nanoseconds) == (0, 0xFFFFFFFF), "the time of birth")
        elif kind == EXTENT:
            offset = f.take("Q")
            data = f.raw(len(f.body) - 8)
            need(data and offset >= found["end"] and found["type"] == 1, "an extent")
            found["end"] = offset + len(data)
            self.bytes += len(data)
            while data:
                place, now = offset % CELL, data[:CELL - offset % CELL]
                cell = found["cells"].setdefault(offset // CELL, bytearray())
                cell.extend(bytes(place - len(cell)) + now)
                offset, data = offset + len(now), data[len(now):]
        else:
            state, has, zeros, size, digest = f.take("BB6sQ16s")
            need(state <= 2 and has < 2 and zeros == bytes(6), "an end")
            need(size >= found["end"], "data beyond the size")
            need(has == (found["type"] == 1) and (has or digest == bytes(16)), "a digest")
            if has:
                cells = [(number, bytes(cell).ljust(min(CELL, size - number * CELL), b"\0"))
                         for number, cell in sorted(found["cells"].items())]
                need(digest_of(cells, size) == digest, f"the digest of {found['path']}")
                self.files[found["path"]] = (state, digest)
            del self.open[obj]
            size = found["link"] if found["type"] == 4 else size if found["type"] == 1 else 0
            self.ended.append((obj if found["linked"] else 0, found["type"], state, found["mode"], size, found["time"],
                               found["start"], number, found["path"], found["target"]))

    def list_entry(self, obj, f, what):
        (type_, state, zero, mode, size, seconds, nanoseconds, path_len, first, last, offset, target_len, _,
         changed, references, zero2, base, _) = f.take("BBHIQqIIQQIIqIBBHQ")
        need(zero == 0 and zero2 == 0 and references == 0 and base == 0 and changed < 10**9, "a catalogue entry")
        self.listed[what].append((obj, type_, state, mode, size, (seconds, nanoseconds), (first, offset), last,
                                  f.raw(path_len), f.raw(target_len)))

    def finish(self):
        need(not self.open, f"objects without end: {sorted(self.open)}")
        need(not self.begun, "an entry goes on after the last block")
        pieces, closing = self.listed[CATALOGUE], self.listed[CLOSING]
        need(closing == self.ended, "the closing run has other objects")
        need(pieces == closing[:len(pieces)], "the catalogue before has other objects")
        need(not closing or self.start == (len(closing), self.bytes), f"the start of the closing run: {self.start}")

    def check_restored(self, folder):
        for path, (state, digest) in self.files.items():
            if state == 0:
                found = digest_of_file(os.path.join(os.fsencode(folder), path))
                need(found == digest, f"the restored file {path} has another digest")


# --- from units to the stream


def decompressed(unit, data):
    if unit.compression == 1:
        try:
            done = subprocess.run(["zstd", "-dcq"], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except FileNotFoundError as error:
            raise Missing("the program zstd is not installed") from error
        need(done.returncode == 0, f"block {unit.number} does not decompress: {done.stderr!r}")
        data = done.stdout
    elif unit.compression == 2:
        inflater = zlib.decompressobj(-15)
        data = inflater.decompress(data) + inflater.flush()
        need(inflater.eof and not inflater.unused_data, f"block {unit.number} does not decompress")
    need(len(data) == unit.plain, f"block {unit.number} has {len(data)} bytes, not {unit.plain}")
    return data


class Reader:
    """A session of a medium, and its archives: all, or the one that is selected."""

    def __init__(self, session, secret, wanted=None):
        self.session, self.wanted = session, wanted
        session.stream = bytes(session.stream)
        self.units, at = [], 0
        while at < len(self.session.stream):
            try:
                unit = Unit(self.session.stream, at, self.session.id)
                need(unit.position == at, f"the position of the unit at {at}")
            except Wrong:
                # The rest of an unfinished session may be cut off.
                if wanted is None:
                    raise
                break
            self.units.append(unit)
            at = unit.end
        need(self.units and self.units[0].kind == SESSION_HEADER, "the stream does not begin with a session header")
        first = self.units[0]
        self.session_body, self.header = first.body, SessionHeader(first.body)
        need(self.header.id == self.session.id, "the session header's id")
        self.secret = secret
        self.out, self.footers, self.chunk_ends, self.trees = bytearray(), [], [], []
        marks, end = session.marks, len(session.stream)
        session.is_finished = self.units[-1].kind == SESSION_FOOTER and marks[-2:] == [end, end]
        if session.is_finished:
            self.check_records()
        self.check_labels()

    def check_records(self):
        """Length, first unit and marks."""
        starts = [unit.position for unit in self.units]
        which = 0
        for (position, place, first), length in zip(self.session.starts, self.session.lengths):
            need(64 + length <= self.header.record_len, f"the record at {place} is longer than the session's")
            while which < len(starts) and starts[which] < position:
                which += 1
            begins = which < len(starts) and starts[which] < position + length
            expected = starts[which] - position if begins else 0xFFFFFFFF
            need(first == expected, f"the record at {place}: its first unit is at {expected}, not {first}")

    def check_labels(self):
        opened = [unit for unit in self.units if unit.kind == ARCHIVE_HEADER]
        for number, (content, position) in enumerate(self.session.labels):
            copy = Unit(content, 0, self.session.id)
            need(copy.kind == SESSION_HEADER and copy.position == 0, "a label without session header")
            need(copy.body == self.session_body, "a label's copy of the session header")
            at = copy.end
            if at < len(content) and Unit(content, at, self.session.id).kind == ARCHIVE_HEADER:
                archive = Unit(content, at, self.session.id)
                original = [unit for unit in opened if unit.position == archive.position]
                need(original and original[0].header == archive.header, "a label's copy of the archive header")
                need(archive.position <= position, "a label's archive begins later")
                at = archive.end
            if number > 0:
                volumes = Unit(content, at, self.session.id)
                need(volumes.kind == VOLUMES and volumes.position == position, "a label without volumes")
                self.check_volumes(volumes, self.session.volumes[max(0, number - 16):number])
                at = volumes.end
            need(at == len(content), "a label that goes on")

    @staticmethod
    def check_volumes(unit, volumes):
        f = Fields(unit.body)
        count, zero = f.take("II")
        need(count <= MAX_VOLUMES and zero == 0, "a list of volumes")
        listed = [f.take("16sII") for _ in range(count)]
        f.end()
        should = [(volume.id, volume.ordinal, 0) for volume in volumes]
        need(listed == should, f"the volumes are {listed}, but should be {should}")

    def read(self):
        if self.wanted is None or self.session.is_finished:
            need(self.units[-1].kind == SESSION_FOOTER, "incomplete: no session footer")
            need(self.session.is_finished, "incomplete: no two marks at the end")
            units = self.units[1:-1]
        else:
            units = self.units[1:]
        at, number, volumes = 0, 0, None
        while at < len(units):
            if units[at].kind >= 128:
                at += 1
                continue
            if units[at].kind == VOLUMES:
                volumes, at = units[at], at + 1
                continue
            need(volumes is None, "an archive after the list of volumes")
            number += 1
            archive, before = Archive(self, number), len(self.out)
            try:
                at = archive.read(units, at)
            except Incomplete as error:
                # An archive whose pipe has failed. Others follow it.
                need(self.wanted is not None and self.wanted != number, str(error))
                at = error.at
            if self.wanted is not None and number != self.wanted:
                del self.out[before:]
            self.footers.append(archive.footer_entry)
        need(self.wanted is None or 1 <= self.wanted <= number, f"no archive {self.wanted}")
        if self.session.is_finished:
            need(volumes is not None, "no list of volumes")
            # Its own records may be on a later volume.
            known = self.session.place(volumes.position - 1)[0]
            self.check_volumes(volumes, self.session.volumes[:known][-MAX_VOLUMES:])
            self.check_session_footer()
            if all(entry[2] for entry in self.footers):
                self.check_marks()
        return bytes(self.out)

    def check_session_footer(self):
        unit = self.units[-1]
        need(unit.archive == 0 and unit.chunk == 0 and unit.number == 0, "the session footer's header")
        need(unit.position in (start[0] for start in self.session.starts), "the session footer's own record")
        f = Fields(unit.body)
        count, extension_length = f.take("II")
        need(count <= MAX_ARCHIVES, "the session footer")
        label = f.take("16sQQ")
        should = (self.session.volumes[0].id, *self.session.label[1:])
        need(label == should, f"the session footer says that its label is at {label}, but it is at {should}")
        entries = []
        for _ in range(count):
            name, blocks, volume, header_volume, record, byte, position, locator, header_record, header_byte = f.take(
                "16sQIIQQQQQQ")
            footer = (volume, record, byte) if volume else None
            entries.append((name, blocks, footer, position, locator, (header_volume, header_record, header_byte)))
        extensions(f, extension_length)
        f.end()
        need(entries == self.footers, f"the session footer says {entries}, but it is {self.footers}")

    def check_marks(self):
        """One after each chunk, or after the headers of an archive without blocks, and after each archive's footer;
        two at the end."""
        end = len(self.session.stream)
        expected = self.chunk_ends + [end, end]
        marks = self.session.marks
        need(marks[:len(expected)] == expected and set(marks[len(expected):]) <= {end},
             f"marks are at {marks}, but should be at {expected}")

    def check_before(self, previous, count):
        """The sessions before, which the header has as hints: all zeros, or right."""
        if self.header.before == (0, bytes(16), bytes(16), 0, 0):
            return
        need(previous is not None, "a session before the first one")
        volume, record, byte = previous.label
        own = previous.volumes[0].id
        if previous.is_finished is None:
            Reader(previous, None, 0)
        if previous.is_finished:
            units = [start for start in previous.starts if start[2] == 0]
            (number, record, byte) = units[-1][1]
            own = previous.volumes[number - 1].id
        should = (count, previous.id, own, record, byte)
        need(self.header.before == should, f"the session before is {self.header.before}, but should be {should}")


class Archive:
    """One archive of a session."""

    def __init__(self, reader, index):
        self.reader, self.index = reader, index
        self.blocks, self.offset, self.rejected, self.last = 0, 0, 0, None
        self.chunks, self.key, self.tree, self.specials = [], None, None, 0
        # Places of the locators; blocks of the checkpoint that is read, and number of the last whole one.
        self.locators, self.row, self.checkpoint = [], [], None
        # Session of which it is a copy: id, seconds, nanoseconds.
        self.copy_of = None
        # First block of the catalogue's closing run.
        self.catalogue = None
        # Blocks since the last chunk footer: place, what, position; and their plain bytes.
        self.entries, self.plain = [], 0

    def read(self, units, at):
        head = units[at]
        need(head.kind == ARCHIVE_HEADER, f"kind {head.kind} outside of an archive")
        self.body, self.header = head.body, ArchiveHeader(head.body)
        self.footer_entry = (self.header.id, 0, None, 0, 0, self.reader.session.place(head.position))
        if self.reader.wanted in (None, self.index):
            self.derive()
            self.tree = Tree() if self.header.content == TREE else None
        empty_end, locator = head.end, None
        starts = {start[0] for start in self.reader.session.starts}
        for at in range(at, len(units)):
            unit = units[at]
            if unit.kind >= 128:
                continue
            if unit.kind == VOLUMES or unit.archive > self.index:
                raise Incomplete("incomplete: no archive footer", at)
            need(unit.archive == self.index, f"a {unit.kind} of archive {unit.archive}")
            if unit.kind in (ARCHIVE_HEADER, LOCATOR, ARCHIVE_FOOTER):
                count = 0 if unit.kind == ARCHIVE_HEADER else len(self.chunks)
                need(unit.chunk == count, f"a {unit.kind} in chunk {unit.chunk}, not {count}")
            if unit.kind == CHUNK_HEADER:
                need(not unit.body and unit.number == self.blocks, "a chunk header")
                self.open_chunk(unit)
            elif unit.kind == BLOCK:
                self.block(unit)
            elif unit.kind == CHUNK_FOOTER:
                self.chunk_footer(unit)
            elif unit.kind == LOST:
                need(len(unit.body) == 8, "a unit of lost blocks")
                count, = struct.unpack("<Q", unit.body)
                need(count > 0 and unit.number == self.blocks, "a unit of lost blocks")
                need(False, f"blocks {self.blocks} to {self.blocks + count - 1} were lost before the copy was made")
            elif unit.kind == LOCATOR:
                need(unit.position in starts, "a record before the locator")
                self.end_checkpoint()
                self.check_locator(unit)
                self.chunks[-1]["end"] = unit.end
                self.locators.append(self.reader.session.place(unit.position))
                locator = unit
            elif unit.kind == ARCHIVE_FOOTER:
                need(len(self.locators) == len(self.chunks) > 0, "an archive footer without locator")
                self.check_framing()
                self.archive_footer(unit, locator)
                if self.tree is not None:
                    self.tree.finish()
                    self.reader.trees.append(self.tree)
                ends = [chunk["end"] for chunk in self.chunks] or [empty_end]
                self.reader.chunk_ends += ends + [unit.end]
                return at + 1
            else:
                need(unit.kind == ARCHIVE_HEADER and unit is head, f"kind {unit.kind} in an archive")
        raise Incomplete("incomplete: no archive footer", len(units))

    def derive(self):
        secret = self.reader.secret
        need(self.header.cipher == 0 or secret is not None, "key needed")
        need(self.header.cipher == 1 or secret is None, "not encrypted")
        if secret is not None:
            key = unlock(self.header, secret)
            digest = hashlib.sha256(self.header.identity).digest()
            self.key = hkdf(key, self.header.salt, b"datapipe 1 archive key" + self.header.id + digest)

    def open_chunk(self, unit):
        need(unit.chunk == len(self.chunks), f"chunk {unit.chunk} where {len(self.chunks)} should be")
        self.chunks.append(dict(header=unit.kind == CHUNK_HEADER, first=self.blocks, blocks=0, place=None,
                                position=None, footer=(0, 0), end=unit.end))

    def block(self, unit):
        need(unit.number == self.blocks, f"block {unit.number} where {self.blocks} should be")
        need(self.last is None, f"block {unit.number} comes after the last block")
        need(unit.offset == self.offset, f"the offset of block {unit.number}")
        need(unit.plain <= self.header.block_len, f"block {unit.number} is longer than the archive says")
        if not self.chunks or unit.chunk == len(self.chunks):
            self.open_chunk(unit)
        chunk = self.chunks[-1]
        need(unit.chunk == len(self.chunks) - 1, f"block {unit.number} is of chunk {unit.chunk}")
        place = self.reader.session.place(unit.position)
        if chunk["blocks"] == 0:
            chunk.update(place=place, position=unit.position)
        chunk["blocks"] += 1
        chunk["end"] = unit.end
        is_read = self.reader.wanted in (None, self.index)
        data = unit.opened(self.key) if is_read else b""
        # What a rejected block had was taken away, and zeros keep its place.
        if is_read:
            data = bytes(unit.plain) if unit.flags & REJECTED else decompressed(unit, data)
        if unit.number == 0:
            need(unit.what == SPECIAL and unit.flags == 0, "block 0 is not the origin")
            need(unit.end in (start[0] for start in self.reader.session.starts), "the record of block 0 goes on")
        if unit.what in COUNTED:
            self.reader.out += data
            if self.tree is not None:
                self.tree.block(unit.number, unit.what, data, self.header.block_len)
        elif unit.what == SPECIAL and is_read:
            self.special(unit, data)
        if unit.what == CHECKPOINT:
            need(unit.compression == 0, "a compressed checkpoint")
            self.row.append((unit.number, data))
        else:
            need(not self.row, f"block {unit.number} is in the chunk of the checkpoint before it")
        self.entries.append((place, unit.what, unit.position))
        if unit.flags & LAST:
            self.last = unit.number
        elif unit.what != CLOSING:
            self.catalogue = None
        elif self.catalogue is None:
            self.catalogue = unit.number
        self.plain += unit.counted()
        self.blocks += 1
        self.offset += unit.counted()
        self.rejected += unit.flags >> 1 & 1

    def special(self, unit, data):
        self.specials += unit.number > 0
        need(self.specials <= MAX_SPECIALS, f"special header {self.specials}, in block {unit.number}")
        f = Fields(data)
        kind, zeros, length, number = f.take("B3sIQ")
        need(kind == 32 and zeros == bytes(3) and length == len(data) - 16, f"the special header in block {unit.number}")
        identifier, zero = f.take("II")
        need(number == 0 and zero == 0, f"the special header in block {unit.number}")
        need(len(data) <= 24 + MAX_SPECIAL, f"the special header in block {unit.number} has {len(data) - 24} bytes")
        need((identifier == ORIGIN) == (unit.number == 0), f"the special header {identifier:08x} in block {unit.number}")
        if identifier == ORIGIN:
            self.is_origin(f)
        need(not identifier >> 30 & 1, f"the special header {identifier:08x} is required, and not known")

    def is_origin(self, f):
        """Name of the archive, of its host and of its program."""
        lengths, zero = f.take("HHH"), f.take("H")
        need(max(lengths) <= 255 and zero == 0, "the lengths of the origin")
        try:
            self.name, self.host, self.program = (f.raw(length).decode() for length in lengths)
        except UnicodeDecodeError as error:
            raise Wrong("a text of the origin") from error
        f.end()

    def end_checkpoint(self):
        """The blocks of a checkpoint, at the end of a chunk."""
        if not self.row:
            return
        entries, begun = [], None
        if self.reader.wanted not in (None, self.index):
            self.row, self.checkpoint = [], self.row[0][0]
            return
        for number, data in self.row:
            f, is_first = Fields(data), True
            while is_first or f.at < len(data):
                kind, flags, zeros, length, obj = f.take("BBHIQ")
                body = f.raw(length)
                need(flags < 4 and zeros == 0 and obj == 0, f"an entry of the checkpoint in block {number}")
                need(bool(flags & 2) == (begun is not None), f"a piece in the checkpoint in block {number}")
                if begun is not None:
                    need(is_first and begun[0] == kind, f"a piece in the checkpoint in block {number}")
                    body = begun[1] + body
                begun = (kind, body) if flags & 1 else None
                need(begun is None or f.at == len(data), f"a piece in the checkpoint in block {number}")
                if begun is None and kind < 128:
                    entries.append((kind, body))
                is_first = False
        need(begun is None and entries, f"the checkpoint {self.row[0][0]}")
        (kind, body), links = entries[0], entries[1:]
        need(all(other == 34 and len(run) % 32 == 0 for other, run in links), "the links of a checkpoint")
        need(kind == 33 or not links, "links without a walk")
        self.is_checkpoint(kind, Fields(body), self.row[0][0])
        self.row, self.checkpoint = [], self.row[0][0]

    def is_checkpoint(self, kind, f, number):
        if kind == 35:
            offset, _, _ = f.take("Q32s32s")
            need(self.header.content == STREAM and offset <= self.offset, f"the stream's checkpoint {number}")
        elif kind == 36:
            need(len(f.body) <= 4096, f"the application's checkpoint {number}")
            return
        else:
            need(kind == 33 and self.header.content == TREE, f"a checkpoint of kind {kind}")
            objects, previous, catalogue, _ = f.take("QQQ32s")
            should = NONE if self.checkpoint is None else self.checkpoint
            need(previous == should, f"the checkpoint before {number} is {should}, not {previous}")
            need(catalogue == NONE or catalogue < number, f"the catalogue of checkpoint {number}")
            obj, first, offset, state, zeros, at, _ = f.take("QQIB3sQ32s")
            _, _, size, _, _, nanos1, nanos2, length, zero = f.take("QQQqqIIII")
            need(zeros == bytes(3) and zero == 0 and state <= 2, f"fields of checkpoint {number}")
            need(obj in (0, objects) and first < number, f"the open object of checkpoint {number}")
            need(nanos1 < 10**9 and nanos2 < 10**9, f"times of checkpoint {number}")
            path = f.raw(length)
            need((path != b"") == (objects != 0), f"the path of checkpoint {number}")
        f.end()

    def chunk_footer(self, unit):
        need(self.chunks and unit.chunk == len(self.chunks) - 1, "a chunk footer without chunk")
        chunk = self.chunks[-1]
        need(unit.number == chunk["first"], f"the footer of the chunk from block {chunk['first']}: {unit.number}")
        need(unit.position in (start[0] for start in self.reader.session.starts), "a record before the chunk footer")
        f = Fields(unit.body)
        blocks, zero1, plain, count, zero2 = f.take("IIQII")
        need(zero1 == 0 and zero2 == 0 and count <= MAX_ENTRIES, "a chunk footer's fields")
        need((blocks, plain) == (len(self.entries) % 2**32, self.plain), f"a chunk footer's counts: {blocks}, {plain}")
        entries = []
        for _ in range(count):
            volume, what, zeros, record, byte, position = f.take("IB3sQQQ")
            need(zeros == bytes(3), "a chunk footer's entry")
            entries.append(((volume, record, byte), what, position))
        need(entries == self.entries[len(self.entries) - count:], "a chunk footer's entries")
        lengths = f.take("II")
        need(f.raw(lengths[0]) == self.reader.session_body, "a chunk footer's copy of the session header")
        need(f.raw(lengths[1]) == self.body, "a chunk footer's copy of the archive header")
        f.end()
        chunk["footer"] = self.reader.session.place(unit.position)[:2]
        chunk["end"] = unit.end
        self.entries, self.plain = [], 0

    def check_framing(self):
        framing, last = self.reader.header.framing, len(self.chunks) - 1
        for number, chunk in enumerate(self.chunks):
            header = framing != ONCE or number == 0
            footer = framing == HEADER_FOOTER or (framing == ONCE and number == last)
            need(chunk["header"] == header, f"framing {framing}: the header of chunk {number}")
            need((chunk["footer"] != (0, 0)) == footer, f"framing {framing}: the footer of chunk {number}")

    def check_locator(self, unit):
        f = Fields(unit.body)
        count, volume, record, byte, checkpoint, *counts, session, archive = f.take("IIQQQQQQII")
        limit = RECENT_CHUNKS if self.last is None else MAX_CHUNKS
        need(count == min(len(self.chunks), limit), f"the locator has {count} chunks, not {len(self.chunks)}")
        before = len(self.chunks) - count - 1
        before = self.locators[before] if before >= 0 else (0, 0, 0)
        need((volume, record, byte) == before, f"the locator before is at {before}")
        should = NONE if self.checkpoint is None else self.checkpoint
        need(checkpoint == should, f"the locator has checkpoint {checkpoint}, not {should}")
        should = [self.blocks, self.offset, self.rejected]
        need(counts == should, f"the locator counts {counts}, but it should be {should}")
        for chunk in self.chunks[len(self.chunks) - count:]:
            first, volume, blocks, record, byte, position, footer, zero, footer_record = f.take("QIIQQQIIQ")
            need(zero == 0, "the locator")
            is_ = (first, blocks, (volume, record, byte), position, (footer, footer_record))
            should = (chunk["first"], chunk["blocks"], chunk["place"], chunk["position"], chunk["footer"])
            need(is_ == should, f"the locator says {is_}, but it is {should}")
        for length, copy in ((session, self.reader.session_body), (archive, self.body)):
            need(f.raw(length) == copy, "a locator's copy of a header")
            need(not any(f.raw(-length % 8)), "the zeros after a copy")
        f.end()

    def archive_footer(self, unit, locator):
        need(self.last is not None, "incomplete: no last block")
        need(unit.number == self.blocks, f"blocks missing at the end: {self.blocks} of {unit.number}")
        f = Fields(unit.body)
        claimed = f.take("QQQQ")
        while f.at < len(f.body):
            identifier, length = f.take("HH")
            need(identifier < 32768, f"the extension {identifier} is required, and not known")
            value = f.raw(length)
            need(not any(f.raw(-(length + 4) % 8)), "an extension's padding")
            if identifier == COPY_OF:
                need(length == 28 and self.copy_of is None, "the source of a copy")
                self.copy_of = struct.unpack("<16sqI", value)
                need(self.copy_of[2] < 10**9, "the time of a copy's source")
        catalogue = self.blocks if self.catalogue is None else self.catalogue
        should = (self.blocks, self.offset, self.rejected, catalogue)
        need(claimed == should, f"the archive footer has {claimed}, but it should be {should}")
        place = self.reader.session.place(unit.position)
        need(unit.position in (start[0] for start in self.reader.session.starts), "the archive footer's own record")
        header = self.footer_entry[-1]
        self.footer_entry = (self.header.id, self.blocks, place, unit.position, locator.position, header)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tape")
    parser.add_argument("out")
    parser.add_argument("--key")
    parser.add_argument("--passphrase")
    parser.add_argument("--identity")
    parser.add_argument("--session", type=int)
    parser.add_argument("--archive", type=int)
    parser.add_argument("--restored")
    args = parser.parse_args()
    secret = None
    if args.key:
        with open(args.key, "rb") as file:
            secret = (1, file.read())
    if args.passphrase:
        with open(args.passphrase, "rb") as file:
            text = file.read(4097)
        need(len(text) <= 4096, "the passphrase is too long")
        text = text[:-2] if text.endswith(b"\r\n") else text[:-1] if text.endswith(b"\n") else text
        need(text, "the passphrase is empty")
        secret = (2, text)
    if args.identity:
        with open(args.identity, "rb") as file:
            secret = (3, identity_of(file.read(85)))
    medium, stream, archives, trees = Medium(args.tape), b"", 0, []
    session = args.session or (1 if args.archive else None)
    need(session is None or 1 <= session <= len(medium.sessions), f"no session {session}")
    for number, found in enumerate(medium.sessions, 1):
        if session in (None, number):
            reader = Reader(found, secret, args.archive)
            reader.check_before(medium.sessions[number - 2] if number > 1 else None, number - 1)
            stream += reader.read()
            archives += len(reader.footers)
            trees += reader.trees
    with open(args.out, "wb") as file:
        file.write(stream)
    for tree in trees if args.restored else []:
        tree.check_restored(args.restored)
    print(f"{archives} archives, {len(stream)} bytes, {len(medium.volumes)} volumes")


if __name__ == "__main__":
    try:
        main()
    except Wrong as wrong:
        sys.exit(f"read_archive.py: {wrong}")
    except Missing as missing:
        print(f"read_archive.py: {missing}", file=sys.stderr)
        sys.exit(3)
