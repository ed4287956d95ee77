"""Times one loop of TRL (or, for `generate`, of transformers) for benches/training.py.

The trainers are TRL's own, over random token ids, with a model of random weights and AdamW, on one thread as a stage
of ours on this bench. A step's CPU time is taken from one call back to the next; the median of the steps counts.

usage: trl_loops.py CASE SHAPE      (SHAPE: the JSON that benches/training.py gives)
"""

import json
import os
import random
import statistics
import sys
import tempfile
import time

CASE, SHAPE = sys.argv[1], json.loads(sys.argv[2])
THREADS = int(os.environ.get("BENCH_THREADS", "1"))
os.environ |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": str(THREADS), "HF_HUB_OFFLINE": "1",
               "TRL_EXPERIMENTAL_SILENCE": "1", "TOKENIZERS_PARALLELISM": "false"}

import torch  # noqa: E402

torch.set_num_threads(THREADS)
import transformers  # noqa: E402
from datasets import Dataset  # noqa: E402
from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: E402

ROW, BATCH, GROUP = SHAPE["row"], SHAPE["batch"], SHAPE["group"]
HALF = ROW // 2
STEPS = 2 + (4 if SHAPE["hidden"] > 128 else 30)
PAD, END, FIRST = 0, 1, 3
draw = random.Random(1)
marks = []


class Marks(transformers.TrainerCallback):
    """The process's CPU time at the end of every step."""

    def on_step_end(self, *_, **__):
        marks.append(time.process_time())


def some(length):
    return [draw.randrange(FIRST, SHAPE["vocab"]) for _ in range(length)]


def config():
    return transformers.LlamaConfig(
        vocab_size=SHAPE["vocab"], hidden_size=SHAPE["hidden"], intermediate_size=SHAPE["inner"],
        num_hidden_layers=SHAPE["layers"], num_attention_heads=SHAPE["heads"],
        num_key_value_heads=SHAPE["kv_heads"], max_position_embeddings=2 * ROW, tie_word_embeddings=False,
        pad_token_id=PAD, bos_token_id=None, eos_token_id=END)


def policy():
    return transformers.AutoModelForCausalLM.from_config(config(), attn_implementation="sdpa")


def scorer():
    scoring = config()
    scoring.num_labels = 1
    return transformers.AutoModelForSequenceClassification.from_config(scoring, attn_implementation="sdpa")


def tokenizer(side="right"):
    words = {"<pad>": PAD, "<end>": END, "<unknown>": 2, **{f"t{i}": i for i in range(FIRST, SHAPE["vocab"])}}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unknown>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<end>",
                                                unk_token="<unknown>", padding_side=side)


def settings(**more):
    return {"output_dir": tempfile.mkdtemp(prefix="bench-trl-"), "report_to": "none", "save_strategy": "no",
            "disable_tqdm": True, "logging_steps": 10**6, "max_steps": STEPS, "per_device_train_batch_size": BATCH,
            "learning_rate": 1e-5, "use_cpu": True, "bf16": False, "gradient_checkpointing": False,
            "optim": "adamw_torch", **more}


def rows(make, count=BATCH * STEPS):
    return Dataset.from_list([make() for _ in range(count)])


def sft(packed=False):
    from trl import SFTConfig, SFTTrainer

    more, data = {}, rows(lambda: {"input_ids": some(ROW)})
    if packed:
        firsts = [draw.randrange(ROW // 4, 3 * ROW // 4) for _ in range(BATCH * STEPS)]
        data = Dataset.from_list([{"input_ids": some(n)} for first in firsts for n in (first, ROW - first)])
        more = {"packing": True, "packing_strategy": "bfd"}
    SFTTrainer(model=policy(), args=SFTConfig(**settings(max_length=ROW, **more)), train_dataset=data,
               processing_class=tokenizer(), callbacks=[Marks()]).train()
    return BATCH * ROW


def dpo():
    from trl import DPOConfig, DPOTrainer
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    named = rows(lambda: {"prompt": "t3", "chosen": " t4", "rejected": " t5"})
    trainer = DPOTrainer(model=policy(), ref_model=policy(), args=DPOConfig(**settings(max_length=ROW)),
                         train_dataset=named, processing_class=tokenizer(), callbacks=[Marks()])
    # It turns texts into ids when it is made; these are ids already.
    trainer.train_dataset = rows(lambda: {"prompt_ids": some(HALF), "chosen_ids": some(ROW - HALF),
                                          "rejected_ids": some(ROW - HALF)})
    trainer.data_collator = DataCollatorForPreference(pad_token_id=PAD)
    trainer.train()
    return 2 * BATCH * ROW


def reward():
    from trl import RewardConfig, RewardTrainer

    def pair():
        prompt = some(HALF)
        return {f"{side}_ids": prompt + some(ROW - HALF) for side in ("chosen", "rejected")}

    RewardTrainer(model=scorer(), args=RewardConfig(**settings(max_length=ROW)), train_dataset=rows(pair),
                  processing_class=tokenizer(), callbacks=[Marks()]).train()
    return 2 * BATCH * ROW


def generate():
    model, new = policy().eval(), ROW - HALF
    marks.append(time.process_time())
    for _ in range(STEPS):
        prompts = torch.tensor([some(HALF) for _ in range(BATCH)])
        with torch.no_grad():
            model.generate(prompts, attention_mask=torch.ones_like(prompts), do_sample=True, temperature=1.0, top_k=0,
                           top_p=1.0, max_new_tokens=new, min_new_tokens=new, pad_token_id=PAD, eos_token_id=None)
        marks.append(time.process_time())
    return BATCH * new


def grpo():
    from trl import GRPOConfig, GRPOTrainer

    new = ROW - HALF
    args = GRPOConfig(**settings(num_generations=GROUP, max_completion_length=new, beta=0.0, num_iterations=1,
                                 generation_kwargs={"min_new_tokens": new}))
    data = rows(lambda: {"prompt": " ".join(f"t{i}" for i in some(HALF))})
    GRPOTrainer(model=policy(), args=args, train_dataset=data, processing_class=tokenizer("left"),
                reward_funcs=lambda completion_ids, **_: [float(sum(ids) % 97) for ids in completion_ids],
                callbacks=[Marks()]).train()
    return BATCH * ROW


def ppo():
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    given = settings()
    del given["max_steps"]
    args = PPOConfig(**given, total_episodes=BATCH * STEPS, response_length=ROW - HALF, num_ppo_epochs=1,
                     num_mini_batches=1, num_sample_generations=0, local_rollout_forward_batch_size=BATCH,
                     stop_token=None)
    PPOTrainer(args=args, processing_class=tokenizer("left"), model=policy(), ref_model=policy(),
               reward_model=scorer(), value_model=scorer(), train_dataset=rows(lambda: {"input_ids": some(HALF)}),
               callbacks=[Marks()]).train()
    return BATCH * ROW


CASES = {"sft": sft, "sft_packed": lambda: sft(packed=True), "dpo": dpo, "reward": reward, "generate": generate,
         "grpo": grpo, "ppo": ppo}

transformers.logging.set_verbosity_error()
kept, sys.stdout = sys.stdout, sys.stderr  # The libraries print; what is measured stands alone.
tokens = CASES[CASE]()
took = statistics.median(after - before for before, after in zip(marks[1:], marks[2:]))
print(json.dumps({"case": CASE, "tokens_per_cpu_second": tokens / took}), file=kept)
