"""Writes the prompts that the bundled model is evaluated with, or (--tune) those that it may be tuned with.

    python tools/evaluate/prompts.py OUT.json [--tune]

OUT.json is a list of {id, kind, prompt, seed, and what the picture should show}. Any program may draw the prompts; it saves
ID.png for each of them in one folder, and score.py scores the folder. Prompts for tuning come from another seed.
"""

import argparse
import json

import numpy as np

import common  # noqa: F401 (adds tools/train to the path)
from compose import Drawings
from run import WORK
from scenes import STYLES, article, held_out_pairs


def single(subjects, random, count, tune):
    """Every subject once before any comes a second time, in alternating styles; for tuning, in the other style."""
    order = np.random.default_rng(4).permutation(len(subjects))
    for i in range(count):
        subject, style = int(order[i % len(order)]), STYLES[(i + tune) % 2]
        yield {"prompt": f"{style} {subjects[subject]['names'][0]}", "subjects": [subject]}


def colour(subjects, random, count, tune):
    """Combinations of colour and subject that training leaves out; for tuning, those that the evaluation does not use."""
    pairs = held_out_pairs(subjects)
    order = np.random.default_rng(4).permutation(len(pairs))
    for i in order[100:][:count] if tune else order[:count]:
        name, subject = pairs[i]
        style = STYLES[int(random.integers(2))]
        yield {
            "prompt": f"{style} {name} {subjects[subject]['names'][0]}",
            "subjects": [subject],
            "colour": name,
        }


def pair(subjects, random, count, tune):
    """Two subjects, the left one first in `subjects`."""
    for i in range(count):
        left, right = (int(s) for s in random.choice(len(subjects), 2, replace=False))
        style = STYLES[int(random.integers(2))]
        a, b = (article(f"{style} {subjects[s]['names'][0]}") for s in (left, right))
        yield {"prompt": [f"{a} and {b}", f"{a} left of {b}"][i % 2], "subjects": [left, right]}


def seeds(subjects, random, count, tune):
    """The same subject from two seeds; the pictures should differ."""
    for prompt in single(subjects, random, count, tune):
        prompt["prompt"] = prompt["prompt"].split(" ", 1)[1]  # the seed decides the style
        yield prompt
        yield dict(prompt)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="share of the prompts of each kind, for a quick look"
    )
    options = parser.parse_args()
    subjects = Drawings(WORK / "data").subjects
    random = np.random.default_rng(777 if options.tune else 4)
    prompts = []
    for kind, make, count in (
        ("single", single, 200),
        ("colour", colour, 100),
        ("pair", pair, 100),
        ("seeds", seeds, 20),
    ):
        for i, prompt in enumerate(make(subjects, random, max(int(count * options.scale), 1), options.tune)):
            seed = int(random.integers(2**31))
            prompts.append({"id": f"{kind}-{i:03}", "kind": kind, "seed": seed, **prompt})
    with open(options.out, "w") as file:
        json.dump(prompts, file, indent=1)
    print(f"{len(prompts)} prompts → {options.out}")


if __name__ == "__main__":
    main()
