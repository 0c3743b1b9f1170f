"""The networks in PyTorch's interface: the same text for PyTorch and for Ganglion.

Every function takes the library and gives a module that maps a batch to logits (N, classes).
"""

from itertools import pairwise
from typing import Any

import numpy as np
from workloads import Workload

import ganglion

Array = np.ndarray[Any, Any]


def mlp(torch: Any, layers: tuple[int, ...]) -> Any:
    nn = torch.nn
    inputs, hidden, classes = layers
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))


def cnn(torch: Any) -> Any:
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(3136, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def lstm(torch: Any, inputs: int, hidden: int, classes: int) -> Any:
    nn = torch.nn

    class Network(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(inputs, hidden, batch_first=True)
            self.fc = nn.Linear(hidden, classes)

        def forward(self, x: Any) -> Any:
            states, _ = self.lstm(x)
            return self.fc(states[:, -1])

    return Network()


def gpt(torch: Any, vocabulary: int, width: int, layers: int, heads: int, context: int) -> Any:
    nn, functional = torch.nn, torch.nn.functional

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def attention(self, x: Any) -> Any:
            split = self.qkv(x).reshape(*x.shape[:2], 3, heads, width // heads)
            q, k, v = split.permute(2, 0, 3, 1, 4).unbind()
            seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.out(seen.transpose(1, 2).reshape(x.shape))

        def forward(self, x: Any) -> Any:
            x = x + self.attention(self.norm1(x))
            return x + self.narrow(functional.gelu(self.wide(self.norm2(x))))

    class Network(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(vocabulary, width)
            self.positions = nn.Embedding(context, width)
            self.blocks = nn.Sequential(*(Block() for _ in range(layers)))
            self.norm = nn.LayerNorm(width)
            self.head = nn.Linear(width, vocabulary, bias=False)

        def forward(self, tokens: Any) -> Any:
            x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
            return self.head(self.norm(self.blocks(x))).flatten(0, 1)

    return Network()


def resnet(torch: Any, blocks: int, classes: int) -> Any:
    nn, functional = torch.nn, torch.nn.functional

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, inputs: int, channels: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, channels, 3, stride, padding=1, bias=False)
            self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.bn1, self.bn2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
            self.stride, self.lacking = stride, channels - inputs

        def shortcut(self, x: Any) -> Any:
            if not self.lacking:
                return x
            x = x[:, :, :: self.stride, :: self.stride]
            return functional.pad(x, (0, 0, 0, 0, 0, self.lacking))

        def forward(self, x: Any) -> Any:
            y = functional.relu(self.bn1(self.conv1(x)))
            return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))

    class Network(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
            self.bn = nn.BatchNorm2d(16)
            widths = [16] * (blocks + 1) + [32] * blocks + [64] * blocks
            pairs = pairwise(widths)
            self.blocks = nn.Sequential(*(Block(a, b, 1 if a == b else 2) for a, b in pairs))
            self.fc = nn.Linear(64, classes)

        def forward(self, x: Any) -> Any:
            x = self.blocks(functional.relu(self.bn(self.conv(x))))
            return self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))

    return Network()


NETWORKS = {function.__name__: function for function in (mlp, cnn, lstm, gpt, resnet)}


def network(torch: Any, workload: Workload) -> Any:
    """The workload's network in PyTorch or Ganglion, with the first weights of all peers."""
    found = NETWORKS[workload.network](torch, **workload.sizes)
    state = first_state(workload)
    found.load_state_dict({name: torch.from_numpy(x.copy()) for name, x in state.items()})
    return found


def first_state(workload: Workload) -> dict[str, Array]:
    """Parameters and buffers that every peer begins with, named and laid out as in PyTorch."""
    ganglion.manual_seed(0)
    found = NETWORKS[workload.network](ganglion, **workload.sizes).state_dict()
    return {name: np.array(x.numpy()) for name, x in found.items()}
