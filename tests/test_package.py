"""The top level: PyTorch's names, found when first used."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import ganglion as gg

ROOT = Path(__file__).parents[1]

PROGRAM = """
import ganglion as torch
import ganglion.nn as nn
import ganglion.optim as optim
from ganglion.utils.data import DataLoader, TensorDataset

class SimpleNN(nn.Module):
    def __init__(self):
        super(SimpleNN, self).__init__()
        self.fc1 = nn.Linear(4, 8)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(8, 3)

    def forward(self, x):
        return self.fc2(self.relu(self.fc1(x)))

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
torch.manual_seed(0)
model = SimpleNN().to(device)
criterion = nn.CrossEntropyLoss()
optimizer = optim.Adam(model.parameters(), lr=0.01)
x = torch.randn(32, 4)
y = (x[:, 0] > 0).long()
for epoch in range(20):
    for batch_x, batch_y in DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True):
        outputs = model(batch_x)
        loss = criterion(outputs, batch_y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
with torch.no_grad():
    print((model(x).argmax(dim=1) == y).float().mean().item())
"""


def test_an_ordinary_pytorch_program_runs():
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0.9


@pytest.mark.parametrize("name", sorted(gg.__all__))
def test_every_public_name_is_there(name):
    assert getattr(gg, name) is not None or name == "newaxis"


def test_every_name_stands_where_the_table_says():
    for name, (file, attribute) in gg._WHERE.items():
        assert hasattr(importlib.import_module(f"ganglion.{file}"), attribute), name


def test_type_checkers_see_every_file_of_the_table():
    tree = ast.parse((ROOT / "ganglion" / "__init__.py").read_text(encoding="utf-8"))
    seen = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    assert {f"ganglion.{file}" for file in gg._PUBLIC} <= seen


def test_dtypes_have_pytorchs_names():
    assert gg.float is gg.float32
    assert gg.double is gg.float64
    assert gg.long is gg.int64
    assert gg.bool.name == "bool"


def test_numbers_and_constants():
    assert gg.inf > 1e308
    assert gg.nan != gg.nan
    assert str(gg.pi).startswith("3.14159")
    assert str(gg.e).startswith("2.71828")
    assert gg.ones(3)[gg.newaxis].shape == (1, 3)


def test_a_name_that_is_missing_is_named():
    with pytest.raises(AttributeError, match="Ganglion has no 'hamming_window'"):
        gg.hamming_window  # noqa: B018


def test_dir_lists_what_there_is():
    assert {"matmul", "nn", "float32", "__version__"} <= set(dir(gg))


def test_tensor_is_the_function_whatever_is_imported():
    module = importlib.import_module("ganglion.tensor")
    assert callable(gg.tensor)
    assert gg.tensor is not module
    assert gg.Tensor is module.Tensor


def test_utils_data_is_the_data_package():
    utils = importlib.import_module("ganglion.utils.data")
    assert utils is gg.utils.data is gg.data


def test_there_is_no_accelerator():
    assert not gg.cuda.is_available()
    assert gg.cuda.device_count() == 0
    gg.cuda.manual_seed_all(1)
    assert not gg.backends.mps.is_available()
    gg.backends.cudnn.deterministic = True
