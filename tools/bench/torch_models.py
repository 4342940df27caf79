"""Guided steps and whole pictures of diffusers' models with random weights in PyTorch on this GPU: float16, channels last.

python3 tools/bench/torch_models.py eager|compiled CASE… [--json FILE] [--device cpu --small]

CASE: sd15-512, sd15-1024 or sdxl-1024. Compiled: the UNet, by mode reduce-overhead with a full graph, for one size at a time.
A row is written as soon as it is there, as compiling may take longer than there is time.
"""

import argparse
import json
import sys
import time
import traceback

import torch
from torch_parts import MODELS, Model, picture, step_call


def milliseconds(call, device, count, warmups):
    """The median of the times of calls."""
    for _ in range(warmups):
        call()
    times = []
    for _ in range(count):
        if device == "cuda":
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            call()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end))
        else:
            begin = time.perf_counter()
            call()
            times.append((time.perf_counter() - begin) * 1e3)
    return sorted(times)[count // 2]


class Report:
    """What has been measured so far, in a file and on the screen."""

    def __init__(self, kind, cases, device, path):
        self.path, self.device = path, device
        self.result = {
            "torch": torch.__version__,
            "kind": kind,
            "rows": [],
            "missing": list(cases),
            "failed": {},
        }
        if device == "cuda":
            self.result["device"] = torch.cuda.get_device_name()
        self.write()

    def write(self):
        if not self.path:
            return
        with open(self.path, "w") as file:
            json.dump(self.result, file, indent=1)

    def measure(self, name, steps, call, count, warmups, **more):
        """Times a call that makes `steps` steps, and the most memory that PyTorch's allocator had given out."""
        start = time.time()
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            # A step after a picture has its other parts in memory, too.
            more["weights_gb"] = torch.cuda.memory_allocated() * 1e-9
        ms = milliseconds(call, self.device, count, warmups)
        row = {"name": name, "ms": ms, "it_s": 1000 * steps / ms, "steps": steps, **more}
        row["seconds"] = time.time() - start  # compiling included
        if self.device == "cuda":
            row["peak_gb"] = torch.cuda.max_memory_allocated() * 1e-9
        self.result["rows"].append(row)
        print(
            f"torch {name}: {ms:.2f} ms, {row['it_s']:.1f} it/s, {row.get('peak_gb', 0):.2f} GB"
            f" (after {row['seconds']:.0f} s)",
            flush=True,
        )
        self.write()


def measure_case(report, model, side, steps):
    size = f"{8 * side}x{8 * side}"
    title = f"{report.result['kind']}, {model.title}"
    report.measure(f"{title}, UNet step, {size}", 1, step_call(model, side), 30, 3)
    model.load_rest()
    # Whether the time of a picture has that of its text encoders.
    text = model.texts is not None
    report.measure(f"{title}, picture, {size}", steps, lambda: picture(model, side, steps), 3, 1, text=text)


parser = argparse.ArgumentParser()
parser.add_argument("kind", choices=("eager", "compiled"))
parser.add_argument("cases", nargs="+", choices=("sd15-512", "sd15-1024", "sdxl-1024"))
parser.add_argument("--json")
parser.add_argument("--device", default="cuda")
parser.add_argument("--small", action="store_true", help="to try the script without a GPU")
options = parser.parse_args()
torch.manual_seed(0)
report = Report(options.kind, options.cases, options.device, options.json)
model = loaded = None
with torch.inference_mode():
    for case in options.cases:
        name, pixels = case.split("-")
        try:
            if name != loaded:
                model = loaded = None  # before the next one takes memory
                model = Model(MODELS[name], options.device, options.small, options.kind == "compiled")
                loaded = name
            side, steps = (8, 3) if options.small else (int(pixels) // 8, 20)
            measure_case(report, model, side, steps)
        except Exception as error:  # the other cases are still of use
            traceback.print_exc()
            report.result["failed"][case] = str(error)[:1000]
        report.result["missing"].remove(case)
        report.write()
sys.exit(1 if report.result["failed"] else 0)
