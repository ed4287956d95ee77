"""Behind benches/gpu.sh: correctness, speed and robustness on one CUDA device, and the same work in transformers.

usage: measure.py GRADUS FOLDER [PART]...     (parts: correctness, speed, robustness, transformers; all by default)
"""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
GRADUS = str(Path(sys.argv[1]).resolve())
FOLDER = Path(sys.argv[2]).resolve()
DEVICE = "cuda:0"
# Steps that warm up: kernels are loaded and memory is claimed.
WARM = 3
# Largest relative difference between devices of what a first step computes, all in float32.
FIRST_STEP = 1e-3

checks, figures = [], []


def check(name, holds, words):
    checks.append({"name": name, "holds": bool(holds), "words": words})
    print(f"{'ok    ' if holds else 'FAILED'}  {name}: {words}", flush=True)


def figure(name, value, unit, **more):
    figures.append({"name": name, "value": value, "unit": unit, **more})
    beside = "".join(f", {key} {value}" for key, value in more.items())
    print(f"{name:<44} {value:>12,} {unit}{beside}", flush=True)


class Memory:
    """The most memory in use on the GPU, in MiB, asked of the driver ten times a second."""

    def __init__(self):
        self.most, self.over = 0, threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def watch(self):
        while not self.over.wait(0.1):
            free, total = torch.cuda.mem_get_info(0)
            self.most = max(self.most, (total - free) >> 20)

    def stop(self):
        self.over.set()
        self.thread.join()
        return self.most


def run(pipeline, cache, device, *words, until=None):
    """The events of a run by stage, each with the second at which it was heard. `until` ends it as Ctrl-C does."""
    place = cache.parent / f"{cache.name}-project"
    place.mkdir(exist_ok=True)
    shutil.copy(HERE / pipeline, place)
    shutil.copy(ROOT / "pipelines/preferences.example.jsonl", place / "preferences.jsonl")
    command = [GRADUS, "run", pipeline, *words, "--device", device, "--cache", str(cache), "--format", "json"]
    errors = open(place / "errors", "w+")
    child = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=errors, text=True)
    heard = {}
    for line in child.stdout:
        event = json.loads(line)
        event["at"] = time.perf_counter()
        heard.setdefault(event.get("stage"), []).append(event)
        if until and until(event):
            child.send_signal(signal.SIGINT)
            until = None
    code = child.wait()
    failed = [e for events in heard.values() for e in events if e["event"] == "failed"]
    for event in failed:
        print(f"        {event['stage']}: {event['message']}")
    return heard, code


def outputs(heard):
    finished = {stage: e for stage, events in heard.items() for e in events if e["event"] in ("finished", "cached")}
    return {f"{stage}.{port}": o["digest"] for stage, e in finished.items() for port, o in e["outputs"].items()}


def metrics(heard, stage, step):
    return {e["name"]: e["value"] for e in heard.get(stage, []) if e["event"] == "metric" and e["step"] == step}


def correctness(folder):
    runs = {}
    for name, device in [("cpu", "cpu"), ("once", DEVICE), ("again", DEVICE)]:
        began = time.perf_counter()
        runs[name], code = run("kinds.yaml", folder / name, device)
        check(f"every kind, {device}", code == 0, f"{time.perf_counter() - began:.1f} s")
    once, again = outputs(runs["once"]), outputs(runs["again"])
    differ = sorted(name for name in once if once[name] != again.get(name))
    check("the same bytes twice", once and not differ, f"{len(once)} outputs, other bytes: {differ or 'none'}")
    for stage in ["pretrain", "fine_tuned", "reward_model", "dpo"]:
        on_cpu, on_gpu = (metrics(runs[name], stage, 1) for name in ("cpu", "once"))
        for name in ["loss", "grad_norm"]:
            one, other = on_cpu.get(name), on_gpu.get(name)
            apart = abs(one - other) / abs(one) if one and other else float("inf")
            check(f"{stage}, first step's {name}", apart < FIRST_STEP, f"cpu {one}, gpu {other}, apart {apart:.1e}")
    for name in ["true_reward", "kl"]:
        one, other = (metrics(runs[run], "after", None).get(name) for run in ("cpu", "once"))
        # Samples part where rounding tips a draw, so this is a comparison of means over 128 samples.
        check(f"after, {name}", one is not None and abs(one - other) < 0.3, f"cpu {one}, gpu {other}")


def seconds_per_step(heard, stage):
    at = [e["at"] for e in heard.get(stage, []) if e["event"] == "metric" and e["name"] == "loss" and e["step"]]
    between = [b - a for a, b in zip(at[WARM:], at[WARM + 1:])]
    return statistics.median(between) if between else None


