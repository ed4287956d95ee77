#!/usr/bin/env python3
"""How fast gradus trains and samples: part of `make bench`.

The figure is tokens per CPU-second: user and system of all processes of a run, as the kernel accounts for them,
which on a machine with other work is steadier than time. Every case runs at two lengths, each computed from
nothing, and what is paid once (start, loading, writing the model) falls out of the difference. Tokens are those that
the trained network reads: of chosen and rejected, of prompt and completion; where a case only samples, the new ones.

Where a Python has `trl` (that of TRL_PYTHON, else python3; for PPO that of TRL_PPO_PYTHONPATH, a folder with the last
release that has it), benches/trl_loops.py times its loops at the same shape, in turns with ours.

usage: training.py [--quick] [--small] [--no-trl] [GRADUS [CASE]...]     (default: target/release/gradus, all cases)
"""

import ctypes
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SHAPE = {"layers": 4, "hidden": 256, "inner": 704, "heads": 4, "kv_heads": 2, "vocab": 4096, "batch": 8, "row": 256,
         "group": 4}
# As the papers' miniatures: here what is paid per operation shows.
SMALL = {"layers": 2, "hidden": 64, "inner": 176, "heads": 4, "kv_heads": 2, "vocab": 512, "batch": 32, "row": 32,
         "group": 4}
# Steps, iterations or batches of prompts of the shorter and of the longer run.
LENGTHS = {"sft": (2, 10), "sft_packed": (2, 10), "dpo": (1, 6), "reward": (1, 6), "generate": (1, 7), "grpo": (1, 5),
           "ppo": (1, 4)}
# So many times as long where models are small.
SMALL_FACTOR = 15


