"""Short training runs with the loss of the original trainer; every random draw is in the file."""

import torch
from diffusers import CogVideoXDPMScheduler
from diffusers.optimization import get_scheduler
from peft import LoraConfig

from build_pipelines import Parts
from common import F64, Draw, both, thin
from make_transformer import slice_rotary
from make_vae import clip_like

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
# What `image_latents` are made of: most of the bytes of a run from images.
PICTURES = ("images", "sigma_normal", "image_noise", "posterior_noise")


def plain_name(name):
    return name.replace(".default.", ".").replace(".base_layer.", ".")


def draws(parts, profile, recipe, seed):
    tr = profile["train"]
    fam = parts.fam
    h, w = tr["size"][parts.variant]
    f, k, b = tr["frames"], tr["samples"], recipe["batch"]
    micro = tr["steps"] * recipe["accum"]
    padded = f + (f % fam["patch_size_t"] if fam["patch_size_t"] else 0)
    d = Draw(seed, "training", parts.variant, recipe["tag"])
    x = {
        "latents": d.normal(k, 16, f, h, w, std=0.9),
        "prompt_embeds": d.normal(k, parts.size["text_len"], 32),
        "sample_index": d.ints(0, k, micro, b),
        "timesteps": d.ints(0, 1000, micro, b),
        # f16 in the file, used as it is there.
        "noise": d.normal(micro, b, padded, 16, h, w).half(),
    }
    x["timesteps"][1, 0], x["timesteps"][2, 0] = 999, 0
    if fam["i2v"]:
        x["images"] = torch.cat([clip_like(d, 1, 1, 8 * h, 8 * w)[:, :, 0] for _ in range(k)])
        x["sigma_normal"] = d.normal(micro, std=0.5, mean=-3.0)
        x["image_noise"] = d.normal(micro, b, 3, 8 * h, 8 * w).half()
        x["posterior_noise"] = d.normal(micro, b, 16, 1, h, w)
    return x


def lora_init(model, recipe, draw):
    model.add_adapter(
        LoraConfig(r=recipe["rank"], lora_alpha=recipe["alpha"], init_lora_weights=True, target_modules=TARGETS)
    )
    init = {}
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_" not in name:
                continue
            if "lora_A" in name:
                bound = p.shape[1] ** -0.5
                v = draw.uniform(*p.shape, low=-bound, high=bound)
            else:
                v = draw.normal(*p.shape, std=0.05) if recipe["init_b"] == "random" else torch.zeros(p.shape)
            p.copy_(v)
            init[plain_name(name)] = v
    return init


def image_condition(vae, x, m, dtype):
    """The condition of image to video: the latent of the noised picture of micro-step `m`."""
    sigma = x["sigma_normal"][m].to(dtype).exp()
    img = x["images"][x["sample_index"][m]].to(dtype) + sigma * x["image_noise"][m].to(dtype)
    with torch.no_grad():
        post = vae.encode(img.unsqueeze(2)).latent_dist
        return (post.mean + post.std * x["posterior_noise"][m].to(dtype)) * vae.config.scaling_factor


