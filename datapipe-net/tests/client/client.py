#!/usr/bin/env python3
"""Lists a daemon's pipes, or shows the status of one, as JSON. Written from docs/net-protocol.md alone.

usage: client.py SOCKET list
       client.py SOCKET status PIPE
"""

import json
import socket
import struct
import sys

REFUSED, LIST, STATUS = 0x8000, 6, 5


def read(connection, count):
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            sys.exit("the daemon has closed the connection")
        data += more
    return data


def fields(body):
    """The fields of a body, by their numbers: each a list of values."""
    found = {}
    while body:
        tag, length = struct.unpack_from("<HI", body)
        found.setdefault(tag & 0x7FFF, []).append(body[6 : 6 + length])
        body = body[6 + length :]
    return found


def number(found, at):
    """A number that is missing is 0."""
    return int.from_bytes(found.get(at, [b""])[0], "little")


def text(found, at):
    return found.get(at, [b""])[0].decode()


def connect(path):
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(path)
    connection.sendall(struct.pack("<8s4HQ", b"DATAPIPE", 1, 1, 0, 0, 0))
    magic, version, lowest, highest, reason, _ = struct.unpack("<8s4HQ", read(connection, 24))
    if magic != b"DATAPIPE" or version != 1:
        sys.exit(f"no version in common: reason {reason}, versions {lowest} to {highest}")
    return connection


def ask(connection, kind, body=b""):
    connection.sendall(struct.pack("<IHHI", len(body), kind, 0, 1) + body)
    length, answer, _, _ = struct.unpack("<IHHI", read(connection, 12))
    found = fields(read(connection, length))
    if answer == REFUSED:
        sys.exit(f"refused ({number(found, 1)}): {text(found, 2)}")
    return found


def entry(value):
    found = fields(value)
    return {
        "name": text(found, 1),
        "label": text(found, 2),
        "owner": number(found, 3),
        "state": number(found, 5),
        "explanation": text(found, 7),
    }


def instance(value):
    names = ["activity", "blocks_in", "bytes_in", "blocks_out", "bytes_out", "held", "outstanding"]
    names += ["waited_for_buffer", "waited_for_input", "working", "process", "processes"]
    found = fields(value)
    return {name: number(found, at) for at, name in enumerate(names, 1)}


def stage(value):
    found = fields(value)
    instances = [instance(value) for value in found.get(3, [])]
    return {"name": text(found, 1), "queued": number(found, 2), "instances": instances}


def main():
    connection = connect(sys.argv[1])
    if sys.argv[2] == "list":
        pipes = ask(connection, LIST).get(1, [])
        print(json.dumps([entry(value) for value in pipes]))
    else:
        name = sys.argv[3].encode()
        found = ask(connection, STATUS, struct.pack("<HI", 0x8001, len(name)) + name)
        shown = entry(found[1][0])
        shown["buffers"], shown["free"] = number(found, 2), number(found, 3)
        shown["stages"] = [stage(value) for value in found.get(4, [])]
        print(json.dumps(shown))


main()
