"""Optimizer: parameter groups, state keyed by the parameter object, and PyTorch's state_dict."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ganglion.dispatch import mode
from ganglion.errors import ArgumentError, ArgumentTypeError, CheckpointError
from ganglion.gradmode import enable_grad
from ganglion.history import Handle, forget_grad
from ganglion.shapes import show
from ganglion.tensor import Tensor

Group = dict[str, Any]
Closure = Callable[[], Any]


class Optimizer:
    """Base of all optimizers; subclasses define ``update(group)``.

    ``params`` is an iterable of tensors, of (name, tensor) pairs, or of group dictionaries with
    their own options. ``state[p]`` holds a parameter's slots.
    """

    def __init__(self, params: Iterable[Any], defaults: Group) -> None:
        if isinstance(params, Tensor):
            raise ArgumentTypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, "
                "but got a Tensor; write [tensor]"
            )
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[Group] = []
        self._pre_hooks: dict[int, Callable[..., Any]] = {}
        self._post_hooks: dict[int, Callable[..., Any]] = {}
        groups = list(params)
        if not groups:
            raise ArgumentError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, param_group: Group) -> None:
        """Add parameters with their own options; missing options take the defaults."""
        if not isinstance(param_group, dict):
            raise ArgumentTypeError(f"param_group must be a dict, but got {type(param_group)}")
        group = {**self.defaults, **param_group}
        listed = group.pop("params")
        listed = [listed] if isinstance(listed, Tensor) else list(listed)
        named = bool(listed) and isinstance(listed[0], tuple)
        params = [p for _, p in listed] if named else listed
        self._check_params(params)
        self.check(group)
        names = {"param_names": [name for name, _ in listed]} if named else {}
        self.param_groups.append({"params": params, **names, **group})

    def check(self, group: Group) -> None:
        """Refuse options without meaning; subclasses extend it."""
        lr = group["lr"]
        if isinstance(lr, Tensor):
            if lr.numel() != 1:
                raise ArgumentError("Tensor lr must be 1-element")
        elif not lr >= 0.0:
            raise ArgumentError(f"Invalid learning rate: {lr}")
        if not group.get("weight_decay", 0) >= 0.0:
            raise ArgumentError(f"Invalid weight_decay value: {group['weight_decay']}")
        if group.get("differentiable"):
            raise ArgumentError("differentiable=True is not supported: updates overwrite in place")

    def _check_params(self, params: list[Any]) -> None:
        seen = {id(p) for group in self.param_groups for p in group["params"]}
        for p in params:
            if not isinstance(p, Tensor):
                raise ArgumentTypeError(f"optimizer can only optimize Tensors, got {type(p)}")
            if not (p.is_leaf or p.requires_grad is False):
                raise ArgumentError("can't optimize a non-leaf Tensor")
            if id(p) in seen:
                raise ArgumentError("some parameters appear in more than one parameter group")
            seen.add(id(p))

    # --- stepping -----------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients (or, with False, fill them with zeros)."""
        for p in self._numbered():
            forget_grad(p, set_to_none)

    def step(self, closure: Closure | None = None) -> Any:
        """Update every parameter that has a gradient; ``closure`` recomputes the loss first."""
        for hook in tuple(self._pre_hooks.values()):
            hook(self, (closure,), {})
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        groups = self.param_groups if mode.tracer is None else mode.tracer.groups(self)
        before = mode.grad
        try:  # not no_grad(): Ctrl-C can keep it from putting the mode back
            mode.grad = False
            for group in groups:
                self.update(group)
        finally:
            mode.grad = before
        for hook in tuple(self._post_hooks.values()):
            hook(self, (closure,), {})
        return loss

    def update(self, group: Group) -> None:
        """Update one group's parameters from their gradients."""
        raise NotImplementedError

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> Handle:
        """Call ``hook(optimizer, args, kwargs)`` before each step."""
        return Handle(self._pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> Handle:
        """Call ``hook(optimizer, args, kwargs)`` after each step."""
        return Handle(self._post_hooks, hook)

    # --- state --------------------------------------------------------------------------------

    def _numbered(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def state_dict(self) -> dict[str, Any]:
        """PyTorch's layout: ``state`` by parameter number, ``param_groups`` with numbers."""
        number = {id(p): i for i, p in enumerate(self._numbered())}
        groups = [
            {
                **{k: v for k, v in group.items() if k != "params"},
                "params": [number[id(p)] for p in group["params"]],
            }
            for group in self.param_groups
        ]
        state = {number[id(p)]: slots for p, slots in self.state.items() if id(p) in number}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over options and slots; groups, sizes, names and shapes must fit.

        Nothing is changed when they do not.
        """
        saved = [dict(group) for group in state_dict["param_groups"]]
        self._check_groups(saved)
        params = self._numbered()
        order = [i for group in saved for i in group["params"]]
        by_number = dict(zip(order, params, strict=True))
        slots = {
            by_number[i]: {k: _fitted(k, v, by_number[i], i) for k, v in found.items()}
            for i, found in state_dict["state"].items()
        }
        for own, group in zip(self.param_groups, saved, strict=True):
            own.update({k: copy.deepcopy(v) for k, v in group.items() if k != "params"})
        self.state = defaultdict(dict, slots)

    def _check_groups(self, saved: list[Group]) -> None:
        if len(saved) != len(self.param_groups):
            raise CheckpointError(
                f"loaded state dict has {len(saved)} parameter groups, the optimizer "
                f"{len(self.param_groups)}"
            )
        for i, (own, group) in enumerate(zip(self.param_groups, saved, strict=True)):
            if len(own["params"]) != len(group["params"]):
                raise CheckpointError(
                    f"loaded state dict contains a parameter group {i} of {len(group['params'])} "
                    f"parameters that doesn't match the size of optimizer's group: "
                    f"{len(own['params'])}"
                )
            names, given = own.get("param_names"), group.get("param_names")
            if names and given and names != given:
                wrong = next(pair for pair in zip(names, given, strict=True) if pair[0] != pair[1])
                raise CheckpointError(
                    f"parameter names differ in group {i}: the optimizer has '{wrong[0]}' where "
                    f"the state has '{wrong[1]}'. Build the optimizer from the same model."
                )

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _pre_hooks={}, _post_hooks={})

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {k}: {group[k]}" for k in sorted(group) if k != "params"]
        return "\n".join([*lines, ")"])


def _fitted(name: str, value: Any, param: Tensor, number: int) -> Any:
    """A private copy of a saved slot: in the parameter's dtype, except the step count."""
    if not isinstance(value, Tensor):
        return copy.deepcopy(value)
    if value.ndim and value.shape != param.shape:
        raise CheckpointError(
            f"saved '{name}' of parameter {number} has shape {show(value.shape)}, the parameter "
            f"{show(param.shape)}; the state belongs to another model"
        )
    if name != "step" and value.is_floating_point() and value.dtype is not param.dtype:
        return value.detach().to(param.dtype)
    return value.detach().clone()
