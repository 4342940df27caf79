"""Trains a tokenizer like CLIP's: byte-level BPE on the captions, so that every word the model knows is one token.

python tools/train/tokenizer.py        # → WORK/tokenizer
"""

import json
import re

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from compose import Drawings
from run import arguments
from scenes import Scenes, plural

START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 32  # the longest caption (two styled, coloured subjects on a background) has 22 words
PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # CLIP's own


def texts(drawings, count=20000):
    """Captions, and every name, plural and keyword a few more times, so that none is too rare to be merged."""
    scenes = Scenes(drawings.subjects, np.random.default_rng(3))
    for _ in range(count):
        yield scenes.next()[1]
    for subject in drawings.subjects:
        for name in [*subject["names"], plural(subject["names"][0]), *subject["keywords"]]:
            yield from [name] * 4


def words(lines):
    """Every word of the captions. The vocabulary does not say: some of its tokens are only ends of words."""
    return sorted({word for line in lines for word in re.findall(r"[a-z]+", line)})


def byte_level_bpe(lines):
    """Returns the vocabulary {token: id} and the merges [(left, right)]."""
    tokenizer = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>", continuing_subword_prefix=""))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    # The order is CLIP's: the 256 bytes, the 256 bytes as ends of words, the merges, and the two special tokens.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        min_frequency=2,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    trained = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in trained["merges"]]
    tokens = alphabet + [a + "</w>" for a in alphabet]
    known = set(tokens)
    kept = []
    for left, right in merges:
        if left in known and right in known and left + right not in known:
            kept.append((left, right))
            tokens.append(left + right)
            known.add(left + right)
    vocabulary = {token: i for i, token in enumerate(tokens + [START, END])}
    return vocabulary, kept


def main():
    options = arguments(__doc__.split("\n")[0]).parse_args()
    drawings = Drawings(options.work / "data")
    lines = list(texts(drawings))
    vocabulary, merges = byte_level_bpe(lines)
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)
    folder = options.work / "tokenizer"
    tokenizer.save_pretrained(folder)
    # These are the files of the older, slower tokenizers, which are all that some loaders read.
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    known = words(lines)
    split = [w for w in known if len(tokenizer(w)["input_ids"]) != 3]
    longest = max(len(tokenizer(line)["input_ids"]) for line in lines)
    print(
        f"{len(vocabulary)} tokens, {len(known)} words, {len(split)} of them in pieces {split[:9]}, longest caption {longest} tokens"
    )


if __name__ == "__main__":
    main()
