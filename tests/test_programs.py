"""Ordinary PyTorch programs run unchanged but for the import, and compute the same.

Every program is kept once, as it would be written for PyTorch. It runs in both libraries, first
as it is, then with the same random numbers in both, where the losses have to agree.
"""

import re

import numpy as np
import pytest

import ganglion as gg
from tests.program_idioms import IDIOMS

SIMPLE = """
import torch
import torch.nn as nn
import torch.optim as optim


class SimpleNN(nn.Module):
    def __init__(self, input_size, hidden_size, output_size):
        super(SimpleNN, self).__init__()
        self.fc1 = nn.Linear(input_size, hidden_size)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(hidden_size, output_size)

    def forward(self, x):
        x = self.fc1(x)
        x = self.relu(x)
        x = self.fc2(x)
        return x


torch.manual_seed(0)

# Synthetic data: two classes that a line divides
X = torch.randn(200, 10)
y = (X[:, 0] + X[:, 1] > 0).long()

model = SimpleNN(input_size=10, hidden_size=32, output_size=2)
criterion = nn.CrossEntropyLoss()
optimizer = optim.Adam(model.parameters(), lr=0.001)

losses = []
batch_size = 20
for epoch in range(30):
    for i in range(0, len(X), batch_size):
        batch_x, batch_y = X[i:i + batch_size], y[i:i + batch_size]
        outputs = model(batch_x)
        loss = criterion(outputs, batch_y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    if (epoch + 1) % 10 == 0:
        print(f"Epoch [{epoch + 1}/30], Loss: {loss.item():.4f}")

accuracy = 100 * (model(X).argmax(dim=1) == y).float().mean().item()
print(f"Accuracy: {accuracy:.2f}%")
"""

LOADER = """
import os
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.utils.data import DataLoader, TensorDataset, random_split

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class SimpleNN(nn.Module):
    def __init__(self):
        super(SimpleNN, self).__init__()
        self.fc1 = nn.Linear(20, 64)
        self.dropout = nn.Dropout(0.2)
        self.fc2 = nn.Linear(64, 3)

    def forward(self, x):
        x = torch.sigmoid(self.fc1(x))
        x = self.dropout(x)
        return self.fc2(x)


def evaluate(model, loader):
    model.eval()
    correct, total = 0, 0
    with torch.no_grad():
        for inputs, labels in loader:
            inputs, labels = inputs.to(device), labels.to(device)
            outputs = model(inputs)
            _, predicted = torch.max(outputs, 1)
            total += labels.size(0)
            correct += (predicted == labels).sum().item()
    return correct / total


torch.manual_seed(42)
centers = torch.randn(3, 20)
labels = torch.arange(600) % 3
inputs = centers[labels] + 0.8 * torch.randn(600, 20)
train_set = TensorDataset(inputs[:500], labels[:500])
test_set = TensorDataset(inputs[500:], labels[500:])
train_loader = DataLoader(train_set, batch_size=32, shuffle=True)
test_loader = DataLoader(test_set, batch_size=100, shuffle=False)

model = SimpleNN().to(device)
criterion = nn.CrossEntropyLoss()
optimizer = optim.Adam(model.parameters(), lr=0.001)

losses = []
for epoch in range(10):
    model.train()
    running_loss = 0.0
    for batch_x, batch_y in train_loader:
        batch_x, batch_y = batch_x.to(device), batch_y.to(device)
        outputs = model(batch_x)
        loss = criterion(outputs, batch_y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running_loss += loss.item() * batch_x.size(0)
        losses.append(loss.item())
    print(f"Epoch {epoch + 1}: loss {running_loss / len(train_set):.4f}")

accuracy = 100 * evaluate(model, test_loader)
print(f"Accuracy: {accuracy:.1f} %")

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "model.pt")
    torch.save(model.state_dict(), path)
    restored = SimpleNN()
    restored.load_state_dict(torch.load(path))
restored.eval()
with torch.no_grad():
    probabilities = F.softmax(restored(inputs[:5]), dim=1)
    same = torch.equal(restored(inputs), model(inputs))
print(probabilities)
"""

IMPORTS = """
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

results = []
"""

