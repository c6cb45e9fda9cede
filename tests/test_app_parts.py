"""What the app is made of, without a browser: the store, what is asked, the settings, the server's command line."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("streamlit", reason="the app needs sightline[app]")

import sightline
from sightline.app.examples import EXAMPLES
from sightline.app.parts.maps import file_bytes, hottest_in_words
from sightline.app.parts.viewer import data_url, legend_of
from sightline.app.serve import command, free_port
from sightline.app.settings import Settings
from sightline.app.store import Store
from sightline.app.subject import Asked, as_target
from sightline.app.turns import Turns
from sightline.demo.scenes import CLASSES
from sightline.errors import ParameterError
from sightline.methods import METHODS
from sightline.render.palette import colour_table


def test_the_store_makes_a_thing_once_and_never_holds_more_than_its_size() -> None:
    store, made = Store(10), []

    def make(name: str) -> Any:
        return lambda: made.append(name) or name

    for name in ("aaa", "bbb", "aaa", "ccccc", "aaa"):
        assert store.get(name, make(name), len) == name
    assert made == ["aaa", "bbb", "ccccc"]
    assert "bbb" not in store, "the least recently used goes first"
    assert "aaa" in store
    store.get("much", lambda: "x" * 11, len)
    assert "much" not in store


def test_the_store_is_safe_in_threads() -> None:
    store, failed = Store(50), []

    def use(seed: int) -> None:
        for i in range(300):
            key = (seed * 7 + i) % 30
            if store.get(key, lambda key=key: [key], lambda _: 5) != [key]:
                failed.append(key)

    threads = [threading.Thread(target=use, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(store) == 10


def test_turns_are_taken_in_order_and_long_work_gives_way() -> None:
    turns, order = Turns(1), []
    begun, asked = threading.Event(), threading.Event()

    def long() -> None:
        with turns.taken():
            begun.set()
            asked.wait(5)
            for step in range(3):
                order.append(f"long {step}")
                turns.give_way()

    def short() -> None:
        with turns.taken(), turns.taken():
            order.append("short")

    first = threading.Thread(target=long)
    first.start()
    begun.wait(5)
    second = threading.Thread(target=short)
    second.start()
    while not turns._waiting:
        pass
    asked.set()
    first.join(5)
    second.join(5)
    assert order == ["long 0", "short", "long 1", "long 2"]


def test_what_two_ask_at_once_is_made_once() -> None:
    store, made = Store(100), []
    turn = threading.Barrier(4)

    def ask() -> None:
        turn.wait(5)
        store.get("same", lambda: made.append(1) or time.sleep(0.05) or "made", len)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(made) == 1


def test_what_is_asked_is_equal_where_the_answer_is() -> None:
    assert Asked("rise", "3", (("samples", 20),)) == Asked("rise", "3", (("samples", 20),))
    assert Asked("rise", "3") != Asked("rise", "4")
    assert Asked("rise", "3").options()["target"] == 3
    assert as_target("top1") == "top1"


def test_examples_show_what_their_names_say() -> None:
    for name, example in EXAMPLES.items():
        drawn = example.draw()
        assert name.startswith(CLASSES[drawn.label])
        assert bool(drawn.watermark_mask.any()) == ("mark" in name)


def test_the_legend_runs_from_low_to_high() -> None:
    found = legend_of("sequential", None)
    table = colour_table(None, "sequential")
    assert found.stops[0] == "#{:02x}{:02x}{:02x}".format(*table[0])
    assert found.stops[-1] == "#{:02x}{:02x}{:02x}".format(*table[256])
    assert (found.low, found.high) == ("less important", "more important")


def test_a_map_is_told_in_words() -> None:
    e = sightline.explain("demo/cheating", EXAMPLES["star with a mark"].draw().image)
    assert hottest_in_words(e) == "hottest at the bottom right"
    assert file_bytes(e, "png").startswith(b"\x89PNG")


def test_small_pictures_are_sent_without_loss() -> None:
    from PIL import Image

    values = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    assert data_url(Image.fromarray(values)).startswith("data:image/png;base64,")
    assert data_url(Image.new("RGB", (3000, 20))).startswith("data:image/webp;base64,")


def test_settings_go_through_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from sightline.app import settings as module

    given = Settings(upload_mb=7, models=("a", "b"))
    monkeypatch.setenv(module.VARIABLE, given.to_json())
    module.settings.cache_clear()
    assert module.settings() == given
    module.settings.cache_clear()


def test_the_server_listens_where_it_is_told_and_sends_nothing() -> None:
    line = command(Settings(upload_mb=7), "127.0.0.1", 9000)
    for option in ("server.address=127.0.0.1", "browser.gatherUsageStats=false", "server.maxUploadSize=7"):
        assert f"--{option}" in line


def test_a_taken_port_is_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ParameterError, match=f"--port {port}: .*give another --port"):
            free_port("127.0.0.1", port)


def test_every_family_of_methods_has_its_line() -> None:
    from sightline.app.parts.methods import by_family

    assert sorted(m.name for found in by_family().values() for m in found) == sorted(METHODS)


def test_a_fault_of_ours_is_a_sentence_on_the_page_and_a_traceback_in_the_terminal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from streamlit.testing.v1 import AppTest

    def script() -> None:
        from sightline.app.parts.work import told

        with told():
            raise ZeroDivisionError("nobody expected this")

    page = AppTest.from_function(script).run(timeout=60)
    assert page.error[0].value.startswith("This page failed, which it should not (ZeroDivisionError)")
    assert "nobody expected this" not in page.error[0].value
    assert "nobody expected this" in caplog.text


def test_models_are_shown_without_the_folders_of_their_files(tmp_path: Path) -> None:
    from sightline.app.catalogue import _short

    (tmp_path / "net.onnx").write_bytes(b"x")
    assert _short(f"resnet18@{tmp_path}/mine.safetensors") == "resnet18@mine.safetensors"
    assert _short(f"{tmp_path}/net.onnx") == "net.onnx"
    assert _short(f"{tmp_path}/code.py:build") == "code.py:build"
    assert _short("timm/vit_tiny") == "timm/vit_tiny"


def test_how_many_passes_are_to_come_is_known_where_a_parameter_says_it() -> None:
    from sightline.app.subject import expected_passes

    assert expected_passes(Asked("rise")) == METHODS["rise"].parameters["samples"].default
    assert expected_passes(Asked("rise", parameters=(("samples", 7),))) == 7
    assert expected_passes(Asked("grad_cam")) is None
