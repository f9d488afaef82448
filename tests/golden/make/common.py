"""Shared helpers: seeded draws, random weights, f32-vs-f64 noise, file store."""

import hashlib
import json
import math
import pathlib

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

F64, F32 = torch.float64, torch.float32


def generator(seed, *names):
    digest = hashlib.sha256("/".join([str(seed), *map(str, names)]).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


class Draw:
    """Seeded draws. Everything is drawn in f32, so an f64 run starts from f32-exact inputs."""

    def __init__(self, seed, *names):
        self.gen = generator(seed, *names)

    def normal(self, *shape, std=1.0, mean=0.0):
        return torch.randn(shape, generator=self.gen, dtype=F32) * std + mean

    def uniform(self, *shape, low=0.0, high=1.0):
        return torch.rand(shape, generator=self.gen, dtype=F32) * (high - low) + low

    def ints(self, low, high, *shape):
        return torch.randint(low, high, shape, generator=self.gen)


# ------------------------------------------------------------------ weights


def fill_transformer(model, draw):
    """O(1) activations, every branch alive, no parameter at a trivial value."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            leaf = name.rsplit(".", 1)[-1]
            if leaf == "bias":
                std = (
                    0.3
                    if ".linear.bias" in name and ("norm1" in name or "norm2" in name or "norm_out" in name)
                    else 0.1
                )
                p.copy_(draw.normal(*p.shape, std=std))
            elif p.ndim == 1:
                p.copy_(draw.normal(*p.shape, std=0.2, mean=1.0))
            else:
                fan_in = p[0].numel()
                gain = 0.6 if ".linear.weight" in name and "norm" in name else 1.0
                p.copy_(draw.normal(*p.shape, std=gain / math.sqrt(fan_in)))
        for name, b in model.named_buffers():
            if name.endswith("pos_embedding") and model.config.use_learned_positional_embeddings:
                b.copy_(draw.normal(*b.shape, std=0.5).to(b.dtype))


def fill_vae(model, draw):
    with torch.no_grad():
        for name, p in model.named_parameters():
            leaf = name.rsplit(".", 1)[-1]
            if leaf == "bias":
                mean = 1.0 if "conv_y" in name else 0.0
                p.copy_(draw.normal(*p.shape, std=0.15, mean=mean))
            elif p.ndim == 1:
                p.copy_(draw.normal(*p.shape, std=0.2, mean=1.0))
            else:
                gain = 0.4 if ("conv_y" in name or "conv_b" in name) else 1.0
                p.copy_(draw.normal(*p.shape, std=gain / math.sqrt(p[0].numel())))
        half = model.encoder.conv_out.conv.bias.shape[0] // 2
        model.encoder.conv_out.conv.weight[half:] *= 0.4
        model.encoder.conv_out.conv.bias[half:] -= 2.0
        model.decoder.conv_out.conv.weight *= 0.4


def fill_t5(model, draw):
    c = model.config
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "layer_norm" in name:
                p.copy_(draw.normal(*p.shape, std=0.2, mean=1.0))
            elif "relative_attention_bias" in name or name.startswith("shared") or "embed_tokens" in name:
                p.copy_(draw.normal(*p.shape))
            elif name.endswith(".q.weight"):
                p.copy_(draw.normal(*p.shape, std=1.5 / math.sqrt(c.d_model * c.d_kv)))
            else:
                p.copy_(draw.normal(*p.shape, std=1.0 / math.sqrt(p.shape[1])))


# ------------------------------------------------------------------ noise


def difference(a, b):
    """max abs error and relative L2 of b against a (both any dtype)."""
    a, b = a.detach().to(F64).flatten(), b.detach().to(F64).flatten()
    if a.numel() == 0:
        return {"max_abs": 0.0, "rel_l2": 0.0, "ref_max": 0.0}
    d = b - a
    norm = a.norm().item()
    r = {
        "max_abs": float(f"{d.abs().max().item():.3g}"),
        "rel_l2": None,
        "ref_max": float(f"{a.abs().max().item():.3g}"),
    }
    if norm > 1e-11 * a.numel() ** 0.5:
        r["rel_l2"] = float(f"{d.norm().item() / norm:.3g}")
    return r  # rel_l2 is null where the exact value is zero


def thin(tensors, full=2048, step=8):
    """Keep tensors of at most `full` values, and every `step`-th row of larger ones (size of the files)."""
    return {k: v if v.numel() <= full else v[::step].contiguous() for k, v in tensors.items()}


def both(fn):
    """Run fn(dtype) in f64 and f32."""
    return fn(F64), fn(F32)


# ------------------------------------------------------------------ randn recorder


class NoiseTap:
    """Replace the randn_tensor used by diffusers; draws f32 noise from our generator and records it."""

    MODULES = (
        "diffusers.pipelines.cogvideo.pipeline_cogvideox",
        "diffusers.pipelines.cogvideo.pipeline_cogvideox_image2video",
        "diffusers.schedulers.scheduling_dpm_cogvideox",
        "diffusers.schedulers.scheduling_ddim_cogvideox",
        "diffusers.models.autoencoders.vae",
    )

    def __init__(self, draw):
        self.draw, self.log, self.saved = draw, [], []

    def __enter__(self):
        import importlib

        for name in self.MODULES:
            module = importlib.import_module(name)
            if not hasattr(module, "randn_tensor"):
                continue
            self.saved.append((module, module.randn_tensor))

            def tapped(shape, generator=None, device=None, dtype=None, layout=None, _who=name.rsplit(".", 1)[-1]):
                x = self.draw.normal(*shape)
                self.log.append((_who, x))
                return x.to(dtype or F32)

            module.randn_tensor = tapped
        return self

    def __exit__(self, *exc):
        for module, fn in self.saved:
            module.randn_tensor = fn

    def of(self, part):
        return [x for who, x in self.log if part in who]


# ------------------------------------------------------------------ store


def dump(value):
    """JSON with one line per entry of the outer containers."""
    one = lambda v: json.dumps(v, ensure_ascii=False)
    if not isinstance(value, dict):
        return one(value)
    rows = []
    for k, v in value.items():
        if isinstance(v, list) and v and isinstance(v[0], (dict, list)):
            rows.append(one(k) + ": [\n  " + ",\n  ".join(one(x) for x in v) + "\n ]")
        elif isinstance(v, dict) and v:
            rows.append(one(k) + ": {\n  " + ",\n  ".join(one(a) + ": " + one(b) for a, b in v.items()) + "\n }")
        else:
            rows.append(one(k) + ": " + one(v))
    return "{\n " + ",\n ".join(rows) + "\n}"


class Store:
    def __init__(self, out, seed, profile):
        self.out, self.seed, self.profile = pathlib.Path(out), seed, profile
        self.cases = []

    def path(self, rel):
        p = self.out / rel
        p.parent.mkdir(parents=True, exist_ok=True)
        return p

    def add(self, rel, name, checks, tensors, config=None, other=None, keep64=(), group=None, extra=None):
        """tensors: reference (f64 run). other: same keys from the f32 run, used for the noise figures."""
        group = group or rel.split("/")[0]
        noise = {}
        if other:
            for k, v in other.items():
                if k in tensors and torch.is_floating_point(v):
                    noise[k] = difference(tensors[k], v)
        data = {}
        for k, v in tensors.items():
            v = v.detach() if isinstance(v, torch.Tensor) else torch.as_tensor(np.asarray(v))
            if v.dtype == F64 and k not in keep64:
                v = v.to(F32)
            if v.dtype == torch.bool:
                v = v.to(torch.uint8)
            data[k] = v.contiguous().clone()
        case = {
            "name": name,
            "group": group,
            "file": rel,
            "checks": checks,
            "config": config or {},
            "tensors": {k: {"shape": list(v.shape), "dtype": str(v.dtype)[6:]} for k, v in data.items()},
        }
        if noise:
            grads = {k: v for k, v in noise.items() if ".grad." in k or k.startswith("grad.")}
            keep = {k: v for k, v in noise.items() if k not in grads or len(grads) < 16}
            case["noise_f32_vs_f64"] = keep if len(keep) <= 40 else {}
            case["noise_worst"] = worst(noise)
            if len(grads) >= 16:
                case["noise_f32_vs_f64"]["grad.*(worst)"] = worst(grads)
                case["noise_f32_vs_f64"]["grad.*(all as one vector)"] = pooled(tensors, other, grads)
        if extra:
            case.update(extra)
        # one key only: safetensors writes several keys in random order, which would change the bytes
        meta = {
            "fixture": json.dumps(
                {"case": name, "checks": checks, "config": config or {}}, sort_keys=True, ensure_ascii=False
            )
        }
        save_file(data, str(self.path(rel)), metadata=meta)
        with safe_open(str(self.path(rel)), "pt") as f:  # validate by reloading
            assert set(f.keys()) == set(data)
            for k in data:
                x = f.get_tensor(k)
                assert (
                    x.shape == data[k].shape and torch.equal(x, data[k]) or not torch.isfinite(data[k].to(F64)).all()
                ), (rel, k)
                if torch.is_floating_point(x) and not torch.isfinite(x).all() and not k.startswith("nonfinite"):
                    raise ValueError(f"{rel}: {k} has non-finite values")
        self.cases.append(case)
        return case

    def json(self, rel, name, checks, value, group=None, extra=None):
        self.path(rel).write_text(dump(value) + "\n", encoding="utf-8")
        json.loads(self.path(rel).read_text(encoding="utf-8"))
        case = {"name": name, "group": group or rel.split("/")[0], "file": rel, "checks": checks}
        case.update(extra or {})
        self.cases.append(case)

    def finish(self, header):
        part = self.path("index.json")
        old = {"cases": []}
        if part.exists():
            old = json.loads(part.read_text(encoding="utf-8"))
        done = {c["file"] for c in self.cases}
        cases = [c for c in old["cases"] if c["file"] not in done and (self.out / c["file"]).exists()] + self.cases
        cases.sort(key=lambda c: c["file"])
        index = {**header, "profile": self.profile, "seed": self.seed, "cases": cases}
        part.write_text(dump(index) + "\n", encoding="utf-8")


def worst(noise):
    k1 = max(noise, key=lambda k: noise[k]["max_abs"])
    k2 = max(noise, key=lambda k: noise[k]["rel_l2"] or 0.0)
    return {"max_abs": noise[k1]["max_abs"], "max_abs_at": k1, "rel_l2": noise[k2]["rel_l2"], "rel_l2_at": k2}


def pooled(a, b, keys):
    keys = sorted(keys)
    cat = lambda d: torch.cat([d[k].detach().to(F64).flatten() for k in keys])
    return difference(cat(a), cat(b))
