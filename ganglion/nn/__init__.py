"""Neural-network building blocks, under PyTorch's names; each file loads when first named."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganglion.nn import functional as functional
    from ganglion.nn import init as init
    from ganglion.nn import utils as utils
    from ganglion.nn.activation import ELU as ELU
    from ganglion.nn.activation import GELU as GELU
    from ganglion.nn.activation import LeakyReLU as LeakyReLU
    from ganglion.nn.activation import LogSoftmax as LogSoftmax
    from ganglion.nn.activation import ReLU as ReLU
    from ganglion.nn.activation import Sigmoid as Sigmoid
    from ganglion.nn.activation import SiLU as SiLU
    from ganglion.nn.activation import Softmax as Softmax
    from ganglion.nn.activation import Tanh as Tanh
    from ganglion.nn.attention import MultiheadAttention as MultiheadAttention
    from ganglion.nn.batchnorm import BatchNorm1d as BatchNorm1d
    from ganglion.nn.batchnorm import BatchNorm2d as BatchNorm2d
    from ganglion.nn.batchnorm import BatchNorm3d as BatchNorm3d
    from ganglion.nn.cells import GRUCell as GRUCell
    from ganglion.nn.cells import LSTMCell as LSTMCell
    from ganglion.nn.cells import RNNCell as RNNCell
    from ganglion.nn.cells import RNNCellBase as RNNCellBase
    from ganglion.nn.containers import ModuleDict as ModuleDict
    from ganglion.nn.containers import ModuleList as ModuleList
    from ganglion.nn.containers import Sequential as Sequential
    from ganglion.nn.conv import Conv1d as Conv1d
    from ganglion.nn.conv import Conv2d as Conv2d
    from ganglion.nn.conv import Conv3d as Conv3d
    from ganglion.nn.conv import ConvTranspose1d as ConvTranspose1d
    from ganglion.nn.conv import ConvTranspose2d as ConvTranspose2d
    from ganglion.nn.conv import ConvTranspose3d as ConvTranspose3d
    from ganglion.nn.dropout import Dropout as Dropout
    from ganglion.nn.linear import Flatten as Flatten
    from ganglion.nn.linear import Identity as Identity
    from ganglion.nn.linear import Linear as Linear
    from ganglion.nn.linear import Unflatten as Unflatten
    from ganglion.nn.loss import BCELoss as BCELoss
    from ganglion.nn.loss import BCEWithLogitsLoss as BCEWithLogitsLoss
    from ganglion.nn.loss import CrossEntropyLoss as CrossEntropyLoss
    from ganglion.nn.loss import HuberLoss as HuberLoss
    from ganglion.nn.loss import KLDivLoss as KLDivLoss
    from ganglion.nn.loss import L1Loss as L1Loss
    from ganglion.nn.loss import MSELoss as MSELoss
    from ganglion.nn.loss import NLLLoss as NLLLoss
    from ganglion.nn.loss import SmoothL1Loss as SmoothL1Loss
    from ganglion.nn.module import Module as Module
    from ganglion.nn.normalization import GroupNorm as GroupNorm
    from ganglion.nn.normalization import LayerNorm as LayerNorm
    from ganglion.nn.normalization import RMSNorm as RMSNorm
    from ganglion.nn.parameter import Buffer as Buffer
    from ganglion.nn.parameter import Parameter as Parameter
    from ganglion.nn.pooling import AdaptiveAvgPool1d as AdaptiveAvgPool1d
    from ganglion.nn.pooling import AdaptiveAvgPool2d as AdaptiveAvgPool2d
    from ganglion.nn.pooling import AdaptiveAvgPool3d as AdaptiveAvgPool3d
    from ganglion.nn.pooling import AdaptiveMaxPool1d as AdaptiveMaxPool1d
    from ganglion.nn.pooling import AdaptiveMaxPool2d as AdaptiveMaxPool2d
    from ganglion.nn.pooling import AdaptiveMaxPool3d as AdaptiveMaxPool3d
    from ganglion.nn.pooling import AvgPool1d as AvgPool1d
    from ganglion.nn.pooling import AvgPool2d as AvgPool2d
    from ganglion.nn.pooling import AvgPool3d as AvgPool3d
    from ganglion.nn.pooling import MaxPool1d as MaxPool1d
    from ganglion.nn.pooling import MaxPool2d as MaxPool2d
    from ganglion.nn.pooling import MaxPool3d as MaxPool3d
    from ganglion.nn.recurrent import GRU as GRU
    from ganglion.nn.recurrent import LSTM as LSTM
    from ganglion.nn.recurrent import RNN as RNN
    from ganglion.nn.recurrent import RNNBase as RNNBase
    from ganglion.nn.sparse import Embedding as Embedding

_FILES = {
    "activation": "ELU GELU LeakyReLU LogSoftmax ReLU Sigmoid SiLU Softmax Tanh",
    "attention": "MultiheadAttention",
    "batchnorm": "BatchNorm1d BatchNorm2d BatchNorm3d",
    "cells": "GRUCell LSTMCell RNNCell RNNCellBase",
    "containers": "ModuleDict ModuleList Sequential",
    "conv": "Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d",
    "dropout": "Dropout",
    "linear": "Flatten Identity Linear Unflatten",
    "loss": """
        BCELoss BCEWithLogitsLoss CrossEntropyLoss HuberLoss KLDivLoss L1Loss MSELoss NLLLoss
        SmoothL1Loss
    """,
    "module": "Module",
    "normalization": "GroupNorm LayerNorm RMSNorm",
    "parameter": "Buffer Parameter",
    "pooling": """
        AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d
        AdaptiveMaxPool2d AdaptiveMaxPool3d AvgPool1d AvgPool2d AvgPool3d MaxPool1d MaxPool2d
        MaxPool3d
    """,
    "recurrent": "GRU LSTM RNN RNNBase",
    "sparse": "Embedding",
}
_WHERE = {name: file for file, names in _FILES.items() for name in names.split()}
_MODULES = ("functional", "init", "utils")

__all__ = [*_WHERE, *_MODULES]  # noqa: PLE0604 - all are strings


def __getattr__(name: str) -> Any:
    """Load a public name when first used."""
    if name in _MODULES:
        return importlib.import_module(f"ganglion.nn.{name}")
    if name not in _WHERE:
        message = f"ganglion.nn has no {name!r}; dir(ganglion.nn) lists what it has"
        raise AttributeError(message, name=name)
    found = getattr(importlib.import_module(f"ganglion.nn.{_WHERE[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
