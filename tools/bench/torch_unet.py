"""A guided step of Stable Diffusion 1.5's UNet with random weights in PyTorch on this GPU: float16, channels last, batch 2.

python3 tools/bench/torch_unet.py [eager] [compiled] [--json FILE] [--device cpu --small]
"""

import argparse
import json
import time

import torch
from diffusers import UNet2DConditionModel


def median_ms(call, device, count):
    for _ in range(3):
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


parser = argparse.ArgumentParser()
parser.add_argument("kinds", nargs="+", choices=("eager", "compiled"))
parser.add_argument("--json")
parser.add_argument("--device", default="cuda")
parser.add_argument("--small", action="store_true", help="to try the script without a GPU")
options = parser.parse_args()
device = options.device
dtype = torch.half if device == "cuda" else torch.float32
torch.manual_seed(0)
channels = (32, 32, 32, 32) if options.small else (320, 640, 1280, 1280)
unet = (
    UNet2DConditionModel(
        sample_size=64, cross_attention_dim=768, attention_head_dim=8, block_out_channels=channels
    )
    .to(device=device, dtype=dtype, memory_format=torch.channels_last)
    .eval()
)

results = {"torch": torch.__version__}
if device == "cuda":
    results["device"] = torch.cuda.get_device_name()
with torch.inference_mode():
    for kind in options.kinds:
        start = time.time()
        model = unet if kind == "eager" else torch.compile(unet, mode="reduce-overhead", fullgraph=True)
        for size in (8,) if options.small else (64,) if kind == "compiled" else (64, 128):
            latents = torch.randn(2, 4, size, size, device=device, dtype=dtype).to(
                memory_format=torch.channels_last
            )
            timestep = torch.tensor(500, device=device)
            context = torch.randn(2, 77, 768, device=device, dtype=dtype)
            ms = median_ms(lambda: model(latents, timestep, context, return_dict=False), device, 30)
            ready = time.time() - start
            results[f"{kind} {8 * size}"] = {"ms": ms, "it_s": 1000 / ms, "ready_s": ready}
            print(
                f"torch {kind} {8 * size}: {ms:.2f} ms a step, {1000 / ms:.1f} it/s (after {ready:.0f} s)",
                flush=True,
            )
if device == "cuda":
    results["peak_gb"] = torch.cuda.max_memory_allocated() * 1e-9
if options.json:
    with open(options.json, "w") as file:
        json.dump(results, file, indent=1)
