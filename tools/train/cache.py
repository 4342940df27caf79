"""Composes the training pictures, encodes them once, and stores latents and tokens in shards for memory mapping.

    python tools/train/cache.py --shards 20

Shard i consists of latents-i.npy (float16 [n, 4, 16, 16], unscaled means), tokens-i.npy (uint16 [n, 32]), kinds-i.npy
(uint8 [n], indices into scenes.KINDS) and captions-i.txt. The trainer loads new shards while it runs, so both may run at the
same time.
"""

import json
import os
import time

import numpy as np
import torch
from diffusers import AutoencoderKL
from transformers import CLIPTokenizer

from autoencoder import CONFIG
from compose import Drawings, compose
from run import Threads, arguments, device, load_checkpoint, to_input
from scenes import KINDS, Scenes

SHARD = 4096


def averaged_autoencoder(work):
    """The autoencoder with averaged weights, after the last training of its decoder."""
    vae = AutoencoderKL(**CONFIG)
    for name in ("decoder", "autoencoder"):
        state = load_checkpoint(work / "checkpoints" / f"{name}.pt")
        if state:
            vae.load_state_dict(state["average"])
            return vae.eval()
    raise FileNotFoundError(f"No autoencoder in {work / 'checkpoints'}: run autoencoder.py first")


def save_array(path, array):
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        np.save(file, array)
    os.replace(part, path)


@torch.no_grad()
def main():
    parser = arguments(__doc__.split("\n")[0], batch=64)
    parser.add_argument("--shards", type=int, default=20)
    options = parser.parse_args()
    threads = Threads(options.threads)
    folder = options.work / "cache"
    folder.mkdir(parents=True, exist_ok=True)
    drawings = Drawings(options.work / "data")
    tokenizer = CLIPTokenizer.from_pretrained(options.work / "tokenizer")
    vae = averaged_autoencoder(options.work).to(device())
    for number in range(options.shards):
        latents_path, tokens_path = folder / f"latents-{number:03}.npy", folder / f"tokens-{number:03}.npy"
        if latents_path.exists():
            continue
        begin = time.time()
        scenes = Scenes(drawings.subjects, np.random.default_rng([2, number]))
        latents, captions, kinds = [], [], []
        while len(captions) < SHARD:
            batch = [(*scenes.next(), scenes.kind) for _ in range(options.batch)]
            images = to_input(np.stack([compose(drawings, scene) for scene, _, _ in batch])).to(device())
            latents.append(vae.encode(images).latent_dist.mean.half().cpu().numpy())
            captions += [caption for _, caption, _ in batch]
            kinds += [list(KINDS).index(kind) for _, _, kind in batch]
        latents = np.concatenate(latents)
        tokens = tokenizer(
            captions, padding="max_length", truncation=True, max_length=tokenizer.model_max_length
        )
        save_array(tokens_path, np.array(tokens["input_ids"], np.uint16))
        save_array(folder / f"kinds-{number:03}.npy", np.array(kinds, np.uint8))
        (folder / f"captions-{number:03}.txt").write_text("\n".join(captions) + "\n")
        if not (folder / "scale.json").exists():
            # The first shard determines the scale: later shards must not change the latents of earlier ones.
            scale = 1 / float(latents.astype(np.float32).std())
            (folder / "scale.json").write_text(json.dumps({"scaling_factor": scale}))
        save_array(latents_path, latents)  # written last: its presence means that the shard is complete
        threads.update()
        print(f"shard {number}: {len(latents)} latents, {time.time() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    main()
