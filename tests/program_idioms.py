"""Small things that PyTorch programs do; each leaves what it found in ``results``."""

MODEL = """
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
x, y = torch.randn(16, 4), torch.randint(0, 3, (16,))
loss_fn = nn.CrossEntropyLoss()
"""

IDIOMS = {
    "state_dict loop": MODEL
    + """
for name, tensor in model.state_dict().items():
    results += [name, tensor, list(tensor.shape), tensor.dtype.is_floating_point]
copy = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
copy.load_state_dict({k: v.clone() * 2 for k, v in model.state_dict().items()})
results.append(copy(x))
""",
    "gradient norms by name": MODEL
    + """
loss_fn(model(x), y).backward()
for name, p in model.named_parameters():
    if p.requires_grad:
        results += [name, p.grad.norm(), p.grad.data.norm(2).item(), p.grad.abs().max()]
total = torch.sqrt(sum(p.grad.pow(2).sum() for p in model.parameters()))
results.append(total)
""",
    "descent by hand": MODEL
    + """
lr = 0.1
for step in range(20):
    loss = loss_fn(model(x), y)
    model.zero_grad()
    loss.backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= lr * p.grad
    results.append(loss.item())
""",
    "linear regression by hand": """
x = torch.linspace(-1, 1, 50).unsqueeze(1)
y = 3 * x + 2
w = torch.zeros(1, requires_grad=True)
b = torch.zeros(1, requires_grad=True)
for step in range(100):
    loss = ((x * w + b - y) ** 2).mean()
    loss.backward()
    w.data -= 0.1 * w.grad.data
    b.data -= 0.1 * b.grad.data
    w.grad.zero_()
    b.grad.zero_()
results += [w.item(), b.item(), loss]
""",
    "init by apply": MODEL
    + """
def init_weights(m):
    if isinstance(m, nn.Linear):
        nn.init.constant_(m.weight, 0.02)
        nn.init.zeros_(m.bias)
    elif type(m) == nn.Tanh:
        results.append("tanh")
model.apply(init_weights)
nn.init.eye_(model[0].weight)
results.append(model(x))
""",
    "parameter groups": MODEL
    + """
optimizer = optim.SGD([
    {"params": model[0].parameters(), "lr": 0.01},
    {"params": [model[2].weight], "weight_decay": 0.1},
    {"params": [model[2].bias], "momentum": 0.0},
], lr=0.1, momentum=0.9)
for step in range(5):
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    optimizer.step()
    results.append(loss.item())
results += [[g["lr"], g["momentum"], g["weight_decay"]] for g in optimizer.param_groups]
for group in optimizer.param_groups:
    group["lr"] *= 0.5
results += [g["lr"] for g in optimizer.param_groups]
""",
    "clipping": MODEL
    + """
optimizer = optim.RMSprop(model.parameters(), lr=0.01)
for step in range(5):
    optimizer.zero_grad(set_to_none=True)
    loss_fn(10 * model(x), y).backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
    nn.utils.clip_grad_value_(model.parameters(), 0.3)
    optimizer.step()
    results += [norm, model[0].weight.grad]
""",
    "schedules": MODEL
    + """
optimizer = optim.SGD(model.parameters(), lr=1.0)
step = optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
for epoch in range(5):
    optimizer.step()
    step.step()
    results += [step.get_last_lr()[0], optimizer.param_groups[0]["lr"]]
plateau = optim.lr_scheduler.ReduceLROnPlateau(optimizer, "min", factor=0.1, patience=1)
for value in (1.0, 0.9, 0.95, 0.97, 0.96):
    plateau.step(value)
    results.append(optimizer.param_groups[0]["lr"])
warm = optim.lr_scheduler.LambdaLR(optimizer, lr_lambda=lambda e: min(1, (e + 1) / 4))
results.append(optimizer.state_dict()["param_groups"][0]["lr"])
""",
    "functional": MODEL
    + """
h = F.relu(F.linear(x, model[0].weight, model[0].bias))
h = F.dropout(h, p=0.5, training=False)
logits = F.linear(h, model[2].weight)
results += [F.softmax(logits, dim=-1), F.log_softmax(logits, 1), F.cross_entropy(logits, y)]
results += [F.nll_loss(F.log_softmax(logits, dim=1), y), F.mse_loss(h, torch.zeros_like(h))]
results += [F.one_hot(y, num_classes=3), F.gelu(x), F.leaky_relu(x, 0.1), F.elu(x), F.silu(x)]
results += [F.binary_cross_entropy_with_logits(x[:, 0], (y > 0).float()), F.softplus(x)]
results += [F.pad(x, (1, 1), "constant", 0), F.smooth_l1_loss(h, h + 1, reduction="sum")]
""",
    "indexing": """
x = torch.arange(24).reshape(2, 3, 4)
results += [x[0], x[:, 1], x[..., -1], x[0, 1:, ::2], x[None].shape[0], x[x > 10]]
results += [x[[0, 1], [2, 0]]]
results += [x[:, torch.tensor([2, 0])], x[torch.tensor([True, False])], x[1, -1, -1].item()]
x[0, 0] = 7
x[:, :, 1] = torch.tensor([1, 2, 3])
x[x == 7] = -1
x[1, 2] += 100
results += [x, len(x), [row.sum().item() for row in x], x.tolist(), x.max(), x.argmax().item()]
""",
    "joining": """
a, b = torch.arange(6.0).view(2, 3), torch.ones(2, 3)
results += [torch.cat([a, b]), torch.cat((a, b), dim=1), torch.stack([a, b], dim=-1)]
results += [torch.where(a > 2, a, b), torch.where(a > 2, a, torch.zeros(1)), torch.hstack([a, b])]
first, second = torch.split(a, 1)
left, *rest = a.chunk(3, dim=1)
results += [first, second, left, rest[-1], a.unbind(1)[2], torch.vstack([a, b]), a.repeat(2, 2)]
results += [a.T, a.t() @ b, a.permute(1, 0), a.transpose(0, 1).contiguous().view(-1), a.flatten()]
results += [a.unsqueeze(0).expand(4, 2, 3), torch.einsum("ij,kj->ik", a, b), a.view(-1, 2)]
""",
    "to numpy and back": """
import numpy as np
x = torch.randn(3, 4, requires_grad=True)
y = (x * 2).sum(dim=1)
array = y.detach().cpu().numpy()
results += [array.mean(), str(array.dtype), np.asarray(x.detach()), torch.from_numpy(array) + 1]
results += [torch.tensor(array), torch.as_tensor([1.5, 2]), torch.tensor(3).item(), y.tolist()]
array[0] = 5
results += [y, y.detach().numpy().shape[0], torch.tensor([[1, 2], [3, 4]]).double().numpy()]
""",
    "a function of one's own": """
class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward(x)
        ctx.scale = scale
        return scale * x * x

    @staticmethod
    def backward(ctx, grad_output):
        x, = ctx.saved_tensors
        return grad_output * 2 * ctx.scale * x, None

x = torch.randn(5, requires_grad=True)
y = Square.apply(x, 3.0)
y.sum().backward()
results += [y, x.grad]
""",
    "hooks": MODEL
    + """
seen = {}
def keep(name):
    def hook(module, inputs, output):
        seen[name] = (inputs[0].detach().mean(), output.detach())
    return hook
handles = [m.register_forward_hook(keep(n)) for n, m in model.named_modules() if n]
grads = {}
model[2].weight.register_hook(lambda g: grads.update(weight=g.clone()))
def keep_gradients(module, grad_input, grad_output):
    grads.update(out=grad_output[0], x=grad_input[0])
handles.append(model[2].register_full_backward_hook(keep_gradients))
loss_fn(model(x), y).backward()
for handle in handles:
    handle.remove()
model(2 * x)
results += [sorted(seen)[0], *(v for pair in seen.values() for v in pair)]
results += [grads["weight"], grads["out"], grads["x"]]
""",
    "gradients of inputs": MODEL
    + """
x.requires_grad_()
loss = loss_fn(model(x), y)
(g,) = torch.autograd.grad(loss, x, create_graph=True)
penalty = (g.norm(2, dim=1) - 1).pow(2).mean()
penalty.backward()
results += [g, penalty, model[0].weight.grad, x.is_leaf, loss.requires_grad, x.grad is not None]
adversarial = x + 0.1 * g.sign()
results.append(adversarial.clamp(-1, 1).detach())
""",
    "freezing": MODEL
    + """
for p in model[0].parameters():
    p.requires_grad = False
optimizer = optim.Adam(filter(lambda p: p.requires_grad, model.parameters()), lr=0.01)
before = model[0].weight.clone()
for step in range(3):
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    optimizer.step()
    results.append(loss.item())
results += [torch.equal(before, model[0].weight), model[0].weight.grad is None]
results += [sum(p.numel() for p in model.parameters() if p.requires_grad)]
""",
    "accumulation": MODEL
    + """
optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
optimizer.zero_grad()
for i, (bx, by) in enumerate(zip(x.split(4), y.split(4))):
    loss = loss_fn(model(bx), by) / 2
    loss.backward()
    if (i + 1) % 2 == 0:
        optimizer.step()
        optimizer.zero_grad()
    results.append(loss.item())
results.append(model[0].weight)
""",
    "checkpoint of a training": MODEL
    + """
optimizer = optim.AdamW(model.parameters(), lr=0.01)
def step():
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()
step()
import copy
saved = copy.deepcopy({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
first = [step() for _ in range(3)]
model.load_state_dict(saved["model"])
optimizer.load_state_dict(saved["optimizer"])
results += [step() for _ in range(3)] == first and first
state = optimizer.state_dict()["state"][0]
results += [*sorted(state), state["exp_avg"], state["exp_avg_sq"], float(state["step"])]
""",
    "a module of lists and dicts": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
        self.heads = nn.ModuleDict({"a": nn.Linear(4, 1), "b": nn.Linear(4, 2)})
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("mean", torch.full((4,), 0.5))

    def forward(self, x):
        x = x - self.mean
        for layer in self.layers:
            x = x + torch.tanh(layer(x)) * self.scale
        return {name: head(x) for name, head in self.heads.items()}

net = Net()
out = net(torch.randn(2, 4))
sum(o.sum() for o in out.values()).backward()
results += [*out.values(), net.scale.grad, *[n for n, _ in net.named_parameters()]]
results += [*net.state_dict(), len(list(net.children())), str(net)]
""",
    "statistics": """
x = torch.randn(4, 5)
values, indices = x.max(dim=1)
top = torch.topk(x, 2)
results += [values, indices, top.values, top.indices, x.mean(0), x.std(dim=0)]
results += [x.var(unbiased=False)]
results += [x.sum(), x.norm(), x.min(), torch.argsort(x, dim=1), x.sort(descending=True)[0]]
results += [x.cumsum(1), x.clamp(min=0), (x > 0).sum().item(), (x > 0).any(), (x > 9).all()]
results += [torch.bincount(torch.tensor([0, 1, 1, 3])), torch.unique(torch.tensor([3, 1, 1]))]
results += [x.softmax(-1).argmax(-1), torch.allclose(x, x + 1e-9), x.median(), x.abs()]
results += [torch.isnan(x).any()]
""",
    "binary classifier": """
model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1), nn.Sigmoid())
x = torch.randn(64, 2)
y = (x[:, 0] * x[:, 1] > 0).float().unsqueeze(1)
criterion = nn.BCELoss()
optimizer = optim.Adagrad(model.parameters(), lr=0.1)
for epoch in range(30):
    y_pred = model(x)
    loss = criterion(y_pred, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    results.append(loss.item())
results.append(((model(x) > 0.5).float() == y).float().mean().item())
""",
    "regression with a closure": """
model = nn.Linear(3, 1)
x = torch.rand(32, 3)
y = x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.3
optimizer = optim.SGD(model.parameters(), lr=0.5)
def closure():
    optimizer.zero_grad()
    loss = F.mse_loss(model(x), y)
    loss.backward()
    return loss
for step in range(20):
    results.append(optimizer.step(closure).item())
""",
    "modes": MODEL
    + """
results += [model.training, torch.is_grad_enabled(), x.requires_grad, model(x).requires_grad]
with torch.no_grad():
    results += [model(x).requires_grad, torch.is_grad_enabled()]
@torch.no_grad()
def predict(x):
    return model(x).argmax(1)
results += [predict(x), model.eval().training, model.train() is model]
with torch.inference_mode():
    results.append(model(x).requires_grad)
with torch.set_grad_enabled(False):
    results.append(model(x).requires_grad)
results.append(model(x).detach().requires_grad)
""",
    "dtypes and devices": """
x = torch.ones(2, 2)
results += [(x + 1).dtype == torch.float32, x.double().dtype == torch.float64, str(x.dtype)[-7:]]
results += [x.to(torch.int64) / 2, x.long() * 1.5, torch.tensor([1, 2]) / 2, torch.tensor(1) + 1.5]
results += [x.device.type, str(x.device), x.to("cpu").device == torch.device("cpu"), x.is_cuda]
results += [x.type(torch.float64), x.half().float(), x.bool(), torch.zeros(3, dtype=torch.long)]
results += [torch.arange(0, 1, 0.25), torch.full((2,), 7), torch.eye(3), torch.ones_like(x)]
results += [x.new_zeros(3), torch.empty(0).numel(), torch.tensor([]).shape[0], 2 ** x, 1 / (x + 1)]
""",
    "exponential moving average": MODEL
    + """
import copy
shadow = copy.deepcopy(model)
optimizer = optim.Adam(model.parameters())
for step in range(3):
    optimizer.zero_grad()
    loss_fn(model(x), y).backward()
    optimizer.step()
    with torch.no_grad():
        for s, p in zip(shadow.parameters(), model.parameters()):
            s.mul_(0.9).add_(p, alpha=0.1)
            results.append(s.clone())
results.append(shadow(x))
""",
    "weight tying and reuse": """
shared = nn.Linear(4, 4, bias=False)
x = torch.randn(2, 4)
out = shared(torch.relu(shared(x)))
out.mean().backward()
other = nn.Linear(4, 4, bias=False)
other.weight = shared.weight
results += [shared.weight.grad, other(x), len(list(nn.Sequential(shared, other).parameters()))]
""",
    "printing": """
x = torch.tensor([[1.0, -2.5], [3.25, 1e-3]])
results += [repr(x), str(torch.arange(5)), str(x > 0), f"{x.sum().item():.2f}", f"{x[0, 0]:.1f}"]
results += [repr(torch.tensor(1.5, requires_grad=True)), str(nn.Linear(2, 3))]
results += [str(nn.Sequential(nn.Linear(2, 3), nn.ReLU())), str(torch.zeros(2, 0))]
results += [str(list(x.shape)), f"{tuple(x.size())}", str(x.dtype).split(".")[1]]
""",
    "errors a program may catch": """
def caught(f):
    try:
        f()
    except Exception as error:
        kinds = (RuntimeError, IndexError, ValueError, TypeError, KeyError)
        return [kind.__name__ for kind in kinds if isinstance(error, kind)][0]
x = torch.ones(2, 3, requires_grad=True)
def twice():
    loss = (x * x).sum()
    loss.backward()
    loss.backward()
results += [caught(lambda: x @ x), caught(lambda: x[5]), caught(lambda: x.view(4)), caught(twice)]
results += [caught(lambda: (x * 2).backward()), caught(lambda: x.add_(1))]
results += [caught(lambda: x.numpy())]
results += [caught(lambda: torch.cat([x, torch.ones(3, 2)])), caught(lambda: nn.Linear(2, 2)(x))]
results += [caught(lambda: nn.Linear(2, 2).load_state_dict({}))]
results += [caught(lambda: optim.SGD([], lr=0.1)), caught(lambda: x.sum(dim=4))]
""",
    "imports of every form": """
import torch.nn.init as init
import torch.utils.data
from torch import nn, optim, Tensor
from torch.nn import functional, Linear, Module, Parameter, Sequential
from torch.nn.utils import clip_grad_norm_
from torch.optim import Adam
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, Dataset, Subset, random_split
from torch.autograd import Function, grad

layer = Linear(2, 2)
init.ones_(layer.weight)
results += [layer(torch.ones(1, 2)), isinstance(layer.weight, Tensor), isinstance(layer, Module)]
results += [isinstance(layer.bias, Parameter), torch.nn.Linear is Linear, torch.optim.Adam is Adam]
results += [torch.utils.data.DataLoader is DataLoader, torch.nn.functional.relu(-torch.ones(2))]
""",
    "a data set of one's own": """
from torch.utils.data import DataLoader, Dataset, Subset

class Squares(Dataset):
    def __init__(self, n, transform=None):
        self.n, self.transform = n, transform

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        sample = {"x": torch.tensor([float(i)]), "y": i * i, "name": f"s{i}"}
        return self.transform(sample) if self.transform else sample

for batch in DataLoader(Squares(5), batch_size=2):
    results += [batch["x"], batch["y"], *batch["name"]]
loader = DataLoader(Subset(Squares(9, lambda s: (s["x"], s["y"])), [1, 3, 8]), batch_size=2,
                    drop_last=True, collate_fn=lambda items: sum(y for _, y in items))
results += [*loader, len(loader), len(loader.dataset)]
""",
    "a layer and a loss of one's own": """
import math

class Dense(nn.Module):
    def __init__(self, n, m):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n, m))
        self.bias = nn.Parameter(torch.zeros(m))
        nn.init.constant_(self.weight, 1 / math.sqrt(n))

    def forward(self, x):
        return x.matmul(self.weight) + self.bias

    def extra_repr(self):
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"

