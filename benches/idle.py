"""A worker whose one kind, `bench.idle`, takes a file and does nothing with it."""

import json
import struct
import sys

KIND = {
    "kind": "bench.idle",
    "revision": 1,
    "doc": "Do nothing.",
    "uses_device": False,
    "params": [],
    "inputs": [{"name": "file", "doc": "Whatever.", "type": {"is": ["any"]}}],
    "outputs": [{"name": "nothing", "doc": "Nothing.", "type": {"is": ["file"]}}],
}
CATALOG = {"kinds": [KIND]}


def say(**reply):
    body = json.dumps(reply).encode()
    sys.stdout.buffer.write(struct.pack("<I", len(body)) + body)
    sys.stdout.buffer.flush()


if sys.argv[1] == "catalog":
    print(json.dumps(CATALOG))
else:
    say(reply="hello", protocol=3, catalog=CATALOG, device="cpu", device_class="cpu")
    while length := sys.stdin.buffer.read(4):
        job = json.loads(sys.stdin.buffer.read(struct.unpack("<I", length)[0]))
        if job["request"] == "run":
            open(job["outputs"]["nothing"], "w").close()
            say(reply="done")
