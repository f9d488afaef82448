"""Sizes of the sets: `clone` is the one of this repository, `full` a larger one with more cases of every kind."""

FAMILY = {
    # Flags of the released models; only sizes are shrunk.
    "2b": dict(
        in_channels=16,
        patch_size_t=None,
        patch_bias=True,
        use_rotary_positional_embeddings=False,
        use_learned_positional_embeddings=False,
        ofs=False,
        snr=3.0,
        scaling=1.15258426,
        invert=False,
        i2v=False,
    ),
    "5b": dict(
        in_channels=16,
        patch_size_t=None,
        patch_bias=True,
        use_rotary_positional_embeddings=True,
        use_learned_positional_embeddings=False,
        ofs=False,
        snr=1.0,
        scaling=0.7,
        invert=False,
        i2v=False,
    ),
    "5b-i2v": dict(
        in_channels=32,
        patch_size_t=None,
        patch_bias=True,
        use_rotary_positional_embeddings=True,
        use_learned_positional_embeddings=True,
        ofs=False,
        snr=1.0,
        scaling=0.7,
        invert=False,
        i2v=True,
    ),
    "1.5-5b": dict(
        in_channels=16,
        patch_size_t=2,
        patch_bias=False,
        use_rotary_positional_embeddings=True,
        use_learned_positional_embeddings=False,
        ofs=False,
        snr=1.0,
        scaling=0.7,
        invert=True,
        i2v=False,
    ),
    "1.5-5b-i2v": dict(
        in_channels=32,
        patch_size_t=2,
        patch_bias=False,
        use_rotary_positional_embeddings=True,
        use_learned_positional_embeddings=False,
        ofs=True,
        snr=1.0,
        scaling=0.7,
        invert=True,
        i2v=True,
    ),
}

SCHED_COMMON = dict(
    num_train_timesteps=1000,
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    rescale_betas_zero_snr=True,
    prediction_type="v_prediction",
    timestep_spacing="trailing",
    set_alpha_to_one=True,
    steps_offset=0,
    clip_sample=False,
)


def model(heads, layers, time, text, size, store, frames=9, shard=None, snr=None, tokenizer_json=True):
    """Sizes of one pipeline; `size` is the latent height and width of the config, `snr` another SNR shift."""
    return dict(
        heads=heads,
        layers=layers,
        te=time,
        text_len=text,
        sample_h=size[0],
        sample_w=size[1],
        sample_frames=frames,
        store=store,
        shard=shard,
        snr=snr,
        tokenizer_json=tokenizer_json,
    )


def recipe(tag, lr, sched, warmup, batch=1, accum=1, cycles=1, power=1.0, **lora):
    return dict(
        tag=tag, **lora, lr=lr, sched=sched, warmup=warmup, batch=batch, accum=accum, cycles=cycles, power=power
    )


FULL = dict(
    prefix="tiny-",
    vocab=1000,
    variants={
        "2b": model(2, 2, 64, 226, (8, 12), "float16"),
        "5b": model(2, 2, 64, 226, (8, 12), "float32", shard="1MB"),
        "5b-i2v": model(2, 2, 64, 226, (6, 10), "float32"),
        "1.5-5b": model(2, 2, 64, 226, (12, 16), "bfloat16"),
        "1.5-5b-i2v": model(2, 2, 64, 226, (12, 16), "float32"),
    },
    vae=dict(channels=[8, 8, 16, 16], layers_per_block=1, groups=4),
    encoders=None,  # stored as the transformer is
    t5=dict(d_kv=8, heads=4, d_ff=64, layers=2),
    # batch, latent frames, latent height, latent width
    block=dict(
        default=(1, 3, 8, 12), overrides={"5b-i2v": (2, 3, 6, 10), "1.5-5b": (2, 4, 8, 6), "1.5-5b-i2v": (1, 4, 8, 6)}
    ),
    long=dict(default=(13, 6, 10), overrides={}),
    tables=dict(grids=[(3, 4, 6), (5, 3, 7), (2, 8, 3), (1, 1, 5)], base=(4, 6), embeddings=(128, 64, 512, 1920)),
    vae_cases=[(1, 32, 48), (9, 32, 32), (17, 32, 48), (33, 16, 24), (49, 16, 16), (8, 24, 16), (5, 16, 40)],
    vae_cases_i2v=[(9, 32, 32), (17, 32, 48)],
    vae_even=(2, 4, 6),
    vae_tiles=[
        dict(frames=9, h=88, w=72, min_h=48, min_w=40, oh=1 / 6, ow=1 / 5),
        dict(frames=1, h=48, w=80, min_h=32, min_w=32, oh=0.25, ow=0.25),
    ],
    token_lengths=[226],
    train=dict(
        frames=3,
        samples=3,
        steps=12,
        betas=(0.9, 0.95),
        eps=1e-8,
        wd=1e-4,
        clip=1.0,
        first_gradients=True,
        pictures=True,
        only={},
        size={"2b": (4, 6), "5b": (4, 6), "5b-i2v": (6, 10), "1.5-5b": (4, 6), "1.5-5b-i2v": (4, 6)},
        recipes=[
            recipe("lora-r4", 1e-3, "constant_with_warmup", 3, rank=4, alpha=4, init_b="zero"),
            recipe("lora-r8", 2e-3, "cosine", 2, accum=2, rank=8, alpha=4, init_b="random"),
            recipe("sft", 1e-3, "constant_with_warmup", 2),
        ],
    ),
    sample=dict(
        steps=4,
        guidance=6.0,
        frames=9,
        dynamic=(False, True),
        full=("2b", "1.5-5b-i2v"),
        # Rows and columns more than the video has; Pillow 13 resizes the cheaper axis first, which changes this picture.
        picture=(13, -9),
        size={"2b": (48, 64), "5b": (64, 64), "5b-i2v": (48, 80), "1.5-5b": (48, 64), "1.5-5b-i2v": (64, 48)},
    ),
    shifts={"2b": 3.0, "5b": 1.0},
    sched_steps=(4, 7, 30, 50),
    traj_steps=(4, 7),
    lora=dict(rank=4, alpha=2),
    full_gradients=("2b", "1.5-5b-i2v"),
    full_final=("2b",),
    rates=dict(peak=2e-5, steps=100, warmups=(0, 10)),
    frames=(9, 17, 49, 81),
    resize=[((36, 64), (32, 48)), ((30, 20), (48, 32)), ((45, 80), (16, 32)), ((17, 23), (32, 48))],
    clips={},
    id_token="<id> ",
)

