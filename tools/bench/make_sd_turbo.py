#!/usr/bin/env python3
"""Writes a full-size model of SD-Turbo's topology with random weights and a tiny autoencoder as the only one.

usage: make_sd_turbo.py OUT_DIR

The UNet and the text encoder have the sizes of Stable Diffusion 2.1 (866 M and 340 M parameters), the autoencoder those of
TAESD. Weights are fp16 (2.4 GB). For the bench case `turbo`:

    python tools/bench/make_sd_turbo.py sd-turbo
    npx node-diffusion quantize sd-turbo sd-turbo-q8_0.gguf --type q8_0
    npm run bench -- --only turbo --model sd-turbo-q8_0.gguf --tiny-vae sd-turbo/vae
"""

import argparse, json, os

import torch
from diffusers import AutoencoderTiny, EulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

UNET = dict(
    sample_size=64,
    in_channels=4,
    out_channels=4,
    cross_attention_dim=1024,
    attention_head_dim=(5, 10, 20, 20),
    use_linear_projection=True,
)
# OpenCLIP ViT-H/14 without its last layer.
TEXT = dict(
    vocab_size=49408,
    hidden_size=1024,
    intermediate_size=4096,
    num_hidden_layers=23,
    num_attention_heads=16,
    max_position_embeddings=77,
    hidden_act="gelu",
    bos_token_id=49406,
    eos_token_id=49407,
    pad_token_id=0,
)
SCHEDULE = dict(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    steps_offset=1,
    timestep_spacing="trailing",
)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("out")
    folder = ap.parse_args().out
    torch.manual_seed(0)
    make = {
        "unet": lambda: UNet2DConditionModel(**UNET),
        "text_encoder": lambda: CLIPTextModel(CLIPTextConfig(**TEXT)),
        "vae": AutoencoderTiny,
    }
    index = {"_class_name": "StableDiffusionPipeline", "scheduler": ["diffusers", "EulerDiscreteScheduler"]}
    # One after the other, so that memory holds one of them.
    for name, build in make.items():
        part = build().half()
        part.save_pretrained(os.path.join(folder, name))
        index[name] = ["transformers" if name == "text_encoder" else "diffusers", type(part).__name__]
    EulerDiscreteScheduler(**SCHEDULE).save_pretrained(os.path.join(folder, "scheduler"))
    with open(os.path.join(folder, "model_index.json"), "w") as file:
        json.dump(index, file, indent=1)


if __name__ == "__main__":
    main()
