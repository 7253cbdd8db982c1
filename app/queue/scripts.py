"""The Lua scripts as the server gets them: names and settings, what they share, the script, and `each`.

A script is one step; one call of it takes as many steps as there are, each atomic like all of them together.
A script carries only what it uses, for each call makes all of it anew.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from app.queue.keys import prelude

SCRIPTS = ("enqueue", "claim", "beat", "finish", "fail", "stop", "release",
           "cancel", "retry", "delete", "sweep", "position", "due", "told", "replay")  # fmt: skip


EACH = """
local out, at = {}, 1
while ARGV[at] do
  local last = at + ARGV[at]
  out[#out + 1] = step({ unpack(ARGV, at + 1, last) }) or false
  at, now_us = last + 1, now_us + 1 -- no two jobs are created at the same moment
end
return out
"""
"""Take the step for each list of arguments, which its length comes before: the list of what they return."""

LOCAL = re.compile(r"local (?:function )?([\w, ]+?)(?: =|\()")
"""The names that a piece of the library defines; its first line begins so."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text, and the digest that names it on the server."""

    name: str
    text: str
    sha: str


def load_scripts(**numbers: int) -> dict[str, Script]:
    """Each script by name, with `numbers` as Lua locals."""
    head = prelude() + "".join(f"local {name} = {number}\n" for name, number in numbers.items())
    library = pieces(head + (Path(__file__).parent / "library.lua").read_text())
    texts = {name: source(name, library) for name in SCRIPTS}
    return {name: Script(name, text, hashlib.sha1(text.encode()).hexdigest()) for name, text in texts.items()}


def source(name: str, library: Iterable[str]) -> str:
    """A script's text. All but `enqueue` run when the server's memory is full, so that the queue drains."""
    shebang = "#!lua\n" if name == "enqueue" else "#!lua flags=allow-oom\n"
    step = (Path(__file__).parent / f"{name}.lua").read_text()
    return shebang + needed(library, f"local function step(ARGV)\n{step}end\n{EACH}")


def pieces(library: str) -> list[str]:
    """The library, each piece from one `local` at the beginning of a line to the next."""
    return re.split(r"^(?=local )", library, flags=re.MULTILINE)


def needed(library: Iterable[str], text: str) -> str:
    """`text` below the pieces that it needs, and those that these need. No piece uses a later one."""
    for piece in reversed(list(library)):
        code = re.sub(r"--.*", "", piece)
        defined = LOCAL.match(code)
        if defined and set(defined[1].split(", ")) & set(re.findall(r"\w+", re.sub(r"--.*", "", text))):
            text = code + text
    return text
