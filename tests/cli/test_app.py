"""The command as a whole: one line for what went wrong, and its exit code."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import edge_claid
from edge_claid import __main__ as entry
from edge_claid.cli import app, regions
from edge_claid.cli.gallery import looking

COMMAND = [sys.executable, "-m", "edge_claid"]


def ended(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["edge-claid", *arguments])
    with pytest.raises(SystemExit) as stopped:
        app.main()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "No such command 'nonsense'; `edge-claid --help` "),
        (["search"], "; `edge-claid search --help` "),
        (["gallery", "info", "x.claid", "--nonsense"], "No such option: --nonsense"),
        (["search", "x.claid", "y.jpg", "--top-k", "-1"], "--top-k"),
        (["--runtime", "nonsense", "models", "list"], "choose one of auto, onnx"),
        (["gallery", "info", "gone.claid"], "no gallery at gone.claid"),
    ],
)
def test_wrong_use_is_one_line_that_names_the_fix(monkeypatch, capsys, arguments: list[str], said: str) -> None:
    assert ended(monkeypatch, *arguments) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("edge-claid: ")
    assert said in err
    assert err.count("\n") == 1


def test_a_name_does_not_steer_the_terminal(monkeypatch, capsys) -> None:
    assert ended(monkeypatch, "gallery", "info", "x\x1b[2J\ny.claid") == 2
    err = capsys.readouterr().err
    assert "x\\x1b[2J y.claid" in err
    assert err.count("\n") == 1
    record = logging.LogRecord("edge_claid", logging.WARNING, "", 0, "%s: truncated", ("x\x1b[2J\n.jpg",), None)
    assert app._Shown().format(record) == "x\\x1b[2J\\n.jpg: truncated"


def test_a_name_on_a_stick_does_not_steer_the_terminal_either(monkeypatch, capsys, tmp_path: Path) -> None:
    (tmp_path / "x\x1b[2J.jpg").write_bytes(b"no picture")
    (tmp_path / "y.jpg").write_bytes(b"nor this")
    monkeypatch.setattr(regions, "open_pipeline", contextlib.nullcontext)
    monkeypatch.setenv("EDGE_CLAID_CACHE_DIR", str(tmp_path))
    (tmp_path / "engines" / "k\x1b[2J").mkdir(parents=True)
    assert ended(monkeypatch, "regions", str(tmp_path)) == 2
    assert ended(monkeypatch, "engines", "list") == 0
    assert ended(monkeypatch, "models", "import", str(tmp_path / "x\x1b[2J.jpg"), str(tmp_path / "y.jpg")) == 2
    told = "".join(capsys.readouterr())
    assert "\x1b" not in told
    assert told.count("\\x1b[2J") >= 3


def test_help_and_version_go_to_stdout(monkeypatch, capsys) -> None:
    assert ended(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.startswith("edge-claid ")
    assert ended(monkeypatch, "gallery", "info", "--help") == 0
    assert "--json" in capsys.readouterr().out


def test_debug_may_stand_where_one_adds_it(monkeypatch, capsys) -> None:
    assert ended(monkeypatch, "gallery", "info", "gone.claid", "--debug") == 2
    assert "no gallery at gone.claid" in capsys.readouterr().err


def test_an_interrupt_says_so(monkeypatch, capsys) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(looking.Gallery, "open", interrupted)
    assert ended(monkeypatch, "gallery", "info", "x.claid") == 130
    assert capsys.readouterr().err == "edge-claid: interrupted; what was reported is stored\n"


@pytest.mark.usefixtures("bound_by_permissions")
@pytest.mark.parametrize("arguments", [["engines", "prune"], ["models", "import", "closed/engines/x.whl"]])
def test_a_folder_that_may_not_be_entered_is_exit_9(monkeypatch, capsys, tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "closed" / "engines").mkdir(parents=True)
    monkeypatch.setenv("EDGE_CLAID_CACHE_DIR", str(tmp_path / "closed"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "closed" / "engines").chmod(0)
    try:
        assert ended(monkeypatch, *arguments) == 9
    finally:
        (tmp_path / "closed" / "engines").chmod(0o700)
    error = capsys.readouterr().err
    assert "Permission denied; change its permissions or name another place" in error
    assert error.count("\n") == 1


def test_an_interrupt_while_the_command_is_loaded_is_one_line(monkeypatch, capsys) -> None:
    class Loading(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "edge_claid.cli.app", Loading("edge_claid.cli.app"))
    with pytest.raises(SystemExit) as stopped:
        entry.main()
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "edge-claid: interrupted\n"


@pytest.mark.parametrize(("error", "code"), [("RuntimeError", 1), ("app.UsageError", 2)])
def test_what_was_told_before_an_error_is_not_lost(error: str, code: int) -> None:
    program = (
        "from edge_claid.cli import app\n"
        f"def broken(arguments):\n    print('first hit')\n    raise {error}('what went wrong')\n"
        "app._run = broken\napp.main()"
    )
    told = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=told, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, "first hit\n")
    assert done.stderr.count("\n") == 1
    if Path("/dev/full").exists():
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, env=told, text=True
            )
        assert (done.returncode, done.stderr.count("\n")) == (code, 1)  # and not Python's own words at exit


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no pseudo-terminals")
def test_at_a_terminal_a_json_line_is_one_line() -> None:
    program = (
        "from edge_claid.cli.printing import print_json; from edge_claid.cli.progress import FileProgress\n"
        "with FileProgress('enrolling', lines=True): print_json({'file': 'long name/' * 30})"
    )
    terminal, end = os.openpty()
    subprocess.run([sys.executable, "-c", program], stdin=end, stdout=end, stderr=end, check=True)
    os.close(end)
    told = os.read(terminal, 10_000).decode()
    os.close(terminal)
    assert json.loads(told)["file"].count("/") == 30


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_place_for_the_output_is_exit_9() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, "models", "list", "--json"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 9, done.stderr
    assert done.stderr.count("\n") == 1
    assert "No space left" in done.stderr


def test_letters_that_the_terminal_lacks_end_nothing(tmp_path: Path) -> None:
    sheets = tmp_path / "sheets"
    edge_claid.Gallery.open(tmp_path / "shop.claid").close()
    command = [*COMMAND, "gallery", "export", str(tmp_path / "shop.claid"), "--jsonl", str(tmp_path / "ключ.jsonl")]
    told = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([*command, "--html", str(sheets)], capture_output=True, env=told, check=False)
    assert done.returncode == 0, done.stderr
    assert b"\\u043a\\u043b\\u044e\\u0447.jsonl: 0 images" in done.stdout
    assert sheets.is_dir()


def test_a_reader_that_left_is_no_matter_of_words() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*COMMAND, "models", "list", "--json"], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")
