#!/usr/bin/env python3
"""Runs every paper's pipeline and writes what its claims came to into RESULTS.md: `make papers`.

A claim that does not hold stands there like any other. Time and commit are of the run that computed a pipeline's results; where
everything was cached they stay what they were, or say so where nothing was known.

usage: results.py GRADUS [PIPELINE…]     (default: all)
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "RESULTS.md"
ROOT = FOLDER.parent.parent
COLUMNS = ["Pipeline", "Claim", "Statistic", "95 % interval", "To be", "Seeds", "Verdict", "Time", "Commit"]
AGAINST = {"difference": "Δ ", "ratio": "ratio of ", "distance": "|Δ| of ", "error_ratio": "ratio of errors, "}
ABOUT = """# What the papers' pipelines show

Every pipeline in this folder is a published claim in miniature, run over several seeds on a CPU (`make papers`, which writes this
file). A row is one claim: the mean over seeds of its statistic (Δ is candidate less baseline of the same seed), its interval over
seeds by Student's t, where the mean is to lie, and whether it lies there. Some claims ask more of single seeds; their reports say
what. Where the time is `cached`, results were there already, from that commit or one before it. What a claim says in full, and every seed's number, is in the reports: `gradus show PIPELINE CLAIM`.

"""


def gradus(program, *words):
    return subprocess.run([program, *words], cwd=FOLDER, capture_output=True, text=True)


def git(*words):
    return subprocess.run(["git", *words], cwd=FOLDER, capture_output=True, text=True).stdout.strip()


def cells(line):
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def before():
    """Time and commit by pipeline and claim, as they stand in the file."""
    if not RESULTS.exists():
        return {}
    rows = [cells(line) for line in RESULTS.read_text().splitlines() if line.startswith("|")]
    return {tuple(row[:2]): row for row in rows if len(row) == len(COLUMNS)}


def claims(program, pipeline, stages):
    """The verdicts of all claims of the pipeline."""
    for stage in stages:
        if stage["kind"] != "evaluate.claim":
            continue
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "claim"
            exported = gradus(program, "export", pipeline.name, f"{stage['stage']}.claim", str(target))
            if exported.returncode != 0:
                sys.exit(f"{pipeline.name}: {stage['stage']}: {exported.stderr}")
            files = [target] if target.is_file() else [it for it in target.rglob("*") if it.is_file()]
            yield json.loads(files[0].read_text())


def row(pipeline, claim, took, commit):
    interval = claim["estimate"].get("interval")
    side = "≥" if claim["direction"] == "at_least" else "≤"
    paired = any(it.get("baseline") is not None for it in claim["replicates"])
    return [
        f"[{pipeline.stem}]({pipeline.name})",
        claim["statement"],
        f"{AGAINST[claim['against']] if paired else ''}`{claim['metric']}` {claim['estimate']['value']:.3f}",
        f"{interval['low']:.3f} to {interval['high']:.3f}" if interval else "",
        f"{side} {claim['threshold']:g}",
        str(len(claim["replicates"])),
        "holds" if claim["holds"] else "**does not hold**",
        took,
        commit,
    ]


def run(program, pipeline, known, commit):
    ran = subprocess.run([program, "run", pipeline.name], cwd=FOLDER)
    if ran.returncode != 0:
        sys.exit(f"{pipeline.name} did not finish")
    shown = json.loads(gradus(program, "show", pipeline.name, "--format", "json").stdout)
    fresh = any(stage["status"] == "finished" for stage in shown["stages"])
    took = f"{shown['seconds']:.0f} s" if fresh else "cached"
    for claim in claims(program, pipeline, shown["stages"]):
        found = row(pipeline, claim, took, commit)
        old = known.get(tuple(found[:2]))
        yield found[:-2] + old[-2:] if old and not fresh else found


def main():
    program, *names = sys.argv[1:]
    program = str(Path(program).resolve())
    known = before()
    commit = git("rev-parse", "--short", "HEAD")
    # The file itself changes with every pipeline.
    if git("status", "--porcelain", "--untracked-files=no", "--", ":/", f":(exclude,top){RESULTS.relative_to(ROOT)}"):
        commit += " and changes"
    pipelines = sorted(FOLDER.glob("*.yaml"))
    wanted = [it for it in pipelines if not names or it.stem in names]
    kept = {key: row for key, row in known.items() if row[0].startswith("[")}
    for pipeline in wanted:
        found = list(run(program, pipeline, known, commit))
        name = f"[{pipeline.stem}]({pipeline.name})"
        kept = {key: row for key, row in kept.items() if row[0] != name}
        kept.update({tuple(row[:2]): row for row in found})
        # After each, so that one that does not finish costs no other its place.
        write(list(kept.values()))


def write(rows):
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in sorted(rows, key=lambda it: it[0])]
    head = ["| " + " | ".join(COLUMNS) + " |", "| " + " | ".join([":--"] * len(COLUMNS)) + " |"]
    RESULTS.write_text(ABOUT + "\n".join(head + lines) + "\n")
    held = sum(row[6] == "holds" for row in rows)
    print(f"{held} of {len(rows)} claims hold: {RESULTS}")


if __name__ == "__main__":
    main()
