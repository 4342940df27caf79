"""Writes the trained models as diffusers folders in fp16, with licences and a list of what the model knows.

python tools/train/export.py [--out ~/nd-train/export]      # OUT/emoji-64 and OUT/emoji-64-vq, as in models/
"""

import json
import shutil
from pathlib import Path

from diffusers import DDIMScheduler, VQModel
from transformers import CLIPTokenizer

from cache import averaged_autoencoder
from compose import BACKGROUND_COLOURS, SUBJECT_COLOURS, Drawings
from diffusion import SCHEDULE, Networks
from run import arguments, load_checkpoint
from scenes import COUNTS, STYLES
from tokenizer import texts, words
from vq import VQ_CONFIG

HERE = Path(__file__).parent
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "requires_safety_checker": False,
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}

GUIDANCE = 3.0  # the model's default guidance scale

VQ_CARD = """# The bundled VQ-VAE: emoji-64-vq
A VQModel in diffusers' layout, in fp16: 64×64 pixels to 16×16 codes, out of 1,024 vectors of 4, and back. It was made from the
same drawings as the model in `../emoji-64`, whose `README.md` describes data, training, evaluation and licences.
"""


def finite_half(model, name):
    """The model with fp16 weights; an error if a weight does not fit into the range of fp16."""
    model = model.half().eval()
    bad = [
        key
        for key, value in model.state_dict().items()
        if value.dtype.is_floating_point and not value.isfinite().all()
    ]
    if bad:
        raise OverflowError(f"{name}: not finite in fp16: {bad[:3]}")
    return model


def knowledge(drawings):
    """What a prompt may ask for. `words` are all words of the training captions; any other word is unknown."""
    return {
        "styles": list(STYLES),
        "colours": list(SUBJECT_COLOURS),
        "backgrounds": list(BACKGROUND_COLOURS),
        "counts": list(COUNTS.values()),
        "sizes": ["small", "big"],
        "guidanceScale": GUIDANCE,
        "relations": ["and", "left of", "right of", "next to", "above", "below"],
        "subjects": [{"names": s["names"], "keywords": s["keywords"]} for s in drawings.subjects],
        "words": words(texts(drawings)),
    }


def main():
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    out = options.out or options.work / "export"
    part_out = out.with_name(out.name + ".part")
    shutil.rmtree(part_out, ignore_errors=True)
    part, part_vq = part_out / "emoji-64", part_out / "emoji-64-vq"
    part.mkdir(parents=True)

    tokenizer = CLIPTokenizer.from_pretrained(options.work / "tokenizer")
    shutil.copytree(options.work / "tokenizer", part / "tokenizer")
    networks = Networks(tokenizer)
    state = load_checkpoint(options.work / "checkpoints" / "diffusion.pt")
    networks.load_state_dict(state["average"])
    finite_half(networks.text_encoder, "text_encoder").save_pretrained(part / "text_encoder")
    finite_half(networks.unet, "unet").save_pretrained(part / "unet")
    vae = averaged_autoencoder(options.work)
    scale = json.loads((options.work / "cache" / "scale.json").read_text())["scaling_factor"]
    vae.register_to_config(scaling_factor=scale)
    finite_half(vae, "vae").save_pretrained(part / "vae")
    DDIMScheduler(**SCHEDULE).save_pretrained(part / "scheduler")
    vq_state = load_checkpoint(options.work / "checkpoints" / "vq.pt")
    if vq_state:
        vq = VQModel(**VQ_CONFIG)
        vq.load_state_dict(vq_state["average"])
        finite_half(vq, "vqvae").save_pretrained(part_vq)
        (part_vq / "README.md").write_text(VQ_CARD)
    (part / "model_index.json").write_text(json.dumps(INDEX, indent=2) + "\n")
    known = knowledge(Drawings(options.work / "data"))
    (part / "knowledge.json").write_text(json.dumps(known, ensure_ascii=False) + "\n")
    shutil.copy(HERE / "MODEL_CARD.md", part / "README.md")
    shutil.copy(HERE / "LICENSES.md", part / "LICENSES.md")
    shutil.copytree(HERE / "licenses", part / "licenses")

    old = out.with_name(out.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    part_out.rename(out)
    shutil.rmtree(old, ignore_errors=True)
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    print(f"step {state['step']}: {size / 1e6:.1f} MB → {out}" + ("" if vq_state else " (no VQ-VAE yet)"))
    if size > 24e6:
        raise SystemExit("The models are larger than the limit of 24 MB")


if __name__ == "__main__":
    main()