def write_rows(folder, shape, most):
    """Rows of known lengths in tokens: a common word is a token, and rare ones fill up the tokenizer."""
    draw = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [f" {a}{b}{c}" for a in letters for b in letters for c in letters]
    draw.shuffle(words)
    common, rare = words[: shape["vocab"] // 4], words[shape["vocab"] // 4 :][: shape["vocab"]]
    row, half = shape["row"], shape["row"] // 2

    def text(tokens):
        return "".join(draw.choices(common, k=tokens))

    def write(name, rows):
        (folder / name).write_text("".join(json.dumps(it) + "\n" for it in rows))

    write("language.jsonl", [{"text": word} for words, times in [(common, 20), (rare, 2)] for word in words * times])
    # Everywhere an end token comes behind.
    write("completions.jsonl", [{"prompt": text(1), "completion": text(row - 2)} for _ in range(most)])
    # In pairs that fill a row.
    firsts = [draw.randrange(row // 4, 3 * row // 4) for _ in range(most)]
    write("texts.jsonl", [{"text": text(length - 1)} for first in firsts for length in (first, row - first)])
    sides = ("chosen", "rejected")
    write("pairs.jsonl",
          [{"prompt": text(half), **{side: text(row - half - 1) for side in sides}} for _ in range(most)])
    write("prompts.jsonl", [{"prompt": text(half)} for _ in range(most)])


def write_pipeline(folder, shape):
    """The stages; those that are measured are as long as `steps` says."""
    row, batch, group = shape["row"], shape["batch"], shape["group"]
    sizes = (f"hidden_size: {shape['hidden']}, layers: {shape['layers']}, heads: {shape['heads']}, "
             f"kv_heads: {shape['kv_heads']}, intermediate_size: {shape['inner']}, context_length: {2 * row}, "
             "tie_embeddings: false")
    steps = f"learning_rate: 1e-5, batch: {batch}, steps: \"${{params.steps}}\""
    online = (f"rewards: {{ score: {{ from: SOURCE }} }}, iterations: \"${{params.steps}}\", "
              f"max_new_tokens: {row - row // 2}, learning_rate: 1e-5, samples_every: 0")
    by_format = online.replace("SOURCE", "format, pattern: '[aeiou] [aeiou]'")
    by_model = online.replace("SOURCE", "reward_model")
    (folder / "gradus.toml").write_text("")
    (folder / "p.yaml").write_text(f"""name: speed
params: {{ steps: 1, pairs: 8, prompts: 8 }}
stages:
  language: {{ kind: data.load, with: {{ path: language.jsonl, format: text }} }}
  completions: {{ kind: data.load, with: {{ path: completions.jsonl, format: prompt_completion }} }}
  texts: {{ kind: data.load, with: {{ path: texts.jsonl, format: text }} }}
  pairs: {{ kind: data.load, with: {{ path: pairs.jsonl, format: preference, limit: "${{params.pairs}}" }} }}
  prompts: {{ kind: data.load, with: {{ path: prompts.jsonl, format: prompt }} }}
  tokenizer: {{ kind: data.tokenizer, inputs: {{ rows: language }}, with: {{ vocab_size: {shape["vocab"]} }} }}
  init: {{ kind: model.init, inputs: {{ tokenizer: tokenizer }}, with: {{ {sizes}, seed: 1 }} }}
  base: {{ kind: model.init, inputs: {{ tokenizer: tokenizer }}, with: {{ {sizes}, seed: 2 }} }}
  judge:
    kind: feedback.reward_model
    inputs: {{ model: init, preferences: pairs }}
    with: {{ learning_rate: 1e-5, steps: 0 }}
  sft:
    kind: train.sft
    inputs: {{ model: init, completions: completions }}
    with: {{ {steps}, completion_only: false }}
  sft_packed:
    kind: train.pretrain
    inputs: {{ model: init, text: texts }}
    with: {{ {steps}, max_length: {row}, packing: bfd }}
  dpo:
    kind: policy.dpo
    inputs: {{ policy: init, reference: base, preferences: pairs }}
    with: {{ {steps} }}
  reward:
    kind: feedback.reward_model
    inputs: {{ model: init, preferences: pairs }}
    with: {{ {steps} }}
  generate:
    kind: rollout.sample
    inputs: {{ policy: init, prompts: prompts }}
    with: {{ prompts: "${{params.prompts}}", batch: {batch}, max_new_tokens: {row - row // 2} }}
  grpo:
    kind: policy.grpo
    inputs: {{ policy: init, prompts: prompts }}
    with: {{ {by_format}, beta: 0, prompts_per_iteration: {batch // group}, samples_per_prompt: {group} }}
  ppo:
    kind: policy.ppo
    inputs: {{ policy: init, prompts: prompts, reference: base, critic: judge, reward_model: judge }}
    with: {{ {by_model}, prompts_per_iteration: {batch} }}
""")


def tokens_of(case, shape, steps, found):
    """Tokens of a run: as many as rows have, but where the policy ends by itself."""
    if case == "generate":
        rows = (json.loads(line) for line in found.read_text().rstrip("\n").split("\n"))
        return sum(len(row["rollout"]["log_probs"]) for row in rows)
    if case in ("grpo", "ppo"):
        # The mean length of an iteration's completions.
        points = [json.loads(line) for line in found.read_text().rstrip("\n").split("\n")]
        half = shape["row"] // 2
        return sum(shape["batch"] * (half + point["tokens"]) for point in points)
    return steps * shape["batch"] * shape["row"] * (2 if case in ("dpo", "reward") else 1)


def adopt_orphans():
    """Makes this process the parent of workers whose gradus has ended, so that their time is counted."""
    PR_SET_CHILD_SUBREAPER = 36
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        sys.exit("the kernel does not let this process adopt orphans")


def await_orphans():
    try:
        while True:
            os.wait()
    except ChildProcessError:
        pass


class Ours:
    """A project in a folder of its own, and a program that runs it."""

    def __init__(self, gradus, folder, shape, longest):
        self.gradus, self.folder, self.shape = gradus, folder, shape
        adopt_orphans()
        folder.mkdir()
        write_rows(folder, shape, shape["batch"] * longest)
        write_pipeline(folder, shape)

    def run(self, case, steps, *more):
        """CPU seconds and tokens of one stage, from nothing."""
        rows = steps * self.shape["batch"]
        # Those would be taken from there in place of being computed.
        for kept in ("ledger", "checkpoints"):
            shutil.rmtree(self.folder / ".gradus" / kept, ignore_errors=True)
        settings = {"steps": steps, "pairs": rows, "prompts": rows}
        settings = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        command = [self.gradus, "run", "p.yaml", case, *settings, "--device", "cpu", "--slots", "1", *more]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        await_orphans()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr.decode()}")
        outputs = {"generate": "generate.rollouts/rows.jsonl", "grpo": "grpo.curve.jsonl", "ppo": "ppo.curve.jsonl"}
        found = self.folder / ".gradus/outputs/speed" / outputs.get(case, "")
        took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return took, tokens_of(case, self.shape, steps, found)

    def rate(self, case, lengths):
        """Tokens per CPU-second."""
        (less, few), (more, many) = (self.run(case, steps, "--force") for steps in lengths)
        return (many - few) / (more - less)

    def warm(self, case, lengths):
        """Leaves only the case itself to be computed."""
        for steps in lengths:
            self.run(case, steps)


def trl_rate(python, case, shape):
    """Tokens per CPU-second of TRL, or none where it has no such trainer."""
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    if case == "ppo":
        if "TRL_PPO_PYTHONPATH" not in os.environ:
            return None
        environment["PYTHONPATH"] = os.environ["TRL_PPO_PYTHONPATH"]
    command = [python, str(HERE / "trl_loops.py"), case, json.dumps(shape)]
    found = subprocess.run(command, capture_output=True, text=True, env=environment)
    if found.returncode:
        print(f"TRL: {case}: {found.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return json.loads(found.stdout.strip().splitlines()[-1])["tokens_per_cpu_second"]


def python_with_trl():
    python = os.environ.get("TRL_PYTHON", "python3")
    find = "import importlib.util as i, sys; sys.exit(not all(map(i.find_spec, ['trl', 'torch', 'transformers'])))"
    return python if subprocess.run([python, "-c", find], capture_output=True).returncode == 0 else None


def measure(gradus, folder, note, small=False, quick=False, cases=(), with_trl=True):
    """Gives `note` a row for every case."""
    shape = SMALL if small else SHAPE
    factor = SMALL_FACTOR if small else 1
    longest = max(most for _, most in LENGTHS.values()) * factor
    python = python_with_trl() if with_trl else None
    ours = Ours(gradus, folder / ("small" if small else "usual"), shape, longest)
    for case, lengths in LENGTHS.items():
        if cases and case not in cases:
            continue
        lengths = [length * factor for length in lengths]
        ours.warm(case, lengths)
        rates, theirs = [], []
        for _ in range(1 if quick else 3):
            rates.append(ours.rate(case, lengths))
            theirs.append(trl_rate(python, case, shape) if python else None)
        theirs = [rate for rate in theirs if rate]
        row = {
            "name": f"{case}, {shape['layers']} x {shape['hidden']}, {shape['batch']} x {shape['row']} tokens",
            "median": round(statistics.median(rates), 1),
            "min": round(min(rates), 1),
            "max": round(max(rates), 1),
            "unit": "tokens/CPU-s",
        }
        if theirs:
            row["trl"] = round(statistics.median(theirs), 1)
            row["ratio"] = round(statistics.median(rates) / statistics.median(theirs), 2)
        note(row)


def main():
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    gradus = str(Path(words[0] if words else ROOT / "target/release/gradus").resolve())
    folder = Path(tempfile.mkdtemp(prefix="gradus-bench-", dir=os.environ.get("TMPDIR")))
    try:
        measure(gradus, folder, lambda row: print(json.dumps(row), flush=True), "--small" in sys.argv,
                "--quick" in sys.argv, words[1:], "--no-trl" not in sys.argv)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
