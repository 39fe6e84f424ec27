"""What can be wrong with a file before anybody asks what it means."""

import pytest

from truecl.config.tree import MAX_BYTES, MAX_DEPTH, Mapping, Scalar, Sequence, parse


def only_problem(content: str | bytes) -> str:
    tree, problems = parse("f.yaml", content)
    assert tree is None
    (problem,) = problems
    return str(problem)


def test_lines_and_texts_are_as_written() -> None:
    tree, problems = parse("f.yaml", "a: 0623\n\nb:\n  - yes\n  - '5'\n")
    assert problems == []
    assert tree == Mapping(
        1,
        (
            (Scalar(1, "a"), Scalar(1, "0623")),
            (Scalar(3, "b"), Sequence(4, (Scalar(4, "yes"), Scalar(5, "5", plain=False)))),
        ),
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "f.yaml: the file is empty; expected a mapping of keys to values"),
        ("# nothing\n", "f.yaml: the file is empty; expected a mapping of keys to values"),
        ("- a\n", "f.yaml:1: this is a list; expected a mapping of keys to values"),
        ("\nword\n", "f.yaml:2: this is the text 'word'; expected a mapping of keys to values"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2: a second document begins here; expected one document in a file"),
        ("a:\n\tb: 1\n", "f.yaml:2: a tab in the indentation; expected spaces"),
        (
            "a: 1\nb: &x 2\n",
            "f.yaml:2: anchors (&) and aliases (*) are not used here; expected the value, or quotes around it",
        ),
        ("a: *x\n", "f.yaml:1: anchors (&) and aliases (*) are not used here; expected the value, or quotes around it"),
        (
            "a: !!python/object:os.system x\n",
            "f.yaml:1: the tag 'tag:yaml.org,2002:python/object:os.system' is not used here;"
            " expected the value, or quotes around it",
        ),
        (b"a: 1\nb: \xff\n", "f.yaml:2: byte 0xff is not UTF-8; expected UTF-8 text"),
        ("a: \ud800\n", "f.yaml:1: a lone surrogate is no character; expected UTF-8 text"),
        ("a: 1\nb: \x00\n", "f.yaml:2: the character U+0000 is not printable; expected plain text"),
    ],
)
def test_refused(content: str | bytes, expected: str) -> None:
    assert only_problem(content) == expected


def test_broken_syntax_names_its_line() -> None:
    assert only_problem("a: 1\nb: [1, 2\nc: 3\n").startswith("f.yaml:3: this is not YAML: ")


def test_size_is_bounded() -> None:
    assert (
        only_problem(b"a: " + b"x" * MAX_BYTES)
        == f"f.yaml: the file has {MAX_BYTES + 3} bytes; expected at most {MAX_BYTES}"
    )


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_depth_is_bounded_before_anything_is_built(opening: str) -> None:
    assert "nested too deeply" in only_problem("a:\n  " + opening * 100_000)


def test_depth_up_to_the_bound_is_read() -> None:
    inner = MAX_DEPTH - 2
    tree, problems = parse("f.yaml", "a: " + "[" * inner + "x" + "]" * inner)
    assert tree is not None
    assert problems == []


def test_repeated_and_odd_keys_are_all_named_and_the_rest_is_read() -> None:
    tree, problems = parse("f.yaml", "a: 1\nb: 2\na: 3\n? [x]\n: 4\nb: 5\n")
    assert [str(each) for each in problems] == [
        "f.yaml:3: 'a' was already given in line 1; expected each key once",
        "f.yaml:4: a list stands as a key; expected a word",
        "f.yaml:6: 'b' was already given in line 2; expected each key once",
    ]
    assert tree is not None
    assert [key.text for key, _ in tree.entries] == ["a", "b"]


def test_byte_order_mark_and_windows_line_ends_are_harmless() -> None:
    tree, problems = parse("f.yaml", "\ufeffa: 1\r\nb: 2\r\n".encode())
    assert problems == []
    assert tree is not None
    assert [(key.line, key.text) for key, _ in tree.entries] == [(1, "a"), (2, "b")]
