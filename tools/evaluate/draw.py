"""Draws evaluation prompts with diffusers: the reference for what the package draws.

    python tools/evaluate/draw.py MODEL_FOLDER PROMPTS.json OUT_FOLDER --guidance 3 [--sheet sheet.png]

Without guidance in the batch's way: prompts are drawn in batches, each latent from its own seed, as the package would.
"""
import argparse
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

import common  # noqa: F401
from run import Threads


def load(folder):
    pipe = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, safety_checker=None, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe, prompts, steps, guidance, batch=20):
    """Yields (prompt, PIL image)."""
    for i in range(0, len(prompts), batch):
        part = prompts[i : i + batch]
        generators = [torch.Generator().manual_seed(p["seed"]) for p in part]
        images = pipe([p["prompt"] for p in part], num_inference_steps=steps, guidance_scale=guidance, height=64, width=64,
                      generator=generators).images
        yield from zip(part, images)


def sheet(images, columns=20):
    """Pictures side by side, in rows."""
    tiles = [np.asarray(image.convert("RGB")) for image in images]
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles), columns)]
    return Image.fromarray(np.concatenate(rows, 0))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("prompts")
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--only", help="one kind of prompt")
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    Threads(0)
    with open(options.prompts) as file:
        prompts = [p for p in json.load(file) if options.only in (None, p["kind"])]
    options.out.mkdir(parents=True, exist_ok=True)
    images = []
    for prompt, image in draw(load(options.model), prompts, options.steps, options.guidance):
        image.save(options.out / f"{prompt['id']}.png")
        images.append(image)
    if options.sheet:
        sheet(images).save(options.sheet)
    print(f"{len(images)} pictures → {options.out}")


if __name__ == "__main__":
    main()
