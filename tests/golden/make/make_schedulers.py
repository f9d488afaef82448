"""Noise schedule, add_noise/get_velocity, timesteps, DDIM and DPM trajectories (all f64)."""

import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler

from common import Draw, NoiseTap
from profiles import SCHED_COMMON


def build(store, profile, seed):
    shifts = profile["shifts"]
    t = {}
    for name, c in shifts.items():
        s = CogVideoXDPMScheduler(**SCHED_COMMON, snr_shift_scale=c)
        t[f"{name}.betas"], t[f"{name}.alphas_cumprod"] = s.betas, s.alphas_cumprod
        t[f"{name}.weights"] = torch.where(s.alphas_cumprod < 1, 1 / (1 - s.alphas_cumprod), torch.zeros(()).double())
    store.add(
        "schedulers/tables.safetensors",
        "noise schedule",
        "betas, alphas_cumprod, loss weights 1/(1-alpha)",
        t,
        {"snr_shift_scale": shifts, **SCHED_COMMON},
        keep64=tuple(t),
    )
    for name, c in shifts.items():
        s = CogVideoXDPMScheduler(**SCHED_COMMON, snr_shift_scale=c)
        d = Draw(seed, "addnoise", name)
        steps = torch.cat([torch.tensor([0, 1, 10, 500, 998, 999]), d.ints(0, 1000, 4)])
        shape = (len(steps), 3, 4, 2, 3)
        x0, eps = d.normal(*shape), d.normal(*shape)
        t = {"timesteps": steps, "x0": x0, "noise": eps, "noisy": s.add_noise(x0.double(), eps.double(), steps)}
        t["velocity_of_x0_noise"] = s.get_velocity(x0.double(), eps.double(), steps)
        t["recovered_x0"] = s.get_velocity(t["velocity_of_x0_noise"], t["noisy"], steps)
        t["noisy_f32_library"] = s.add_noise(x0, eps, steps)
        t["noisy_bf16_library"] = s.add_noise(x0.bfloat16(), eps.bfloat16(), steps).float()
        store.add(
            f"schedulers/add-noise-{name}.safetensors",
            f"add_noise and get_velocity {name}",
            "noisy = add_noise(x0, noise, t); recovered_x0 = get_velocity(v, noisy, t)",
            t,
            {"snr_shift_scale": c},
            keep64=("noisy", "velocity_of_x0_noise", "recovered_x0"),
        )
    rows = []
    for spacing in ("trailing", "leading", "linspace"):
        for n in (1, 2, 3, *profile["sched_steps"], 999, 1000):
            s = CogVideoXDDIMScheduler(**{**SCHED_COMMON, "timestep_spacing": spacing}, snr_shift_scale=1.0)
            s.set_timesteps(n)
            rows.append({"spacing": spacing, "steps": n, "step_back": 1000 // n, "timesteps": s.timesteps.tolist()})
    store.json("schedulers/timesteps.json", "timestep lists", "set_timesteps for every spacing", {"cases": rows})
    for name, c in shifts.items():
        for spacing, kind, n in [
            (sp, k, n) for sp in ("trailing", "leading") for k in ("ddim", "dpm") for n in profile["traj_steps"]
        ]:
            cls = CogVideoXDDIMScheduler if kind == "ddim" else CogVideoXDPMScheduler
            s = cls(**{**SCHED_COMMON, "timestep_spacing": spacing}, snr_shift_scale=c)
            s.set_timesteps(n)
            d = Draw(seed, "traj", name, spacing, kind, n)
            shape = (1, 2, 4, 3, 2)
            x = d.normal(*shape).double()
            outs = torch.stack([d.normal(*shape) for _ in range(len(s.timesteps))])
            lat, x0s, used, dropped, old = [x], [], [], [], None
            with NoiseTap(Draw(seed, "trajnoise", name, spacing, kind, n)) as tap:
                for i, step in enumerate(s.timesteps):
                    before = len(tap.log)
                    if kind == "ddim":
                        r = s.step(outs[i].double(), step, x, return_dict=True)
                        x, old = r.prev_sample, r.pred_original_sample
                    else:
                        x, old = s.step(
                            outs[i].double(), old, step, s.timesteps[i - 1] if i else None, x, return_dict=False
                        )
                        drawn = [z for _, z in tap.log[before:]]
                        used.append(drawn[-1])
                        dropped.append(drawn[0] if len(drawn) == 2 else torch.zeros(shape))
                    lat.append(x)
                    x0s.append(old)
            t = {
                "timesteps": s.timesteps,
                "model_outputs": outs,
                "latents": torch.stack(lat),
                "pred_x0": torch.stack(x0s),
            }
            if used:
                t["noise_used"], t["noise_drawn_but_unused"] = torch.stack(used), torch.stack(dropped)
            store.add(
                f"schedulers/{kind}-{name}-{spacing}-{n}.safetensors",
                f"{kind} {name} {spacing} {n} steps",
                "latents[0] = start, latents[i+1] = after step i, v_prediction",
                t,
                {"scheduler": kind, "snr_shift_scale": c, "spacing": spacing, "steps": n},
                keep64=("latents", "pred_x0"),
            )
