#!/usr/bin/env python3
"""Client of a daemon that was written from the pages alone.

It prints the daemon's pipes, or the status of one pipe, as JSON. Or it copies a file through a pipe that compresses and
decompresses it, and prints the name of that pipe. The messages are from docs/net-protocol.md, the arguments of the
modules from docs/host-protocol.md.

usage: client.py SOCKET list
       client.py SOCKET status PIPE
       client.py SOCKET copy FROM TO
       client.py SOCKET problems PIPE
       client.py SOCKET history LIMIT
"""

import json
import socket
import struct
import sys

REFUSED, INITIATE, STATUS, LIST, SUBSCRIBE, EVENT = 0x8000, 1, 5, 6, 7, 0x4001
PROBLEMS, HISTORY = 8, 9
OVER, ENDED = 7, 4


def read(connection, count):
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            sys.exit("the daemon closed the connection")
        data += more
    return data


def fields(body):
    """Returns the fields of a body by number; each has a list of values."""
    found = {}
    while body:
        tag, length = struct.unpack_from("<HI", body)
        found.setdefault(tag & 0x7FFF, []).append(body[6 : 6 + length])
        body = body[6 + length :]
    return found


def number(found, at):
    """Returns a number, which is 0 if it is missing."""
    return int.from_bytes(found.get(at, [b""])[0], "little")


def text(found, at):
    return found.get(at, [b""])[0].decode()


def connect(path):
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(path)
    try:
        connection.sendall(struct.pack("<8s4HQ", b"DATAPIPE", 1, 1, 0, 0, 0))
    except BrokenPipeError:
        pass  # a busy daemon has closed the connection already; its answer can still be read
    magic, version, lowest, highest, reason, _ = struct.unpack("<8s4HQ", read(connection, 24))
    if magic != b"DATAPIPE" or version != 1:
        sys.exit(f"closed: reason {reason}, versions {lowest} to {highest}")
    return connection


def message(connection):
    length, kind, _, _ = struct.unpack("<IHHI", read(connection, 12))
    return kind, fields(read(connection, length))


def ask(connection, kind, body=b"", events=None):
    """Sends a request and returns its reply. Events that arrive before it are added to `events`."""
    connection.sendall(struct.pack("<IHHI", len(body), kind, 0, 1) + body)
    answer, found = message(connection)
    while answer == EVENT:
        events.append(found)
        answer, found = message(connection)
    if answer == REFUSED:
        sys.exit(f"refused ({number(found, 1)}): {text(found, 2)}")
    return found


def field(at, value):
    """Returns a field that its receiver must know, or refuse the message."""
    return struct.pack("<HI", 0x8000 | at, len(value)) + value


def argument(name, value):
    return struct.pack("<B", len(name)) + name + struct.pack("<I", len(value)) + value


def stage_request(module, arguments=b"", instances=1, path=None):
    body = field(1, module) + field(3, arguments) + field(4, struct.pack("<I", instances))
    if path:
        write, name = path
        body += field(6, field(1, struct.pack("<B", write)) + field(2, name))
    return field(6, body)


def copy(connection, source, to):
    """Copies a file, waits until the pipe has ended, and returns its name."""
    stages = [
        stage_request(b"stream-head", argument(b"path", source), path=(0, source)),
        stage_request(b"zstd", argument(b"level", b"5"), instances=2),
        stage_request(b"decompress"),
        stage_request(b"stream-tail", argument(b"path", to), path=(1, to)),
    ]
    body = field(1, b"copied") + field(4, struct.pack("<I", 16)) + field(5, struct.pack("<I", 65536))
    events = []
    ask(connection, SUBSCRIBE)  # before the pipe exists, so that its end is among the events
    name = text(ask(connection, INITIATE, body + b"".join(stages), events), 1)
    while True:
        event = events.pop(0) if events else message(connection)[1]
        if (number(event, 1), text(event, 2)) == (OVER, name):
            break
    if number(event, 7) != ENDED:
        sys.exit(f"{name} did not end well: {text(event, 8)}")
    return name


def entry(value):
    found = fields(value)
    return {
        "name": text(found, 1),
        "label": text(found, 2),
        "owner": number(found, 3),
        "state": number(found, 5),
        "explanation": text(found, 7),
        "problems": number(found, 8),
    }


def problem(value):
    found = fields(value)
    return {"stage": text(found, 1), "instance": number(found, 2), "text": text(found, 3)}


def past_pipe(value):
    found = fields(value)
    names = ["started", "duration", "bytes", "problems"]
    shown = {name: number(found, at) for at, name in enumerate(names, 6)}
    shown.update(name=text(found, 1), label=text(found, 2), owner=number(found, 3))
    shown.update(state=number(found, 5), cause=text(found, 10))
    return shown


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
    elif sys.argv[2] == "problems":
        found = ask(connection, PROBLEMS, field(1, sys.argv[3].encode()))
        last = [problem(value) for value in found.get(2, [])]
        print(json.dumps({"count": number(found, 1), "last": last}))
    elif sys.argv[2] == "history":
        found = ask(connection, HISTORY, field(1, struct.pack("<I", int(sys.argv[3]))))
        print(json.dumps([past_pipe(value) for value in found.get(1, [])]))
    elif sys.argv[2] == "copy":
        print(copy(connection, *(name.encode() for name in sys.argv[3:5])))
    else:
        name = sys.argv[3].encode()
        found = ask(connection, STATUS, struct.pack("<HI", 0x8001, len(name)) + name)
        shown = entry(found[1][0])
        shown["buffers"], shown["free"] = number(found, 2), number(found, 3)
        shown["stages"] = [stage(value) for value in found.get(4, [])]
        print(json.dumps(shown))


main()
