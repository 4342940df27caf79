"""Composes the picture that each evaluation prompt asks for. score.py must give these pictures a high score.

python tools/evaluate/oracle.py PROMPTS.json OUT_FOLDER
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

import common  # noqa: F401
from compose import Drawings, compose
from run import WORK
from scenes import STYLES, Scenes


def scene(scenes, prompt):
    """A scene with the random positions, sizes and mirroring of the training pictures."""
    words = prompt["prompt"].split()
    style = next((STYLES.index(w) for w in words if w in STYLES), int(scenes.random.integers(len(STYLES))))
    items = []
    for place, subject in enumerate(prompt["subjects"]):
        item = scenes._item(style) | {"subject": subject, "colour": prompt.get("colour")}
        if len(prompt["subjects"]) == 2:
            item |= scenes._place((16, 48)[place], 32)
        items.append(item)
    return {"background": None, "items": items}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("prompts")
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    drawings = Drawings(WORK / "data")
    scenes = Scenes(drawings.subjects, np.random.default_rng(9))
    with open(options.prompts) as file:
        for prompt in json.load(file):
            Image.fromarray(compose(drawings, scene(scenes, prompt))).save(
                options.out / f"{prompt['id']}.png"
            )


if __name__ == "__main__":
    main()
