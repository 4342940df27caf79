"""Scores a folder of pictures that were drawn from the list of prompts.py.

    python tools/evaluate/score.py MODEL_FOLDER PROMPTS.json IMAGES_FOLDER [--out figures.json]

single  the nearest training picture of either style, in the latents of the autoencoder, shows the requested subject
colour  the hue that covers most of the picture is the requested one (reported too: the subject is the right one as well)
pair    on both sides, the nearest half of a picture shows the requested subject
seeds   the pictures of two seeds differ by more than 0.05 of the range (root mean square)
"""

import argparse
import colorsys
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image

import common  # noqa: F401
from compose import SIZE, SUBJECT_COLOURS, Drawings, compose
from run import WORK, Threads, to_input
from scenes import Scenes

DIFFERENT = 0.05


@torch.no_grad()
def encode(vae, images):
    """uint8 [n, h, w, 3] → latents [n, 4, h/4, w/4]."""
    return torch.cat(
        [vae.encode(to_input(images[i : i + 64])).latent_dist.mean for i in range(0, len(images), 64)]
    )


def item(subject, style, x=SIZE / 2, y=SIZE / 2, size=60, flip=False, colour=None):
    return {"subject": subject, "style": style, "x": x, "y": y, "size": size, "flip": flip, "colour": colour}


class References:
    """Training pictures of every subject, encoded once for each autoencoder: latents [n, d] and subjects [n]."""

    def __init__(self, vae, drawings, work):
        self.vae, self.drawings, self.work = vae, drawings, work
        digest = hashlib.sha256()
        for value in vae.encoder.state_dict().values():
            digest.update(value.numpy().tobytes())
        self.folder = work / "references" / digest.hexdigest()[:12]
        self.folder.mkdir(parents=True, exist_ok=True)

    def of(self, name, region, sizes, **place):
        """Latents of all subjects in all styles and sizes, plain and mirrored; `region` selects the latents to compare."""
        path = self.folder / f"{name}.npz"
        if not path.exists():
            items = [
                item(s, style, size=size, flip=flip, **place)
                for s in range(len(self.drawings.subjects))
                for style in range(len(self.drawings.styles))
                for flip in (False, True)
                for size in sizes
            ]
            images = np.stack([compose(self.drawings, {"background": None, "items": [i]}) for i in items])
            np.savez(path, latents=encode(self.vae, images).numpy(), subjects=[i["subject"] for i in items])
        kept = np.load(path)
        return torch.from_numpy(kept["latents"])[(..., *region)].flatten(1), kept["subjects"]

    def seen(self, shards=4):
        """The single plain subjects among the cached training pictures, moved and scaled as they were."""
        latents, subjects = [], []
        for number in range(shards):
            path = self.work / "cache" / f"latents-{number:03}.npy"
            if path.exists():
                cached = np.load(path, mmap_mode="r")
                captions = (self.work / "cache" / f"captions-{number:03}.txt").read_text().splitlines()
                scenes = Scenes(self.drawings.subjects, np.random.default_rng([2, number]))
                for row in range(len(cached)):
                    scene, caption = scenes.next()
                    if caption != captions[row]:
                        raise ValueError(
                            f"{path} was made by another version of scenes.py: {captions[row]!r} ≠ {caption!r}"
                        )
                    first = scene["items"][0]
                    if (
                        len(scene["items"]) == 1
                        and not scene["background"]
                        and not first["colour"]
                        and 56 <= first["size"] <= 64
                    ):
                        latents.append(np.asarray(cached[row], np.float32))
                        subjects.append(first["subject"])
        return torch.from_numpy(np.stack(latents)).flatten(1), np.array(subjects)


WHOLE = (slice(None), slice(None))
LEFT, RIGHT = (slice(None), slice(0, 8)), (slice(None), slice(8, 16))


def nearest(latents, references):
    """The subject of the reference that is nearest to each row."""
    known, subjects = references
    return subjects[torch.cdist(latents.flatten(1), known).argmin(1).numpy()]


