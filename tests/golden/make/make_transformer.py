"""Transformer forward (all block outputs) and backward (all gradients)."""

import torch
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid

from build_pipelines import Parts
from common import Draw, both, thin


def slice_rotary(config, frames, h, w):
    """Positions 0..n-1 on every axis (training rule)."""
    q = config.patch_size_t or 1
    grid = (h // config.patch_size, w // config.patch_size)
    return get_3d_rotary_pos_embed(
        embed_dim=config.attention_head_dim,
        crops_coords=None,
        grid_size=grid,
        temporal_size=-(-frames // q),
        grid_type="slice",
        max_size=grid,
    )


def crop_rotary(config, frames, h, w):
    """Positions as the 1.0 sampling pipelines place them."""
    p = config.patch_size
    grid = (h // p, w // p)
    crop = get_resize_crop_region_for_grid(grid, config.sample_width // p, config.sample_height // p)
    return get_3d_rotary_pos_embed(
        embed_dim=config.attention_head_dim, crops_coords=crop, grid_size=grid, temporal_size=frames
    )


def inputs_for(parts, shape, seed, tag, grid="slice"):
    b, f, h, w = shape
    model = parts.transformer()
    c = model.config
    d = Draw(seed, "transformer", parts.variant, tag)
    x = {
        "hidden_states": d.normal(b, f, c.in_channels, h, w),
        "encoder_hidden_states": d.normal(b, parts.size["text_len"], c.text_embed_dim),
        "timestep": d.ints(0, 1000, b),
        "g": d.normal(b, f, c.out_channels, h, w),
    }
    if b > 1:
        x["timestep"][1] = 999
    if c.ofs_embed_dim:
        x["ofs"] = torch.full((1,), 2.0)
    if c.use_rotary_positional_embeddings:
        x["image_rotary_emb.cos"], x["image_rotary_emb.sin"] = (slice_rotary if grid == "slice" else crop_rotary)(
            c, f, h, w
        )
    return x


def run(parts, x, dtype, param_grads=True, blocks=True):
    parts.dtype = dtype
    model = parts.transformer()
    seen = {}
    hooks = []
    if blocks:
        hooks.append(model.patch_embed.register_forward_hook(lambda m, a, o: seen.__setitem__("patch_embed", o)))

        def pre(m, a, kw):
            seen["temb"] = kw["temb"]

        hooks.append(model.transformer_blocks[0].register_forward_pre_hook(pre, with_kwargs=True))
        for i, blk in enumerate(model.transformer_blocks):

            def post(m, a, o, i=i):
                seen[f"block.{i}.video"], seen[f"block.{i}.text"] = o

            hooks.append(blk.register_forward_hook(post))
        hooks.append(model.norm_out.register_forward_hook(lambda m, a, o: seen.__setitem__("norm_out", o)))
    hs = x["hidden_states"].to(dtype).requires_grad_(True)
    ehs = x["encoder_hidden_states"].to(dtype).requires_grad_(True)
    rope = (x["image_rotary_emb.cos"], x["image_rotary_emb.sin"]) if "image_rotary_emb.cos" in x else None
    model.requires_grad_(param_grads)
    out = model(
        hidden_states=hs,
        encoder_hidden_states=ehs,
        timestep=x["timestep"],
        ofs=x["ofs"].to(dtype) if "ofs" in x else None,
        image_rotary_emb=rope,
        return_dict=False,
    )[0]
    (out * x["g"].to(dtype)).sum().backward()
    for h in hooks:
        h.remove()
    result = {"output": out, **seen, "grad_input.hidden_states": hs.grad, "grad_input.encoder_hidden_states": ehs.grad}
    grads = {f"grad.{n}": p.grad for n, p in model.named_parameters()} if param_grads else {}
    return result, grads


def build(store, profile, seed):
    for variant in profile["variants"]:
        parts = Parts(store, profile, variant)
        c = parts.transformer().config
        pipe = profile["prefix"] + variant
        shape = profile["block"]["overrides"].get(variant, profile["block"]["default"])
        x = inputs_for(parts, shape, seed, "main")
        (ref, gref), (o32, g32) = both(lambda dt: run(parts, x, dt))
        cfg = {
            "pipeline": pipe,
            "batch": shape[0],
            "latent_frames": shape[1],
            "latent_height": shape[2],
            "latent_width": shape[3],
            "rotary_grid": "slice" if c.use_rotary_positional_embeddings else "none",
            "loss": "sum(output*g)",
        }
        store.add(
            f"transformer/{variant}.safetensors",
            f"transformer {variant}",
            "forward, all block outputs, input gradients",
            {**x, **ref},
            cfg,
            o32,
        )
        norms = {f"norm.{k[5:]}": v.norm().reshape(1) for k, v in gref.items()}
        note = "gradient of sum(output*g) for every parameter; norm.* = L2 norm of the whole gradient"
        if variant not in profile["full_gradients"]:
            gref, g32 = thin(gref), thin(g32)
            note += "; tensors with more than 2048 values hold rows 0, 8, 16, ... only"
        store.add(
            f"transformer/{variant}.grads.safetensors",
            f"transformer {variant} gradients",
            note,
            {**gref, **norms},
            cfg,
            g32,
            keep64=tuple(norms),
        )
        # more tokens, no parameter gradients
        f, h, w = profile["long"]["overrides"].get(variant, profile["long"]["default"])
        q = c.patch_size_t or 1
        shape = (1, f + (f % q), h, w)
        x = inputs_for(parts, shape, seed, "long")
        (ref, _), (o32, _) = both(lambda dt: run(parts, x, dt, False, False))
        fallback = c.use_learned_positional_embeddings
        store.add(
            f"transformer/{variant}.long.safetensors",
            f"transformer {variant} long",
            "49-frame-like token count"
            + ("; frame count differs from the learned table, so the library falls back to sincos" if fallback else ""),
            {**x, **ref},
            {
                "pipeline": pipe,
                "batch": 1,
                "latent_frames": shape[1],
                "latent_height": h,
                "latent_width": w,
                "loss": "sum(output*g)",
            },
            o32,
        )
        if c.use_rotary_positional_embeddings and not c.patch_size_t and not c.use_learned_positional_embeddings:
            shape = (1, 2, c.sample_height + 4, c.sample_width)
            x = inputs_for(parts, shape, seed, "crop", "crop")
            (ref, _), (o32, _) = both(lambda dt: run(parts, x, dt, False, False))
            store.add(
                f"transformer/{variant}.crop.safetensors",
                f"transformer {variant} crop-and-resize positions",
                "1.0 sampling positions at another size than the base size",
                {**x, **ref},
                {
                    "pipeline": pipe,
                    "batch": 1,
                    "latent_frames": 2,
                    "latent_height": shape[2],
                    "latent_width": shape[3],
                    "rotary_grid": "crop-and-resize",
                },
                o32,
            )
    tables(store, profile["tables"], seed)


def tables(store, sizes, seed):
    """Position tables alone: rotary (slice and crop) and sincos, plus timestep embeddings."""
    from diffusers.models.embeddings import get_3d_sincos_pos_embed, get_timestep_embedding

    t = {}
    rng = Draw(seed, "tables")
    base = sizes["base"]
    for f, gh, gw in sizes["grids"]:
        c, s = get_3d_rotary_pos_embed(64, None, (gh, gw), f, grid_type="slice", max_size=(gh, gw))
        t[f"rope.slice.{f}x{gh}x{gw}.cos"], t[f"rope.slice.{f}x{gh}x{gw}.sin"] = c, s
        crop = get_resize_crop_region_for_grid((gh, gw), base[1], base[0])
        c, s = get_3d_rotary_pos_embed(64, crop, (gh, gw), f)
        t[f"rope.crop.{f}x{gh}x{gw}.cos"], t[f"rope.crop.{f}x{gh}x{gw}.sin"] = c, s
        e = get_3d_sincos_pos_embed(128, (gw, gh), f, 1.875, 1.0, output_type="pt")
        t[f"sincos.{f}x{gh}x{gw}"] = e.flatten(0, 1)
    for k in [k for k in t if k.endswith(".cos") or k.endswith(".sin")]:
        t[k] = t[k][:, ::2].contiguous()  # every value stands twice in the library table
    steps = torch.cat([torch.tensor([0, 1, 2, 500, 998, 999]), rng.ints(0, 1000, 6)])
    t["timesteps"] = steps
    for dim in sizes["embeddings"]:
        t[f"timestep_embedding.{dim}"] = get_timestep_embedding(
            steps, dim, flip_sin_to_cos=True, downscale_freq_shift=0
        )
    store.add(
        "transformer/tables.safetensors",
        "position tables",
        "rotary tables (one column per channel pair), sincos tables, sinusoidal timestep embeddings",
        t,
        {
            "rope_crop_base_grid": list(base),
            "name": "kind.TxHpxWp",
            "sincos_dim": 128,
            "spatial_interpolation_scale": 1.875,
        },
    )
