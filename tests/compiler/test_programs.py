"""Training programs of several kinds, compiled: bit-equal to eager, with one trace."""

import copy

import pytest

import ganglion as gg
from ganglion import nn
from tests.compiler.twins import batches, compare, network

pytestmark = pytest.mark.usefixtures("interpreted")


class Images(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.norm(self.conv(x)).relu(), 2)
        return self.head(x.flatten(1))


class Sequences(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 6, num_layers=2, dropout=0.2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(12, 5)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.norm = nn.Embedding(9, 8), nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.embed(x)
        h = self.norm(x)
        return self.head(x + self.attention(h, h, h, need_weights=False)[0]).mean(1)


INPUTS = {
    Images: lambda: gg.randn(6, 1, 4, 4),
    Sequences: lambda: gg.randn(6, 5, 4),
    Attention: lambda: gg.randint(0, 9, (6, 5)),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_layers_of_every_kind(kind):
    def make():
        model = kind()
        opt = gg.optim.AdamW(model.parameters())

        def step(x, y):
            opt.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            opt.step()
            return loss

        return step, model.state_dict, None

    gg.manual_seed(4)
    data = [(INPUTS[kind](), gg.randint(0, 5, (6,))) for _ in range(3)]
    step = compare(make, data)
    assert [s.calls for s in step.specialisations] == [3]


@pytest.mark.parametrize("kind", INPUTS)
def test_layers_in_evaluation(kind):
    model = kind()
    model.eval()
    f = gg.compile(model)
    x = INPUTS[kind]()
    with gg.no_grad():
        for _ in range(2):
            assert f(x).tolist() == model(x).tolist()


def test_two_networks_against_each_other():
    """The gradients of one are switched off while the other learns."""

    def make():
        maker, judge = nn.Linear(3, 12), network(0.1)
        opts = [gg.optim.Adam(m.parameters(), lr=0.01) for m in (maker, judge)]

        def score(x):
            return judge(x).mean()

        def step(real, noise):
            judge.requires_grad_(True)
            opts[1].zero_grad()
            loss = score(maker(noise).detach()) - score(real)
            loss.backward()
            opts[1].step()
            judge.requires_grad_(False)
            opts[0].zero_grad()
            fooled = -score(maker(noise))
            fooled.backward()
            opts[0].step()
            return loss, fooled

        return step, lambda: [maker.state_dict(), judge.state_dict()], None

    gg.manual_seed(5)
    step = compare(make, [(gg.randn(4, 12), gg.randn(4, 3)) for _ in range(5)])
    assert len(step.specialisations) <= 2  # before and after the first switch


def test_a_running_average_of_the_weights():
    def make():
        model = network(0.0)
        average = copy.deepcopy(model)
        opt = gg.optim.SGD(model.parameters(), lr=0.1)

        def step(x, y):
            opt.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            opt.step()
            with gg.no_grad():
                for a, p in zip(average.parameters(), model.parameters(), strict=True):
                    a.lerp_(p, 0.1)
                for a, p in zip(average.parameters(), model.parameters(), strict=True):
                    a.data = a.data + 0.01 * p.data

        return step, lambda: [model.state_dict(), average.state_dict()], None

    compare(make, batches((8,) * 4))


def test_updates_by_hand():
    def make():
        w = gg.randn(12, 5, requires_grad=True)

        def step(x, y):
            loss = nn.functional.cross_entropy(x @ w, y)
            (g,) = gg.autograd.grad(loss, w)
            with gg.no_grad():
                w.sub_(g, alpha=0.1)
            return loss

        return step, lambda: w, None

    compare(make, batches((8,) * 4))


def test_a_closure_that_the_optimizer_calls():
    def make():
        model = network(0.0)
        opt = gg.optim.Adam(model.parameters())

        def step(x, y):
            def closure():
                opt.zero_grad()
                loss = nn.functional.cross_entropy(model(x), y)
                loss.backward()
                return loss

            return opt.step(closure)

        return step, model.state_dict, None

    step = compare(make, batches((8,) * 4))
    assert len(step.specialisations) == 1


def test_a_model_and_an_optimizer_as_arguments():
    def make():
        model = network()
        opt = gg.optim.RMSprop(model.parameters())

        def step(model, opt, x, y):
            opt.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
            return loss

        make.things = model, opt
        return (lambda x, y: step(model, opt, x, y)), model.state_dict, None

    compare(make, batches((8,) * 3))
    model = network()
    f = gg.compile(lambda m, x: m(x))
    x, _ = batches()[0]
    model.eval()
    assert f(model, x).tolist() == model(x).tolist()
    model.train()
    f(model, x)
    other = network().eval()
    assert f(other, x).tolist() == other(x).tolist()
    assert len(f.specialisations) == 3


def test_groups_with_rates_of_their_own():
    def make():
        model = network(0.0)
        opt = gg.optim.SGD(
            [
                {"params": [model[0].weight], "lr": 0.1, "weight_decay": 0.1},
                {"params": [model[0].bias, *model[3].parameters()], "momentum": 0.9},
            ],
            lr=0.01,
        )

        def step(x, y):
            opt.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            opt.step()

        def between(i):
            opt.param_groups[i % 2]["lr"] *= 0.5

        return step, lambda: [model.state_dict(), opt.state_dict()["state"]], between

    step = compare(make, batches((8,) * 5))
    assert len(step.specialisations) == 1


def test_a_rate_that_is_a_tensor():
    def make():
        model = network(0.0)
        rate = gg.tensor(0.1)
        opt = gg.optim.SGD(model.parameters(), lr=rate)

        def step(x, y):
            opt.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            opt.step()

        return step, model.state_dict, lambda i: rate.mul_(0.5)

    step = compare(make, batches((8,) * 4))
    assert len(step.specialisations) == 1
