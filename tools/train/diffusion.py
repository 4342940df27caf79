"""Trains the UNet and the text encoder on cached latents: v-prediction, min-SNR weights, caption dropout, EMA.

python tools/train/diffusion.py --start DIFFUSERS_FOLDER --minutes 600      # resumes from its last checkpoint
"""

import json
import time

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from run import Average, Run, arguments, bf16, device, load_checkpoint, save_checkpoint
from scenes import KINDS

WIDTH = 128  # of the text encoder and of the cross-attention
UNET = dict(
    sample_size=16,
    in_channels=4,
    out_channels=4,
    layers_per_block=1,
    norm_num_groups=16,
    attention_head_dim=32,
    block_out_channels=(64, 96, 160),
    cross_attention_dim=WIDTH,
    # There is attention at 8×8 and 4×4 only: at 16×16 it would double the cost of a step.
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
)
SCHEDULE = dict(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    prediction_type="v_prediction",
    clip_sample=False,
    set_alpha_to_one=False,
    steps_offset=1,
)
CAPTION_DROPOUT = 0.1
# Share of each kind of cached scene in training. All scenes are made of the drawings that plain single subjects show; once
# the model has learned those, pairs are what is left to learn (--pairs).
SHARES = {"single": 0.56, "background": 0.07, "colour": 0.17, "pair": 0.13, "count": 0.035, "size": 0.035}
MIN_SNR_GAMMA = 5.0  # Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy"


def text_config(tokenizer):
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


class Networks(torch.nn.Module):
    """The networks that are trained together: text → context → prediction."""

    def __init__(self, tokenizer):
        super().__init__()
        self.text_encoder = CLIPTextModel._from_config(text_config(tokenizer), attn_implementation="eager")
        self.unet = UNet2DConditionModel(**UNET)
        # On CPUs, the backward pass of fused attention is slower than plain attention, most of all in bf16: a step takes
        # 0.53 s of one core with plain attention, and 1.03 s with fused attention.
        if not torch.cuda.is_available():
            self.unet.set_attn_processor(AttnProcessor())

    def forward(self, latents, timesteps, tokens):
        """n,4,16,16; n; n,32 → n,4,16,16."""
        return self.unet(latents, timesteps, self.text_encoder(tokens).last_hidden_state).sample


@torch.no_grad()
def start_from(networks, tokenizer, folder):
    """Copies UNet and text encoder of another model; a new token starts as the mean of the old tokens that spell it."""
    networks.unet.load_state_dict(UNet2DConditionModel.from_pretrained(f"{folder}/unet").float().state_dict())
    old_tokenizer = CLIPTokenizer.from_pretrained(f"{folder}/tokenizer")
    old = CLIPTextModel.from_pretrained(f"{folder}/text_encoder").float().state_dict()
    new = networks.text_encoder.state_dict()
    for key, value in old.items():
        if "position_embedding" in key:
            new[key][: len(value)] = value
        elif "token_embedding" in key:
            for token, number in tokenizer.get_vocab().items():
                if token.startswith("<|"):
                    parts = [old_tokenizer.get_vocab()[token]]
                else:
                    parts = old_tokenizer(token.removesuffix("</w>"))["input_ids"][1:-1]
                if parts:
                    new[key][number] = value[parts].mean(0)
        elif new[key].shape == value.shape:
            new[key].copy_(value)
    networks.text_encoder.load_state_dict(new)


class Cache:
    """The shards of cache.py as one array; look() adds those that were written since the last call."""

    def __init__(self, folder, target):
        self.folder, self.target, self.shards, self.seen = folder, target, [], set()
        self.scale = None
        self.rows = [[] for _ in KINDS]  # (shard, row) of each kind

    def look(self):
        for path in sorted(self.folder.glob("latents-*.npy")):
            if path.name not in self.seen:
                self.seen.add(path.name)
                beside = lambda name: np.load(
                    path.with_name(path.name.replace("latents", name)), mmap_mode="r"
                )
                kinds = beside("kinds")
                for kind, rows in enumerate(self.rows):
                    rows += [(len(self.shards), row) for row in np.flatnonzero(kinds == kind)]
                self.shards.append((np.load(path, mmap_mode="r"), beside("tokens")))
        if self.scale is None and self.shards:
            self.scale = json.loads((self.folder / "scale.json").read_text())["scaling_factor"]
        return len(self.shards)

    def batch(self, random, count, pairs):
        """Latents and tokens of a batch. `pairs` is the share of pairs; the other kinds keep their proportions in SHARES."""
        rest = (1 - pairs) / (1 - SHARES["pair"])
        kinds = random.choice(
            len(KINDS), count, p=[pairs if kind == "pair" else SHARES[kind] * rest for kind in KINDS]
        )
        picks = [self.rows[kind][random.integers(len(self.rows[kind]))] for kind in kinds]
        latents = np.stack([self.shards[s][0][r] for s, r in picks]).astype(np.float32) * self.scale
        tokens = np.stack([self.shards[s][1][r] for s, r in picks]).astype(np.int64)
        return torch.from_numpy(latents).to(self.target), torch.from_numpy(tokens).to(self.target)


