"""JAX: the networks as plain functions of their weights, jitted as a whole.

Weights keep PyTorch's names and lie as JAX's functions take them: (in, out) and (H, W, in, out);
images are (N, H, W, C). A network is ``f(weights, x, training, **sizes) -> logits, buffers``.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, nn
from peers.networks import first_state
from peers.side import Side, in_turn
from workloads import Workload

Array = np.ndarray[Any, Any]
Weights = dict[str, jax.Array]
Found = tuple[jax.Array, Weights]  # logits, and buffers that training changes

BUFFERS = ("running_mean", "running_var")
TABLES = {"tokens.weight", "positions.weight"}


# --- layers ---------------------------------------------------------------------------------------


def linear(w: Weights, name: str, x: jax.Array) -> jax.Array:
    return x @ w[f"{name}.weight"] + w[f"{name}.bias"]


def conv(w: Weights, name: str, x: jax.Array, stride: int = 1) -> jax.Array:
    layout = ("NHWC", "HWIO", "NHWC")
    sides = ((1, 1), (1, 1))
    return lax.conv_general_dilated(
        x, w[f"{name}.weight"], (stride, stride), sides, dimension_numbers=layout
    )


def max_pool(x: jax.Array) -> jax.Array:
    """Of 2x2 pixels; the gradient of ``reduce_window`` would take several times longer."""
    n, height, width, channels = x.shape
    return x.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))


def layer_norm(w: Weights, name: str, x: jax.Array) -> jax.Array:
    centred = x - x.mean(-1, keepdims=True)
    scale = lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
    return centred * scale * w[f"{name}.weight"] + w[f"{name}.bias"]


def batch_norm(w: Weights, name: str, x: jax.Array, training: bool) -> Found:
    mean, var, changed = w[f"{name}.running_mean"], w[f"{name}.running_var"], {}
    if training:
        count = x.size // x.shape[-1]
        old, past = mean, var
        mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        changed[f"{name}.running_mean"] = 0.9 * old + 0.1 * mean
        changed[f"{name}.running_var"] = 0.9 * past + 0.1 * var * count / (count - 1)
    scale = w[f"{name}.weight"] * lax.rsqrt(var + 1e-5)
    return (x - mean) * scale + w[f"{name}.bias"], changed


# --- networks -------------------------------------------------------------------------------------


def mlp(w: Weights, x: jax.Array, training: bool, layers: tuple[int, ...]) -> Found:
    return linear(w, "2", nn.relu(linear(w, "0", x))), {}


def cnn(w: Weights, x: jax.Array, training: bool) -> Found:
    for name in ("0", "3"):
        x = max_pool(nn.relu(conv(w, name, x) + w[f"{name}.bias"]))
    return linear(w, "9", nn.relu(linear(w, "7", x.reshape(len(x), -1)))), {}


def lstm(w: Weights, x: jax.Array, training: bool, inputs: int, hidden: int, classes: int) -> Found:
    both = w["lstm.bias_ih_l0"] + w["lstm.bias_hh_l0"]
    given = x.swapaxes(0, 1) @ w["lstm.weight_ih_l0"] + both

    def cell(state: tuple[jax.Array, jax.Array], row: jax.Array) -> tuple[Any, None]:
        h, c = state
        i, f, g, o = jnp.split(row + h @ w["lstm.weight_hh_l0"], 4, axis=-1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
        return (nn.sigmoid(o) * jnp.tanh(c), c), None

    zeros = jnp.zeros((len(x), hidden))
    (h, _), _ = lax.scan(cell, (zeros, zeros), given)
    return linear(w, "fc", h), {}


def gpt(
    w: Weights, x: jax.Array, training: bool,
    vocabulary: int, width: int, layers: int, heads: int, context: int,
) -> Found:  # fmt: skip
    batch, steps = x.shape
    x = w["tokens.weight"][x] + w["positions.weight"][:steps]
    for name in (f"blocks.{i}" for i in range(layers)):
        qkv = linear(w, f"{name}.qkv", layer_norm(w, f"{name}.norm1", x))
        q, k, v = jnp.moveaxis(qkv.reshape(batch, steps, 3, heads, width // heads), 2, 0)
        seen = nn.dot_product_attention(q, k, v, is_causal=True).reshape(x.shape)
        x = x + linear(w, f"{name}.out", seen)
        wide = linear(w, f"{name}.wide", layer_norm(w, f"{name}.norm2", x))
        x = x + linear(w, f"{name}.narrow", nn.gelu(wide, approximate=False))
    logits = layer_norm(w, "norm", x) @ w["head.weight"]
    return logits.reshape(-1, vocabulary), {}


def resnet(w: Weights, x: jax.Array, training: bool, blocks: int, classes: int) -> Found:
    changed: Weights = {}

    def normed(number: str, name: str, x: jax.Array, stride: int = 1) -> jax.Array:
        y = conv(w, f"{name}conv{number}", x, stride)
        y, buffers = batch_norm(w, f"{name}bn{number}", y, training)
        changed.update(buffers)
        return y

    x = nn.relu(normed("", "", x))
    for i in range(3 * blocks):
        stride = 2 if i in (blocks, 2 * blocks) else 1
        y = nn.relu(normed("1", f"blocks.{i}.", x, stride))
        y = normed("2", f"blocks.{i}.", y)
        lacking = y.shape[-1] - x.shape[-1]
        short = jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (0, lacking)))
        x = nn.relu(y + short)
    return linear(w, "fc", x.mean((1, 2))), changed


NETWORKS: dict[str, Callable[..., Found]] = {
    function.__name__: function for function in (mlp, cnn, lstm, gpt, resnet)
}


# --- optimizers: each a start for one weight, and its update --------------------------------------

Slots = tuple[jax.Array, ...]


def sgd(
    p: jax.Array, g: jax.Array, slots: Slots, t: jax.Array, lr: float, momentum: float = 0.0
) -> tuple[jax.Array, Slots]:
    if not momentum:
        return p - lr * g, slots
    velocity = momentum * slots[0] + g
    return p - lr * velocity, (velocity,)


def adam(
    p: jax.Array, g: jax.Array, slots: Slots, t: jax.Array, lr: float, weight_decay: float = 0.0
) -> tuple[jax.Array, Slots]:
    m, v = 0.9 * slots[0] + 0.1 * g, 0.999 * slots[1] + 0.001 * g * g
    root = jnp.sqrt(v / (1 - 0.999**t)) + 1e-8
    return p * (1 - lr * weight_decay) - lr / (1 - 0.9**t) * m / root, (m, v)


UPDATES: dict[str, tuple[int, Callable[..., tuple[jax.Array, Slots]]]] = {
    "SGD": (1, sgd),
    "Adam": (2, adam),
    "AdamW": (2, adam),
}


# --- the peer -------------------------------------------------------------------------------------


def train(workload: Workload) -> Side:
    """The whole step as one function of its state, which is donated."""
    network = NETWORKS[workload.network]
    count, update = UPDATES[workload.optimizer]

    def loss_of(weights: Weights, buffers: Weights, x: Any, y: Any) -> Found:
        logits, changed = network({**weights, **buffers}, x, True, **workload.sizes)
        return -jnp.take_along_axis(nn.log_softmax(logits), y[:, None], 1).mean(), changed

    def step(state: Any, x: jax.Array, y: jax.Array) -> Any:
        weights, buffers, slots, t = state
        gradient = jax.value_and_grad(loss_of, has_aux=True)
        (loss, changed), gradients = gradient(weights, buffers, x, y)
        new = {
            name: update(p, gradients[name], slots[name], t + 1, **workload.settings)
            for name, p in weights.items()
        }
        weights = {name: p for name, (p, _) in new.items()}
        slots = {name: kept for name, (_, kept) in new.items()}
        return (weights, {**buffers, **changed}, slots, t + 1), loss

    jitted = jax.jit(step, donate_argnums=0)
    weights, buffers = first_weights(workload)
    slots = {name: tuple(jnp.zeros_like(p) for _ in range(count)) for name, p in weights.items()}
    state = (weights, buffers, slots, jnp.float32(0))

    def run(x: jax.Array, y: jax.Array) -> jax.Array:
        nonlocal state
        state, loss = jitted(state, x, y)
        ready: jax.Array = loss.block_until_ready()
        return ready

    pairs = [(batch_of(x), jnp.asarray(y.reshape(-1))) for x, y in workload.batches()]
    return Side(in_turn(pairs, run), np.asarray)


def infer(workload: Workload, batch: int) -> Side:
    """The forward pass, jitted; weights are an argument, as they are where training goes on."""
    network = NETWORKS[workload.network]
    weights, buffers = first_weights(workload)
    state = {**weights, **buffers}
    jitted = jax.jit(lambda state, x: network(state, x, False, **workload.sizes)[0])
    batches = [(batch_of(x),) for x in workload.samples(2, batch)]
    return Side(in_turn(batches, lambda x: jitted(state, x).block_until_ready()), np.asarray)


def batch_of(x: Array) -> jax.Array:
    """A batch as JAX takes it: channels last."""
    return jnp.asarray(np.moveaxis(x, 1, -1) if x.ndim == 4 else x)


def first_weights(workload: Workload) -> tuple[Weights, Weights]:
    """The weights that all peers begin with, as JAX takes them, and the buffers."""
    state = first_state(workload)
    if workload.network == "cnn":  # its first linear layer reads (H, W, C), not (C, H, W)
        image = state["7.weight"].reshape(128, 64, 7, 7)
        state["7.weight"] = image.transpose(0, 2, 3, 1).reshape(128, -1)
    laid = {name: jnp.asarray(_laid(name, x)) for name, x in state.items()}
    buffers = {name: x for name, x in laid.items() if name.endswith(BUFFERS)}
    counters = [name for name in laid if name.endswith("num_batches_tracked")]
    return {name: x for name, x in laid.items() if name not in {*buffers, *counters}}, buffers


def _laid(name: str, x: Array) -> Array:
    if x.ndim == 4:
        return x.transpose(2, 3, 1, 0)
    return x.T if x.ndim == 2 and name not in TABLES else x
