"""cluster.yaml edited: what it says changes by one node, and nothing else in it does."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from truecl.config import samples
from truecl.config.edit import Uneditable, with_node, without_node
from truecl.config.reader import read
from truecl.model.config import ClusterConfig
from truecl.model.ids import LinkName, NodeName

LINKS = (LinkName("lan"), LinkName("ring"))
N5 = NodeName("n5")
FIELDS = {"lan": "10.0.0.5", "ring": "10.1.0.5"}


def sample(nodes: int = 3) -> str:
    named = tuple((NodeName(f"n{each}"), (f"10.0.0.{each}", f"10.1.0.{each}")) for each in range(1, nodes + 1))
    return samples.cluster_yaml("demo", named, LINKS)


def cluster(text: str) -> ClusterConfig:
    configuration, problems = read({"cluster.yaml": text})
    assert configuration is not None, problems
    return configuration.cluster


def test_a_node_comes_behind_the_last_one() -> None:
    before, after = cluster(sample()), cluster(with_node(sample(), N5, {**FIELDS, "witness": "yes"}))
    assert after.nodes[:3] == before.nodes
    assert (after.nodes[3].name, after.nodes[3].addresses, after.nodes[3].witness) == (N5, FIELDS, True)


def test_what_came_and_goes_leaves_the_text_as_it_was() -> None:
    text = sample()
    assert without_node(with_node(text, N5, FIELDS), N5) == text


@pytest.mark.parametrize("gone", [1, 2, 3])
def test_a_node_goes_with_the_comments_that_are_indented_below_it(gone: int) -> None:
    text = without_node(sample(), NodeName(f"n{gone}"))
    assert [node.name for node in cluster(text).nodes] == [f"n{each}" for each in (1, 2, 3) if each != gone]
    assert text.startswith(sample().split("nodes:")[0]) and text.endswith(sample().split("on_quorum_loss")[1])


WRITTEN = """\
cluster: demo
links: [lan]
nodes:
    # the first
    n1:   # in the cellar
        lan: 10.0.0.1

        # fence: none yet
    n2:
        lan: 10.0.0.2
# behind all
timing: {lease: 1s}
"""


def test_comments_and_the_way_of_writing_stay() -> None:
    text = with_node(WRITTEN, N5, {"lan": "10.0.0.5"})
    assert text == WRITTEN.replace("# behind", "    n5:\n        lan: 10.0.0.5\n# behind")
    assert without_node(WRITTEN, NodeName("n1")) == WRITTEN.replace(
        "    n1:   # in the cellar\n        lan: 10.0.0.1\n\n        # fence: none yet\n", ""
    )


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (WRITTEN.replace("    n2:\n        lan: 10.0.0.2\n", "    n2: {lan: 10.0.0.2}\n"), "cluster.yaml:9: node 'n2'"),
        ("cluster: demo\nnodes: {n1: {lan: 10.0.0.1}}\n", "cluster.yaml:2: node 'n1'"),
        ("cluster: demo\n", "has no nodes"),
        ("a: [", "has problems"),
    ],
)
def test_what_is_not_dared(text: str, what: str) -> None:
    with pytest.raises(Uneditable, match="cluster.yaml"):
        with_node(text, N5, FIELDS)
    try:
        without_node(text, NodeName("n1"))
    except Uneditable as error:
        assert what in str(error)


@given(st.text(alphabet="n1: \n#{}[]ab-'", max_size=80), st.integers(0, 400))
@settings(max_examples=200)
def test_no_text_makes_it_raise_anything_else(noise: str, place: int) -> None:
    text = WRITTEN[: place % len(WRITTEN)] + noise + WRITTEN[place % len(WRITTEN) :]
    try:
        with_node(text, N5, FIELDS)
        without_node(text, NodeName("n1"))
    except (Uneditable, KeyError):
        pass
