"""Composes pictures from scenes: drawings, recoloured or not, on a plain background."""

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 64  # of a training picture, in pixels

# Seven hues that are easy to tell from one another in a picture; sRGB.
SUBJECT_COLOURS = {
    "red": (222, 40, 46),
    "orange": (250, 134, 20),
    "yellow": (250, 214, 36),
    "green": (52, 168, 66),
    "blue": (36, 104, 226),
    "purple": (142, 60, 206),
    "pink": (244, 96, 172),
}
BACKGROUND_COLOURS = {
    "red": (232, 92, 92),
    "orange": (252, 176, 96),
    "yellow": (254, 232, 128),
    "green": (148, 214, 144),
    "blue": (140, 190, 246),
    "purple": (190, 150, 232),
    "pink": (252, 184, 214),
    "gray": (176, 178, 184),
    "black": (30, 30, 34),
}


class Drawings:
    """The subjects that data.mjs rendered: RGBA at 128×128 for each subject and style."""

    def __init__(self, folder):
        folder = Path(folder)
        self.index = json.loads((folder / "drawings.json").read_text())
        self.subjects, self.styles = self.index["subjects"], self.index["styles"]
        size = self.index["size"]
        shape = (len(self.subjects), len(self.styles), size, size, 4)
        self.pixels = np.memmap(folder / "drawings.bin", np.uint8, "r", shape=shape)
        # A cached picture takes 64 KB, so less than half a gigabyte holds all colours of most subjects.
        self.premultiplied = lru_cache(maxsize=6000)(self._premultiplied)

    def _premultiplied(self, subject, style, colour):
        rgba = np.asarray(self.pixels[subject, style], np.float32) / 255
        if colour:
            rgba = recolour(rgba, SUBJECT_COLOURS[colour])
        rgba = np.concatenate([rgba[..., :3] * rgba[..., 3:], rgba[..., 3:]], -1)
        return Image.frombytes("RGBa", rgba.shape[:2], (rgba * 255 + 0.5).astype(np.uint8).tobytes())


def recolour(rgba, colour):
    """The drawing in shades of one colour: median brightness becomes the colour itself; darker and lighter parts stay so."""
    light = rgba[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32)
    visible = rgba[..., 3] > 0.5
    median = float(np.clip(np.median(light[visible]) if visible.any() else 0.5, 0.05, 0.95))
    gamma = np.clip(np.log(0.5) / np.log(median), 0.4, 3.0)
    shade = np.clip(light, 0, 1)[..., None] ** gamma
    colour = np.array(colour, np.float32) / 255
    dark, pale = colour * 0.15, colour * 0.25 + 0.75
    rgb = np.where(
        shade < 0.5, dark + (colour - dark) * shade * 2, colour + (pale - colour) * (shade * 2 - 1)
    )
    return np.concatenate([rgb, rgba[..., 3:]], -1).astype(np.float32)


def compose(drawings, scene):
    """Draws a scene of scenes.py: uint8 [SIZE, SIZE, 3]. Items are drawn in order, each centred on (x, y) in pixels."""
    background = BACKGROUND_COLOURS[scene["background"]] if scene["background"] else (255, 255, 255)
    canvas = np.empty((SIZE, SIZE, 3), np.float32)
    canvas[:] = background
    for item in scene["items"]:
        image = drawings.premultiplied(item["subject"], item["style"], item["colour"])
        size = int(round(item["size"]))
        patch = np.asarray(
            image.resize((size, size), Image.Resampling.BOX if size >= 64 else Image.Resampling.HAMMING),
            np.float32,
        )
        if item["flip"]:
            patch = patch[:, ::-1]
        left, top = int(round(item["x"] - size / 2)), int(round(item["y"] - size / 2))
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + size, SIZE), min(top + size, SIZE)
        patch = patch[y0 - top : y1 - top, x0 - left : x1 - left]
        canvas[y0:y1, x0:x1] = canvas[y0:y1, x0:x1] * (1 - patch[..., 3:] / 255) + patch[..., :3]
    return (canvas + 0.5).clip(0, 255).astype(np.uint8)
