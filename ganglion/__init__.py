from ganglion import autograd, eager, tensor
from ganglion.tensor import Tensor
