"""Models of diffusers and transformers with random weights, and the plain loop that draws a picture with them."""

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel

LENGTH = 77
GUIDANCE = 7.5
CLIP_LARGE = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}
CLIP_GIANT = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
CROSS, PLAIN = "CrossAttn{}Block2D", "{}Block2D"
MODELS = {
    "sd15": {
        "title": "SD 1.5",
        "unet": {
            "cross_attention_dim": 768,
            "attention_head_dim": 8,
            "block_out_channels": (320, 640, 1280, 1280),
        },
        "small": {"block_out_channels": (32, 32, 32, 32)},
        "texts": (CLIP_LARGE,),
        "scaling": 0.18215,
    },
    "sdxl": {
        "title": "SDXL",
        "unet": {
            "cross_attention_dim": 2048,
            "attention_head_dim": (5, 10, 20),
            "block_out_channels": (320, 640, 1280),
            "down_block_types": tuple(block.format("Down") for block in (PLAIN, CROSS, CROSS)),
            "up_block_types": tuple(block.format("Up") for block in (CROSS, CROSS, PLAIN)),
            "transformer_layers_per_block": (1, 2, 10),
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        "small": {
            "block_out_channels": (32, 64, 64),
            "attention_head_dim": (2, 4, 4),
            "transformer_layers_per_block": (1, 1, 2),
        },
        "texts": (CLIP_LARGE, CLIP_GIANT),
        "scaling": 0.13025,
    },
}


def text_encoders(configs, small):
    """Error ImportError: transformers is not installed."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    layers = {"num_hidden_layers": 2} if small else {}
    return [
        (CLIPTextModelWithProjection if "projection_dim" in config else CLIPTextModel)(
            CLIPTextConfig(**{**config, **layers})
        )
        for config in configs
    ]


class Model:
    def __init__(self, config, device, small, compiled):
        self.config, self.device, self.small = config, device, small
        self.title, self.scaling = config["title"], config["scaling"]
        self.dtype = torch.half if device == "cuda" else torch.float32
        unet = {**config["unet"], **(config["small"] if small else {})}
        self.width, self.added = unet["cross_attention_dim"], "addition_embed_type" in unet
        self.unet = self.make(lambda: UNet2DConditionModel(sample_size=64, **unet))
        if compiled:
            # Static shapes: each size is compiled by itself.
            self.unet = torch.compile(self.unet, mode="reduce-overhead", fullgraph=True, dynamic=False)
        self.texts = self.vae = None

    def make(self, build):
        """Makes parts on the device, where drawing billions of weights takes no time."""
        before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        try:
            with torch.device(self.device):
                made = build()
        finally:
            torch.set_default_dtype(before)
        for part in made if isinstance(made, list) else [made]:
            part.to(memory_format=torch.channels_last).eval()
        return made

    def load_rest(self):
        """The parts that a single step does not need."""
        if self.vae:
            return
        try:
            self.texts = self.make(lambda: text_encoders(self.config["texts"], self.small))
            self.encode(64)
        except (
            Exception
        ) as error:  # not installed, or a version with other names: pictures are drawn without them
            self.texts = None
            print(f"Text encoders are left out: {error}", flush=True)
        channels = (32, 32, 32, 32) if self.small else (128, 256, 512, 512)
        self.vae = self.make(
            lambda: AutoencoderKL(
                block_out_channels=channels,
                layers_per_block=2,
                latent_channels=4,
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
            )
        )

    def random(self, *shape):
        return torch.randn(*shape, device=self.device, dtype=self.dtype)

    def added_conditions(self, pooled, side):
        if not self.added:
            return None
        ids = torch.tensor([[8 * side, 8 * side, 0, 0, 8 * side, 8 * side]] * 2, device=self.device)
        return {"text_embeds": pooled, "time_ids": ids.to(self.dtype)}

    def random_conditions(self, side):
        return self.random(2, LENGTH, self.width), self.added_conditions(self.random(2, 1280), side)

    def encode(self, side):
        """The context and other conditions of a negative prompt and a prompt, encoded one after the other."""
        if self.texts is None:
            return self.random_conditions(side)
        contexts, pooled = [], []
        for row in range(2):
            tokens = (torch.arange(LENGTH, device=self.device) * 31 + row)[None]
            outputs = [text(tokens, output_hidden_states=True) for text in self.texts]
            hidden = [
                output.hidden_states[-2] if self.added else output.last_hidden_state for output in outputs
            ]
            contexts.append(torch.cat(hidden, -1))
            if self.added:
                pooled.append(outputs[-1].text_embeds)
        return torch.cat(contexts), self.added_conditions(torch.cat(pooled) if self.added else None, side)

    def predict(self, latents, timestep, context, added):
        # A compiled model is compiled once: a picture's inputs are laid out as those of a single step.
        latents = latents.contiguous(memory_format=torch.channels_last)
        if self.device == "cuda":
            torch.compiler.cudagraph_mark_step_begin()
        return self.unet(latents, timestep, context, added_cond_kwargs=added, return_dict=False)[0]


def step_call(model, side):
    """A call that makes one prediction."""
    latents = model.random(2, 4, side, side)
    timestep = torch.tensor(500.0, device=model.device)
    context, added = model.random_conditions(side)
    return lambda: model.predict(latents, timestep, context, added)


def picture(model, side, steps):
    """One picture from its prompts to pixels in the host's memory."""
    context, added = model.encode(side)
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing="leading",
        steps_offset=1,
    )
    scheduler.set_timesteps(steps, device=model.device)
    latents = model.random(1, 4, side, side) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        both = torch.cat([scheduler.scale_model_input(latents, timestep)] * 2)
        unconditional, conditional = model.predict(both, timestep.clone(), context, added).chunk(2)
        guided = unconditional + GUIDANCE * (conditional - unconditional)
        latents = scheduler.step(guided, timestep, latents, return_dict=False)[0]
    image = model.vae.decode(latents / model.scaling, return_dict=False)[0]
    return (127.5 * image + 128).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu()
