"""Neural networks in Python and NumPy, with PyTorch's interface: ``import ganglion as torch``.

Tensors, their gradients and the eager runner load at once; everything else when first named.
"""

from __future__ import annotations

import importlib
import math
from typing import TYPE_CHECKING, Any

import ganglion.eager  # from here on op calls have a listener
import ganglion.random  # ... and draws have a generator
from ganglion import heavy
from ganglion.config import VERSION
from ganglion.creation import tensor as tensor  # hides the module of that name

if TYPE_CHECKING:
    from ganglion import autograd as autograd
    from ganglion import backends as backends
    from ganglion import cuda as cuda
    from ganglion import data as data
    from ganglion import dtypes
    from ganglion import linalg as linalg
    from ganglion import metrics as metrics
    from ganglion import nn as nn
    from ganglion import optim as optim
    from ganglion import train as train
    from ganglion import utils as utils
    from ganglion.blas import get_num_threads as get_num_threads
    from ganglion.blas import set_num_threads as set_num_threads
    from ganglion.compiler.compiled import compile as compile
    from ganglion.convert import get_device as get_device
    from ganglion.convert import is_complex as is_complex
    from ganglion.convert import is_floating_point as is_floating_point
    from ganglion.convert import is_nonzero as is_nonzero
    from ganglion.convert import is_same_size as is_same_size
    from ganglion.convert import is_signed as is_signed
    from ganglion.convert import numel as numel
    from ganglion.creation import *
    from ganglion.dtypes import *
    from ganglion.eager import result_type as result_type
    from ganglion.gradmode import *
    from ganglion.ops.activation import *
    from ganglion.ops.adaptive import *
    from ganglion.ops.along import *
    from ganglion.ops.arithmetic import *
    from ganglion.ops.compare import *
    from ganglion.ops.conv import *
    from ganglion.ops.counting import *
    from ganglion.ops.create import *
    from ganglion.ops.diagonal import *
    from ganglion.ops.einsum import einsum as einsum
    from ganglion.ops.error_function import *
    from ganglion.ops.gamma import *
    from ganglion.ops.index import *
    from ganglion.ops.join import *
    from ganglion.ops.matmul import *
    from ganglion.ops.moments import *
    from ganglion.ops.movement import *
    from ganglion.ops.nonzero import *
    from ganglion.ops.norm import *
    from ganglion.ops.pool import *
    from ganglion.ops.random import *
    from ganglion.ops.rearrange import *
    from ganglion.ops.reduce import *  # type: ignore[assignment]  # ALL is two things inside
    from ganglion.ops.scan import *  # type: ignore[assignment]  # and so is along
    from ganglion.ops.scatter import *
    from ganglion.ops.select import *
    from ganglion.ops.softmax import *
    from ganglion.ops.sort import *
    from ganglion.ops.special import *
    from ganglion.ops.stacked import *
    from ganglion.ops.subscript import *
    from ganglion.ops.unary import *
    from ganglion.ops.views import *
    from ganglion.printing import set_printoptions as set_printoptions
    from ganglion.random import *
    from ganglion.serialize import load as load
    from ganglion.serialize import save as save
    from ganglion.shapes import Size as Size
    from ganglion.shapes import broadcast_shapes as broadcast_shapes
    from ganglion.storage import device as device
    from ganglion.tensor import Tensor as Tensor

    bool, float, half, double = dtypes.bool_, dtypes.float32, dtypes.float16, dtypes.float64
    short, int, long = dtypes.int16, dtypes.int32, dtypes.int64

__version__ = VERSION

inf, nan, pi, e = math.inf, math.nan, math.pi, math.e
newaxis = None

