"""Whole pipeline runs: latents, per-step states, noises, final frames."""

import numpy as np
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler, CogVideoXImageToVideoPipeline, CogVideoXPipeline
from PIL import Image

import texts
from build_pipelines import Parts
from common import Draw, NoiseTap, both
from make_vae import clip_like


def run(parts, profile, kind, dynamic, prompt, negative, image, seed, dtype):
    sm = profile["sample"]
    h, w = sm["size"][parts.variant]
    parts.dtype = dtype
    cls = CogVideoXImageToVideoPipeline if parts.fam["i2v"] else CogVideoXPipeline
    sched = parts.scheduler(CogVideoXDDIMScheduler if kind == "ddim" else CogVideoXDPMScheduler)
    pipe = cls(
        tokenizer=parts.tokenizer(),
        text_encoder=parts.text_encoder(),
        vae=parts.vae(),
        transformer=parts.transformer(),
        scheduler=sched,
    )
    pipe.set_progress_bar_config(disable=True)
    seen = {"latents": [], "out": [], "scale": []}
    keep = {}

    def after(p, i, t, kw):
        seen["latents"].append(kw["latents"].clone())
        seen["scale"].append(float(p.guidance_scale))
        return kw

    hook = pipe.transformer.register_forward_hook(lambda m, a, o: seen["out"].append(o[0].clone()))
    first = pipe.transformer.register_forward_pre_hook(
        lambda m, a, kw: keep.setdefault("kw", {k: v for k, v in kw.items()}) and None, with_kwargs=True
    )
    prep = pipe.video_processor.preprocess
    pipe.video_processor.preprocess = lambda *a, **k: keep.setdefault("image", prep(*a, **k))
    decode = pipe.decode_latents
    pipe.decode_latents = lambda z: keep.setdefault("decoded", decode(z))
    extra = {"image": image} if parts.fam["i2v"] else {}
    with NoiseTap(Draw(seed, "sampling-noise", parts.variant, kind)) as tap:
        frames = pipe(
            prompt=prompt,
            negative_prompt=negative,
            height=h,
            width=w,
            num_frames=sm["frames"],
            num_inference_steps=sm["steps"],
            guidance_scale=sm["guidance"],
            use_dynamic_cfg=dynamic,
            max_sequence_length=parts.size["text_len"],
            output_type="latent" if dynamic else "pil",
            callback_on_step_end=after,
            **extra,
        ).frames
    hook.remove()
    first.remove()
    kw = keep["kw"]
    r = {
        "initial_latents": tap.of("pipeline_")[0],
        "prompt_embeds": kw["encoder_hidden_states"],
        "latents": torch.stack(seen["latents"]),
        "model_outputs": torch.stack(seen["out"]),
        "timesteps": pipe.scheduler.timesteps,
        "guidance": torch.tensor(seen["scale"], dtype=torch.float64),
    }
    if not dynamic:
        r["decoded"], r["frames"] = keep["decoded"], torch.from_numpy(np.stack([np.array(f) for f in frames[0]]))
    if kw.get("image_rotary_emb") is not None:
        r["image_rotary_emb.cos"], r["image_rotary_emb.sin"] = kw["image_rotary_emb"]
    if parts.fam["i2v"]:
        r["posterior_noise"] = tap.of("vae")[0]
        r["image_preprocessed"] = keep["image"]
        r["image_condition"] = kw["hidden_states"][:1, :, 16:]
    drawn = tap.of("scheduling")
    if drawn:
        n, used = sm["steps"], []
        for i in range(n):
            single = i in (0, n - 1)
            a = drawn.pop(0)
            used.append(a if single else drawn.pop(0))
        assert not drawn
        r["noise_used"] = torch.stack(used)
    return r


def build(store, profile, seed):
    sm = profile["sample"]
    for variant in profile["variants"]:
        parts = Parts(store, profile, variant)
        prompt = texts.plain(f"{seed}-sampling-{variant}", 1)[0]
        negative = "" if variant != "5b" else "blurred background, dust"
        h, w = sm["size"][variant]
        image = None
        if parts.fam["i2v"]:
            ih, iw = (h, w) if variant == "5b-i2v" else (h + sm["picture"][0], w + sm["picture"][1])
            px = clip_like(Draw(seed, "sampling-image", variant), 1, 1, ih, iw)[0, :, 0]
            px = ((px * 0.5 + 0.5) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
            image = Image.fromarray(px.numpy())
        for kind in ("ddim", "dpm"):
            for dynamic in sm["dynamic"]:
                ref, o32 = both(lambda dt: run(parts, profile, kind, dynamic, prompt, negative, image, seed, dt))
                diff = (ref["frames"].int() - o32["frames"].int()).abs() if not dynamic else None
                t = dict(ref)
                if kind == "dpm" or dynamic:  # same in the plain DDIM file of the variant
                    for k in (
                        "prompt_embeds",
                        "image_rotary_emb.cos",
                        "image_rotary_emb.sin",
                        "decoded",
                        "image_condition",
                        "image_preprocessed",
                    ):
                        if k != "decoded" or kind == "dpm":
                            t.pop(k, None)
                if image is not None:
                    t["image"] = px
                if kind == "dpm" or dynamic or not sm["full"]:
                    t.pop("model_outputs")
                if variant not in sm["full"]:
                    t.pop("decoded", None)
                o32 = {
                    k: v
                    for k, v in o32.items()
                    if k in ("latents", "model_outputs", "decoded", "prompt_embeds", "image_condition", "guidance")
                    and k in t
                }
                tag = f"{variant}.{kind}" + (".dynamic" if dynamic else "")
                store.add(
                    f"sampling/{tag}.safetensors",
                    f"sampling {tag}",
                    "prompt to frames; latents[i] = after step i; model_outputs[i] = [negative, positive] before guidance; "
                    "decoded = [1, 3, F, H, W] before clamping; "
                    "dynamic runs stop at the latents; what all runs of a variant share is in VARIANT.ddim",
                    t,
                    {
                        "pipeline": profile["prefix"] + variant,
                        "scheduler": kind,
                        "steps": sm["steps"],
                        "guidance_scale": sm["guidance"],
                        "use_dynamic_cfg": dynamic,
                        "prompt": prompt,
                        "negative_prompt": negative,
                        "height": h,
                        "width": w,
                        "num_frames": sm["frames"],
                        "max_sequence_length": parts.size["text_len"],
                    },
                    o32,
                    keep64=("guidance",),
                    extra=(
                        {}
                        if diff is None
                        else {
                            "frames_f32_vs_f64": {
                                "pixels_different": int((diff > 0).sum()),
                                "pixels": diff.numel(),
                                "max_difference": int(diff.max()),
                            }
                        }
                    ),
                )