def run(parts, profile, recipe, x, seed, dtype, autocast=None, image_latents=None):
    """One run. With `autocast` (bf16 or f16) the model computes as under mixed precision of accelerate: parameters stay
    f32, its output is widened; `image_latents` are those of another run, so that only the transformer differs."""
    tr, fam = profile["train"], parts.fam
    parts.dtype = dtype
    model = parts.transformer()
    model.requires_grad_(False)
    init = {}
    if "rank" in recipe:
        init = lora_init(model, recipe, Draw(seed, "lora-init", parts.variant, recipe["tag"]))
        model.to(dtype)
        trainable = [(n, p) for n, p in model.named_parameters() if "lora_" in n]
    else:
        trainable = list(model.named_parameters())
    for _, p in trainable:
        p.requires_grad_(True)
    sched = parts.scheduler(CogVideoXDPMScheduler)
    groups = [{"params": [p for _, p in trainable], "lr": recipe["lr"]}]
    opt = torch.optim.AdamW(groups, betas=tr["betas"], eps=tr["eps"], weight_decay=tr["wd"])
    lr_s = get_scheduler(
        recipe["sched"],
        opt,
        num_warmup_steps=recipe["warmup"],
        num_training_steps=tr["steps"],
        num_cycles=recipe["cycles"],
        power=recipe["power"],
    )
    c = model.config
    vae = parts.vae() if fam["i2v"] and image_latents is None else None
    losses, norms, lrs, conditions, grads, lr_after = [], [], [], [], {}, []
    first_out = None
    for m in range(x["timesteps"].shape[0]):
        idx, t = x["sample_index"][m], x["timesteps"][m]
        z = x["latents"][idx].to(dtype)
        if c.patch_size_t:
            extra = z.shape[2] % c.patch_size_t
            z = torch.cat([z[:, :, :1]] * extra + [z], dim=2)
        z = z.transpose(1, 2)
        eps = x["noise"][m].to(dtype)
        noisy = sched.add_noise(z, eps, t)
        feed = noisy
        if fam["i2v"]:
            c0 = image_condition(vae, x, m, dtype) if image_latents is None else image_latents[m].to(dtype)
            conditions.append(c0)
            cond = torch.zeros_like(z)
            cond[:, :1] = c0.transpose(1, 2)
            feed = torch.cat([noisy, cond], dim=2)
        rope = slice_rotary(c, z.shape[1], z.shape[3], z.shape[4]) if c.use_rotary_positional_embeddings else None
        ofs = torch.full((1,), 2.0, dtype=dtype) if c.ofs_embed_dim else None
        with torch.autocast("cpu", dtype=autocast or torch.bfloat16, enabled=autocast is not None):
            v = model(
                hidden_states=feed,
                encoder_hidden_states=x["prompt_embeds"][idx].to(dtype),
                timestep=t,
                ofs=ofs,
                image_rotary_emb=rope,
                return_dict=False,
            )[0].to(dtype)
        x0 = sched.get_velocity(v, noisy, t)
        weight = (1.0 / (1.0 - sched.alphas_cumprod[t])).reshape(-1, 1, 1, 1, 1)
        loss = (weight * (x0 - z) ** 2).flatten(1).mean(1).mean()
        if first_out is None:
            first_out = v.detach()
        losses.append(loss.item())
        (loss / recipe["accum"]).backward()
        if (m + 1) % recipe["accum"]:
            continue
        if not grads:
            grads = {plain_name(n): p.grad.clone() for n, p in trainable}
        norms.append(torch.nn.utils.clip_grad_norm_([p for _, p in trainable], tr["clip"]).item())
        lrs.append(opt.param_groups[0]["lr"])
        opt.step()
        lr_s.step()
        opt.zero_grad()
        lr_after.append(lr_s.get_last_lr()[0])
    f = lambda a: torch.tensor(a, dtype=F64)
    rec = {
        "loss": f(losses),
        "grad_norm": f(norms),
        "lr": f(lrs),
        "lr_logged": f(lr_after),
        "model_output_of_first_micro_step": first_out,
    }
    if conditions:
        rec["image_latents"] = torch.stack(conditions)
    final = {plain_name(n): p.detach() for n, p in trainable}
    return rec, final, grads, init


def recipes_of(tr, variant):
    return [recipe for recipe in tr["recipes"] if variant in tr["only"].get(recipe["tag"], [variant])]


def build(store, profile, seed):
    tr = profile["train"]
    for variant in profile["variants"]:
        parts = Parts(store, profile, variant)
        for recipe in recipes_of(tr, variant):
            x = draws(parts, profile, recipe, seed)
            both_runs = both(lambda dt: run(parts, profile, recipe, x, seed, dt))
            add(store, profile, parts, recipe, x, *both_runs)