# Which file holds each public name; "new=old" renames. A new function is published here.
_PUBLIC = {
    "blas": "get_num_threads set_num_threads",
    "compiler.compiled": "compile",
    "convert": "get_device is_complex is_floating_point is_nonzero is_same_size is_signed numel",
    "creation": """
        asarray as_tensor from_dlpack from_numpy is_tensor tensor
        BoolTensor ByteTensor CharTensor DoubleTensor FloatTensor HalfTensor IntTensor LongTensor
        ShortTensor
    """,
    "dtypes": """
        bool=bool_ uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64
        short=int16 int=int32 long=int64 half=float16 float=float32 double=float64
        can_cast dtype finfo iinfo promote_types get_default_dtype set_default_dtype
    """,
    "eager": "result_type",
    "gradmode": """
        enable_grad inference_mode is_grad_enabled is_inference_mode_enabled no_grad
        set_grad_enabled
    """,
    "ops.create": """
        arange empty empty_like eye full full_like linspace logspace ones ones_like scalar_tensor
        zeros zeros_like
    """,
    "ops.einsum": "einsum",
    "ops.activation": "relu relu_ sigmoid tanh",
    "ops.arithmetic": """
        add addcdiv addcmul div divide=div float_power floor_divide fmod ldexp lerp mul multiply=mul
        neg negative=neg pow remainder rsub sub subtract=sub true_divide
    """,
    "ops.compare": """
        allclose bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift
        bitwise_xor eq equal ge greater greater_equal gt isclose isfinite isin isinf isnan isneginf
        isposinf le less less_equal logical_and logical_not logical_or logical_xor lt ne not_equal
        signbit
    """,
    "ops.conv": """
        conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
    """,
    "ops.matmul": """
        addmm addmv baddbmm bmm chain_matmul dot ger inner kron linear matmul mm mv outer
        tensordot vdot
    """,
    "ops.diagonal": "diag diag_embed diagflat diagonal tril tril_indices triu triu_indices",
    "ops.adaptive": """
        adaptive_avg_pool1d adaptive_max_pool1d=adaptive_max_pool1d_with_indices
    """,
    "ops.along": "index_add index_copy index_fill index_select take take_along_dim",
    "ops.index": "gather scatter_add",
    "ops.join": """
        cat chunk column_stack concat concatenate dsplit dstack hsplit hstack narrow row_stack
        select split split_with_sizes stack tensor_split unbind vsplit vstack
    """,
    "ops.movement": """
        clone detach permute reshape squeeze swapaxes=transpose swapdims=transpose t transpose
        unsqueeze
    """,
    "ops.norm": "group_norm layer_norm rms_norm",
    "ops.nonzero": "argwhere masked_scatter masked_select nonzero",
    "ops.pool": "avg_pool1d max_pool1d max_pool1d_with_indices max_pool2d max_pool3d",
    "ops.rearrange": """
        cartesian_prod flip fliplr flipud meshgrid repeat_interleave roll rot90 tile
    """,
    "ops.scatter": "scatter scatter_reduce",
    "ops.subscript": "index_put index_put_",
    "ops.views": """
        as_strided atleast_1d atleast_2d atleast_3d broadcast_tensors broadcast_to flatten
        moveaxis=movedim movedim ravel unflatten
    """,
    "ops.random": """
        bernoulli multinomial normal rand rand_like randint randint_like randn randn_like randperm
    """,
    "ops.counting": "bincount bucketize histc searchsorted unique unique_consecutive",
    "ops.moments": "logsumexp norm std std_mean var var_mean",
    "ops.reduce": """
        all amax amin aminmax any argmax argmin count_nonzero max mean min nanmean nansum prod sum
    """,
    "ops.scan": "cummax cummin cumprod cumsum diff logcumsumexp",
    "ops.error_function": "erf erfc erfinv",
    "ops.gamma": "digamma lgamma polygamma",
    "ops.select": """
        clamp clamp_max clamp_min clip fmax fmin masked_fill maximum minimum where
    """,
    "ops.sort": """
        argsort kthvalue median mode msort nanmedian nanquantile quantile sort topk
    """,
    "ops.stacked": """
        gru gru_cell lstm lstm_cell rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell
    """,
    "ops.special": """
        arctan2 atan2 copysign heaviside hypot logaddexp logaddexp2 logit nan_to_num nextafter sinc
        xlogy
    """,
    "ops.softmax": "log_softmax softmax",
    "ops.unary": """
        abs absolute acos acosh arccos arccosh arcsin arcsinh arctan arctanh asin asinh atan atanh
        ceil cos cosh deg2rad exp exp2 expm1 fix floor frac log log10 log1p log2 positive rad2deg
        reciprocal round rsqrt sgn sign sin sinh sqrt square tan trunc
    """,
    "printing": "set_printoptions",
    "random": """
        Generator default_generator get_rng_state initial_seed manual_seed seed set_rng_state
    """,
    "serialize": "load save",
    "shapes": "Size broadcast_shapes",
    "storage": "device",
    "tensor": "Tensor",
}
_WHERE = {
    name.partition("=")[0]: (file, name.rpartition("=")[2])
    for file, names in _PUBLIC.items()
    for name in names.split()
}
_PACKAGES = "autograd backends cuda data linalg metrics nn optim random train utils".split()

__all__ = [*_WHERE, *_PACKAGES, "e", "inf", "nan", "newaxis", "pi"]


def _compiled_kernel(*call: Any) -> Any:
    return importlib.import_module("ganglion.compiler.backend").kernel(*call)


heavy.maker = _compiled_kernel


def __getattr__(name: str) -> Any:
    """Load a public name when first used."""
    if name in _PACKAGES:
        return importlib.import_module(f"ganglion.{name}")
    if name not in _WHERE:
        message = f"Ganglion has no {name!r}; dir(ganglion) lists what it has of PyTorch's names"
        raise AttributeError(message, name=name, obj=ganglion)
    file, attribute = _WHERE[name]
    found = getattr(importlib.import_module(f"ganglion.{file}"), attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
