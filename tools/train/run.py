"""What the training scripts share: time budget, threads, checkpoints that survive a kill, and a curve as CSV."""

import argparse
import csv
import math
import os
import signal
import time
from pathlib import Path

import numpy as np
import torch

WORK = Path(os.environ.get("ND_TRAIN_DIR", Path.home() / "nd-train"))


def arguments(description, **defaults):
    """A parser with the options that all scripts take; each script adds its own."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--work", type=Path, default=WORK, help="folder for data, checkpoints and curves")
    parser.add_argument(
        "--minutes", type=float, default=defaults.get("minutes", 15), help="stop after this many minutes"
    )
    parser.add_argument(
        "--steps", type=int, default=defaults.get("steps", 1000), help="length of the whole schedule"
    )
    parser.add_argument("--batch", type=int, default=defaults.get("batch", 16))
    parser.add_argument(
        "--rate", type=float, default=defaults.get("rate", 5e-4), help="highest learning rate"
    )
    parser.add_argument(
        "--threads", type=int, default=0, help="0: two while other programs are idle, otherwise one"
    )
    parser.add_argument(
        "--no-resume",
        dest="resume",
        action="store_false",
        help="start from scratch instead of from the checkpoint",
    )
    return parser


def device():
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def bf16():
    """Autocast for passes through a network; losses stay in fp32. With AVX512-BF16, steps take nearly half the time."""
    return torch.autocast(device().type, torch.bfloat16)


class Threads:
    """One thread while other programs are busy: a second one that waits for its core stalls the first at every barrier."""

    def __init__(self, fixed):
        self.fixed, self.last = fixed, None
        torch.set_flush_denormal(True)
        self.update()

    def update(self):
        wanted = self.fixed or 1
        if not self.fixed:
            with open("/proc/stat") as stat:
                fields = stat.readline().split()
            busy, now = (
                sum(map(int, fields[1:4])) / os.sysconf("SC_CLK_TCK") - time.process_time(),
                time.time(),
            )
            if self.last and now > self.last[1]:
                wanted = 2 if (busy - self.last[0]) / (now - self.last[1]) < 0.4 else 1
            self.last = busy, now
        if wanted != torch.get_num_threads():
            torch.set_num_threads(wanted)


class Run:
    """Controls the loop: `for step in run:` ends when the schedule or the time is over, or on a signal.

    It calls save() every `save_minutes` and at the end, and sets the learning rate before each step: linear warm-up, the full
    rate for the share `plateau` of the schedule, then a cosine decay to a fiftieth of it. With a plateau, the length of the
    schedule can still be changed when a run is resumed.
    """

    def __init__(self, name, options, optimizer, save, start=0, warmup=100, save_minutes=4, plateau=0.0):
        self.plateau = plateau
        self.name, self.options, self.optimizer, self.save = name, options, optimizer, save
        self.start, self.warmup, self.save_minutes = start, warmup, save_minutes
        self.threads = Threads(options.threads)
        self.mean, self.stopped = {}, False
        options.work.mkdir(parents=True, exist_ok=True)
        self.curve = options.work / f"{name}.csv"
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(self, "stopped", True))

    def rate(self, step):
        done = min(step / max(self.options.steps, 1), 1)
        done = max(done - self.plateau, 0) / (1 - self.plateau)
        return (
            self.options.rate
            * min((step + 1) / self.warmup, 1)
            * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)
        )

    def __iter__(self):
        begin = saved = logged = time.time()
        step = self.start
        while (
            step < self.options.steps and not self.stopped and time.time() - begin < self.options.minutes * 60
        ):
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate(step)
            yield step
            step += 1
            if time.time() - logged > 30:
                self.threads.update()
                self.write(step, time.time() - begin)
                logged = time.time()
            if time.time() - saved > self.save_minutes * 60:
                self.save(step)
                saved = time.time()
        self.write(step, time.time() - begin)
        self.save(step)

    def note(self, **values):
        """Updates the running means of the curve, over about 50 steps."""
        for key, value in values.items():
            value = float(value.detach() if torch.is_tensor(value) else value)
            if not math.isfinite(value):
                raise FloatingPointError(f"{self.name}: {key} is {value}")
            self.mean[key] = value if key not in self.mean else 0.98 * self.mean[key] + 0.02 * value

    def write(self, step, seconds):
        row = {
            "step": step,
            "seconds": round(seconds),
            "threads": torch.get_num_threads(),
            "rate": f"{self.rate(step):.3g}",
        }
        row |= {key: f"{value:.5f}" for key, value in self.mean.items()}
        new = not self.curve.exists()
        with open(self.curve, "a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if new:
                writer.writeheader()
            writer.writerow(row)
        print(" ".join(f"{k} {v}" for k, v in row.items()), flush=True)


def save_checkpoint(path, state):
    """Writes to a temporary name and then renames: after a kill at any moment, the last good checkpoint is there."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    torch.save(state, part)
    os.replace(part, path)


def load_checkpoint(path, resume=True):
    return torch.load(path, map_location="cpu", weights_only=True) if resume and Path(path).exists() else None


def to_input(images):
    """uint8 [n, h, w, 3] → float [n, 3, h, w] in −1…1."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def psnr(a, b):
    """PSNR in dB of each picture in −1…1."""
    mse = ((a.clamp(-1, 1) - b.clamp(-1, 1)) ** 2).mean((1, 2, 3)) / 4
    return -10 * torch.log10(mse.clamp(min=1e-10))


class Average:
    """Exponential moving average of a model's weights; its decay rises at the start, so that early weights are forgotten."""

    def __init__(self, model, decay):
        self.decay, self.count = decay, 0
        self.weights = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model):
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        for key, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                self.weights[key].lerp_(value, 1 - decay)
            else:
                self.weights[key].copy_(value)