class Focal(nn.Module):
    def __init__(self, gamma=2.0):
        super().__init__()
        self.gamma = gamma

    def forward(self, logits, target):
        log_p = F.log_softmax(logits, dim=-1)
        log_pt = log_p.gather(1, target.unsqueeze(1)).squeeze(1)
        return -((1 - log_pt.exp()) ** self.gamma * log_pt).mean()

layer, loss_fn = Dense(4, 3), Focal()
x, y = torch.randn(6, 4), torch.randint(0, 3, (6,))
loss = loss_fn(layer(x), y)
loss.backward()
results += [loss, layer.weight.grad, layer.bias.grad, str(layer), *dict(layer.named_parameters())]
""",
    "early stopping": MODEL
    + """
import copy
best, best_state, patience = float("inf"), None, 0
optimizer = optim.Adam(model.parameters(), lr=0.05, weight_decay=1e-4)
scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)
for epoch in range(30):
    model.train()
    optimizer.zero_grad()
    loss = loss_fn(model(x[:10]), y[:10])
    loss.backward()
    optimizer.step()
    scheduler.step()
    model.eval()
    with torch.no_grad():
        valid = loss_fn(model(x[10:]), y[10:]).item()
    if valid < best:
        best, best_state, patience = valid, copy.deepcopy(model.state_dict()), 0
    else:
        patience += 1
    if patience >= 3:
        break
    results.append(valid)
