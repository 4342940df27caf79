#!/usr/bin/env python3
"""Writes what diffusers and transformers compute with a full-size model, for tools/parity/parity.mjs.

usage: reference.py MODEL_DIR OUT.safetensors [--half] [--xl]

MODEL_DIR is a diffusers folder. --half first rounds the weights to fp16, as in an fp16 file of the same model; the arithmetic
stays fp32. Tensors are named `<case>/<input or output>`. The cases are text, unet-64x64-1, unet-64x64-2, unet-48x80-1,
unet-48x80-2 (size of the latents and batch size), encode-512 and decode-512. --xl: MODEL_DIR is a
Stable Diffusion XL. Its cases are text, pooled (the hidden states of the second text encoder, and behind them the pooled
output), unet-128x128-1, unet-96x160-1, encode-512 and decode-512.
"""

import argparse, os, warnings

warnings.filterwarnings("ignore")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection


def load(cls, folder, half):
    net = cls.from_pretrained(folder, torch_dtype=torch.float32).eval()
    if half:
        for p in net.parameters():
            p.data = p.data.half().float()
    return net


def predict(args, context, random, case):
    unet = load(UNet2DConditionModel, os.path.join(args.dir, "unet"), args.half)
    for h, w in ((64, 64), (48, 80)):
        for n in (1, 2):
            latents, timesteps = random(n, 4, h, w), torch.tensor([981.0, 321.0][:n])
            case(
                f"unet-{h}x{w}-{n}",
                unet(latents, timesteps, context[:n]).sample,
                latents=latents,
                timesteps=timesteps,
                context=context[:n],
            )


def xl(args, text, tokens, random, case):
    hidden = text(tokens, output_hidden_states=True).hidden_states[-2]
    case("text", hidden, tokens=tokens)
    # Its end token, unlike the first encoder's, also pads; the first one counts.
    ends = (tokens == 49407).int().argmax(-1).to(torch.int32)
    second = load(CLIPTextModelWithProjection, os.path.join(args.dir, "text_encoder_2"), args.half)
    encoded = second(tokens, output_hidden_states=True)
    states, pooled = encoded.hidden_states[-2], encoded.text_embeds
    case("pooled", torch.cat([states.flatten(), pooled.flatten()]), tokens=tokens, ends=ends)
    del second
    context = torch.cat([hidden, states], -1)[:1]
    unet = load(UNet2DConditionModel, os.path.join(args.dir, "unet"), args.half)
    for h, w in ((128, 128), (96, 160)):
        latents, timesteps = random(1, 4, h, w), torch.tensor([621.0])
        ids = torch.tensor([[8.0 * h, 8.0 * w, 0, 0, 8.0 * h, 8.0 * w]])
        added = {"text_embeds": pooled[:1], "time_ids": ids}
        case(
            f"unet-{h}x{w}-1",
            unet(latents, timesteps, context, added_cond_kwargs=added).sample,
            latents=latents,
            timesteps=timesteps,
            context=context,
            pooled=pooled[:1],
            timeIds=ids,
        )


@torch.inference_mode()
def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("dir")
    ap.add_argument("out")
    ap.add_argument("--half", action="store_true")
    ap.add_argument("--xl", action="store_true")
    args = ap.parse_args()
    generator = torch.Generator().manual_seed(7)
    random = lambda *shape: torch.randn(shape, generator=generator)
    found = {}

    def case(name, output, **inputs):
        for key, value in {**inputs, "output": output}.items():
            value = value.to(torch.int32) if value.dtype == torch.int64 else value
            found[f"{name}/{key}"] = value.clone().contiguous()
        print(f"{name:16} {list(output.shape)!s:20} max {output.abs().max():.4f}", flush=True)

    text = load(CLIPTextModel, os.path.join(args.dir, "text_encoder"), args.half)
    tokens = torch.randint(0, 49406, (2, 77), generator=generator)
    tokens[:, 0], tokens[0, 20:], tokens[1, -1] = 49406, 49407, 49407
    if args.xl:
        xl(args, text, tokens, random, case)
    else:
        context = text(tokens).last_hidden_state
        case("text", context, tokens=tokens)
        predict(args, context, random, case)
    del text

    vae = load(AutoencoderKL, os.path.join(args.dir, "vae"), args.half)
    image, latents = random(1, 3, 512, 512).clamp(-1, 1), random(1, 4, 64, 64)
    case("encode-512", vae.encode(image).latent_dist.parameters, image=image)
    case("decode-512", vae.decode(latents).sample, latents=latents)
    save_file(found, args.out + ".part")
    os.replace(args.out + ".part", args.out)


if __name__ == "__main__":
    main()
