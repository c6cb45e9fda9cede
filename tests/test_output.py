"""Files are written whole or not at all, and take nothing's place but a file's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sightline.errors import InputError
from sightline.output import written


def test_a_device_or_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="is no regular file"), written(pipe):
        pytest.fail("there is nothing to write to")
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_an_error_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("before")

    def breaks() -> None:
        with written(file) as aside:
            aside.write_text("half")
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        breaks()
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]