def add(store, profile, parts, recipe, x, exact, single):
    """Writes a run in f64 (`exact`) with the distance of that in f32 (`single`)."""
    (rec, fin, gr, init), (rec32, fin32, gr32, _) = exact, single
    tr, tag = profile["train"], recipe["tag"]
    cfg = {
        "pipeline": profile["prefix"] + parts.variant,
        **recipe,
        "optimizer": "adamw",
        "betas": list(tr["betas"]),
        "eps": tr["eps"],
        "weight_decay": tr["wd"],
        "max_grad_norm": tr["clip"],
        "optimizer_steps": tr["steps"],
        "optimizer_default_lr": 1e-3,
    }
    base, name = f"training/{parts.variant}.{tag}", f"training {parts.variant} {tag}"
    if not tr["pictures"]:
        x = {k: v for k, v in x.items() if k not in PICTURES}
    own = ("loss", "grad_norm", "lr", "lr_logged")
    note = "loss per micro-step (not divided by accumulation), grad norm before clipping and lr per optimizer step"
    prefixed = lambda prefix, tensors: {f"{prefix}.{k}": v for k, v in tensors.items()}
    if "rank" in recipe:
        t = {**x, **rec, **prefixed("init", init), **prefixed("final", fin), **prefixed("grad", gr)}
        o = {**rec32, **prefixed("final", fin32), **prefixed("grad", gr32)}
        store.add(
            base + ".safetensors",
            name,
            note + "; LoRA tensors before and after, gradients of step 1 before clipping",
            t,
            cfg,
            o,
            keep64=own,
            extra=update_noise(init, fin, fin32),
        )
        return
    start = start_of(parts)
    dead = [n for n, g in gr.items() if g.abs().max() < 1e-12]
    store.add(base + ".safetensors", name, note, {**x, **rec}, cfg, rec32, keep64=own)
    moved = {f"update_norm.{k}": (v - start[k]).norm().reshape(1) for k, v in fin.items()}
    some, some32, cut = fin, fin32, ""
    if parts.variant not in profile["full_final"]:
        some, some32 = thin(fin), thin(fin32)
        cut = "tensors with more than 2048 values hold rows 0, 8, 16, ... only; "
    store.add(
        base + ".final.safetensors",
        name + " final weights",
        "parameters after the last step; " + cut + "update_norm.* = L2 norm of (final - initial), whole tensor",
        {**some, **moved},
        cfg,
        some32,
        keep64=tuple(moved),
        extra={**update_noise(start, fin, fin32, dead), "parameters_with_exactly_zero_gradient": dead},
    )
    if not tr["first_gradients"]:
        return
    some, some32 = (
        {**{f"norm.{k}": g.norm().reshape(1) for k, g in src.items()}, **prefixed("grad", thin(src, step=16))}
        for src in (gr, gr32)
    )
    store.add(
        base + ".grads1.safetensors",
        name + " gradients of step 1",
        "gradient before clipping; tensors with more than 2048 values hold rows 0, 16, 32, ... only; "
        "norm.* = L2 norm of the whole gradient",
        some,
        cfg,
        some32,
        keep64=tuple(k for k in some if k.startswith("norm.")),
    )


def start_of(parts):
    parts.dtype = F64
    return {n: p.detach() for n, p in parts.transformer().named_parameters()}


def update_noise(start, fin, fin32, skip=()):
    """How far f32 strays from f64, relative to the size of the total update."""
    keys = [k for k in fin if k not in skip]
    cat = lambda d: torch.cat([d[k].detach().to(F64).flatten() for k in keys])
    a, b, s = cat(fin), cat(fin32), cat(start)
    moved, off = (a - s).norm().item(), b - a
    return {
        "update_noise": {
            "norm_of_update": float(f"{moved:.4g}"),
            "rel_l2_of_update": float(f"{off.norm().item() / moved:.3g}"),
            "max_abs": float(f"{off.abs().max().item():.3g}"),
        }
    }