def speed(folder):
    cache = folder / "speed"
    run("speed.yaml", cache, "cpu", "init")
    for stage in ["pretrain", "sft", "dpo", "reward_model", "generation"]:
        memory = Memory()
        heard, code = run("speed.yaml", cache, DEVICE, stage)
        most = memory.stop()
        if code:
            check(f"speed of {stage}", False, f"ended with {code}")
            continue
        told = metrics(heard, stage, None)
        took = next(e["seconds"] for e in heard[stage] if e["event"] == "finished")
        each = seconds_per_step(heard, stage)
        if each:
            figure(f"{stage}: a step", round(each * 1000, 1), "ms", peak_mib=most, stage_s=round(took, 2))
        else:
            figure(f"{stage}: whole stage", round(took, 2), "s", peak_mib=most)
        figures[-1]["metrics"] = told


def robustness(folder):
    """A training that is interrupted, and one that asks for more memory than there is."""
    cache = folder / "speed"
    whole = outputs(run("speed.yaml", cache, DEVICE, "pretrain")[0])
    other = folder / "interrupted"
    fourth = lambda e: e["event"] == "metric" and e["name"] == "loss" and e["step"] == 4 and e["stage"] == "pretrain"
    _, code = run("speed.yaml", other, DEVICE, "pretrain", until=fourth)
    heard, _ = run("speed.yaml", other, DEVICE, "pretrain")
    first = min((e["step"] for e in heard["pretrain"] if e["event"] == "metric" and e["step"]), default=None)
    same = [name for name, digest in outputs(heard).items() if whole.get(name) == digest]
    check("an interrupted training goes on to the same bytes", code != 0 and first and first > 1
          and {"pretrain.model", "pretrain.curve"} <= set(same), f"went on at step {first}; the same: {same}")
    heard, code = run("speed.yaml", cache, DEVICE, "sft", "--set", "batch=4000")
    words = next((e["message"] for e in heard["sft"] if e["event"] == "failed"), "it went well")
    check("out of memory is said, with what needs less", "out of memory" in words and "micro_batch" in words, words)


def torch_training(rows, length, kind):
    """Milliseconds of a step of the same model in transformers, on rows of one length."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    params = {"hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2}
    config = Qwen2Config(vocab_size=1024, intermediate_size=4864, tie_word_embeddings=True, **params)
    model = Qwen2ForCausalLM(config).to("cuda", kind)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    ids = torch.randint(0, 1024, (rows, length), device="cuda")
    took = []
    for _ in range(WARM + 9):
        torch.cuda.synchronize()
        began = time.perf_counter()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        torch.cuda.synchronize()
        took.append(time.perf_counter() - began)
    count = sum(p.numel() for p in model.parameters())
    step = statistics.median(took[WARM:])
    flops = 6 * count * rows * length
    figure(f"transformers {kind}: a step of {rows} x {length}", round(step * 1000, 1), "ms",
           tflops=round(flops / step / 1e12, 1), peak_mib=torch.cuda.max_memory_allocated() >> 20)
    if kind == torch.bfloat16:
        prompt = ids[:, :32].repeat(64 // rows, 1)
        for _ in range(2):
            torch.cuda.synchronize()
            began = time.perf_counter()
            model.generate(prompt, max_new_tokens=64, min_new_tokens=64, do_sample=True, pad_token_id=0)
            torch.cuda.synchronize()
            took = time.perf_counter() - began
        figure("transformers bf16: 64 x 64 tokens generated", round(took, 2), "s")
    del model, optimizer
    torch.cuda.empty_cache()


PARTS = {
    "correctness": correctness,
    "speed": speed,
    "robustness": robustness,
    "transformers": lambda _: [torch_training(8, 1024, kind) for kind in [torch.float32, torch.bfloat16]],
}


def main():
    print(subprocess.run([GRADUS, "doctor"], capture_output=True, text=True).stdout, flush=True)
    about = {"gpu": torch.cuda.get_device_name(0), "torch": torch.__version__, "cores": os.cpu_count(),
             "gradus": subprocess.run([GRADUS, "--version"], capture_output=True, text=True).stdout.strip(),
             "commit": os.environ.get("COMMIT", "")}
    place = FOLDER / (about["gpu"].lower().replace(" ", "-") + ".json")
    # Parts that are not measured this time stay as they were.
    stored = json.loads(place.read_text()) if place.exists() else {}
    sound = True
    for part in sys.argv[3:] or PARTS:
        checks.clear()
        figures.clear()
        folder = Path(tempfile.mkdtemp(prefix="gradus-gpu-"))
        try:
            PARTS[part](folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        sound &= all(check["holds"] for check in checks)
        stored[part] = {**about, "checks": checks.copy(), "figures": figures.copy()}
    FOLDER.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(stored, indent=1) + "\n")
    print(f"written to {place}")
    sys.exit(0 if sound else 1)


main()
