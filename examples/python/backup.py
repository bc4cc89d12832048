"""Backs up a directory, lists the archive and restores it, by the C interface and ctypes.

    python3 backup.py SOURCE MEDIUM DIRECTORY
"""

import ctypes
import os
import sys
from ctypes import POINTER, byref, c_char_p, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p

lib = ctypes.CDLL("libdatapipe.so.0.1")
lib.dp_error_message.restype = c_char_p
lib.dp_error_message.argtypes = [c_size_t]


class Sized(ctypes.Structure):
    """A struct that begins with its size; fields that are not given are 0."""

    def __init__(self, **fields):
        super().__init__(size=ctypes.sizeof(self), **fields)


def names(type, *fields):
    return [(name, type) for name in fields]


class BackupOptions(Sized):
    _fields_ = (names(c_size_t, "size") + [("sources", POINTER(c_char_p)), ("source_count", c_size_t)]
                + names(c_void_p, "source_read", "source_user") + names(c_char_p, "medium")
                + [("secret", c_void_p), ("recipient_files", c_void_p), ("recipient_count", c_size_t),
                   ("exclude", c_void_p), ("exclude_count", c_size_t)]
                + names(c_char_p, "name", "program", "label") + names(c_void_p, "hooks")
                + names(c_uint64, "volume_size")
                + names(c_int32, "source_kind", "source_descriptor", "medium_kind", "mode",
                        "compression", "level", "framing")
                + names(c_uint32, "flags", "instances", "readers", "buffers", "buffer_size")
                + names(c_void_p, "medium_functions"))


class Entry(Sized):
    _fields_ = [("size", c_size_t), ("path", c_char_p), ("path_len", c_size_t), ("target", c_char_p),
                ("target_len", c_size_t), ("object_size", c_uint64), ("inode", c_uint64),
                ("modified_seconds", c_int64), ("modified_nanoseconds", c_uint32),
                ("mode", c_uint32), ("kind", c_int32), ("state", c_int32)]


ENTRY = ctypes.CFUNCTYPE(c_int32, c_void_p, POINTER(Entry))


class ListOptions(Sized):
    _fields_ = [("size", c_size_t), ("medium", c_char_p), ("selection", c_void_p),
                ("secret", c_void_p), ("entry", ENTRY), ("entry_user", c_void_p),
                ("paths", c_void_p), ("path_count", c_size_t), ("hooks", c_void_p),
                ("medium_kind", c_int32), ("instances", c_uint32), ("medium_functions", c_void_p)]


class RestoreOptions(Sized):
    _fields_ = [("size", c_size_t), ("medium", c_char_p), ("selection", c_void_p),
                ("secret", c_void_p), ("destination", c_char_p), ("target_write", c_void_p),
                ("target_user", c_void_p), ("paths", c_void_p), ("path_count", c_size_t),
                ("hooks", c_void_p)] + names(c_int32, "medium_kind", "target_kind", "target_descriptor") \
        + names(c_uint32, "flags", "instances", "reserved") + names(c_void_p, "medium_functions")


def check(status):
    if status >= 100:  # DP_INCOMPLETE, 1, is not an error
        sys.exit(lib.dp_error_message(0).decode())


def show(_user, entry):
    print(f"{entry.contents.mode:06o} {entry.contents.object_size:12} {os.fsdecode(entry.contents.path)}")
    return 0


source, medium, directory = (os.fsencode(argument) for argument in sys.argv[1:4])
sources = (c_char_p * 1)(source)
check(lib.dp_backup(byref(BackupOptions(sources=sources, source_count=1, medium=medium)), None))
check(lib.dp_list(byref(ListOptions(medium=medium, entry=ENTRY(show))), None))
check(lib.dp_restore(byref(RestoreOptions(medium=medium, destination=directory)), None))
