"""A worker of one kind, `preferences.length_bias`, in Python's standard library alone.

The engine starts it as `python3 length_bias.py serve DEVICE` and speaks frames: a length (four bytes, little
endian), then that many bytes of JSON. docs/protocol.md says what they hold.
"""

import json
import math
import os
import struct
import sys
import threading

PROTOCOL = 6

KIND = {
    "kind": "preferences.length_bias",
    "revision": 1,
    "doc": "Measure how often the preferred reply is the longer one.\n\n"
    "Annotators, and models of them, like length; a reward model learns that. Ties count half. The interval is"
    " Wilson's, at 95 %.",
    "uses_device": False,
    "params": [
        {
            "name": "unit",
            "doc": "What length is counted in.",
            "shape": {
                "type": "choice",
                "options": [
                    {"value": "words", "doc": "What blanks separate."},
                    {"value": "characters", "doc": "Unicode characters."},
                ],
            },
            "default": "words",
        }
    ],
    "inputs": [
        {
            "name": "preferences",
            "doc": "Pairs of a chosen and a rejected reply, as JSON lines.",
            "type": {"is": ["preferences"]},
        }
    ],
    "outputs": [
        {
            "name": "table",
            "doc": "By how much the chosen reply is longer, and how many pairs there are of each.",
            "type": {"is": ["table"]},
        }
    ],
}

CATALOG = {"kinds": [KIND]}


class Refused(Exception):
    """The input or the parameters are at fault."""


class Engine:
    """The other end of the two pipes."""

    def __init__(self, requests, frames):
        self.requests = requests
        self.frames = frames
        self.writing = threading.Lock()

    def say(self, **reply):
        body = json.dumps(reply).encode()
        with self.writing:
            self.frames.write(struct.pack("<I", len(body)) + body)
            self.frames.flush()

    def hear(self):
        """The next request; None when the engine is gone."""
        length = self.requests.read(4)
        if len(length) < 4:
            return None
        return json.loads(self.requests.read(struct.unpack("<I", length)[0]))

    def live(self):
        """Says every few seconds that this process lives."""
        while not threading.Event().wait(5):
            self.say(reply="alive")


def pairs(path):
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            row = json.loads(line)
            if not isinstance(row.get("chosen"), str) or not isinstance(row.get("rejected"), str):
                raise Refused(f"line {number} has no texts `chosen` and `rejected`")
            yield row["chosen"], row["rejected"]


def wilson(share, count, z=1.959964):
    """Wilson's interval for a share (Wilson 1927)."""
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (middle - half) / (1 + z * z / count), (middle + half) / (1 + z * z / count)


def length_bias(job, engine):
    measure = len if job["params"]["unit"] == "characters" else lambda text: len(text.split())
    source = job["inputs"]["preferences"][0]["source"]
    # A data set is a folder whose rows are in one file; a person's own file is taken too.
    rows = source.get("file") or source["tree"].get("rows.jsonl")
    if rows is None:
        raise Refused("there is no `rows.jsonl`: bring the file in with `data.load`")
    counts = {}
    for chosen, rejected in pairs(rows):
        difference = measure(chosen) - measure(rejected)
        counts[difference] = counts.get(difference, 0) + 1
    total = sum(counts.values())
    if total == 0:
        raise Refused("there is no pair to measure")
    longer = sum(n * (0.5 if d == 0 else float(d > 0)) for d, n in counts.items()) / total
    low, high = wilson(longer, total)
    measured = {"longer_is_chosen": longer, "longer_is_chosen_low": low, "longer_is_chosen_high": high, "rows": total}
    for name, value in measured.items():
        engine.say(reply="metric", name=name, step=None, value=value)
    with open(job["outputs"]["table"], "w", encoding="utf-8") as table:
        table.write(f"chosen_minus_rejected_in_{job['params']['unit']},pairs\n")
        table.writelines(f"{d},{n}\n" for d, n in sorted(counts.items()))


def serve(device):
    # Whatever prints by accident goes to the log: the first descriptor is for frames.
    frames = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    engine = Engine(sys.stdin.buffer, frames)
    engine.say(reply="hello", protocol=PROTOCOL, catalog=CATALOG, device=device, device_class=device.split(":")[0])
    threading.Thread(target=engine.live, daemon=True).start()
    while (request := engine.hear()) is not None:
        if request["request"] != "run":
            continue  # a cancel that came when all was done
        try:
            length_bias(request, engine)
            engine.say(reply="done")
        except (Refused, OSError, ValueError) as error:
            engine.say(reply="failed", cause="stage", message=str(error))


if __name__ == "__main__":
    if sys.argv[1:] == ["catalog"]:
        print(json.dumps(CATALOG, indent=2))
    elif len(sys.argv) == 3 and sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        sys.exit("usage: length_bias.py catalog | serve DEVICE")
