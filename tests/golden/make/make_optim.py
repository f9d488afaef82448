"""Optimizer trajectories, clipping and LR tables (f64)."""

import torch
from diffusers.optimization import get_scheduler

from common import Draw

SHAPES = {"matrix": (6, 5), "vector": (7,), "lora_b": (5, 3), "conv": (3, 2, 2, 2)}


def trajectory(make, params, grads, lrs):
    ps = {k: torch.nn.Parameter(v.double().clone()) for k, v in params.items()}
    opt = make(list(ps.values()))
    out = {k: [] for k in ps}
    aux = []
    for i in range(len(next(iter(grads.values())))):
        for g in opt.param_groups:
            g["lr"] = float(lrs[i])
        for k, p in ps.items():
            p.grad = grads[k][i].double().clone()
        opt.step()
        for k, p in ps.items():
            out[k].append(p.detach().clone())
        aux.append(opt.param_groups[0].get("d", 0.0))
    return {k: torch.stack(v) for k, v in out.items()}, torch.tensor([float(a) for a in aux], dtype=torch.float64)


def build(store, profile, seed):
    tr = profile["train"]
    b1, b2 = tr["betas"]
    eps, wd = tr["eps"], tr["wd"]
    missing = []
    table = {
        "adam": [lambda p: torch.optim.Adam(p, lr=1e-3, betas=(b1, b2), eps=eps, weight_decay=wd)],
        "adamw": [lambda p: torch.optim.AdamW(p, lr=1e-3, betas=(b1, b2), eps=eps, weight_decay=wd)],
    }
    table["adamw-wd"] = [lambda p: torch.optim.AdamW(p, lr=1e-3, betas=(b1, b2), eps=eps, weight_decay=0.1)]
    table["adam-wd"] = [lambda p: torch.optim.Adam(p, lr=1e-3, betas=(b1, b2), eps=eps, weight_decay=0.1)]
    try:
        import prodigyopt

        table["prodigy"] = [
            lambda p: prodigyopt.Prodigy(
                p,
                lr=1.0,
                betas=(b1, b2),
                beta3=0.98,
                eps=eps,
                weight_decay=wd,
                decouple=False,
                use_bias_correction=False,
                safeguard_warmup=False,
            )
        ]
        table["prodigy-options"] = [
            lambda p: prodigyopt.Prodigy(
                p,
                lr=1.0,
                betas=(b1, b2),
                beta3=0.98,
                eps=eps,
                weight_decay=0.01,
                decouple=True,
                use_bias_correction=True,
                safeguard_warmup=True,
            )
        ]
    except ImportError:
        missing.append("prodigy")
    try:
        import came_pytorch

        table["came"] = [
            lambda p: came_pytorch.CAME(p, lr=1e-3, eps=(1e-30, 1e-16), betas=(b1, b2, 0.98), weight_decay=wd)
        ]
    except ImportError:
        missing.append("came")
    hyper = {"betas": [b1, b2], "eps": eps, "weight_decay": wd, "beta3": 0.98, "steps": 20, "missing": missing}
    n = 20
    for name, (make,) in table.items():
        d = Draw(seed, "optim", name)
        params = {k: d.normal(*s) for k, s in SHAPES.items()}
        # gradients with a common direction, so that adaptive methods move
        grads = {
            k: torch.stack([0.3 * params[k] + d.normal(*s, std=0.5) * (1 + 0.2 * i) for i in range(n)])
            for k, s in SHAPES.items()
        }
        base = 1.0 if name.startswith("prodigy") else 1e-2
        lrs = torch.tensor([base * min(1.0, i / 3) for i in range(n)], dtype=torch.float64)  # first step has lr 0
        if name.startswith("prodigy"):
            lrs[:] = base
        out, aux = trajectory(make, params, grads, lrs)
        t = {
            **{f"param0.{k}": v for k, v in params.items()},
            **{f"grads.{k}": v for k, v in grads.items()},
            **{f"params.{k}": v for k, v in out.items()},
            "lr": lrs,
        }
        if name.startswith("prodigy"):
            t["d"] = aux
        cfg = dict(hyper, optimizer=name)
        if name.endswith("-wd"):
            cfg["weight_decay"] = 0.1
        if name == "prodigy-options":
            cfg.update(weight_decay=0.01, decouple=True, use_bias_correction=True, safeguard_warmup=True)
        if name == "prodigy":
            cfg.update(decouple=False, use_bias_correction=False, safeguard_warmup=False)
        if name == "came":
            cfg.update(eps=[1e-30, 1e-16], betas=[b1, b2, 0.98], clip_threshold=1.0)
        store.add(
            f"optim/{name}.safetensors",
            f"optimizer {name}",
            "params[i] = value after step i with grads[i] and lr[i]; no clipping",
            t,
            cfg,
            keep64=tuple(k for k in t if k.startswith("params.") or k in ("lr", "d")),
        )
    d = Draw(seed, "clip")
    t = {}
    for k, scale in enumerate((0.01, 1.0, 30.0)):
        ps = [torch.nn.Parameter(torch.zeros(s).double()) for s in SHAPES.values()]
        for p, name in zip(ps, SHAPES):
            g = d.normal(*p.shape, std=scale)
            p.grad = g.double()
            t[f"case{k}.grad.{name}"] = g
        t[f"case{k}.norm"] = torch.nn.utils.clip_grad_norm_(ps, tr["clip"]).reshape(1)
        for p, name in zip(ps, SHAPES):
            t[f"case{k}.clipped.{name}"] = p.grad
    store.add(
        "optim/clip.safetensors",
        "gradient clipping",
        "global norm over all tensors, coefficient min(1, max/(norm+1e-6))",
        t,
        {"max_grad_norm": tr["clip"]},
        keep64=tuple(k for k in t if "clipped" in k or k.endswith("norm")),
    )
    lr_tables(store, profile, seed)


