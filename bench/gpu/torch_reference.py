"""Stage `torch`, FILE SIZE ENGINE: PyTorch in bf16 on the same card at the same shapes: products, attention, and a LoRA step
of a transformer with the products of a CogVideoX block, recomputed in the backward pass. What a user of PyTorch gets."""

import json
import sys
import time

FILE, SMALL = sys.argv[1], sys.argv[2] == "small"


def record(name, **figures):
    with open(FILE, "a") as file:
        file.write(json.dumps({"stage": "torch", "engine": ENGINE, "name": name, **figures}) + "\n")


def attempt(name, measure):
    try:
        record(name, **measure())
    except Exception as error:  # One case without memory must not end the others.
        record(name, problem=repr(error)[:600])


ENGINE = sys.argv[3]
try:
    import torch
except ImportError:
    record("PyTorch", problem="not installed for python3: nothing to compare with")
    sys.exit(0)

from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
BF16 = torch.bfloat16
ROWS, WIDTH, HEADS, RANK = (298, 128, 2, 16) if SMALL else (17776, 3072, 8, 128)
TIME_WIDTH, OUTPUTS = 512, 64


def finish():
    if CUDA:
        torch.cuda.synchronize()


def seconds(run, rounds):
    """Median of `rounds` runs after one to warm up."""
    run()
    finish()
    samples = []
    for _ in range(rounds):
        begin = time.perf_counter()
        run()
        finish()
        samples.append(time.perf_counter() - begin)
    return sorted(samples)[len(samples) // 2]


def rate(operations, time_taken):
    return {"ms": round(1e3 * time_taken, 4), "tflops": float(f"{operations / 1e12 / time_taken:.4g}")}


def product(m, n, k, dtype=BF16):
    a = torch.randn(m, k, device=DEVICE, dtype=dtype)
    b = torch.randn(n, k, device=DEVICE, dtype=dtype)
    return rate(2 * m * n * k, seconds(lambda: a @ b.T, 10))


def attention(backward):
    q, k, v = (torch.randn(1, HEADS, ROWS, 64, device=DEVICE, dtype=BF16, requires_grad=True) for _ in range(3))
    gradient = torch.randn_like(q)
    forward = 4 * HEADS * ROWS**2 * 64
    if not backward:
        return rate(forward, seconds(lambda: F.scaled_dot_product_attention(q, k, v), 5))
    run = lambda: F.scaled_dot_product_attention(q, k, v).backward(gradient)
    # Forward has two products of whole matrices, backward five.
    return rate(3.5 * forward, seconds(run, 5))


def frozen(inputs, outputs):
    layer = nn.Linear(inputs, outputs, device=DEVICE, dtype=BF16)
    return layer.requires_grad_(False)


class Adapted(nn.Module):
    """A frozen layer with a low-rank adapter whose masters are f32."""

    def __init__(self, width):
        super().__init__()
        self.base = frozen(width, width)
        self.down = nn.Parameter(torch.randn(RANK, width, device=DEVICE) * width**-0.5)
        self.up = nn.Parameter(torch.randn(width, RANK, device=DEVICE) * 0.02)

    def forward(self, x):
        return self.base(x) + F.linear(F.linear(x, self.down.to(BF16)), self.up.to(BF16))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.query, self.key, self.value, self.output = (Adapted(width) for _ in range(4))
        self.up, self.down = frozen(width, 4 * width), frozen(4 * width, width)
        self.first, self.second = frozen(TIME_WIDTH, 3 * width), frozen(TIME_WIDTH, 3 * width)

    def forward(self, x, time_vector):
        rows, width = x.shape[1:]

        def modulated(layer):
            shift, scale, gate = layer(time_vector)[:, None].chunk(3, -1)
            return F.layer_norm(x, (width,)) * (1 + scale) + shift, gate

        def heads(layer, h):
            return layer(h).view(1, rows, width // 64, 64).transpose(1, 2)

        h, gate = modulated(self.first)
        q, k = (F.layer_norm(heads(layer, h), (64,)) for layer in (self.query, self.key))
        mixed = F.scaled_dot_product_attention(q, k, heads(self.value, h))
        x = x + gate * self.output(mixed.transpose(1, 2).reshape(1, rows, width))
        h, gate = modulated(self.second)
        return x + gate * self.down(F.gelu(self.up(h), approximate="tanh"))


def step(width, blocks):
    if CUDA:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    net = nn.ModuleList(Block(width) for _ in range(blocks))
    head = frozen(width, OUTPUTS)
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)
    x = torch.randn(1, ROWS, width, device=DEVICE, dtype=BF16)
    time_vector = torch.randn(1, TIME_WIDTH, device=DEVICE, dtype=BF16)
    target = torch.randn(1, ROWS, OUTPUTS, device=DEVICE)

    def run():
        h = x.clone().requires_grad_()
        for block in net:
            h = checkpoint(block, h, time_vector, use_reentrant=False)
        F.mse_loss(head(h).float(), target).backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    taken = seconds(run, 2)
    # Frozen products three times (forward, again, gradient of the input), attention's 2 + 2 + 5 products.
    operations = blocks * (3 * 24 * ROWS * width**2 + 4.5 * 4 * ROWS**2 * width)
    peak = torch.cuda.max_memory_allocated() if CUDA else None
    return {"seconds": round(taken, 4), **rate(operations, taken), "peak_bytes": peak}


record("PyTorch", version=torch.__version__, device=torch.cuda.get_device_name() if CUDA else "CPU")
for n, k in [(WIDTH, WIDTH), (4 * WIDTH, WIDTH), (WIDTH, 4 * WIDTH), (RANK, WIDTH), (WIDTH, RANK)]:
    attempt(f"product NT bf16 {ROWS}x{n}x{k}", lambda: product(ROWS, n, k))
attempt(f"product NT f32 {ROWS}x{WIDTH}x{WIDTH}", lambda: product(ROWS, WIDTH, WIDTH, torch.float32))
attempt(f"attention forward, {HEADS} heads, sequence {ROWS}", lambda: attention(False))
attempt(f"attention forward and backward, {HEADS} heads, sequence {ROWS}", lambda: attention(True))
for width, blocks in [(WIDTH, 2)] if SMALL else [(3072, 2), (1920, 2), (3072, 6), (1920, 30), (3072, 42)]:
    attempt(f"LoRA step, width {width}, {blocks} blocks", lambda: step(width, blocks))
