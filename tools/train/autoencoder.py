"""Trains the KL autoencoder: 3×64×64 pixels to 4×16×16 latents and back.

    python tools/train/autoencoder.py --start DIFFUSERS_VAE            # encoder and decoder
    python tools/train/autoencoder.py --decoder-only --steps 4000      # keeps the encoder, and so the cached latents

Pictures are composed when they are needed: a training step costs a thousand times more than its pictures.
"""

import sys

import numpy as np
import torch
from diffusers import AutoencoderKL

from compose import Drawings, compose
from run import Average, Run, arguments, bf16, device, load_checkpoint, psnr, save_checkpoint, to_input
from scenes import Scenes

# Fewer channels than in Stable Diffusion's autoencoder, and factor 4, since the pictures are small.
CONFIG = dict(
    in_channels=3,
    out_channels=3,
    latent_channels=4,
    sample_size=64,
    norm_num_groups=8,
    layers_per_block=1,
    block_out_channels=(32, 48, 64),
    down_block_types=("DownEncoderBlock2D",) * 3,
    up_block_types=("UpDecoderBlock2D",) * 3,
    mid_block_add_attention=False,
)
KL_WEIGHT = 1e-6  # as in latent diffusion: just enough to keep the scale of the latents from drifting
# The decoder will get latents from a UNet, so it should tolerate this much error (in standard deviations of the latents).
LATENT_NOISE = 0.02


def pictures(drawings, seed, count):
    scenes = Scenes(drawings.subjects, np.random.default_rng(seed))
    return to_input(np.stack([compose(drawings, scenes.next()[0]) for _ in range(count)]))


def reconstruction_loss(output, target):
    """Squared errors for PSNR, absolute errors for sharp edges, and differences of neighbouring pixels for lines."""
    error = output - target
    across = (error[..., 1:] - error[..., :-1]).abs().mean() + (
        error[..., 1:, :] - error[..., :-1, :]
    ).abs().mean()
    return error.square().mean() * 3 + error.abs().mean() * 0.5 + across * 0.25


@torch.no_grad()
def validate(vae, images):
    values = torch.cat([psnr(vae.decode(vae.encode(x).latent_dist.mean).sample, x) for x in images.split(32)])
    return values.mean().item()


def main():
    parser = arguments(__doc__.split("\n")[0], steps=1500, batch=16, rate=5e-4)
    parser.add_argument("--start", help="diffusers folder of a trained autoencoder to start from")
    parser.add_argument("--decoder-only", action="store_true")
    options = parser.parse_args()
    name = "decoder" if options.decoder_only else "autoencoder"
    path = options.work / "checkpoints" / f"{name}.pt"
    target = device()
    vae = (
        (AutoencoderKL.from_pretrained(options.start) if options.start else AutoencoderKL(**CONFIG))
        .float()
        .to(target)
    )
    state = load_checkpoint(path, options.resume)
    if options.decoder_only and not state:
        vae.load_state_dict(load_checkpoint(options.work / "checkpoints" / "autoencoder.pt")["average"])
    trained = (
        list(vae.decoder.parameters()) + list(vae.post_quant_conv.parameters())
        if options.decoder_only
        else list(vae.parameters())
    )
    optimizer = torch.optim.AdamW(trained, options.rate, betas=(0.9, 0.99), weight_decay=1e-4)
    average, start = Average(vae, 0.995), 0
    if state:
        vae.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average.weights, average.count, start = state["average"], state["count"], state["step"]
    held = pictures(Drawings(options.work / "data"), 10**6, 128).to(target)
    drawings = Drawings(options.work / "data")
    scenes = Scenes(drawings.subjects, np.random.default_rng([1, start]))

    def save(step):
        live = {k: v.clone() for k, v in vae.state_dict().items()}
        vae.load_state_dict(average.weights)
        print(f"step {step}: validation PSNR {validate(vae, held):.2f} dB (averaged weights)", flush=True)
        vae.load_state_dict(live)
        save_checkpoint(
            path,
            {
                "model": live,
                "average": average.weights,
                "count": average.count,
                "optimizer": optimizer.state_dict(),
                "step": step,
            },
        )

    run = Run(name, options, optimizer, save, start)
    for _ in run:
        images = to_input(np.stack([compose(drawings, scenes.next()[0]) for _ in range(options.batch)])).to(
            target
        )
        if options.decoder_only:
            with torch.no_grad():
                latents = vae.encode(images).latent_dist.mean
            kl = torch.zeros(())
        else:
            posterior = vae.encode(images).latent_dist
            latents, kl = posterior.sample(), posterior.kl().mean()
        with bf16():
            output = vae.decode(
                latents + LATENT_NOISE * latents.std().detach() * torch.randn_like(latents)
            ).sample.float()
        loss = reconstruction_loss(output, images) + KL_WEIGHT * kl
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        average.update(vae)
        run.note(loss=loss, psnr=psnr(output.detach(), images).mean())


if __name__ == "__main__":
    sys.exit(main())