# Every number that a test could hold as a constant differs from `full`; sizes keep the folder below 8 MB.
CLONE = dict(
    prefix="small-",
    vocab=700,
    variants={
        "2b": model(2, 1, 32, 20, (6, 8), "float16"),
        "5b": model(1, 1, 32, 24, (8, 6), "float32", shard="100KB", tokenizer_json=False),
        "5b-i2v": model(1, 1, 48, 16, (4, 6), "bfloat16", tokenizer_json=False),
        "1.5-5b": model(2, 1, 32, 28, (8, 10), "bfloat16", snr=2.2, tokenizer_json=False),
        "1.5-5b-i2v": model(1, 2, 32, 20, (8, 10), "float16", tokenizer_json=False),
    },
    vae=dict(channels=[4, 4, 8, 8], layers_per_block=1, groups=2),
    encoders="bfloat16",
    t5=dict(d_kv=12, heads=2, d_ff=48, layers=3),
    block=dict(
        default=(2, 3, 4, 6), overrides={"5b": (1, 3, 6, 4), "1.5-5b": (2, 4, 4, 6), "1.5-5b-i2v": (2, 2, 6, 4)}
    ),
    long=dict(default=(5, 6, 8), overrides={"5b-i2v": (5, 4, 6)}),
    tables=dict(grids=[(4, 5, 3), (2, 1, 6)], base=(5, 9), embeddings=(64, 48, 640)),
    vae_cases=[(1, 24, 16), (9, 16, 24), (25, 16, 16), (8, 16, 16), (5, 16, 32)],
    vae_cases_i2v=[(9, 16, 24)],
    vae_even=(2, 4),
    vae_tiles=[
        dict(frames=5, h=40, w=40, min_h=32, min_w=32, oh=0.25, ow=0.5),
        dict(frames=1, h=56, w=40, min_h=32, min_w=32, oh=0.25, ow=0.25),
    ],
    token_lengths=[226, 40],
    train=dict(
        frames=3,
        samples=4,
        steps=12,
        betas=(0.85, 0.97),
        eps=3e-8,
        wd=3e-4,
        clip=0.7,
        first_gradients=False,
        pictures=False,
        only={"lora-r4": ("5b", "1.5-5b-i2v"), "sft": ("2b", "1.5-5b-i2v")},
        size={"2b": (6, 4), "5b": (6, 4), "5b-i2v": (4, 6), "1.5-5b": (4, 6), "1.5-5b-i2v": (6, 4)},
        recipes=[
            recipe("lora-r6", 2e-3, "constant_with_warmup", 2, batch=2, rank=6, alpha=9, init_b="zero"),
            recipe("lora-r4", 1e-3, "cosine", 1, accum=2, rank=4, alpha=3, init_b="random"),
            recipe("sft", 5e-4, "linear", 3),
        ],
    ),
    sample=dict(
        steps=3,
        guidance=5.0,
        frames=9,
        dynamic=(False, True),
        full=(),
        picture=(13, 29),
        size={"2b": (32, 48), "5b": (48, 32), "5b-i2v": (32, 48), "1.5-5b": (32, 48), "1.5-5b-i2v": (48, 32)},
    ),
    shifts={"2b": 3.0, "other": 2.2},
    sched_steps=(5, 50),
    traj_steps=(5,),
    lora=dict(rank=6, alpha=2),
    full_gradients=(),
    full_final=(),
    rates=dict(peak=7e-4, steps=90, warmups=(1, 17)),
    frames=(9, 33),
    resize=[((36, 28), (32, 24)), ((15, 20), (24, 32)), ((45, 40), (16, 24))],
    # Frames, height and width by clip of `examples/clips`.
    clips={"ball": (9, 32, 48), "cells": (5, 24, 40)},
    id_token="zwx,",
)

PROFILES = {"clone": CLONE, "full": FULL}
