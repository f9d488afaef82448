"""How far bf16 autocast of PyTorch strays from f64 on the training runs of a set: the yardstick of mixed precision.

Parameters stay f32, as the original trainer keeps them; linear layers, convolutions, matrix products and attention run in
bf16. Layer norms return f32, which is the rule of CUDA (on the CPU, autocast leaves them alone); everything between runs
in the type it gets. Conditions of image to video are those of the f64 run, so the difference is the transformer's alone.
"""

import contextlib
import json

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from build_pipelines import Parts
from common import F32, F64
from make_training import recipes_of, run, start_of


@contextlib.contextmanager
def wide_norms():
    """Layer norms in f32 as under autocast of CUDA."""
    narrow = F.layer_norm

    def wide(x, shape, weight=None, bias=None, eps=1e-5):
        with torch.autocast("cpu", enabled=False):
            return narrow(x.float(), shape, weight, bias, eps)

    F.layer_norm = wide
    try:
        yield
    finally:
        F.layer_norm = narrow


def relative(values, exact):
    return ((values - exact).abs() / exact).max().item()


def distance(store, parts, profile, recipe, seed):
    base = store.out / "training" / f"{parts.variant}.{recipe['tag']}"
    golden = load_file(f"{base}.safetensors")
    with wide_norms():
        rec, final, _, init = run(
            parts, profile, recipe, golden, seed, F32, torch.bfloat16, golden.get("image_latents")
        )
    if "rank" in recipe:
        stored = {n[6:]: v for n, v in golden.items() if n.startswith("final.")}
        start = init
    else:
        stored = {n: v for n, v in load_file(f"{base}.final.safetensors").items() if not n.startswith("update_norm.")}
        start = start_of(parts)
    dead = lambda n: not parts.fam["use_rotary_positional_embeddings"] and n.endswith("norm_k.bias")
    difference = moved = 0.0
    for n, exact in stored.items():
        if dead(n):
            continue
        part = lambda v: v if v.shape == exact.shape else v[::8]
        difference += (part(final[n]).to(F64) - exact.to(F64)).square().sum().item()
        moved += (exact.to(F64) - part(start[n]).to(F64)).square().sum().item()
    return {
        "loss": relative(rec["loss"], golden["loss"]),
        "grad_norm": relative(rec["grad_norm"], golden["grad_norm"]),
        "final": (difference / moved) ** 0.5,
    }


def build(store, profile, seed):
    rows = {}
    for variant in profile["variants"]:
        for recipe in recipes_of(profile["train"], variant):
            parts = Parts(store, profile, variant)
            far = distance(store, parts, profile, recipe, seed)
            rows[f"training/{variant}.{recipe['tag']}.safetensors"] = {k: float(f"{v:.3g}") for k, v in far.items()}
    store.json(
        "autocast.json",
        "bf16 autocast",
        "bf16 autocast against f64: largest relative distance of loss and grad_norm; final is |final - f64| / |f64 - initial|",
        {"runs": rows},
        group="autocast",
    )
