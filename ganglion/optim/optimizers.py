"""SGD, Adagrad, RMSprop, Adam and AdamW.

ε is added outside the square root, as in PyTorch. ``foreach``, ``fused`` and ``capturable`` are
accepted for compatibility: every update here is one fused operation already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ganglion.creation import full_like, zeros, zeros_like
from ganglion.dispatch import eagerly
from ganglion.dtypes import float32
from ganglion.errors import ArgumentError
from ganglion.ops import update as ops
from ganglion.optim.optimizer import Group, Optimizer
from ganglion.shapes import show
from ganglion.tensor import Tensor


def with_gradients(group: Group) -> Iterator[tuple[Tensor, Tensor]]:
    """The group's (parameter, gradient) pairs; parameters without gradient are left out."""
    for p in group["params"]:
        g = p.grad
        if g is not None:
            if g._data.shape != p._data.shape:
                raise ArgumentError(
                    f"a gradient of shape {show(g.shape)} belongs to a parameter of shape "
                    f"{show(p.shape)}; assign gradients of the parameter's shape"
                )
            yield p, g


def _check_rate(name: str, value: float, below: float = 1.0) -> None:
    if not 0.0 <= value < below:
        raise ArgumentError(f"Invalid {name}: {value}")


class SGD(Optimizer):
    """Gradient descent: ``p -= lr (g + weight_decay p)``, with momentum if wanted.

    ``b = momentum b + (1 - dampening) g`` replaces g; Nesterov's form steps along
    ``g + momentum b`` (Sutskever et al. 2013).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr, "momentum": momentum, "dampening": dampening,
                "weight_decay": weight_decay, "nesterov": nesterov, "maximize": maximize,
                "foreach": foreach, "differentiable": differentiable, "fused": fused,
            },
        )  # fmt: skip

    def check(self, group: Group) -> None:
        """As the base class; Nesterov needs momentum and no dampening."""
        super().check(group)
        if group["momentum"] < 0.0:
            raise ArgumentError(f"Invalid momentum value: {group['momentum']}")
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ArgumentError("Nesterov momentum requires a momentum and zero dampening")

    def update(self, group: Group) -> None:
        """One step of the group."""
        lr, wd, maximize = group["lr"], group["weight_decay"], group["maximize"]
        for p, g in with_gradients(group):
            if not group["momentum"]:
                ops.SGD(p, g, lr, wd, maximize=maximize)
                continue
            state = self.state[p]
            first = state.get("momentum_buffer") is None
            if first and not group["dampening"]:
                _start(state, p, ["momentum_buffer"])  # of zeros: the first step is like the others
                first = False
            elif first:
                state["momentum_buffer"] = zeros_like(p)
            ops.SGD_MOMENTUM(
                p, g, state["momentum_buffer"], lr, group["momentum"], group["dampening"], wd,
                nesterov=group["nesterov"], maximize=maximize, first=first,
            )  # fmt: skip


class Adam(Optimizer):
    """Adaptive moments (Kingma & Ba 2014, arXiv:1412.6980).

    ``p -= lr m̂ / (sqrt(v̂) + eps)`` with bias-corrected moments; ``weight_decay`` is added to the
    gradient (L2). ``amsgrad`` keeps the largest v (Reddi et al. 2018).
    """

    decoupled = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
                "amsgrad": amsgrad, "maximize": maximize, "foreach": foreach,
                "capturable": capturable, "differentiable": differentiable, "fused": fused,
                "decoupled_weight_decay": decoupled_weight_decay or self.decoupled,
            },
        )  # fmt: skip

    def check(self, group: Group) -> None:
        """As the base class; betas lie in [0, 1)."""
        super().check(group)
        _check_rate("epsilon value", group["eps"], float("inf"))
        for i, beta in enumerate(group["betas"]):
            _check_rate(f"beta parameter at index {i}", beta)

    def update(self, group: Group) -> None:
        """One step of the group."""
        lr, (beta1, beta2) = group["lr"], group["betas"]
        for p, g in with_gradients(group):
            state = self.state[p]
            if not state:
                names = ["step", "exp_avg", "exp_avg_sq"]
                _start(state, p, [*names, *["max_exp_avg_sq"] * group["amsgrad"]])
            tops = (state["max_exp_avg_sq"],) if group["amsgrad"] else ()
            (ops.AMSGRAD if tops else ops.ADAM)(
                p, g, state["exp_avg"], state["exp_avg_sq"], state["step"], *tops,
                lr, beta1, beta2, group["eps"], group["weight_decay"],
                decoupled=group["decoupled_weight_decay"], maximize=group["maximize"],
            )  # fmt: skip


def _start(state: dict[str, Any], p: Tensor, slots: list[str]) -> None:
    """Zeros for a parameter's slots; in a trace too they are made at once."""
    with eagerly():
        for name in slots:
            state[name] = zeros((), dtype=float32) if name == "step" else zeros_like(p)


class AdamW(Adam):
    """Adam with decoupled weight decay: ``p -= lr weight_decay p`` (arXiv:1711.05101)."""

    decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, foreach=foreach,
            capturable=capturable, differentiable=differentiable, fused=fused,
        )  # fmt: skip


class Adagrad(Optimizer):
    """Steps divided by the root of all squared gradients so far (Duchi et al. 2011)."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value, "foreach": foreach,
                "maximize": maximize, "differentiable": differentiable, "fused": fused,
            },
        )  # fmt: skip

    def add_param_group(self, param_group: Group) -> None:
        """As the base class; the accumulators start at once, as in PyTorch."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        for p in group["params"]:
            total = full_like(p, group["initial_accumulator_value"])
            self.state[p].update(step=zeros((), dtype=float32), sum=total)

    def check(self, group: Group) -> None:
        """As the base class; all rates are at least 0."""
        super().check(group)
        for name in ("lr_decay", "initial_accumulator_value", "eps"):
            _check_rate(f"{name} value", group[name], float("inf"))

    def update(self, group: Group) -> None:
        """One step of the group."""
        for p, g in with_gradients(group):
            state = self.state[p]
            ops.ADAGRAD(
                p, g, state["sum"], state["step"], group["lr"], group["lr_decay"],
                group["weight_decay"], group["eps"], maximize=group["maximize"],
            )  # fmt: skip


class RMSprop(Optimizer):
    """Steps divided by the root of a running mean of squared gradients (Hinton 2012).

    ``centered`` subtracts the squared running mean of gradients (Graves 2013).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered,
                "weight_decay": weight_decay, "capturable": capturable, "foreach": foreach,
                "maximize": maximize, "differentiable": differentiable,
            },
        )  # fmt: skip

    def check(self, group: Group) -> None:
        """As the base class; all rates are at least 0."""
        super().check(group)
        for name in ("eps", "momentum", "alpha"):
            _check_rate(f"{name} value", group[name], float("inf"))

    def update(self, group: Group) -> None:
        """One step of the group."""
        centered, momentum = bool(group["centered"]), group["momentum"] > 0
        names = ["square_avg", *["grad_avg"] * centered, *["momentum_buffer"] * momentum]
        for p, g in with_gradients(group):
            state = self.state[p]
            if not state:
                _start(state, p, ["step", *names])
            ops.RMSPROP[centered, momentum](
                p, g, *(state[name] for name in names), state["step"], group["lr"],
                group["alpha"], group["eps"], group["weight_decay"], group["momentum"],
                maximize=group["maximize"],
            )  # fmt: skip
