#!/usr/bin/env python3
"""What gradus costs beside the work itself, and how fast it trains: `make bench`.

Every figure is of whole processes, as the kernel accounts for them (wait4): the median of several runs, with the
smallest and the largest. What is compared is run in turns, so that a change of the machine's mood strikes both.
Figures go to benches/results/MACHINE.json with the commit and the machine, and to the screen.

usage: bench.py [--quick] [GRADUS]     (default: target/release/gradus)
"""

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import training

ROOT = Path(__file__).resolve().parent.parent
QUICK = "--quick" in sys.argv
WORDS = [word for word in sys.argv[1:] if not word.startswith("-")]
GRADUS = str(Path(WORDS[0] if WORDS else ROOT / "target/release/gradus").resolve())
RUNS = 3 if QUICK else 7
SIZES = [10, 100, 1000] if QUICK else [10, 100, 1000, 10_000]
LARGE = (256 if QUICK else 2048) << 20

results = []


def once(command, folder, expect=0):
    """Wall seconds and peak memory in MB of one process."""
    began = time.perf_counter()
    child = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    complaints = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    took = time.perf_counter() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != expect:
        sys.exit(f"{command} ended with {child.returncode}:\n{complaints.decode()}")
    return took, usage.ru_maxrss / 1024


def in_turns(commands, folder, runs=RUNS, before=None):
    """Runs the commands in turn; per command a list of (seconds, MB)."""
    measured = [[] for _ in commands]
    for number in range(runs + 1):
        for command, taken in zip(commands, measured):
            if before:
                before()
            figure = once(command, folder)
            if number:  # the first round warms up
                taken.append(figure)
    return measured


def report(name, taken, limit=None, per=1.0, unit="ms", against=None):
    """Notes a figure: the median of `taken` seconds, in `unit`, divided by `per`."""
    factor = {"ms": 1000.0, "s": 1.0}[unit] / per
    seconds = sorted(took * factor for took, _ in taken)
    row = {
        "name": name,
        "median": round(statistics.median(seconds), 3),
        "min": round(seconds[0], 3),
        "max": round(seconds[-1], 3),
        "unit": unit,
        "peak_mb": round(max(memory for _, memory in taken), 1) or None,
        "limit": limit,
    }
    if against:
        row["ratio"] = round(statistics.median(a[0] / b[0] for a, b in zip(taken, against)), 2)
    note(row)


def note(row):
    results.append(row)
    ratio = f"  {row['ratio']:.2f}x" if "ratio" in row else ""
    limit = f"  (at most {row['limit']})" if row.get("limit") is not None else ""
    memory = f"  {row['peak_mb']:.0f} MB" if row.get("peak_mb") else ""
    print(
        f"{row['name']:<46} {row['median']:>10.2f} {row['unit']}  "
        f"[{row['min']:.2f} to {row['max']:.2f}]{memory}{ratio}{limit}",
        flush=True,
    )


# ---- synthetic projects: the same stages for every program ------------------------------------------------


def links(size, shape):
    """For each stage the one it reads from."""
    return [i - 1 if shape == "chain" else min(i, 0) if i else -1 for i in range(size)]


def gradus_project(folder, size, shape):
    lines = ["name: bench", "stages:"]
    for i, source in enumerate(links(size, shape)):
        inputs = f"inputs: {{ a: s{source} }}, " if source >= 0 else ""
        lines.append(f"  s{i}: {{ kind: exec, {inputs}outputs: {{ a: a }}, with: {{ shell: 'echo {i} > a' }} }}")
    (folder / "p.yaml").write_text("\n".join(lines) + "\n")
    (folder / "gradus.toml").write_text("")


def ninja_project(folder, size, shape):
    lines = ["rule made", "  command = echo $number > $out"]
    for i, source in enumerate(links(size, shape)):
        lines += [f"build s{i}: made {f's{source}' if source >= 0 else ''}", f"  number = {i}"]
    (folder / "build.ninja").write_text("\n".join(lines) + "\n")


def snakemake_project(folder, size, shape):
    last = [f"s{i}" for i in range(size)]
    lines = [f"rule all:\n    input: {last!r}"]
    for i, source in enumerate(links(size, shape)):
        reads = f"    input: 's{source}'\n" if source >= 0 else ""
        lines.append(f"rule s{i}:\n{reads}    output: 's{i}'\n    shell: 'echo {i} > {{output}}'")
    (folder / "Snakefile").write_text("\n".join(lines) + "\n")


def dvc_project(folder, size, shape):
    lines = ["stages:"]
    for i, source in enumerate(links(size, shape)):
        lines += [f"  s{i}:", f"    cmd: echo {i} > s{i}", f"    outs: [s{i}]"]
        lines += [f"    deps: [s{source}]"] if source >= 0 else []
    (folder / "dvc.yaml").write_text("\n".join(lines) + "\n")
    subprocess.run(["dvc", "init", "--no-scm", "-q"], cwd=folder, check=True)


OTHERS = {
    "ninja": (ninja_project, ["ninja", "-j2", "--quiet"]),
    "dvc": (dvc_project, ["dvc", "repro", "-q"]),
    "snakemake": (snakemake_project, ["snakemake", "-j2", "--quiet", "all"]),
}


def measure_no_op(folder):
    run = [GRADUS, "run", "p.yaml", "--device", "cpu"]
    for shape in ["chain", "fan-out"]:
        for size in SIZES:
            place = folder / f"{shape}{size}"
            place.mkdir()
            gradus_project(place, size, shape)
            names, commands = ["gradus"], [run]
            for name, (project, command) in OTHERS.items():
                # The Python programs take minutes for what is large.
                if shutil.which(name) and (name == "ninja" or size <= 100):
                    project(place, size, shape)
                    names.append(name)
                    commands.append(command)
            for command in commands:
                once(command, place)
            measured = in_turns(commands, place, runs=3 if size > 1000 else RUNS)
            limit = 60 if size == 1000 else None
            for name, taken in zip(names, measured):
                own = name == "gradus"
                report(f"no-op, {shape} of {size}: {name}", taken, limit if own else None,
                       against=None if own else measured[0])


