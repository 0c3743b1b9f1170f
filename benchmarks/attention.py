"""How fast attention is: compiled kernels beside PyTorch's scaled_dot_product_attention.

    python benchmarks/attention.py
    python benchmarks/attention.py --threads 1 --only 8,4,128,32 --rounds 9

Queries, keys and values are views into one packed projection, as in a transformer. Shapes are
(batch, heads, length, depth). Both libraries work in one process, round by round in turn; the
table shows the best round, in microseconds. Nothing else should run meanwhile.
"""

import argparse
import math

import torch
from runner import Runner, Timing, best, repeated
from torch.nn import functional

import ganglion.dtypes as dt
from ganglion.compiler.kernel import Layout, packed
from ganglion.compiler.kernels.attention import attention
from ganglion.compiler.kernels.attention_grad import attention_grad

SHAPES = (
    (8, 4, 128, 32),
    (8, 4, 100, 32),
    (32, 4, 64, 16),
    (2, 8, 512, 64),
    (1, 4, 1024, 64),
    (1, 2, 2048, 64),
    (1, 4, 128, 32),
)

Shape = tuple[int, int, int, int]


def projected(shape: Shape, part: int) -> Layout:
    """Part 0, 1 or 2 of a projection (batch, length, 3, heads, depth), seen as ``shape``."""
    batch, heads, length, depth = shape
    wide = heads * depth
    strides = (length * 3 * wide, depth, 3 * wide, 1)
    return Layout(dt.float32, shape, strides, part * wide, batch * length * 3 * wide)


def ours(shape: Shape, causal: bool) -> tuple[Runner, Runner]:
    """Forward alone, and forward with gradients."""
    _, heads, length, depth = shape
    wide = heads * depth
    out = Layout(dt.float32, shape, (length * wide, depth, wide, 1))
    layouts = {name: projected(shape, i) for i, name in enumerate("qkv")}
    layouts |= {"out": out, "lse": packed(dt.float32, shape[:3]), "g": out}
    layouts |= {name: projected(shape, i) for i, name in enumerate(("dq", "dk", "dv"))}
    q, k, v, out, lse, g, *grads = layouts.values()
    forward = attention(q, k, v, None, None, out, lse, causal=causal)
    backward = attention_grad(g, q, k, v, None, None, out, lse, *grads, causal=causal)
    steps = [(forward, "q k v out lse"), (backward, "g q k v out lse dq dk dv")]
    return Runner(layouts, steps[:1]), Runner(layouts, steps)


def checked(shape: Shape, causal: bool) -> tuple[dict[str, Timing], dict[str, Timing]]:
    """Both libraries on the same numbers, after a look at their results."""
    inputs = [torch.randn(shape, requires_grad=True) for _ in range(3)]
    g = torch.randn(shape)

    def forward() -> torch.Tensor:
        return functional.scaled_dot_product_attention(*inputs, is_causal=causal)

    def both() -> torch.Tensor:
        for x in inputs:
            x.grad = None
        out = forward()
        out.backward(g)
        return out

    @torch.no_grad()
    def alone() -> torch.Tensor:
        return forward()

    runners = ours(shape, causal)
    out = both().detach().numpy()
    for runner in runners:
        for name, x in zip("qkvg", (*inputs, g), strict=True):
            runner.view(name)[...] = x.detach().numpy()
        runner.seconds(1, 1)
        assert abs(runner.view("out") - out).max() < 1e-5, f"{shape}: wrong result"
    for name, x in zip(("dq", "dk", "dv"), inputs, strict=True):
        assert x.grad is not None
        assert abs(runners[1].view(name) - x.grad.numpy()).max() < 1e-4, f"{shape}: wrong {name}"
    return (
        {"ganglion": runners[0].seconds, "PyTorch": repeated(alone)},
        {"ganglion": runners[1].seconds, "PyTorch": repeated(both)},
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    options.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--only", nargs="*", default=[], help="shapes such as 8,4,128,32")
    given = options.parse_args()
    shapes = [tuple(map(int, x.split(","))) for x in given.only] or SHAPES
    for shape in shapes:
        for causal in (True, False):
            forward, both = checked(shape, causal)
            for name, peers, share in (("forward", forward, 1.0), ("with gradients", both, 3.5)):
                line = f"{shape!s:18} {'causal' if causal else 'full':6} {name:14}"
                flops = share * 4 * math.prod(shape) * shape[2] * (0.5 if causal else 1)
                for threads in given.threads:
                    found = best(peers, threads, given.rounds)
                    times = "  ".join(f"{peer} {t * 1e6:7.0f} us" for peer, t in found.items())
                    rate = flops / found["ganglion"] / 1e9
                    line += (
                        f" | {threads} thread{'s' * (threads > 1)}: {times} ({rate:.0f} GFLOP/s)"
                    )
                print(line, flush=True)


if __name__ == "__main__":
    main()
