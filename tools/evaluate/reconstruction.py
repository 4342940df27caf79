"""Measures the PSNR of the exported autoencoder and VQ-VAE, and how much of the codebook is in use.

    python tools/evaluate/reconstruction.py MODELS_FOLDER [--count 1000]      # the folder with emoji-64 and emoji-64-vq

The pictures are scenes from a seed that training does not use, and all plain drawings. `mean` is the mean PSNR of the
pictures, and `pooled` the PSNR of the mean squared error, which is stricter because difficult pictures count more.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, VQModel

import common  # noqa: F401
from autoencoder import pictures
from compose import Drawings, compose
from run import WORK, Threads, psnr, to_input
from score import item
from vq import quantize


@torch.no_grad()
def qualities(images, through):
    values = torch.cat([psnr(through(x), x) for x in images.split(32)])
    pooled = -10 * torch.log10((10 ** (-values / 10)).mean())
    return {
        "mean": round(values.mean().item(), 2),
        "pooled": round(pooled.item(), 2),
        "worst": round(values.min().item(), 2),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    options = parser.parse_args()
    Threads(0)
    drawings = Drawings(WORK / "data")
    plain = [
        compose(drawings, {"background": None, "items": [item(s, style)]})
        for s in range(len(drawings.subjects))
        for style in range(len(drawings.styles))
    ]
    sets = {"scenes": pictures(drawings, 2 * 10**6, options.count), "drawings": to_input(np.stack(plain))}
    vae = AutoencoderKL.from_pretrained(options.model / "emoji-64" / "vae").float().eval()
    result = {
        f"autoencoder, {name}": qualities(x, lambda x: vae.decode(vae.encode(x).latent_dist.mean).sample)
        for name, x in sets.items()
    }
    if (options.model / "emoji-64-vq").exists():
        vq = VQModel.from_pretrained(options.model / "emoji-64-vq").float().eval()
        used = torch.zeros(vq.config.num_vq_embeddings, dtype=torch.long)

        def through(x):
            quantized, indices, _ = quantize(vq, vq.encode(x).latents)
            used.add_(torch.bincount(indices, minlength=len(used)))
            return vq.decode(quantized, force_not_quantize=True).sample

        for name, x in sets.items():
            result[f"VQ-VAE, {name}"] = qualities(x, through)
        shares = used / used.sum()
        perplexity = torch.exp(-(shares * (shares + 1e-12).log()).sum())
        result["codebook"] = {
            "codes": len(used),
            "in use": round((used > 0).float().mean().item(), 4),
            "perplexity": round(perplexity.item(), 1),
        }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
