"""Feeds the draws of a set to the loss functions and the frame selection of THUDM/CogVideo `finetune`.

    python3 check_against_finetune.py --cogvideo-src FOLDER_ABOVE_FINETUNE --profile clone --seed 7 --out ..

Their modules are imported with small stand-ins for the parts that are not needed (trainer loop, decord, torchvision).
"""

import argparse
import importlib
import pathlib
import sys
import types

import torch
from safetensors.torch import load_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))


def stand_ins(src):
    def module(name, **attrs):
        m = types.ModuleType(name)
        m.__dict__.update(attrs)
        sys.modules[name] = m
        return m

    root = module("finetune")
    root.__path__ = [str(pathlib.Path(src) / "finetune")]
    module("finetune.trainer", Trainer=type("Trainer", (), {}))
    module("finetune.schemas", Components=type("Components", (), {}))
    module("finetune.utils", unwrap_model=lambda acc, m: m)
    datasets = module("finetune.datasets")
    datasets.__path__ = [str(pathlib.Path(src) / "finetune" / "datasets")]

    class Frames:
        def __init__(self, uri, width, height):
            self.n = int(pathlib.Path(uri).stem)

        def __len__(self):
            return self.n

        def get_batch(self, idx):
            return torch.tensor(list(idx), dtype=torch.float32).reshape(-1, 1, 1, 1)

    module("decord", VideoReader=Frames, bridge=types.SimpleNamespace(set_bridge=lambda *_: None))
    module("torchvision")
    module("torchvision.transforms")
    module("torchvision.transforms.functional", resize=None)
    try:
        import cv2  # noqa: F401
    except ImportError:
        module("cv2")


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--cogvideo-src", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--profile", default="clone")
    ap.add_argument("--seed", type=int, required=True)
    a = ap.parse_args()
    from common import Store
    from profiles import PROFILES
    from build_pipelines import Parts
    from make_data import frame_indices
    from make_training import draws
    from diffusers import (
        CogVideoXDPMScheduler,
        CogVideoXImageToVideoPipeline,
        CogVideoXPipeline,
    )  # noqa: F401  (before the stand-ins)
    import diffusers.models.autoencoders.vae as vae_module

    stand_ins(a.cogvideo_src)

    profile = PROFILES[a.profile]
    store = Store(a.out, a.seed, a.profile)
    recipe = profile["train"]["recipes"][0]
    assert recipe["init_b"] == "zero" and recipe["accum"] == 1
    classes = {
        False: importlib.import_module("finetune.models.cogvideox_t2v.lora_trainer").CogVideoXT2VLoraTrainer,
        True: importlib.import_module("finetune.models.cogvideox_i2v.lora_trainer").CogVideoXI2VLoraTrainer,
    }
    worst = 0.0
    for variant in profile["variants"]:
        parts = Parts(store, profile, variant, torch.float64)
        stored = load_file(str(store.out / "training" / f"{variant}.{recipe['tag']}.safetensors"))
        x = {**draws(parts, profile, recipe, a.seed), "loss": stored["loss"]}
        cls = classes[parts.fam["i2v"]]
        tr = cls.__new__(cls)
        model, vae = parts.transformer(), parts.vae()
        tr.state = types.SimpleNamespace(transformer_config=model.config)
        tr.accelerator = types.SimpleNamespace(device=torch.device("cpu"))
        tr.components = types.SimpleNamespace(
            transformer=model, vae=vae, scheduler=parts.scheduler(CogVideoXDPMScheduler)
        )
        for m in (0, 1):  # both use the initial weights: the first step has learning rate 0
            idx = x["sample_index"][m]
            batch = {"prompt_embedding": x["prompt_embeds"][idx].double(), "encoded_videos": x["latents"][idx].double()}
            likes = [x["noise"][m].double()]
            if parts.fam["i2v"]:
                batch["images"] = x["images"][idx].double()
                likes.insert(0, x["image_noise"][m].double().unsqueeze(2))
            saved = torch.randint, torch.randn_like, torch.normal, vae_module.randn_tensor

            def like(t):
                v = likes.pop(0)
                assert v.shape == t.shape, (v.shape, t.shape)
                return v

            torch.randint = lambda *_, **__: x["timesteps"][m]
            torch.randn_like = like
            torch.normal = lambda **kw: x["sigma_normal"][m].double().reshape(1)
            vae_module.randn_tensor = lambda shape, **kw: x["posterior_noise"][m].double().reshape(shape)
            try:
                with torch.no_grad():
                    loss = tr.compute_loss(batch).item()
            finally:
                torch.randint, torch.randn_like, torch.normal, vae_module.randn_tensor = saved
            rel = abs(loss - x["loss"][m].item()) / abs(loss)
            worst = max(worst, rel)
            print(
                f"{variant} micro-step {m}: finetune {loss:.12f} file {x['loss'][m].item():.12f} relative difference {rel:.2e}"
            )
    utils = importlib.import_module("finetune.datasets.utils")
    bad = 0
    for want in profile["frames"]:
        for n in range(1, 201):
            got = utils.preprocess_video_with_resize(f"{n}.mp4", want, 1, 1).flatten().int().tolist()
            bad += got != frame_indices(n, want)
    print("frame selection mismatches:", bad)
    assert worst < 1e-9 and bad == 0


if __name__ == "__main__":
    main()
