"""python -m truecl.sim: what would be passed over is refused."""

import pytest

from truecl.sim.__main__ import main


@pytest.mark.parametrize(
    "arguments",
    [
        "--replay", "--trace", "--seeds 1..2 --trace", "--seed 1 --seeds 1..2", "--mutants --seed 3",
        "--mutants --nodes 3",
        "--seed 1 --replay --mutant skip\nfsync", "--seed 1 --jobs 0", "--seeds 5..1", "--seeds a..b", "--nodes 9",
        "--mutant nonsense",
    ],
)  # fmt: skip
def test_options_that_contradict_each_other_are_refused(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([each.replace("\n", " ") for each in arguments.split(" ")])
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert "error: " in shown and len(shown.splitlines()[0]) <= 80
