"""The Lua scripts as the server gets them: names and settings, then what they share, then the script."""

from __future__ import annotations

from pathlib import Path

from app.queue.keys import prelude

SCRIPTS = ("enqueue", "claim", "beat", "finish", "fail", "stop", "release",
           "cancel", "retry", "delete", "sweep", "position", "due", "told", "replay")  # fmt: skip


def script_texts(**numbers: int) -> dict[str, str]:
    """Each script's text by name, with `numbers` as Lua locals."""
    head = prelude() + "".join(f"local {name} = {number}\n" for name, number in numbers.items())
    return {name: source(name, head) for name in SCRIPTS}


def source(name: str, head: str) -> str:
    """A script's text. All but `enqueue` run when the server's memory is full, so that the queue drains."""
    here = Path(__file__).parent
    shebang = "#!lua\n" if name == "enqueue" else "#!lua flags=allow-oom\n"
    return shebang + head + (here / "library.lua").read_text() + (here / f"{name}.lua").read_text()
