"""Draws a sheet of fixed prompts with the averaged weights of the newest checkpoint, to follow the training.

python tools/train/look.py            # → WORK/sheets/STEP.png
"""

import json

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image
from transformers import CLIPTokenizer

from cache import averaged_autoencoder
from diffusion import SCHEDULE, Networks
from run import Threads, arguments, load_checkpoint

PROMPTS = """flat cat|noto dog|flat pizza|noto rocket|flat heart|noto penguin|flat guitar|noto banana|flat ghost|noto castle
noto crab|flat hamburger|noto sunflower|flat bicycle|noto crown|flat owl|noto cactus|flat robot|noto umbrella|flat key
a blue cat|a green pizza|a purple penguin|noto red car|flat pink rocket|noto yellow fish|flat orange book|noto blue apple|a pink cactus|a green ghost
a cat and a pizza|a blue cat and a pizza|a flat dog left of a flat tree|a noto sun above a noto house|a car and a star|a noto heart next to a noto key|a lion below a cloud|flat cat on a yellow background|two apples|three noto stars"""


def main():
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--guidance", type=float, default=3.0)
    options = parser.parse_args()
    Threads(options.threads)
    tokenizer = CLIPTokenizer.from_pretrained(options.work / "tokenizer")
    networks = Networks(tokenizer)
    state = load_checkpoint(options.work / "checkpoints" / "diffusion.pt")
    networks.load_state_dict(state["average"])
    vae = averaged_autoencoder(options.work)
    latents_scale = json.loads((options.work / "cache" / "scale.json").read_text())
    vae.register_to_config(**latents_scale)
    pipe = StableDiffusionPipeline(
        vae,
        networks.text_encoder.eval(),
        tokenizer,
        networks.unet.eval(),
        DDIMScheduler(**SCHEDULE),
        None,
        None,
        None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    rows = [line.split("|") for line in PROMPTS.split("\n")]
    prompts = [prompt for row in rows for prompt in row]
    generators = [torch.Generator().manual_seed(i) for i in range(len(prompts))]
    with torch.autocast("cpu", torch.bfloat16, enabled=not torch.cuda.is_available()):
        images = pipe(
            prompts,
            num_inference_steps=20,
            guidance_scale=options.guidance,
            height=64,
            width=64,
            generator=generators,
        ).images
    sheet = Image.new("RGB", (64 * len(rows[0]), 64 * len(rows)), "white")
    for i, image in enumerate(images):
        sheet.paste(image, (i % len(rows[0]) * 64, i // len(rows[0]) * 64))
    folder = options.work / "sheets"
    folder.mkdir(exist_ok=True)
    path = folder / f"{state['step']:06}.png"
    sheet.resize((sheet.width * 2, sheet.height * 2), Image.Resampling.LANCZOS).save(path)
    print(path)


if __name__ == "__main__":
    main()
