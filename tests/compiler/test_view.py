import re
from html.parser import HTMLParser

import pytest

from ganglion.compiler.explain import Explanation
from ganglion.compiler.profile import Profile, Row, Span
from ganglion.compiler.roofline import Peaks
from ganglion.compiler.view import page
from tests.compiler.steps import mlp, scheduled

PEAKS = Peaks(1e11, ((float("inf"), 1e11),), 2)


class Reader(HTMLParser):
    """Checks that elements are closed in order, and keeps what they have."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.count, self.words = [], [], [], {}, []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        assert not {"src", "href"} & set(given) or given["href"].startswith("#")
        self.count[tag] = self.count.get(tag, 0) + 1
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given["href"][1:]] if "href" in given else []
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def schedule():
    return scheduled(mlp()[0])


def profile(schedule):
    """As if the step had been measured."""
    rows = [
        Row(k, x.phase, x.name, x.tasks, (1e-6, 2e-6), 100, 10, 1e-6, 0.5, 0.1)
        for k, x in enumerate(schedule.launches)
    ]
    spans = [Span(k, k % 2, k * 1e-6, (k + 1) * 1e-6) for k in range(len(rows))]
    return Profile(tuple(rows), (), tuple(spans), 2e-5, 3e-5, 2, PEAKS)


def test_a_page_is_well_formed_and_needs_nothing_else(schedule):
    text = page(schedule, profile(schedule), PEAKS)
    reader = Reader(text)
    assert not reader.open
    assert not re.search(r"https?:|@import|url\(|<link|<img", text)


def test_every_kernel_has_a_row(schedule):
    reader = Reader(page(schedule, peaks=PEAKS))
    assert [i for i in reader.ids if i.startswith("k")] == [
        f"k{k}" for k in range(len(schedule.launches))
    ]
    assert "matmul, then add, relu" in reader.words


def test_every_node_stands_once_and_links_lead_to_nodes(schedule):
    reader = Reader(page(schedule, peaks=PEAKS))
    nodes = [i for i in reader.ids if i.startswith("n")]
    assert sorted(nodes) == sorted(f"n{k}" for k in range(len(schedule.graph.topological())))
    assert reader.links
    assert set(reader.links) <= set(nodes)


def test_the_memory_map_has_a_box_for_every_buffer(schedule):
    text = page(schedule, peaks=PEAKS)
    arena = Explanation(schedule, PEAKS).arena
    assert text.count("<rect") == len(arena)
    for b in arena:
        assert f"<title>{b.name}: " in text


def test_a_profile_adds_times_and_a_timeline(schedule):
    plain, timed = (page(schedule, p, PEAKS) for p in (None, profile(schedule)))
    assert "Timeline" not in plain
    assert "measured" not in plain.replace("not measured", "")
    assert "Timeline" in timed
    assert timed.count("<rect") == plain.count("<rect") + len(schedule.launches)
