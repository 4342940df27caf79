#!/usr/bin/env python3
"""Writes a ControlNet with random weights for a diffusers folder's UNet, as fp16: for the bench case `control`.

usage: make_control_net.py MODEL_DIR OUT_DIR

    python tools/bench/make_control_net.py sd15 control
    npm run bench -- --only control --model sd15-q8_0.gguf --control-net control
"""

import argparse, os

import torch
from diffusers import ControlNetModel, UNet2DConditionModel


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("model")
    ap.add_argument("out")
    args = ap.parse_args()
    config = UNet2DConditionModel.load_config(os.path.join(args.model, "unet"))
    torch.manual_seed(0)
    net = ControlNetModel.from_unet(UNet2DConditionModel.from_config(config), load_weights_from_unet=False)
    # A new ControlNet's last layers are zero.
    for name, parameter in net.named_parameters():
        if name.startswith(
            ("controlnet_down_blocks", "controlnet_mid_block", "controlnet_cond_embedding.conv_out")
        ):
            torch.nn.init.normal_(parameter, std=0.02)
    net.half().save_pretrained(args.out)


if __name__ == "__main__":
    main()
