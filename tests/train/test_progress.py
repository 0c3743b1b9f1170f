"""What people read: a line an epoch, a bar on a terminal, and how it ended."""

import io
import re

import pytest

from ganglion.data import IterableDataset
from ganglion.train.progress import clock
from tests.train.program import data, trainer


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(stream, train=None, valid=None, **options):
    work = trainer(progress=stream, **options)
    work.fit(data() if train is None else train, valid, epochs=3, batch_size=8)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())


def test_a_line_an_epoch():
    lines = shown(io.StringIO(), valid=data(20, 1)).splitlines()
    assert len(lines) == 4
    assert re.fullmatch(
        r"epoch 1/3  loss \d\.\d+  accuracy 0\.\d+  valid_loss \d\.\d+  valid_accuracy 0\.\d+  "
        r"[\d,]+ samples/s  \d:\d\d left",
        lines[0],
    )
    assert lines[2].startswith("epoch 3/3")
    assert "left" not in lines[2]
    assert re.match(r"Finished 3 epochs in 0:0\d\. Best valid_loss: \d\.\d+ in epoch \d", lines[3])


def test_a_terminal_also_gets_a_bar():
    text = shown(Terminal())
    assert re.search(r"epoch 1/3 .*/6 +loss \d\.\d+  accuracy \d", text)
    assert text.count("Finished 3 epochs") == 1
    assert len(re.findall(r"epoch \d/3  loss", text)) == 3


def test_a_stream_has_no_known_length():
    class Stream(IterableDataset):
        def __iter__(self):
            x, y = data()
            return iter(zip(x, y, strict=True))

    assert "left" not in shown(io.StringIO(), Stream())
    assert "epoch 3/3" in shown(Terminal(), Stream())


def test_the_bar_is_taken_down_when_training_fails():
    class Wrong(Exception):
        pass

    stream = Terminal()
    work = trainer(progress=stream)

    def fail(outputs, target):
        raise Wrong

    work.loss = fail
    with pytest.raises(Wrong):
        work.fit(data(), epochs=1)
    assert work._watch.bar is None


def test_silence(capfd):
    trainer(progress=False).fit(data(), epochs=1, batch_size=8)
    assert capfd.readouterr() == ("", "")


def test_the_default_is_standard_output(capsys):
    trainer(progress=True).fit(data(), epochs=1, batch_size=8)
    assert capsys.readouterr().out.startswith("epoch 1/1")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3661, "1:01:01")]
)
def test_clock(seconds, text):
    assert clock(seconds) == text