def measure_overhead(folder):
    """Milliseconds per stage that runs, beyond the `sh -c` that it consists of."""
    size = 50 if QUICK else 200
    place = folder / "overhead"
    place.mkdir()
    gradus_project(place, size, "fan-out")
    script = "; ".join(f"sh -e -c 'echo {i} > a'" for i in range(size))
    clear = lambda: shutil.rmtree(place / ".gradus", ignore_errors=True)
    run = [GRADUS, "run", "p.yaml", "--device", "cpu", "--slots", "1"]
    ours, bare = in_turns([run, ["sh", "-c", script]], place, runs=3, before=clear)
    beyond = [(a[0] - b[0], a[1]) for a, b in zip(ours, bare)]
    report(f"overhead per executed stage ({size} stages)", beyond, limit=5, per=size)


def measure_large(folder):
    place = folder / "large"
    place.mkdir()
    size = f"{LARGE >> 20} MiB"
    with open(place / "large", "wb") as file:
        block = os.urandom(16 << 20)
        for i in range(LARGE >> 24):
            file.write(i.to_bytes(8, "little") + block[8:])
    (place / "gradus.toml").write_text("")
    (place / "p.yaml").write_text(
        "stages:\n  s: { kind: exec, inputs: { a: large }, outputs: { b: b }, with: { shell: 'echo > b' } }\n"
    )
    once([GRADUS, "run", "p.yaml", "--device", "cpu"], place)
    plan = [GRADUS, "plan", "p.yaml", "--device", "cpu"]

    def forget():
        shutil.rmtree(place / ".gradus/index", ignore_errors=True)

    commands = [plan] + ([["b3sum", "large"]] if shutil.which("b3sum") else [])
    measured = in_turns(commands, place, runs=3, before=forget)
    report(f"hashing a file of {size}: gradus plan", measured[0],
           limit=None, against=measured[1] if len(measured) > 1 else None)
    if len(measured) > 1:
        report(f"hashing a file of {size}: b3sum", measured[1])
    (known,) = in_turns([plan], place, runs=3)
    report(f"plan with a known file of {size}", known)


def measure_handing(folder):
    """What a stage takes that a worker answers at once, by how large its input is."""
    place = folder / "handing"
    place.mkdir()
    shutil.copy(ROOT / "benches/idle.py", place)
    with open(place / "idle.json", "w") as file:
        subprocess.run([sys.executable, "idle.py", "catalog"], cwd=place, stdout=file, check=True)
    command = json.dumps([sys.executable, "idle.py"])
    (place / "gradus.toml").write_text(f"[workers.idle]\ncommand = {command}\ncatalog = 'idle.json'\n")
    # The first of them waits for its worker to start; the others find it there.
    idle = "\n".join(
        f"  {name}{i}: {{ kind: bench.idle, inputs: {{ file: {name} }}, with: {{ seed: {i} }} }}"
        for name in ["small", "large"]
        for i in range(8)
    )
    (place / "p.yaml").write_text(
        "stages:\n"
        "  small: { kind: exec, outputs: { f: f }, with: { shell: 'head -c 1000 /dev/zero > f' } }\n"
        f"  large: {{ kind: exec, outputs: {{ f: f }}, with: {{ shell: 'head -c {LARGE} /dev/zero > f' }} }}\n" + idle
    )
    run = [GRADUS, "run", "p.yaml", "--device", "cpu", "--slots", "1", "--format", "json"]
    events = subprocess.run(run, cwd=place, capture_output=True, text=True, check=True).stdout.splitlines()
    events = [json.loads(line) for line in events]
    took = {event["stage"]: event["seconds"] for event in events if event["event"] == "finished"}
    for name, size in [("small", "1 KB"), ("large", f"{LARGE >> 20} MiB")]:
        taken = [(took[f"{name}{i}"], 0) for i in range(1, 8)]
        report(f"handing {size} to a worker, and its answer", taken, limit=5 if name == "large" else None)


def machine():
    processor = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.split(":")[1].strip()
            break
    return {"processor": processor, "cores": os.cpu_count(), "kernel": platform.release(),
            "load": os.getloadavg()[0]}


def main():
    if not os.access(GRADUS, os.X_OK):
        sys.exit(f"there is no program {GRADUS}: make build")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    about = {"commit": commit, "machine": machine(), "quick": QUICK}
    print(f"{about['machine']['processor']}, {about['machine']['cores']} cores, load {about['machine']['load']}")
    folder = Path(tempfile.mkdtemp(prefix="gradus-bench-", dir=os.environ.get("TMPDIR")))
    try:
        (version,) = in_turns([[GRADUS, "--version"]], folder, runs=20)
        report("gradus --version", version, limit=5)
        measure_no_op(folder)
        measure_overhead(folder)
        measure_large(folder)
        measure_handing(folder)
        for small in (False, True):
            training.measure(GRADUS, folder, note, small=small, quick=QUICK)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    name = "".join(c if c.isalnum() else "-" for c in about["machine"]["processor"]).strip("-").lower()
    place = ROOT / "benches/results" / f"{name}-{about['machine']['cores']}-cores.json"
    place.write_text(json.dumps({**about, "figures": results}, indent=1) + "\n")
    print(f"written to {place.relative_to(ROOT)}")


main()
