"""Random scenes with captions, for training; some combinations are held out for the evaluation."""

import hashlib

from compose import SIZE, SUBJECT_COLOURS, BACKGROUND_COLOURS

STYLES = ("flat", "noto")
COUNTS = {2: "two", 3: "three", 4: "four"}
# Relative frequency of each kind of scene. Plain single subjects are most frequent: all other kinds are built from them.
KINDS = {"single": 43, "background": 9, "colour": 18, "pair": 18, "count": 6, "size": 6}
HELD_OUT_SHARE = 0.08


def held_out(colour, slug):
    """Whether no training picture shows this colour and subject together; a hash decides, not chance."""
    digest = hashlib.sha256(f"held out: {colour} {slug}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < HELD_OUT_SHARE


def held_out_pairs(subjects):
    """All pairs (colour, subject index) that are held out for the evaluation."""
    return [(c, i) for i, s in enumerate(subjects) for c in SUBJECT_COLOURS if held_out(c, s["slug"])]


def plural(noun):
    words = noun.split(" ")
    last = words[-1]
    irregular = {
        "fish": "fish",
        "sheep": "sheep",
        "mouse": "mice",
        "tooth": "teeth",
        "die": "dice",
        "knife": "knives",
        "wolf": "wolves",
        "scarf": "scarves",
        "leaf": "leaves",
        "candy": "candies",
        "cherry": "cherries",
    }
    if last in irregular:
        last = irregular[last]
    elif last.endswith(("ies", "ves")) or (
        last.endswith("s") and not last.endswith("ss") and last not in ("bus", "octopus", "cactus")
    ):
        pass  # already plural: glasses, jeans, fries
    elif last.endswith(("s", "x", "ch", "sh", "z")):
        last += "es"
    elif last.endswith("y") and last[-2] not in "aeiou":
        last = last[:-1] + "ies"
    else:
        last += "s"
    return " ".join(words[:-1] + [last])


def is_plural(noun):
    """For names such as glasses, fries and jeans. Fish and sheep also take "a"."""
    return plural(noun) == noun and not noun.endswith(("fish", "sheep"))


def article(phrase):
    if is_plural(phrase.split(" on ")[0]):
        return phrase
    return ("an " if phrase[0] in "aeiou" and not phrase.startswith(("uni", "ufo")) else "a ") + phrase


class Scenes:
    """Draws scenes from a NumPy generator, so that a seed and a count determine the training set."""

    def __init__(self, subjects, random):
        self.subjects, self.random = subjects, random
        self.kinds = list(KINDS)
        self.shares = [KINDS[k] / sum(KINDS.values()) for k in self.kinds]
        self.kind = None  # of the last scene

    def next(self):
        """The next scene for compose.py, and its caption."""
        kind = self.kind = str(self.random.choice(self.kinds, p=self.shares))
        style = int(self.random.integers(len(STYLES)))
        # Most captions name the style. Without it, the model chooses one.
        named = self.chance(0.7)
        scene, phrase = getattr(self, f"_{kind}")(style, STYLES[style] if named else None)
        if scene["background"] is None and kind in ("colour", "pair", "count", "size") and self.chance(0.12):
            scene["background"], phrase = self._on_background(phrase, scene)
        return scene, phrase

    # There is one method for each kind, which returns scene and phrase.

    def _single(self, style, named):
        item = self._item(style)
        return self._scene([item]), self._phrase(item, named, self._name(item))

    def _background(self, style, named):
        scene, phrase = self._single(style, named)
        scene["background"], phrase = self._on_background(phrase, scene)
        return scene, phrase

    def _colour(self, style, named):
        item = self._item(style, colour=True)
        return self._scene([item]), self._phrase(item, named, self._name(item))

    def _size(self, style, named):
        word, low, high, wander = (("small", 28, 36, 8), ("big", 74, 82, 3))[int(self.random.integers(2))]
        item = self._item(style, colour=self.chance(0.2))
        item["size"] = self.random.uniform(low, high)
        item["x"], item["y"] = (SIZE / 2 + self.random.uniform(-wander, wander, 2)).tolist()
        return self._scene([item]), self._phrase(item, named, f"{word} {self._name(item)}")

    def _count(self, style, named):
        number = int(self.random.choice([2, 3, 4], p=[0.45, 0.35, 0.2]))
        places = {
            2: [(16, 32), (48, 32)],
            3: [(32, 17), (16, 47), (48, 47)],
            4: [(16, 16), (48, 16), (16, 48), (48, 48)],
        }[number]
        first = self._item(style, colour=self.chance(0.2))
        items = [dict(first, **self._place(x, y)) for x, y in places]
        words = [COUNTS[number], named, first["colour"], plural(self.subjects[first["subject"]]["names"][0])]
        return self._scene(items), " ".join(w for w in words if w)

    def _pair(self, style, named):
        one = self._item(style, colour=self.chance(0.25))
        two = self._item(style, colour=self.chance(0.25))
        while two["subject"] == one["subject"]:
            two = self._item(style, colour=self.chance(0.25))
        a, b = (self._phrase(item, named, self._name(item), always_article=True) for item in (one, two))
        upright = self.chance(0.35)
        places = [(32, 16), (32, 48)] if upright else [(16, 32), (48, 32)]
        one.update(self._place(*places[0]))
        two.update(self._place(*places[1]))
        if upright:
            phrase = f"{a} above {b}" if self.chance(0.5) else f"{b} below {a}"
        else:
            forms = [
                f"{a} and {b}",
                f"{a} and {b}",
                f"{a} left of {b}",
                f"{b} right of {a}",
                f"{a} next to {b}",
            ]
            phrase = forms[int(self.random.integers(len(forms)))]
        return self._scene([one, two]), phrase

    # Parts of scenes and phrases.

    def chance(self, p):
        return bool(self.random.random() < p)

    def _scene(self, items):
        return {"background": None, "items": items}

    def _item(self, style, colour=False):
        subject = int(self.random.integers(len(self.subjects)))
        item = {"subject": subject, "style": style, "colour": None, "flip": self.chance(0.25)}
        if colour:
            allowed = [c for c in SUBJECT_COLOURS if not held_out(c, self.subjects[subject]["slug"])]
            item["colour"] = str(self.random.choice(allowed))
        size = self.random.uniform(56, 64)
        slack = max((66 - size) / 2, 1)
        item["size"] = size
        item["x"], item["y"] = (SIZE / 2 + self.random.uniform(-slack, slack, 2)).tolist()
        return item

    def _place(self, x, y):
        dx, dy = self.random.uniform(-1.5, 1.5, 2)
        return {"size": self.random.uniform(28, 32), "x": float(x + dx), "y": float(y + dy)}

    def _plain_name(self, item):
        """The first name most of the time, another name or a keyword now and then."""
        subject = self.subjects[item["subject"]]
        others = subject["names"][1:]
        if others and self.chance(0.2):
            return str(self.random.choice(others))
        if subject["keywords"] and self.chance(0.05):
            return str(self.random.choice(subject["keywords"]))
        return subject["names"][0]

    def _name(self, item):
        name = self._plain_name(item)
        return f"{item['colour']} {name}" if item["colour"] else name

    def _phrase(self, item, style, name, always_article=False):
        phrase = f"{style} {name}" if style else name
        return article(phrase) if always_article or self.chance(0.5) else phrase

    def _on_background(self, phrase, scene):
        used = {item["colour"] for item in scene["items"]}
        colour = str(self.random.choice([c for c in BACKGROUND_COLOURS if c not in used]))
        return colour, f"{phrase} on {article(colour)} background"