def v_loss(networks, scheduler, latents, tokens):
    """Min-SNR-weighted squared error of v = √ᾱ ε − √(1−ᾱ) x₀."""
    noise = torch.randn_like(latents)
    # Stratified timesteps have the same distribution and give a less noisy gradient.
    count = len(latents)
    steps = (
        (torch.arange(count, device=latents.device) + torch.rand(count, device=latents.device)) / count * 1000
    ).long()
    steps = steps.clamp(0, 999)[torch.randperm(count, device=latents.device)]
    target = scheduler.get_velocity(latents, noise, steps)
    with bf16():
        prediction = networks(scheduler.add_noise(latents, noise, steps), steps, tokens).float()
    alpha = scheduler.alphas_cumprod.to(latents.device)[steps]
    snr = alpha / (1 - alpha)
    weight = snr.clamp(max=MIN_SNR_GAMMA) / (snr + 1)
    error = (prediction - target).square().mean((1, 2, 3))
    return (error * weight).mean() / weight.mean(), error.mean()


def main():
    parser = arguments(__doc__.split("\n")[0], steps=12000, batch=32, rate=1e-3, minutes=600)
    parser.add_argument("--start", help="diffusers folder to start from")
    parser.add_argument(
        "--pairs", type=float, default=SHARES["pair"], help="share of pictures with two subjects"
    )
    options = parser.parse_args()
    target, path = device(), options.work / "checkpoints" / "diffusion.pt"
    tokenizer = CLIPTokenizer.from_pretrained(options.work / "tokenizer")
    torch.manual_seed(0)
    networks = Networks(tokenizer).to(target)
    state = load_checkpoint(path, options.resume)
    if options.start and not state:
        start_from(networks, tokenizer, options.start)
    embeddings = [p for n, p in networks.named_parameters() if "embedding" in n or p.ndim < 2]
    taken = {id(p) for p in embeddings}
    others = [p for p in networks.parameters() if id(p) not in taken]
    optimizer = torch.optim.AdamW(
        [{"params": embeddings, "weight_decay": 0.0}, {"params": others}],
        options.rate,
        betas=(0.9, 0.99),
        weight_decay=0.01,
        fused=True,
    )
    average, start = Average(networks, 0.999), 0
    if state:
        networks.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average.weights, average.count, start = state["average"], state["count"], state["step"]
        average.weights = {k: v.to(target) for k, v in average.weights.items()}
    cache = Cache(options.work / "cache", target)
    while not cache.look():
        print("waiting for the first shard of cache.py", flush=True)
        time.sleep(30)
    scheduler = DDIMScheduler(**SCHEDULE)
    empty = torch.tensor(
        tokenizer("", padding="max_length", max_length=tokenizer.model_max_length)["input_ids"], device=target
    )

    def save(step):
        save_checkpoint(
            path,
            {
                "model": networks.state_dict(),
                "average": average.weights,
                "count": average.count,
                "optimizer": optimizer.state_dict(),
                "step": step,
            },
        )

    random = np.random.default_rng([4, start])
    torch.manual_seed(start)
    run = Run("diffusion", options, optimizer, save, start, warmup=200, plateau=0.6)
    for step in run:
        if step % 100 == 0:
            cache.look()
        latents, tokens = cache.batch(random, options.batch, options.pairs)
        dropped = torch.rand(len(tokens), device=target) < CAPTION_DROPOUT
        tokens[dropped] = empty
        loss, plain = v_loss(networks, scheduler, latents, tokens)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(networks.parameters(), 1.0)
        optimizer.step()
        average.update(networks)
        run.note(loss=loss, unweighted=plain, gradient=norm)


if __name__ == "__main__":
    main()
