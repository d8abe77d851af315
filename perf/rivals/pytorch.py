# SPDX-License-Identifier: Apache-2.0
"""PyTorch on the work that mahia-bench times, for `./dev bench --rival 'python3 perf/rivals/pytorch.py'`.

Reads the case's name from MAHIA_BENCH_CASE and prints a line of JSON per way of writing it: {"case": NAME.MODE, "ms": ...}.
Modes: eager (as a user writes it), manual (the convolution's gradient by hand, real transforms only), sorted (experts over
sorted tokens), loop (experts over index lists), compile (torch.compile of the best of these). Needs PyTorch; nothing in mahia
needs this file. MODES=sorted,loop limits an LM step to these.
"""
import json, math, os, re, resource, time

import torch
import torch.nn as nn
import torch.nn.functional as F

CASE = os.environ["MAHIA_BENCH_CASE"]
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
torch.manual_seed(0)


def wants(mode):
    return not os.environ.get("MODES") or mode in os.environ["MODES"].split(",")


def report(mode, work, budget=1.0, calls=1):
    for _ in range(3 * calls):
        work()
    times, start = [], time.perf_counter()
    while len(times) < 10 or time.perf_counter() - start < budget:
        t = time.perf_counter()
        for _ in range(calls):
            work()
        times.append((time.perf_counter() - t) / calls * 1e3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"case": f"{CASE}.{mode}", "ms": sorted(times)[len(times) // 2], "peak_MiB": round(peak)}), flush=True)


def gated(u, h, skip, before, after):
    n, v = 2 * u.shape[-1], u * before
    y = torch.fft.irfft(torch.fft.rfft(v, n=n) * torch.fft.rfft(h, n=n), n=n)[..., : u.shape[-1]]
    return after * (y + v * skip[:, None])


class Manual(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, h, skip, before, after):
        length, v = u.shape[-1], u * before
        V, H = torch.fft.rfft(v, n=2 * length), torch.fft.rfft(h, n=2 * length)
        y = torch.fft.irfft(V * H, n=2 * length)[..., :length].addcmul(v, skip[:, None])
        ctx.save_for_backward(u, before, after, skip, V, H, y)
        return after * y

    @staticmethod
    def backward(ctx, dy):
        u, before, after, skip, V, H, y = ctx.saved_tensors
        length, g = u.shape[-1], dy * after
        G = torch.fft.rfft(g, n=2 * length)
        dv = torch.fft.irfft(G * H.conj(), n=2 * length)[..., :length].addcmul(g, skip[:, None])
        dh = torch.fft.irfft((G * V.conj()).sum(0), n=2 * length)[..., :length]
        return dv * before, dh, (g * u * before).sum((0, 2)), dv * u, dy * y


def conv(direction, batch, width, length):
    grad = direction == "fwdbwd"
    u, before, after = (torch.randn(batch, width, length, requires_grad=grad) for _ in range(3))
    h, skip = torch.randn(width, length, requires_grad=grad), torch.randn(width, requires_grad=grad)
    dy, operands = torch.randn(batch, width, length), (u, h, skip, before, after)
    for mode, f in (("eager", gated), ("manual", Manual.apply)):
        report(mode, (lambda: torch.autograd.grad(f(*operands), operands, dy)) if grad else (lambda: f(*operands)))


def short(direction, batch, width, length, taps):
    x = torch.randn(batch, width, length, requires_grad=True)
    w, b = torch.randn(width, 1, taps, requires_grad=True), torch.randn(width, requires_grad=True)
    dy = torch.randn(batch, width, length)

    def shifts(x, w, b):
        p = F.pad(x, (taps - 1, 0))
        return b[:, None] + sum(w[:, :, j] * p[..., j : j + length] for j in range(taps))

    def conv1d(x, w, b):
        return F.conv1d(x, w, b, padding=taps - 1, groups=width)[..., :length]

    for mode, f in (("conv1d", conv1d), ("compile", torch.compile(shifts, dynamic=False))):
        report(mode, lambda: torch.autograd.grad(f(x, w, b), (x, w, b), dy))


class MoE(nn.Module):
    def __init__(self, width, hidden, experts, k, mode):
        super().__init__()
        self.k, self.experts, self.mode = k, experts, mode
        self.router = nn.Linear(width, experts, bias=False)
        self.up = nn.Parameter(torch.randn(experts, width, hidden) * width**-0.5)
        self.down = nn.Parameter(torch.randn(experts, hidden, width) * hidden**-0.5)

    def forward(self, x):
        p = self.router(x).softmax(-1)
        weight, chosen = p.topk(self.k, -1)
        weight = weight / weight.sum(-1, keepdim=True)
        counts = F.one_hot(chosen, self.experts).sum((0, 1))
        aux = self.experts * (counts / (x.shape[0] * self.k) * p.mean(0)).sum()
        up, down, y = self.up.unbind(0), self.down.unbind(0), torch.zeros_like(x)
        if self.mode == "loop":
            for e in range(self.experts):
                token, slot = (chosen == e).nonzero(as_tuple=True)
                out = F.gelu(x[token] @ up[e], approximate="tanh") @ down[e]
                y.index_add_(0, token, out * weight[token, slot, None])
            return y, aux
        order = chosen.reshape(-1).argsort(stable=True)
        token = order // self.k
        parts = zip(x[token].split(counts.tolist()), up, down)
        out = torch.cat([F.gelu(c @ a, approximate="tanh") @ b for c, a, b in parts])
        return y.index_add(0, token, out * weight.reshape(-1)[order, None]), aux


def moe(direction, tokens, width, hidden, experts, k):
    x, dy = torch.randn(tokens, width, requires_grad=True), torch.randn(tokens, width)
    for mode in ("sorted", "loop"):
        layer = MoE(width, hidden, experts, k, mode)
        wanted = [x, *layer.parameters()]
        report(mode, lambda: torch.autograd.grad(layer(x), wanted, (dy, torch.ones(()))))


class Hyena(nn.Module):
    def __init__(self, width, length, embedding=33, hidden=64):
        super().__init__()
        self.inp, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.short = nn.Conv1d(3 * width, 3 * width, 3, groups=3 * width, padding=2)
        t, bands = torch.linspace(0, 1, length)[:, None], (embedding - 1) // 2
        angle = torch.linspace(1e-4, bands - 1, bands)[None] * 2 * math.pi * torch.arange(length)[:, None] / length
        self.register_buffer("z", torch.cat([t, torch.cos(angle), -torch.sin(angle)], -1))
        low, high = math.log(1e-2) / 1.5, math.log(1e-2) / 0.3
        self.register_buffer("window", torch.exp(-t * torch.linspace(low, high, width)[None].abs()))
        sizes = [embedding, hidden, hidden, hidden]
        self.mlp = nn.ModuleList([nn.Linear(a, b) for a, b in zip(sizes, sizes[1:])])
        self.last, self.freq = nn.Linear(hidden, width, bias=False), nn.Parameter(torch.ones(hidden))
        self.skip = nn.Parameter(torch.randn(width))

    def forward(self, u):
        h = self.z
        for layer in self.mlp:
            h = torch.sin(self.freq * layer(h))
        h = (self.last(h) * self.window).t()
        x0, x1, v = self.short(self.inp(u).transpose(1, 2))[..., : u.shape[1]].chunk(3, 1)
        return self.out(Manual.apply(v, h, self.skip, x1, x0).transpose(1, 2))


def operator(direction, batch, width, length):
    layer = Hyena(width, length)
    u, dy = torch.randn(batch, length, width, requires_grad=True), torch.randn(batch, length, width)
    wanted = [u, *layer.parameters()]
    for mode in filter(wants, ("manual", "compile")):
        f = torch.compile(layer, dynamic=False) if mode == "compile" else layer
        if direction == "fwdbwd":
            report(mode, lambda: torch.autograd.grad(f(u), wanted, dy))
        else:
            with torch.no_grad():
                report(mode, lambda: f(u))


class Block(nn.Module):
    def __init__(self, width, hidden, experts, k, length, mode):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixer, self.moe = Hyena(width, length), MoE(width, hidden, experts, k, mode)

    def forward(self, x):
        x = x + self.mixer(self.norm1(x))
        y, aux = self.moe(self.norm2(x).flatten(0, 1))
        return x + y.view_as(x), aux


class LM(nn.Module):
    def __init__(self, vocabulary, width, hidden, experts, k, length, layers, mode):
        super().__init__()
        self.embedding, self.norm = nn.Embedding(vocabulary, width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList([Block(width, hidden, experts, k, length, mode) for _ in range(layers)])
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens, targets):
        x, aux = self.embedding(tokens), 0.0
        for block in self.blocks:
            x, a = block(x)
            aux = aux + a
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten()) + 0.01 * aux


def lm(name):
    batch, length, sizes = {"cpu-tiny": (8, 512, (256, 128, 256, 8, 2)), "cpu-small": (4, 1024, (256, 256, 512, 8, 2))}[name]
    tokens, targets = (torch.randint(0, 256, (batch, length)) for _ in range(2))
    for mode in filter(wants, ("sorted", "loop", "compile")):
        model = LM(*sizes, length, 4, "loop" if mode == "loop" else "sorted")
        optimizer = torch.optim.AdamW(model.parameters(), 3e-4, fused=True)
        forward = torch.compile(model, dynamic=False) if mode == "compile" else model

        def step():
            optimizer.zero_grad()
            forward(tokens, targets).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
            optimizer.step()

        report(mode, step, budget=3.0)


def overhead(what):
    x, y = torch.randn(8), torch.rand(8) + 0.5
    xr = torch.randn(8, requires_grad=True)

    def chain(a):
        for _ in range(5):
            a = (a + y) * y
        return a

    work = {
        "add8": lambda: x + y,
        "add8.grad": lambda: xr + y,
        "add8.fwdbwd": lambda: torch.autograd.grad((xr + y).sum(), xr),
        "chain10.fwdbwd": lambda: torch.autograd.grad(chain(xr).sum(), xr),
    }[what]
    report("python", work, calls=2000)


group, rest = CASE.split(".", 1)
numbers = [int(n) for n in re.findall(r"\d+", rest.split(".")[-1])] if group in ("conv", "short", "moe", "hyena") else []
if group == "ovh":
    overhead(rest)
elif group == "lm":
    lm(rest.split(".")[-1])
elif rest.split(".")[0] != "dense":
    {"conv": conv, "short": short, "moe": moe, "hyena": operator}[group](rest.split(".")[0], *numbers)
