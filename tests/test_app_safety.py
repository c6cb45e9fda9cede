"""Hostile model files end in one sentence, and the app's server is closed to all that it is not for. No browser."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from sightline.app.serve import command, free_port
from sightline.app.settings import VARIABLE, Settings
from sightline.app.trial import ModelFile, loaded_safely
from sightline.errors import ModelError, ParameterError, TrustError
from sightline.models.load import load

SMALL = Settings(model_seconds=10, model_gb=1.5)


def refused(given: ModelFile, said: str, kind: type[ModelError] = ModelError, limits: Settings = SMALL) -> None:
    with pytest.raises(kind, match=said) as error:
        loaded_safely(given, limits, lambda seconds: None)
    assert type(error.value) is kind
    assert "\n" not in str(error.value)
    assert tempfile.gettempdir() not in str(error.value)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let temporary files lie where it can be seen that none is left."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield place
    assert list(place.iterdir()) == []


def weights() -> bytes:
    net = load("small-cnn", weights=None, device="cpu").module
    return save({name: v.contiguous().clone() for name, v in net.state_dict().items()})


def declared(shape: list[int]) -> bytes:
    """Return a safetensors file whose header promises a tensor that is not there."""
    header = json.dumps({"head.weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    return struct.pack("<Q", len(header)) + header


def archive(parts: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as written:
        for name, data in parts.items():
            written.writestr(name, data)
    return stream.getvalue()


def pickled() -> bytes:
    stream = io.BytesIO()
    torch.save({"a": torch.zeros(1)}, stream)
    return stream.getvalue()


BY_THEIR_LOOK: list[tuple[str, Callable[[], bytes], str]] = [
    ("net.pt", pickled, "is a pickle"),
    ("net.safetensors", pickled, "net.safetensors is a pickle, which can run any code"),
    ("net.keras", pickled, "is a pickle"),
    ("net.h5", lambda: b"\x80\x04K\x01.", "is a pickle"),
    ("net.joblib", lambda: b"", "is a pickle"),
    ("net.py", lambda: b"import os", "net.py is no model file that the app takes; wanted .safetensors"),
    ("net", lambda: b"x", "no model file"),
    ("net.onnx", lambda: b"", r"net.onnx is empty \(0 bytes\)"),
    ("../../net.safetensors", weights, "^net.safetensors holds weights without an architecture; choose"),
]


@pytest.mark.parametrize(("name", "data", "said"), BY_THEIR_LOOK, ids=[n for n, _, _ in BY_THEIR_LOOK])
def test_what_cannot_be_a_model_is_not_even_read(
    name: str, data: Callable[[], bytes], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    monkeypatch.setattr("sightline.app.trial.subprocess.Popen", lambda *given, **_: started.append(given))
    refused(ModelFile(data(), name), said, TrustError if "pickle" in said else ModelError)
    assert not started


def test_weights_load_under_a_hostile_name(folder: Path) -> None:
    names = b"a\nb\nc\nd\ne\nf"
    seen: list[float] = []
    given = ModelFile(weights(), "../../<b>\n.safetensors", "small-cnn", names, "names.txt")
    model = loaded_safely(given, SMALL, seen.append)
    assert (model.name, model.weights, model.labels.names) == ("small-cnn", "<b>?.safetensors", tuple("abcdef"))
    assert len(seen) > 1


def test_names_of_classes_are_checked() -> None:
    def with_labels(data: bytes, name: str) -> ModelFile:
        return ModelFile(weights(), "net.safetensors", "small-cnn", data, name)

    refused(with_labels(b"a\nb", "names.txt"), "2 class names came for small-cnn, which has 6 outputs")
    refused(with_labels(b"[" * 100_000, "names.json"), "labels file names.json")
    refused(with_labels(b"a", "names.pkl"), "names.pkl is no file of class names; wanted .txt")
    refused(with_labels(b"a" * (5 << 20), "names.txt"), "has 5,242,880 bytes")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (declared([1 << 40, 0]), "needs more memory than the 1.5 GB that an uploaded model may take"),
        (b"hello, I am a text", "not a whole safetensors file"),
    ],
    ids=["memory", "text"],
)
def test_safetensors_that_promise_too_much(data: bytes, said: str) -> None:
    refused(ModelFile(data, "net.safetensors", "small-cnn"), f"net.safetensors .*{said}")


@pytest.mark.slow
def test_keras_files_that_run_code_or_fill_the_memory() -> None:
    if find_spec("keras") is None:
        pytest.skip("Keras is not installed")
    layer = {"module": "keras.layers", "class_name": "Lambda", "config": {"name": "evil"}, "registered_name": None}
    config = {"module": "keras", "class_name": "Sequential", "config": {"layers": [layer]}, "registered_name": None}
    code = archive({"config.json": json.dumps(config), "metadata.json": "{}"})
    refused(ModelFile(code, "net.keras"), "Lambda layer 'evil' holds Python code.*never runs code", TrustError)
    bomb = archive({"config.json": json.dumps(config), "model.weights.h5": bytes(60 << 20)})
    refused(ModelFile(bomb, "net.keras"), "unpacks to 0.1 GB, over the limit", limits=Settings(model_gb=0.05))


def onnx_file(nodes: list[Any], weights: list[Any]) -> bytes:
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 3, 8, 8]), ("y", [1, 3])))
    graph = helper.make_graph(nodes, "graph", [x], [y], weights)
    opset = [helper.make_opsetid("", 17)]
    data: bytes = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    return data


@pytest.mark.slow
def test_onnx_files_read_no_other_file() -> None:
    onnx = pytest.importorskip("onnx")
    elsewhere = onnx.TensorProto(name="w", data_type=1, dims=[3, 3, 1, 1], data_location=onnx.TensorProto.EXTERNAL)
    elsewhere.external_data.append(onnx.StringStringEntryProto(key="location", value="../../../etc/passwd"))
    nodes = [onnx.helper.make_node("Conv", ["x", "w"], ["c"]), onnx.helper.make_node("Flatten", ["c"], ["y"])]
    refused(
        ModelFile(onnx_file(nodes, [elsewhere]), "net.onnx"), "net.onnx keeps weights in another file .'../../../etc/"
    )


@pytest.mark.slow
def test_a_model_that_never_ends_is_ended() -> None:
    onnx = pytest.importorskip("onnx")
    make, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    inside = [make("Identity", ["go"], ["on"]), make("Add", ["v", "v"], ["w"])]
    body = onnx.helper.make_graph(
        inside,
        "body",
        [info("i", 7, []), info("go", 9, []), info("v", 1, [1, 3])],
        [info("on", 9, []), info("w", 1, [1, 3])],
    )
    nodes = [make("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0), make("Loop", ["n", "t", "m"], ["y"], body=body)]
    values = {"t": np.array(True), "n": np.array(1 << 62, np.int64)}
    endless = onnx_file(nodes, [onnx.numpy_helper.from_array(v, name) for name, v in values.items()])
    refused(ModelFile(endless, "net.onnx"), "net.onnx took longer than 2 s", limits=Settings(model_seconds=2))


def test_a_visitor_who_leaves_ends_the_trial() -> None:
    class Left(BaseException):
        pass

    def leave(seconds: float) -> None:
        raise Left

    with pytest.raises(Left):
        loaded_safely(ModelFile(weights(), "net.safetensors", "small-cnn"), SMALL, leave)
    workers = subprocess.run(
        ["ps", "-o", "args", "--ppid", str(os.getpid())], capture_output=True, text=True, check=True
    )
    assert "sightline.app.worker" not in workers.stdout


# --- the server ---------------------------------------------------------------------------------------------

# What Python does is written down by the server itself: files opened to be written, addresses bound and asked.
WATCH = """
import os, sys
_log = os.open(os.environ["WATCHED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def _see(event, args):
    if event == "open" and isinstance(args[0], str) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        os.write(_log, f"write {args[0]}\\n".encode())
    elif event in ("socket.bind", "socket.connect") and args[0].type == 1:  # of a datagram's socket they send nothing
        if event == "socket.connect" or args[1][1]:
            os.write(_log, f"{event} {args[1]}\\n".encode())
    elif event in ("socket.sendto", "socket.sendmsg"):
        os.write(_log, f"{event} {args[1]}\\n".encode())
    elif event in ("os.mkdir", "socket.getaddrinfo"):
        os.write(_log, f"{event} {args[0]}\\n".encode())
sys.addaudithook(_see)
"""


@pytest.fixture
def server(tmp_path: Path) -> Any:
    """Start the server where all that it does is written down: its port, the process, what was seen of it."""
    for name in ("home", "here", "watch"):
        (tmp_path / name).mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH)
    port = free_port("127.0.0.1", None)
    paths = [str(tmp_path / "watch"), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {"HOME": str(tmp_path / "home"), "WATCHED": str(tmp_path / "seen"), "PYTHONPATH": os.pathsep.join(paths)}
    more = {VARIABLE: Settings().to_json(), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    started = subprocess.Popen(
        command(Settings(), "127.0.0.1", port),
        cwd=tmp_path / "here",
        env={**os.environ, **own, **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    until = time.monotonic() + 60
    while not answer(port, "GET /_stcore/health HTTP/1.0").endswith("ok"):
        assert started.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)
    yield port, started, tmp_path
    if started.poll() is None:
        started.kill()
    started.communicate()


def answer(port: int, *lines: str) -> str:
    """Send a request as it stands and return what comes first."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as asked:
            asked.sendall("\r\n".join((*lines, "", "")).encode())
            return asked.recv(4096).decode(errors="replace")
    except ConnectionRefusedError:
        return ""


def shake_hands(port: int, host: str, origin: str) -> str:
    lines = ["GET /_stcore/stream HTTP/1.1", f"Host: {host}", f"Origin: {origin}", "Connection: Upgrade"]
    lines += ["Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    return answer(port, *lines, "Sec-WebSocket-Protocol: streamlit").partition("\r\n")[0]


@pytest.mark.slow
def test_the_server_is_closed(server: Any) -> None:
    port, started, place = server
    own = f"http://127.0.0.1:{port}"
    assert " 101 " in shake_hands(port, f"127.0.0.1:{port}", own)
    assert " 101 " in shake_hands(port, f"localhost:{port}", f"http://localhost:{port}")
    assert " 403 " in shake_hands(port, f"127.0.0.1:{port}", "http://evil.example")
    assert " 403 " in shake_hands(port, f"evil.example:{port}", f"http://evil.example:{port}")  # a name led here
    put = answer(port, "PUT /_stcore/upload_file/a/b HTTP/1.0", f"Host: 127.0.0.1:{port}", "Content-Length: 0")
    assert " 403 " in put.partition("\r\n")[0]
    time.sleep(3)  # the sessions above have drawn their page

    os.killpg(started.pid, signal.SIGINT)
    said = started.communicate(timeout=60)[0].decode()
    assert "Traceback" not in said
    assert not processes_in(started.pid)
    assert list((place / "home").rglob("*")) == list((place / "here").rglob("*")) == []

    seen = (place / "seen").read_text().splitlines()
    addresses = [line for line in seen if line.startswith(("socket.bind", "socket.connect", "socket.send"))]
    assert [a for a in addresses if "('127.0.0.1'," not in a] == []
    assert any(f"socket.bind ('127.0.0.1', {port})" in a for a in addresses)
    assert {line for line in seen if line.startswith("socket.getaddrinfo")} <= {"socket.getaddrinfo 127.0.0.1"}
    assert [line for line in seen if line.startswith(("write", "os.mkdir")) and "/dev/null" not in line] == []


def processes_in(group: int) -> list[str]:
    found = subprocess.run(["ps", "-o", "pid=", "-g", str(group)], capture_output=True, text=True, check=False)
    return found.stdout.split()


def test_addresses_that_cannot_be_had() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ParameterError, match=rf"--port {port}: address already in use; give another --port"):
            free_port("127.0.0.1", port)
    with pytest.raises(ParameterError, match=r"8\.8\.8\.8: no address of this machine"):
        free_port("8.8.8.8", None)
    for name in ("", "a" * 300 + ".b"):
        with pytest.raises(ParameterError, match="no such address"):
            free_port(name, None)


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("127.0.0.1", ["127.0.0.1", "localhost"]),
        ("localhost", ["127.0.0.1", "localhost"]),
        ("192.168.1.5", ["192.168.1.5"]),
        ("0.0.0.0", []),
    ],
)
def test_the_names_it_answers_to(host: str, names: list[str]) -> None:
    line = command(Settings(), host, 8501)
    assert [part.partition("=")[2] for part in line if part.startswith("--server.allowedHosts")] == names
    assert {"--browser.gatherUsageStats=false", "--server.enableXsrfProtection=true"} <= set(line)


def test_a_missing_file_and_a_taken_port_end_with_one_line() -> None:
    start = [sys.executable, "-c", "from sightline.cli.main import main; main()", "app", "--model", "gone.keras"]
    ended = subprocess.run(start, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 2
    assert re.fullmatch(r"error: --model gone\.keras: .*gone\.keras does not exist.*\n", ended.stderr)
