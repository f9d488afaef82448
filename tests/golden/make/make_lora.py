"""LoRA files as diffusers writes them, outputs with the adapter on, fused weights."""

import shutil

import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXImageToVideoPipeline, CogVideoXPipeline
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open

from build_pipelines import Parts
from common import Draw, both
from make_training import lora_init
from make_transformer import inputs_for


def pipe_of(parts):
    cls = CogVideoXImageToVideoPipeline if parts.fam["i2v"] else CogVideoXPipeline
    return cls(
        tokenizer=parts.tokenizer(),
        text_encoder=parts.text_encoder(),
        vae=parts.vae(),
        transformer=parts.transformer(),
        scheduler=parts.scheduler(CogVideoXDDIMScheduler),
    )


def forward(model, x, dtype):
    rope = (x["image_rotary_emb.cos"], x["image_rotary_emb.sin"]) if "image_rotary_emb.cos" in x else None
    with torch.no_grad():
        return model(
            hidden_states=x["hidden_states"].to(dtype),
            encoder_hidden_states=x["encoder_hidden_states"].to(dtype),
            timestep=x["timestep"],
            ofs=x["ofs"].to(dtype) if "ofs" in x else None,
            image_rotary_emb=rope,
            return_dict=False,
        )[0]


def build(store, profile, seed):
    names = list(profile["variants"])
    spec = {**profile["lora"], "init_b": "random"}
    for variant in (names[1], names[4]):
        parts = Parts(store, profile, variant)
        parts.dtype = torch.float32
        model = parts.transformer()
        lora_init(model, spec, Draw(seed, "lora", variant))
        cls = CogVideoXImageToVideoPipeline if parts.fam["i2v"] else CogVideoXPipeline
        layers = get_peft_model_state_dict(model)
        plain = store.path(f"lora/{variant}/x").parent
        meta = store.path(f"lora/{variant}-meta/x").parent
        cls.save_lora_weights(str(plain), transformer_lora_layers=layers)
        info = {k: v for k, v in model.peft_config["default"].to_dict().items() if k != "base_model_name_or_path"}
        info = {k: sorted(v) if isinstance(v, set) else v for k, v in info.items()}
        cls.save_lora_weights(str(meta), transformer_lora_layers=layers, transformer_lora_adapter_metadata=info)
        file = "pytorch_lora_weights.safetensors"
        for folder, has in ((plain, False), (meta, True)):
            with safe_open(str(folder / file), "pt") as f:
                md = f.metadata() or {}
                assert ("lora_adapter_metadata" in md) == has, md
                keys = list(f.keys())
            store.cases.append(
                {
                    "name": f"LoRA file {folder.name}",
                    "group": "lora",
                    "file": f"lora/{folder.name}/{file}",
                    "checks": "file layout written by save_lora_weights"
                    + (", with adapter metadata" if has else ", no alpha inside"),
                    "config": {
                        "rank": spec["rank"],
                        "alpha": spec["alpha"],
                        "targets": ["to_q", "to_k", "to_v", "to_out.0"],
                    },
                    "tensors": len(keys),
                    "metadata_keys": sorted(md),
                }
            )
        shape = (1, 2, *(profile["train"]["size"][variant]))
        last = f"transformer_blocks.{parts.size['layers'] - 1}."
        x = inputs_for(parts, shape, seed, "lora")

        def run(dtype):
            parts.dtype = dtype
            r = {"output.base": forward(parts.transformer(), x, dtype)}
            for tag, folder in (("plain", plain), ("meta", meta)):
                for w in (1.0, 0.5):
                    p = pipe_of(parts)
                    p.load_lora_weights(str(folder), weight_name=file, adapter_name="a")
                    p.transformer.to(dtype)
                    p.set_adapters(["a"], adapter_weights=[w])
                    r[f"output.{tag}.weight{w}"] = forward(p.transformer, x, dtype)
            for tag, folder, w in (("plain", plain, 1.0), ("plain", plain, 0.5), ("meta", meta, 1.0)):
                p = pipe_of(parts)
                p.load_lora_weights(str(folder), weight_name=file, adapter_name="a")
                p.transformer.to(dtype)
                p.fuse_lora(components=["transformer"], lora_scale=w)
                r[f"output.{tag}.fused{w}"] = forward(p.transformer, x, dtype)
                for n, q in p.transformer.named_parameters():
                    if tag == "plain" and "base_layer.weight" in n and n.startswith(last):
                        r[f"{tag}.fused{w}." + n.replace(".base_layer", "")] = q.detach().clone()
            return r

        ref, o32 = both(run)
        store.add(
            f"lora/{variant}.safetensors",
            f"LoRA outputs {variant}",
            "plain file: the library assumes alpha = rank; meta file: alpha/rank from the metadata; "
            "weightW = set_adapters weight, fusedW = fuse_lora scale; "
            "fused attention weights of the last block",
            {**x, **ref},
            {"pipeline": profile["prefix"] + variant, "rank": spec["rank"], "alpha": spec["alpha"]},
            o32,
        )