model.load_state_dict(best_state)
results += [epoch, best, model(x), scheduler.get_last_lr()[0]]
""",
    "second derivatives": """
x = torch.linspace(-1, 1, 5, requires_grad=True)
y = torch.sin(x) * x.exp() + x ** 3
(dy,) = torch.autograd.grad(y.sum(), x, create_graph=True)
(ddy,) = torch.autograd.grad(dy.sum(), x, create_graph=True)
ddy.pow(2).sum().backward()
results += [dy, ddy, x.grad]
w = torch.randn(3, requires_grad=True)
f = (w.outer(w).tril() ** 2).sum()
g = torch.autograd.grad(f, w, create_graph=True)[0]
hessian = torch.stack([torch.autograd.grad(v, w, retain_graph=True)[0] for v in g])
results += [hessian, torch.autograd.gradcheck(torch.tanh, (x.detach().double().requires_grad_(),))]
""",
    "masks and attention by hand": """
q, k, v = torch.randn(2, 5, 4), torch.randn(2, 5, 4), torch.randn(2, 5, 4)
q.requires_grad_()
mask = torch.tril(torch.ones(5, 5)).bool()
scores = q @ k.transpose(-2, -1) / 4 ** 0.5
scores = scores.masked_fill(~mask, float("-inf"))
weights = scores.softmax(dim=-1)
out = torch.bmm(weights, v)
out.sum().backward()
results += [weights, out, q.grad, weights.sum(-1), mask.sum()]
""",
}
