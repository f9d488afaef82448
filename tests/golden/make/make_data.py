"""Frame selection, image resizing, list files, cache keys, artifact names, clips as ffmpeg decodes them."""

import hashlib
import io
import pathlib
import shutil
import subprocess

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

import texts
from common import Draw
from make_vae import clip_like

EXAMPLES = pathlib.Path(__file__).resolve().parents[3] / "examples" / "clips"


def frame_indices(n, want):
    """Which source frames end up in a training clip of `want` frames."""
    if n < want:
        return list(range(n)) + [n - 1] * (want - n)
    return list(range(0, n, n // want))[:want]


def artifact(step, rank, prompt, ext):
    clean = prompt
    for ch in " /:.,;!?":
        clean = clean.replace(ch, "-")
    return f"validation-{step}-{rank}-{clean[:25]}-{hashlib.md5(prompt[::-1].encode()).hexdigest()[:5]}.{ext}"


def build(store, profile, seed):
    store.json(
        "data/frame-indices.json",
        "frame selection",
        "cases: [frames in the file, wanted frames, selected source indices]; "
        "shorter videos repeat the last frame, longer ones take every (n div wanted)-th frame from 0",
        {"cases": [[n, want, frame_indices(n, want)] for want in profile["frames"] for n in range(1, 201)]},
    )
    t = {}
    try:
        import cv2
    except ImportError:
        cv2 = None
    from diffusers.image_processor import VaeImageProcessor

    vp = VaeImageProcessor(vae_scale_factor=8)
    for k, ((h, w), (oh, ow)) in enumerate(profile["resize"]):
        img = clip_like(Draw(seed, "resize", k), 1, 1, h, w)[0, :, 0]
        img = ((img * 0.5 + 0.5) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
        t[f"case{k}.image"] = img
        arr = img.numpy()
        if cv2 is not None:
            t[f"case{k}.cv2_bilinear"] = torch.from_numpy(cv2.resize(arr, (ow, oh)))
        x = img.permute(2, 0, 1)[None].double()
        t[f"case{k}.torch_bilinear"] = F.interpolate(x, size=(oh, ow), mode="bilinear", align_corners=False)[0].permute(
            1, 2, 0
        )
        pil = Image.fromarray(arr)
        t[f"case{k}.pil_bilinear"] = torch.from_numpy(np.array(pil.resize((ow, oh), Image.BILINEAR)))
        t[f"case{k}.pil_lanczos"] = torch.from_numpy(np.array(pil.resize((ow, oh), Image.LANCZOS)))
        t[f"case{k}.pipeline_preprocess"] = vp.preprocess(pil, height=oh, width=ow)[0]
    store.add(
        "data/resize.safetensors",
        "image resizing",
        "uint8 RGB [H, W, 3]: OpenCV bilinear (finetune images), torch bilinear on floats (CogKit video), "
        "PIL bilinear (CogKit images), PIL Lanczos (pipelines); pipeline_preprocess = [3, H, W] in [-1, 1]",
        t,
        {
            "cases": [list(map(list, c)) for c in profile["resize"]],
            "opencv": getattr(cv2, "__version__", None) if cv2 else None,
        },
    )
    x = torch.arange(256, dtype=torch.float32)
    y = torch.linspace(-1.3, 1.3, 521)
    store.add(
        "data/normalise.safetensors",
        "value ranges",
        "in: x/255*2-1; out: round(255*clamp(y/2+1/2)) half to even",
        {
            "uint8": x.to(torch.uint8),
            "normalised": x / 255.0 * 2.0 - 1.0,
            "model_value": y,
            "pixel": ((y * 0.5 + 0.5).clamp(0, 1) * 255).numpy().round().astype("uint8"),
        },
    )
    ps = texts.plain(f"{seed}-names", 6) + [
        "",
        "a: b/c.d,e;f!g?h",
        "Überraschung im Café",
        "猫が窓のそばに座る",
        " leading",
        "x" * 40,
    ]
    lists = {
        "plain": "a\nb\nc\n",
        "blank lines and spaces": "\n  first prompt \n\n\tsecond\t\n   \nthird",
        "crlf": "one\r\ntwo\r\n\r\nthree\r\n",
        "no final newline": "x\ny",
        "empty": "",
        "nbsp line": "p\n\u00a0\nq\n",
        "inner spaces kept": "a  b\n",
        "only newline characters split lines": "a\u2028b\x0bc\x85d\nnext\rlast",
    }
    tok = profile["id_token"]
    store.json(
        "data/names.json",
        "list files, cache keys, artifact names",
        "lists: file text -> entries; sha256 of the UTF-8 prompt; artifact file names; the token goes in front without separator",
        {
            "lists": [
                {
                    "name": k,
                    "text": v,
                    "entries": [line.strip() for line in io.StringIO(v, newline=None) if line.strip()],
                }
                for k, v in lists.items()
            ],
            "prompts": [
                {
                    "prompt": p,
                    "sha256": hashlib.sha256(p.encode()).hexdigest(),
                    "artifact_mp4": artifact(40, 0, p, "mp4"),
                    "artifact_png": artifact(40, 0, p, "png"),
                }
                for p in ps
            ],
            "id_token": {
                "token": tok,
                "prompt": ps[0],
                "used": tok + ps[0],
                "sha256": hashlib.sha256((tok + ps[0]).encode()).hexdigest(),
            },
        },
    )
    if profile["clips"]:
        decoded_clips(store, profile["clips"])


def ffmpeg(*args):
    return subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *args], check=True, stdout=subprocess.PIPE).stdout


def decoded_clips(store, clips):
    """A small dataset in the layout of the original trainer, first frames as pictures, and what training reads of it."""
    import cv2

    t = {}
    for stem, (want, h, w) in clips.items():
        video, picture = store.path(f"data/clips/videos/{stem}.mp4"), store.path(f"data/clips/images/{stem}.png")
        shutil.copy(EXAMPLES / "videos" / f"{stem}.mp4", video)
        ffmpeg("-i", str(video), "-frames:v", "1", "-fflags", "+bitexact", str(picture))
        raw = ffmpeg("-i", str(video), "-vf", f"scale={w}:{h}:flags=bilinear,format=rgb24", "-f", "rawvideo", "-")
        frames = np.frombuffer(raw, np.uint8).reshape(-1, h, w, 3)
        indices, name = frame_indices(len(frames), want), f"{stem}.{want}x{h}x{w}"
        t[f"{name}.bilinear"], t[f"{name}.indices"] = torch.tensor(frames[indices]), torch.tensor(indices)
        t[f"{name}.image"] = torch.from_numpy(cv2.resize(np.array(Image.open(picture).convert("RGB")), (w, h)))
    lists = {
        "prompts": texts.plain("clips", len(clips)),
        "videos": [f"videos/{stem}.mp4" for stem in clips],
        "images": [f"images/{stem}.png" for stem in clips],
    }
    for name, lines in lists.items():
        store.path(f"data/clips/{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    store.add(
        "data/clip-decode.safetensors",
        "decoded clips",
        "bilinear = selected frames through the scale filter of ffmpeg, RGB uint8 [F, H, W, 3]; "
        "image = images/STEM.png resized by OpenCV",
        t,
    )