def dominant_colour(image):
    """The name of the hue that covers most of a picture, weighted by saturation; white, grey and black do not count."""
    rgb = np.asarray(image, np.float32) / 255
    high, low = rgb.max(-1), rgb.min(-1)
    chroma = high - low
    hues = np.array([colorsys.rgb_to_hsv(*p)[0] for p in rgb.reshape(-1, 3)])
    names = list(SUBJECT_COLOURS)
    centres = np.array([colorsys.rgb_to_hsv(*(c / 255 for c in SUBJECT_COLOURS[n]))[0] for n in names])
    apart = np.abs(hues[:, None] - centres)
    closest = np.minimum(apart, 1 - apart).argmin(1)
    weights = np.bincount(closest, np.where(chroma > 0.15, chroma, 0).ravel(), minlength=len(names))
    return names[int(weights.argmax())] if weights.sum() > 0 else None


def score(prompts, images, vae, drawings, work=WORK):
    """For each kind of prompt, a list with one dict of verdicts for each prompt."""
    references = References(vae, drawings, work)
    latents = encode(vae, images)
    verdicts = {}
    for kind in ("single", "colour", "pair", "seeds"):
        rows = [i for i, p in enumerate(prompts) if p["kind"] == kind]
        if not rows:
            continue
        asked = [prompts[i]["subjects"] for i in rows]
        mine = latents[rows]
        if kind == "single":
            plain, seen = references.of("plain", WHOLE, sizes=(58, 62)), references.seen()
            found = nearest(mine, (torch.cat([plain[0], seen[0]]), np.concatenate([plain[1], seen[1]])))
            verdicts[kind] = [{"right": bool(f == a[0]), "found": int(f)} for f, a in zip(found, asked)]
        elif kind == "colour":
            verdicts[kind] = []
            for i, a in zip(rows, asked):
                wanted = prompts[i]["colour"]
                tinted = references.of(wanted, WHOLE, sizes=(60,), colour=wanted)
                found, hue = nearest(latents[i : i + 1], tinted)[0], dominant_colour(images[i])
                verdicts[kind].append(
                    {"right": hue == wanted, "subject": bool(found == a[0]), "hue": hue, "found": int(found)}
                )
        elif kind == "pair":
            left = nearest(mine[..., LEFT[1]], references.of("left", LEFT, sizes=(30,), x=16))
            right = nearest(mine[..., RIGHT[1]], references.of("right", RIGHT, sizes=(30,), x=48))
            verdicts[kind] = [
                {
                    "right": bool(l == a[0] and r == a[1]),
                    "one": bool(l == a[0]) + bool(r == a[1]),
                    "found": [int(l), int(r)],
                }
                for l, r, a in zip(left, right, asked)
            ]
        else:
            pictures = images[rows].astype(np.float32) / 255
            apart = np.sqrt(((pictures[0::2] - pictures[1::2]) ** 2).mean((1, 2, 3)))
            verdicts[kind] = [{"right": bool(d > DIFFERENT), "distance": float(d)} for d in apart]
    return verdicts


def figures(verdicts):
    result = {
        kind: {"count": len(v), "right": sum(x["right"] for x in v) / len(v)} for kind, v in verdicts.items()
    }
    if "colour" in result:
        result["colour"]["subject too"] = sum(v["right"] and v["subject"] for v in verdicts["colour"]) / len(
            verdicts["colour"]
        )
    if "pair" in result:
        result["pair"]["sides right"] = sum(v["one"] for v in verdicts["pair"]) / 2 / len(verdicts["pair"])
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="the diffusers folder that holds the autoencoder")
    parser.add_argument("prompts")
    parser.add_argument("images", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    Threads(0)
    with open(options.prompts) as file:
        prompts = [p for p in json.load(file) if (options.images / f"{p['id']}.png").exists()]
    images = np.stack(
        [np.asarray(Image.open(options.images / f"{p['id']}.png").convert("RGB")) for p in prompts]
    )
    vae = AutoencoderKL.from_pretrained(f"{options.model}/vae").float().eval()
    drawings = Drawings(WORK / "data")
    verdicts = score(prompts, images, vae, drawings)
    result = figures(verdicts)
    print(json.dumps(result, indent=1))
    for kind, rows in verdicts.items():
        wrong = [p for p, v in zip([p for p in prompts if p["kind"] == kind], rows) if not v["right"]]
        print(f"{kind}: wrong: " + ", ".join(p["prompt"] for p in wrong))
    if options.out:
        options.out.write_text(json.dumps({"figures": result, "verdicts": verdicts}, indent=1))


if __name__ == "__main__":
    main()
