"""Neural-network building blocks, under PyTorch's names."""

from ganglion.nn import init
from ganglion.nn.activation import (
    ELU,
    GELU,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
)
from ganglion.nn.containers import ModuleDict, ModuleList, Sequential
from ganglion.nn.dropout import Dropout
from ganglion.nn.linear import Flatten, Identity, Linear, Unflatten
from ganglion.nn.loss import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
    SmoothL1Loss,
)
from ganglion.nn.module import Module
from ganglion.nn.parameter import Buffer, Parameter

from ganglion.nn import functional, utils  # isort: skip

__all__ = [
    "ELU", "GELU", "BCELoss", "BCEWithLogitsLoss", "Buffer", "CrossEntropyLoss", "Dropout",
    "Flatten", "HuberLoss", "Identity", "KLDivLoss", "L1Loss", "LeakyReLU", "Linear",
    "LogSoftmax", "MSELoss", "Module", "ModuleDict", "ModuleList", "NLLLoss", "Parameter", "ReLU",
    "Sequential", "SiLU", "Sigmoid", "SmoothL1Loss", "Softmax", "Tanh", "Unflatten", "functional",
    "init", "utils",
]  # fmt: skip
