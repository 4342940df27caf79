"""Trains the VQ-VAE (van den Oord et al. 2017): 3×64×64 pixels to 16×16 indices into 1,024 codes of 4, and back.

    python tools/train/vq.py --minutes 30

Training starts from the encoder and decoder of the KL autoencoder, and from a codebook of its latents. Codes that are no longer
used restart at outputs of the encoder (Dhariwal et al. 2020, Jukebox).
"""

import numpy as np
import torch
from diffusers import VQModel

from autoencoder import CONFIG, pictures, reconstruction_loss
from cache import averaged_autoencoder
from compose import Drawings, compose
from run import Average, Run, arguments, bf16, device, load_checkpoint, psnr, save_checkpoint, to_input
from scenes import Scenes

VQ_CONFIG = {k: CONFIG[k] for k in CONFIG if k not in ("sample_size",)} | dict(
    sample_size=64,
    num_vq_embeddings=1024,
    vq_embed_dim=4,
)
COMMITMENT = 0.25  # β of the paper
RESTART_EVERY = 50  # steps; a code that was not used for this long is dead


@torch.no_grad()
def start_from_autoencoder(model, vae, images):
    """Keeps the mean of the encoder without the variance, and chooses codes from its latents."""
    encoder = vae.encoder.state_dict()
    mean = vae.quant_conv.weight[:4, :, 0, 0]  # 4 × 8: the rows of the mean
    encoder["conv_out.weight"] = torch.einsum("oc,cihw->oihw", mean, encoder["conv_out.weight"])
    encoder["conv_out.bias"] = mean @ encoder["conv_out.bias"] + vae.quant_conv.bias[:4]
    model.encoder.load_state_dict(encoder)
    model.decoder.load_state_dict(vae.decoder.state_dict())
    for conv in (model.quant_conv,):
        conv.weight.copy_(torch.eye(4)[:, :, None, None])
        conv.bias.zero_()
    model.post_quant_conv.load_state_dict(vae.post_quant_conv.state_dict())
    model.quantize.embedding.weight.copy_(
        k_means(flat(model.encode(images).latents), model.config.num_vq_embeddings)
    )


def flat(latents):
    """n,4,h,w → n·h·w,4."""
    return latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1])


def k_means(points, count, rounds=8):
    # One point for each distinct value: most of a picture is background, which needs one code and not hundreds.
    points = torch.unique((points * 20).round() / 20, dim=0)
    centres = points[torch.randperm(len(points))[:count]].clone()
    for _ in range(rounds):
        nearest = torch.cat([torch.cdist(part, centres).argmin(1) for part in points.split(8192)])
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        counts = torch.bincount(nearest, minlength=count).unsqueeze(1)
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    return centres


def quantize(model, latents):
    """The straight-through estimator. Returns quantized latents, indices, and the codebook and commitment loss."""
    points, codes = flat(latents), model.quantize.embedding.weight
    with torch.no_grad():
        indices = torch.cat([torch.cdist(part, codes).argmin(1) for part in points.split(8192)])
    quantized = (
        codes[indices].view(latents.shape[0], latents.shape[2], latents.shape[3], -1).permute(0, 3, 1, 2)
    )
    codebook = (quantized - latents.detach()).square().mean()
    commitment = (quantized.detach() - latents).square().mean()
    return latents + (quantized - latents).detach(), indices, codebook + COMMITMENT * commitment


@torch.no_grad()
def validate(model, images):
    values, used = [], torch.zeros(model.config.num_vq_embeddings, dtype=torch.bool, device=images.device)
    for x in images.split(32):
        quantized, indices, _ = quantize(model, model.encode(x).latents)
        used[indices] = True
        values.append(psnr(model.decode(quantized, force_not_quantize=True).sample, x))
    return torch.cat(values).mean().item(), used.float().mean().item()


@torch.no_grad()
def restart_dead(model, unused_for, points, optimizer):
    """Moves dead codes to random points, and resets their optimizer state."""
    dead = (unused_for >= RESTART_EVERY).nonzero().flatten()
    if len(dead):
        codes = model.quantize.embedding.weight
        # Distant points are chosen more often: codes are needed where the error is large.
        distance = torch.cdist(points, codes).min(1).values.square()
        picks = torch.multinomial(distance + 1e-9, min(len(dead), len(points)))
        codes[dead[: len(picks)]] = points[picks]
        for value in optimizer.state[codes].values():
            if torch.is_tensor(value) and value.shape == codes.shape:
                value[dead] = 0
        unused_for[dead] = 0
    return len(dead)


def main():
    parser = arguments(__doc__.split("\n")[0], steps=700, batch=16, rate=4e-4, minutes=30)
    options = parser.parse_args()
    target, path = device(), options.work / "checkpoints" / "vq.pt"
    drawings = Drawings(options.work / "data")
    torch.manual_seed(0)
    model = VQModel(**VQ_CONFIG).to(target)
    state = load_checkpoint(path, options.resume)
    if not state:
        start_from_autoencoder(
            model,
            averaged_autoencoder(options.work).to(target),
            pictures(drawings, 10**6 + 1, 256).to(target),
        )
    optimizer = torch.optim.AdamW(model.parameters(), options.rate, betas=(0.9, 0.99), weight_decay=0.0)
    average, start = Average(model, 0.99), 0
    if state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average.weights, average.count, start = state["average"], state["count"], state["step"]
    held = pictures(drawings, 10**6, 256).to(target)
    scenes = Scenes(drawings.subjects, np.random.default_rng([5, start]))
    unused_for = torch.zeros(model.config.num_vq_embeddings, dtype=torch.long, device=target)

    def save(step):
        live = {k: v.clone() for k, v in model.state_dict().items()}
        model.load_state_dict(average.weights)
        quality, use = validate(model, held)
        print(
            f"step {step}: validation PSNR {quality:.2f} dB, {use:.0%} of the codes in use (averaged weights)",
            flush=True,
        )
        model.load_state_dict(live)
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

    run = Run("vq", options, optimizer, save, start, warmup=50)
    for step in run:
        images = to_input(np.stack([compose(drawings, scenes.next()[0]) for _ in range(options.batch)])).to(
            target
        )
        with bf16():
            latents = model.encode(images).latents.float()
        quantized, indices, vq = quantize(model, latents)
        with bf16():
            output = model.decode(quantized, force_not_quantize=True).sample.float()
        loss = reconstruction_loss(output, images) + vq
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model)
        unused_for += 1
        unused_for[indices.unique()] = 0
        # No code restarts in the last fifth of the training, because the decoder has to learn every code.
        restarted = 0
        if step % 10 == 9 and step < 0.8 * options.steps:
            restarted = restart_dead(model, unused_for, flat(latents.detach()), optimizer)
            if restarted:
                average.weights["quantize.embedding.weight"].copy_(model.quantize.embedding.weight.detach())
        run.note(loss=loss, vq=vq, psnr=psnr(output.detach(), images).mean(), restarted=restarted)


if __name__ == "__main__":
    main()
