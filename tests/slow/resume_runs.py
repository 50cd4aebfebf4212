"""Trainings of a second that tests kill, here and in a process of their own: ``resume_runs.py METHOD FOLDER MOMENT``.

Rewards are drawn by chance, so that every step teaches, and only a run that gets back its generators of random numbers
ends as if it had not been killed. With six or fourteen questions most kills fall into a later epoch than the first.
"""

import os
import random
import signal
import sys
import threading
import time

GRPO = {"max_steps": 6, "warmup_steps": 0, "per_device_train_batch_size": 8, "num_generations": 4}
GRPO |= {"max_completion_length": 12, "temperature": 1.6}
SFT = {"max_steps": 8, "warmup_steps": 0, "per_device_train_batch_size": 4}
COMMON = {"format": "no-think", "seed": 3, "learning_rate": 1e-3, "save_steps": 2, "save_total_limit": 2}


def chance(completions, **columns):
    return [random.random() for _ in completions]


def train(method, folder, **changes):
    import medr1kit as mk

    rows = mk.load_vqa("phantoms", split="train", n=6 if method == "grpo" else 14, scanner="B")
    model, processor = mk.load_model("tiny")
    if method == "sft":
        return mk.train_sft(model, processor, rows, output_dir=folder, **(COMMON | SFT | changes))
    rewards = [mk.accuracy_reward("no-think"), chance]
    return mk.train_grpo(model, processor, rows, output_dir=folder, **(COMMON | GRPO | {"rewards": rewards} | changes))


def kill_after(seconds):
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    import torch
    from transformers import Trainer

    from medr1kit.training.recording import Recorder

    torch.set_num_threads(1)
    method, folder, moment = sys.argv[1:]
    begin, save = Recorder.on_train_begin, Trainer._save_rng_state

    def timed(self, *how, **kwargs):
        threading.Thread(target=kill_after, args=(float(moment),), daemon=True).start()
        return begin(self, *how, **kwargs)

    def torn(self, output_dir):  # weights and optimizer are written, the rest is not
        if self.state.global_step == 4:
            kill_after(0)
        save(self, output_dir)

    if moment == "in a save":
        Trainer._save_rng_state = torn
    elif moment not in ("whole", "resume"):
        Recorder.on_train_begin = timed
    train(method, folder, resume=moment == "resume")