def lr_tables(store, profile, seed):
    base, total, warmups = (profile["rates"][k] for k in ("peak", "steps", "warmups"))
    t, cfg = {}, {"learning_rate": base, "num_training_steps": total, "entries": {}}

    def table(name, key, default_lr, **kw):
        p = torch.nn.Parameter(torch.zeros(1))
        opt = torch.optim.AdamW([{"params": [p], "lr": base}], lr=default_lr)
        s = get_scheduler(name, opt, **kw)
        rows = []
        for _ in range(total + 11):
            rows.append(opt.param_groups[0]["lr"])
            opt.step()
            s.step()
        t[key] = torch.tensor(rows, dtype=torch.float64)
        cfg["entries"][key] = {"name": name, "optimizer_default_lr": default_lr, **kw}

    for w in warmups:
        for name in ("constant", "constant_with_warmup", "linear", "cosine"):
            table(name, f"{name}.w{w}", 1e-3, num_warmup_steps=w, num_training_steps=total)
        for cycles in (1, 2, 3):
            table(
                "cosine_with_restarts",
                f"cosine_with_restarts.w{w}.c{cycles}",
                1e-3,
                num_warmup_steps=w,
                num_training_steps=total,
                num_cycles=cycles,
            )
        for power in (1.0, 2.0, 0.5):
            for d in (1e-3, base):
                tag = "finetune" if d == 1e-3 else "own"
                table(
                    "polynomial",
                    f"polynomial.w{w}.p{power}.{tag}",
                    d,
                    num_warmup_steps=w,
                    num_training_steps=total,
                    power=power,
                )
    table("piecewise_constant", "piecewise_constant", 1e-3, step_rules="1:10,0.1:20,0.01:30,0.005")
    p = torch.nn.Parameter(torch.zeros(1))
    opt = torch.optim.AdamW([p], lr=base)
    s = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=total)
    rows = []
    for _ in range(total + 1):
        rows.append(opt.param_groups[0]["lr"])
        opt.step()
        s.step()
    t["cogkit_cosine_annealing"] = torch.tensor(rows, dtype=torch.float64)
    store.add(
        "optim/lr-tables.safetensors",
        "LR tables",
        "entry n = learning rate used by optimizer step n (n from 0), 11 steps beyond the end; "
        "polynomial '.finetune' keeps the optimizer default lr 1e-3 as L0, '.own' uses the learning rate",
        t,
        cfg,
        keep64=tuple(t),
    )
