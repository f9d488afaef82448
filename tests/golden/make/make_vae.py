"""VAE encode, sample, decode, tiling, slicing."""

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from build_pipelines import Parts
from common import Draw, both


def clip_like(draw, b, frames, h, w):
    """Smooth moving pattern plus noise, in [-1, 1]."""
    yy, xx, tt = torch.meshgrid(torch.arange(h) / h, torch.arange(w) / w, torch.arange(frames) / 8.0, indexing="ij")
    out = torch.zeros(b, 3, frames, h, w)
    for i in range(b):
        for c in range(3):
            a = draw.normal(4)
            out[i, c] = torch.sin(6.0 * (a[0] * xx + a[1] * yy + a[2] * tt) + a[3]).permute(2, 0, 1)
    return (0.7 * out + 0.25 * draw.normal(b, 3, frames, h, w)).clamp(-1, 1)


def roundtrip(parts, video, noise, dtype, setup=None, latents=None):
    parts.dtype = dtype
    vae = parts.vae()
    if setup:
        setup(vae)
    with torch.no_grad():
        post = vae.encode(video.to(dtype)).latent_dist
        z = post.mean + post.std * noise.to(dtype)
        given = z if latents is None else latents.to(dtype)
        dec = vae.decode(given).sample
    return {"mean": post.mean, "logvar": post.logvar, "sample": z, "decoded": dec}


def build(store, profile, seed):
    names = list(profile["variants"])
    for variant in (names[1], names[2]):
        parts = Parts(store, profile, variant)
        pipe = profile["prefix"] + variant
        cases = profile["vae_cases"] if variant == names[1] else profile["vae_cases_i2v"]
        for frames, h, w in cases:
            d = Draw(seed, "vae", variant, frames, h, w)
            video = clip_like(d, 1, frames, h, w)
            lat = (frames - 1) // 4 + 1 if frames % 2 else frames // 4
            noise = d.normal(1, 16, lat, h // 8, w // 8)
            ref, o32 = both(lambda dt: roundtrip(parts, video, noise, dt))
            store.add(
                f"vae/{variant}-{frames}x{h}x{w}.safetensors",
                f"vae {variant} {frames} frames {h}x{w}",
                "encode (mean, logvar), sample = mean + exp(logvar/2)*noise, decode(sample); no tiling",
                {"video": video, "noise": noise, **ref},
                {"pipeline": pipe, "layout": "B C T H W", "tiling": False},
                o32,
            )
    # even latent counts for decode only
    parts = Parts(store, profile, names[1])
    t, o = {}, {}
    for lat in profile["vae_even"]:
        z = Draw(seed, "vae-even", lat).normal(1, 16, lat, 2, 3)
        t[f"latent.{lat}"] = z
        for dt, dst in ((torch.float64, t), (torch.float32, o)):
            parts.dtype = dt
            with torch.no_grad():
                dst[f"decoded.{lat}"] = parts.vae().decode(z.to(dt)).sample
    store.add(
        "vae/decode-even.safetensors",
        "vae decode of even latent counts",
        "decode only: 4*T frames for even T",
        t,
        {"pipeline": profile["prefix"] + names[1]},
        o,
    )
    # tiling and slicing
    for k, tile in enumerate(profile["vae_tiles"]):
        d = Draw(seed, "vae-tile", k)
        video = clip_like(d, 2 if tile["frames"] == 1 else 1, tile["frames"], tile["h"], tile["w"])
        noise = d.normal(video.shape[0], 16, (tile["frames"] - 1) // 4 + 1, tile["h"] // 8, tile["w"] // 8)

        def setup(vae):
            vae.enable_tiling(
                tile_sample_min_height=tile["min_h"],
                tile_sample_min_width=tile["min_w"],
                tile_overlap_factor_height=tile["oh"],
                tile_overlap_factor_width=tile["ow"],
            )
            vae.enable_slicing()

        ref, o32 = both(lambda dt: roundtrip(parts, video, noise, dt, setup))
        plain = roundtrip(parts, video, noise, torch.float64)
        gap = (plain["mean"] - ref["mean"]).abs().max().item()
        vae = parts.vae()
        setup(vae)
        store.add(
            f"vae/tiled-{k}.safetensors",
            f"vae tiling {k}",
            "tiled and sliced encode/decode",
            {"video": video, "noise": noise, **ref},
            {
                "pipeline": profile["prefix"] + names[1],
                "tile_sample_min_height": tile["min_h"],
                "tile_sample_min_width": tile["min_w"],
                "tile_overlap_factor_height": tile["oh"],
                "tile_overlap_factor_width": tile["ow"],
                "slicing": True,
                "tile_latent_min_height": vae.tile_latent_min_height,
                "tile_latent_min_width": vae.tile_latent_min_width,
            },
            o32,
            extra={"untiled_mean_differs_by_max": gap},
        )
    # image latents as the i2v trainers and pipelines use them
    for variant in (names[2], names[4]):
        parts = Parts(store, profile, variant)
        d = Draw(seed, "vae-image", variant)
        h, w = profile["sample"]["size"][variant]
        image, noise = clip_like(d, 1, 1, h, w), d.normal(1, 16, 1, h // 8, w // 8)
        ref, o32 = both(lambda dt: roundtrip(parts, image, noise, dt))
        s = parts.fam["scaling"]
        for r in (ref, o32):
            r.pop("decoded")
            r["latent_training"] = r["sample"] * s
            r["latent_sampling"] = r["sample"] * (1 / s if parts.fam["invert"] else s)
        store.add(
            f"vae/image-{variant}.safetensors",
            f"vae image latent {variant}",
            "one-frame encode; latent_training uses scaling_factor, latent_sampling honours invert_scale_latents",
            {"image": image, "noise": noise, **ref},
            {"pipeline": profile["prefix"] + variant, "scaling_factor": s, "invert_scale_latents": parts.fam["invert"]},
            o32,
        )
    d = Draw(seed, "posterior")
    moments = d.normal(1, 8, 2, 3, 3, std=18.0)
    noise = d.normal(1, 4, 2, 3, 3)
    post = DiagonalGaussianDistribution(moments.double())
    store.add(
        "vae/posterior.safetensors",
        "posterior clamp",
        "split of moments, logvar clamp to [-30, 20], sample, mode",
        {
            "moments": moments,
            "noise": noise,
            "mean": post.mean,
            "logvar": post.logvar,
            "std": post.std,
            "sample": post.mean + post.std * noise.double(),
            "mode": post.mode(),
        },
        keep64=("std", "sample"),
    )