PROGRAMS = {"simple": SIMPLE, "loader": LOADER}


def ported(text):
    """The same program for Ganglion: nothing but imports differs."""
    text = re.sub(r"^import torch$", "import ganglion as torch", text, flags=re.MULTILINE)
    return re.sub(r"^(import|from) torch\b", r"\1 ganglion", text, flags=re.MULTILINE)


def executed(text):
    names = {"__name__": "__main__"}
    exec(compile(text, "program.py", "exec"), names)
    return names


class SameNumbers:
    """Lets a library take its random numbers from NumPy's, in the order it asks for them."""

    def __init__(self, lib):
        self.lib, self.random = lib, np.random.default_rng(0)

    def install(self, patch):
        patch.setattr(self.lib, "randn", self.randn)
        patch.setattr(self.lib, "rand", self.rand)
        patch.setattr(self.lib, "randint", self.randint)
        patch.setattr(self.lib.nn.Linear, "reset_parameters", self.starter())

    def randn(self, *size, requires_grad=False):
        drawn = self.random.standard_normal(flat(size), np.float32)
        return self.tensor(drawn).requires_grad_(requires_grad)

    def rand(self, *size, requires_grad=False):
        return self.tensor(self.random.random(flat(size), np.float32)).requires_grad_(requires_grad)

    def randint(self, low, high, size):
        return self.tensor(self.random.integers(low, high, size))

    def tensor(self, array):
        return self.lib.from_numpy(np.asarray(array))

    def starter(self):
        def start(layer):
            bound = layer.in_features**-0.5
            with self.lib.no_grad():
                for parameter in layer.parameters():
                    drawn = self.random.uniform(-bound, bound, tuple(parameter.shape))
                    parameter.copy_(self.tensor(drawn))

        return start


def flat(size):
    return size[0] if len(size) == 1 and not isinstance(size[0], int) else size


def both(text):
    """What the program leaves in Ganglion and in PyTorch, from the same random numbers."""
    torch = pytest.importorskip("torch")
    found = []
    for lib, source in ((gg, ported(text)), (torch, text)):
        with pytest.MonkeyPatch.context() as patch:
            SameNumbers(lib).install(patch)
            found.append(executed(source))
    return found


def plain(value):
    """Tensors as arrays; everything else as it is."""
    return np.asarray(value.detach()) if hasattr(value, "detach") else value


def check_equal(ours, theirs, tolerance):
    assert len(ours) == len(theirs) > 0
    for mine, other in zip(map(plain, ours), map(plain, theirs), strict=True):
        if isinstance(other, (str, type(None))):
            assert mine == other
            continue
        assert np.shape(mine) == np.shape(other)
        assert np.asarray(mine).dtype == np.asarray(other).dtype
        np.testing.assert_allclose(mine, other, rtol=tolerance, atol=tolerance)


def learns(names):
    losses = names["losses"]
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])
    assert names["accuracy"] > 90


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_learns(name):
    names = executed(ported(PROGRAMS[name]))
    assert names["torch"] is gg
    learns(names)
    assert names.get("same", True)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_learns_in_pytorch(name):
    pytest.importorskip("torch")
    learns(executed(PROGRAMS[name]))


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_has_pytorchs_losses(name):
    text = (
        PROGRAMS[name]
        .replace("shuffle=True", "shuffle=False")
        .replace("Dropout(0.2)", "Dropout(0)")
    )
    ours, theirs = both(text)
    check_equal(ours["losses"], theirs["losses"], 1e-5)
    assert ours["accuracy"] == theirs["accuracy"]


def test_only_imports_are_changed():
    for text in PROGRAMS.values():
        before, after = text.splitlines(), ported(text).splitlines()
        changed = [old for old, new in zip(before, after, strict=True) if old != new]
        assert changed == [line for line in before if re.match(r"(import|from) torch", line)]
        assert "import torch" in changed


@pytest.mark.parametrize("name", IDIOMS)
def test_an_idiom_gives_pytorchs_results(name):
    ours, theirs = both(IMPORTS + IDIOMS[name])
    check_equal(ours["results"], theirs["results"], 1e-5)
