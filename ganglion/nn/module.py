"""Module: a plain tree of parameters, buffers and modules, with PyTorch's behaviour."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Self

import ganglion.dtypes as dt
from ganglion.dispatch import mode
from ganglion.errors import ArgumentTypeError, CheckpointError, GanglionError
from ganglion.gradmode import no_grad
from ganglion.history import Handle, forget_grad
from ganglion.nn.parameter import Buffer, Parameter
from ganglion.shapes import show
from ganglion.tensor import Tensor

Hook = Callable[..., Any]


class IncompatibleKeys(NamedTuple):
    """What ``load_state_dict`` did not find, and what it did not expect."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        missing, unexpected = self
        return f"IncompatibleKeys(missing_keys={missing}, unexpected_keys={unexpected})"


_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_hooks", "_load_hooks", "_state_hooks")


class Module:
    """Base of all layers and networks: assign parameters and modules, define ``forward``."""

    _registered = ("_parameters", "_buffers", "_modules")  # where attributes may stand besides

    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    _transient: set[str]  # buffers left out of state_dict
    _forward_pre_hooks: dict[int, Hook]
    _forward_hooks: dict[int, Hook]
    _backward_hooks: dict[int, Hook]
    _load_hooks: dict[int, Hook]
    _state_hooks: dict[int, Hook]

    def __init__(self) -> None:
        put = object.__setattr__
        put(self, "training", True)
        for name in ("_parameters", "_buffers", "_modules", *_HOOKS):
            put(self, name, {})
        put(self, "_transient", set())
        put(self, "_hooked", False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The computation; subclasses define it."""
        raise NotImplementedError(
            f'Module [{type(self).__name__}] is missing the required "forward" function'
        )

    # --- attributes ---------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        found = self.__dict__
        for kind in self._registered:
            if kind in found and name in found[kind]:
                return found[kind][name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Parameter):
            self._forget(name)
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self._forget(name)
            self.register_module(name, value)
        elif isinstance(value, Buffer):
            self._forget(name)
            self.register_buffer(name, value, value.persistent)
        else:
            self._set_plain(name, value)

    def _set_plain(self, name: str, value: Any) -> None:
        """Ordinary attributes; a registered name keeps its kind and accepts None or a tensor."""
        for kind, accepts in (("_parameters", ()), ("_modules", ()), ("_buffers", (Tensor,))):
            registered = self.__dict__.get(kind)
            if registered is not None and name in registered:
                if value is not None and not isinstance(value, accepts):
                    raise ArgumentTypeError(
                        f"cannot assign '{type(value).__name__}' object to {kind[1:-1]} '{name}' "
                        "(a tensor of that kind or None expected)"
                    )
                registered[name] = value
                return
        object.__setattr__(self, name, value)

    def _forget(self, name: str) -> None:
        if "_parameters" not in self.__dict__:
            raise AttributeError(
                f"cannot assign '{name}' before Module.__init__() call; start __init__ of "
                f"{type(self).__name__} with super().__init__()"
            )
        self.__dict__.pop(name, None)
        for registered in (self._parameters, self._buffers, self._modules):
            registered.pop(name, None)
        self._transient.discard(name)

    def __delattr__(self, name: str) -> None:
        for registered in (self._parameters, self._buffers, self._modules):
            if name in registered:
                del registered[name]
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        names = [*super().__dir__(), *self._parameters, *self._buffers, *self._modules]
        return sorted(set(names))

    def _check_name(self, name: str, registered: Mapping[str, Any]) -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise KeyError(f"a registered name is a non-empty string without '.', got {name!r}")
        if hasattr(self, name) and name not in registered:
            raise KeyError(f"attribute '{name}' already exists")

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter under a name; None reserves the name."""
        if param is not None and not isinstance(param, Parameter):
            raise ArgumentTypeError(
                f"cannot assign '{type(param).__name__}' object to parameter '{name}' "
                "(ganglion.nn.Parameter or None required)"
            )
        self._check_name(name, self._parameters)
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is state but not trained; ``persistent`` puts it in state_dict."""
        if tensor is not None and not isinstance(tensor, Tensor):
            raise ArgumentTypeError(
                f"cannot assign '{type(tensor).__name__}' object to buffer '{name}' "
                "(a tensor or None required)"
            )
        self._check_name(name, self._buffers)
        self._buffers[name] = tensor
        if persistent:
            self._transient.discard(name)
        else:
            self._transient.add(name)

    def register_module(self, name: str, module: Module | None) -> None:
        """Add a submodule under a name."""
        if module is not None and not isinstance(module, Module):
            raise ArgumentTypeError(f"{type(module).__name__} is not a Module subclass")
        self._check_name(name, self._modules)
        self._modules[name] = module

    add_module = register_module

    # --- calling ------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            if self._hooked:
                return self._call_hooked(args, kwargs)
            return self.forward(*args, **kwargs)
        except GanglionError as error:
            _locate(error, self)
            raise

    def _call_hooked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for hook in tuple(self._forward_pre_hooks.values()):
            args, kwargs = hook(self, args, kwargs)
        watched = _Watched(self, tuple(self._backward_hooks.values()))
        out = watched.outputs(self.forward(*watched.inputs(args), **kwargs))
        for hook in tuple(self._forward_hooks.values()):
            changed = hook(self, args, kwargs, out)
            out = out if changed is None else changed
        return out

    def _add_hook(self, hooks: dict[int, Hook], hook: Hook, prepend: bool = False) -> Handle:
        object.__setattr__(self, "_hooked", True)
        handle = Handle(hooks, hook)
        if prepend:
            rest = {k: hooks.pop(k) for k in tuple(hooks) if k != handle.id}
            hooks.update(rest)
        return handle

    def register_forward_pre_hook(
        self, hook: Hook, *, prepend: bool = False, with_kwargs: bool = False
    ) -> Handle:
        """Call ``hook(module, args)`` before forward; what it returns replaces the arguments."""

        def adapted(module: Module, args: Any, kwargs: Any) -> Any:
            found = hook(module, args, kwargs) if with_kwargs else hook(module, args)
            if found is None:
                return args, kwargs
            if with_kwargs:
                return found
            return (found if isinstance(found, tuple) else (found,)), kwargs

        return self._add_hook(self._forward_pre_hooks, adapted, prepend)

    def register_forward_hook(
        self,
        hook: Hook,
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> Handle:
        """Call ``hook(module, args, output)`` after forward; a result replaces the output."""

        def adapted(module: Module, args: Any, kwargs: Any, out: Any) -> Any:
            return hook(module, args, kwargs, out) if with_kwargs else hook(module, args, out)

        return self._add_hook(self._forward_hooks, adapted, prepend)

    def register_full_backward_hook(self, hook: Hook, prepend: bool = False) -> Handle:
        """Call ``hook(module, grad_input, grad_output)`` when the input gradients are known."""
        return self._add_hook(self._backward_hooks, hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Hook) -> Handle:
        """Call ``hook(module, incompatible_keys)`` after loading."""
        return Handle(self._load_hooks, hook)

    def register_state_dict_post_hook(self, hook: Hook) -> Handle:
        """Call ``hook(module, state_dict, prefix, local_metadata)`` after saving."""
        return Handle(self._state_hooks, hook)

    # --- the tree -----------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Direct submodules with their names, each once."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """Direct submodules."""
        return (module for _, module in self.named_children())

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module and all below it, with dotted paths."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                path = f"{prefix}.{name}" if prefix else name
                yield from module.named_modules(memo, path, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        return (module for _, module in self.named_modules())

    def _named_members(
        self, kind: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        found = (
            self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
            if recurse
            else [(prefix, self)]
        )
        seen: set[int] = set()
        for path, module in found:
            for name, value in getattr(module, kind).items():
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield (f"{path}.{name}" if path else name), value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Parameters with dotted names."""
        return self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Parameters, each once."""
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Buffers with dotted names."""
        return self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Buffers, each once."""
        return (b for _, b in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The submodule at a dotted path; "" is the module itself."""
        module: Module = self
        for name in target.split(".") if target else ():
            found = module._modules.get(name)
            if found is None:
                raise AttributeError(f"{type(module).__name__} has no submodule `{name}`")
            module = found
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a dotted path."""
        path, _, name = target.rpartition(".")
        found = self.get_submodule(path)._parameters.get(name)
        if found is None:
            raise AttributeError(f"no parameter `{target}` in {type(self).__name__}")
        return found

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a dotted path."""
        path, _, name = target.rpartition(".")
        found = self.get_submodule(path)._buffers.get(name)
        if found is None:
            raise AttributeError(f"no buffer `{target}` in {type(self).__name__}")
        return found

    # --- changing all of it -------------------------------------------------------------------

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call ``fn`` on every submodule, then on the module itself."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def train(self, mode: bool = True) -> Self:
        """Switch to training (dropout on, batch statistics) or, with False, to inference."""
        if not isinstance(mode, bool):
            raise ArgumentTypeError(f"training mode is expected to be boolean, got {mode!r}")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self) -> Self:
        """Switch to inference mode."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Ask for gradients of all parameters, or freeze them."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters."""
        for p in self.parameters():
            forget_grad(p, set_to_none)

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> Self:
        for module in self.children():
            module._apply(fn)
        with no_grad():
            for p in self._parameters.values():
                if p is not None:
                    p.data = fn(p.data)
                    if p._grad is not None:
                        p.grad = fn(p._grad)
            for name, buffer in self._buffers.items():
                if buffer is not None:
                    self._buffers[name] = fn(buffer)
        return self

    def _to_float(self, dtype: dt.dtype) -> Self:
        return self._apply(lambda x: x.to(dtype) if x.is_floating_point() else x)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """``to(dtype)``, ``to(device)`` or ``to(tensor)``: floating members change dtype."""
        dtype = kwargs.get("dtype")
        for arg in args:
            if isinstance(arg, dt.dtype):
                dtype = arg
            elif isinstance(arg, Tensor):
                dtype = arg.dtype
        if dtype is not None and not dtype.is_floating_point:
            raise ArgumentTypeError(f"nn.Module.to only accepts floating point dtypes, got {dtype}")
        others = [a for a in args if not isinstance(a, (dt.dtype, Tensor, bool))]
        for where in (*others, *(d for d in [kwargs.get("device")] if d is not None)):
            self._apply(lambda x, where=where: x.to(where))  # type: ignore[misc]
        return self if dtype is None else self._to_float(dtype)

    def float(self) -> Self:
        """Floating members as float32."""
        return self._to_float(dt.float32)

    def double(self) -> Self:
        """Floating members as float64."""
        return self._to_float(dt.float64)

    def half(self) -> Self:
        """Floating members as float16."""
        return self._to_float(dt.float16)

    def bfloat16(self) -> Self:
        """Floating members as bfloat16."""
        return self._to_float(dt.bfloat16)

    def type(self, dst_type: Any) -> Self:
        """All members as ``dst_type``."""
        return self._apply(lambda x: x.to(dt.as_dtype(dst_type)))

    def cpu(self) -> Self:
        """Itself: tensors live on the CPU."""
        return self

    # --- state --------------------------------------------------------------------------------

    def state_dict(
        self,
        *args: Any,
        destination: dict[str, Any] | None = None,
        prefix: str = "",
        keep_vars: bool = False,
    ) -> dict[str, Any]:
        """Parameters and persistent buffers by dotted name; tensors share the module's memory."""
        found: dict[str, Any] = OrderedDict() if destination is None else destination
        for name, value in (*self._parameters.items(), *self._buffers.items()):
            if value is not None and name not in self._transient:
                found[prefix + name] = value if keep_vars else value.detach()
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=found, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for hook in tuple(self._state_hooks.values()):
            hook(self, found, prefix, {})
        return found

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copy tensors by name; ``strict`` refuses missing and unexpected names.

        Nothing is changed unless every shape fits (and, if strict, every name).
        """
        own = self.state_dict(keep_vars=True)
        missing = [k for k in own if k not in state_dict]
        unexpected = [k for k in state_dict if k not in own]
        problems = _shape_problems(own, state_dict)
        if strict:
            problems += _key_problems(missing, unexpected)
        if problems:
            raise CheckpointError(
                f"Error(s) in loading state_dict for {type(self).__name__}:\n\t"
                + "\n\t".join(problems)
            )
        with no_grad():
            for key, value in state_dict.items():
                if key in own:
                    self._load_one(key, own[key], value, assign)
        keys = IncompatibleKeys(missing, unexpected)
        for module in self.modules():
            for hook in tuple(module._load_hooks.values()):
                hook(module, keys)
        return keys

    def _load_one(self, key: str, own: Tensor, value: Tensor, assign: bool) -> None:
        if not assign:
            own.copy_(value)
            return
        path, _, name = key.rpartition(".")
        module = self.get_submodule(path)
        if name in module._parameters:
            module._parameters[name] = Parameter(value, own.requires_grad)
        else:
            module._buffers[name] = value

    # --- printing -----------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What to print between the parentheses."""
        return ""

    def __repr__(self) -> str:
        lines = [self.extra_repr()] if self.extra_repr() else []
        children = [
            f"({name}): " + repr(module).replace("\n", "\n  ")
            for name, module in self._modules.items()
        ]
        name = type(self).__name__
        if not children:
            return f"{name}({', '.join(lines)})"
        return f"{name}(\n  " + "\n  ".join(lines + children) + "\n)"


