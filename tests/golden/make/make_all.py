"""Write the golden fixtures.

    python3 make_all.py --profile clone --seed 7 --out ..            # what this repository carries
    python3 make_all.py --profile full --seed 20240917 --out FOLDER  # about 4 minutes on one core

`--only` limits the run to some groups (pipelines must exist already). ../README.md says what has to be installed.
"""

import argparse
import importlib
import os
import pathlib
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

GROUPS = [
    "pipelines",
    "transformer",
    "vae",
    "text",
    "schedulers",
    "training",
    "lora",
    "sampling",
    "optim",
    "data",
    "autocast",
]
MODULES = {"pipelines": "build_pipelines"}


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--seed", type=int, required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--profile", choices=["clone", "full"], default="clone")
    ap.add_argument("--only", default=",".join(GROUPS))
    ap.add_argument(
        "--threads",
        type=int,
        default=1,
        help="1 is fastest at these sizes and keeps the files reproducible bit for bit",
    )
    args = ap.parse_args()

    import logging
    import warnings

    import torch
    import diffusers

    warnings.filterwarnings("ignore")
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    import transformers
    import peft
    from common import Store
    from profiles import PROFILES

    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    profile = PROFILES[args.profile]
    store = Store(args.out, args.seed, args.profile)
    for group in args.only.split(","):
        t = time.time()
        module = importlib.import_module(MODULES.get(group, "make_" + group))
        module.build(store, profile, args.seed)
        print(f"{group}: {time.time() - t:.1f} s", flush=True)
        store.finish(
            {
                "made_with": {
                    "torch": torch.__version__,
                    "diffusers": diffusers.__version__,
                    "transformers": transformers.__version__,
                    "peft": peft.__version__,
                }
            }
        )


if __name__ == "__main__":
    main()