class _Watched:
    """Catches the gradients at a module's inputs and outputs for its backward hooks."""

    def __init__(self, module: Module, hooks: tuple[Hook, ...]) -> None:
        self.module, self.hooks = module, hooks if mode.grad else ()
        self.grad_input: list[Any] = []
        self.grad_output: list[Any] = []
        self.waiting = 0

    def inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments, each passed through an identity whose gradient is watched."""
        if not self.hooks:
            return args
        watched = list(args)
        tensors = [i for i, a in enumerate(args) if isinstance(a, Tensor) and a.requires_grad]
        self.grad_input = [None] * len(args)
        self.waiting = len(tensors)
        for i in tensors:
            watched[i] = args[i].view(args[i].shape)
            watched[i].register_hook(lambda g, i=i: self._input_arrived(i, g))
        return tuple(watched)

    def outputs(self, out: Any) -> Any:
        """The outputs, watched; with no watched input the hooks run on their gradients alone."""
        if not self.hooks:
            return out
        outs = out if isinstance(out, tuple) else (out,)
        self.grad_output = [None] * len(outs)
        for i, o in enumerate(outs):
            if isinstance(o, Tensor) and o.requires_grad:
                o.register_hook(lambda g, i=i: self._output_arrived(i, g))
        return out

    def _output_arrived(self, i: int, grad: Tensor) -> None:
        self.grad_output[i] = grad
        if not self.waiting:
            self._run()

    def _input_arrived(self, i: int, grad: Tensor) -> Tensor | None:
        self.grad_input[i] = grad
        self.waiting -= 1
        if self.waiting:
            return None
        return self._run()[i]  # type: ignore[no-any-return]

    def _run(self) -> tuple[Any, ...]:
        grad_input = tuple(self.grad_input)
        for hook in self.hooks:
            changed = hook(self.module, grad_input, tuple(self.grad_output))
            if changed is not None:
                grad_input = changed if isinstance(changed, tuple) else (changed,)
        return grad_input


def _shape_problems(own: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    problems = []
    for key, value in given.items():
        if key not in own:
            continue
        if not isinstance(value, Tensor):
            problems.append(f"'{key}' must be a tensor, got {type(value).__name__}")
        elif value.shape != own[key].shape:
            problems.append(
                f"size mismatch for {key}: copying a param with shape {show(value.shape)} from "
                f"checkpoint, the shape in current model is {show(own[key].shape)}."
            )
    return problems


def _key_problems(missing: list[str], unexpected: list[str]) -> list[str]:
    def named(keys: list[str]) -> str:
        return ", ".join(f'"{k}"' for k in keys)

    problems = [f"Unexpected key(s) in state_dict: {named(unexpected)}."] if unexpected else []
    return problems + ([f"Missing key(s) in state_dict: {named(missing)}."] if missing else [])


def _locate(error: GanglionError, module: Module) -> None:
    """Note the path of the module in which an error arose, as it passes up the tree."""
    inner, path = getattr(error, "module", None), getattr(error, "path", "")
    name = next((n for n, m in module._modules.items() if m is inner), "")
    path = ".".join(part for part in (name, path) if part)
    error.module, error.path = module, path  # type: ignore[attr-defined]
    where = f"'{path}' of {type(module).__name__}" if path else type(module).__name__
    error.__notes__ = [f"in module {where}"]
