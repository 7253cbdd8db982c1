"""The Lua scripts as the server gets them: names and settings, what they share, the script, and `each`.

A script is one step; one call of it takes as many steps as there are, each atomic like all of them together.
"""

from __future__ import annotations

import hashlib
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


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text, and the digest that names it on the server."""

    name: str
    text: str
    sha: str


def load_scripts(**numbers: int) -> dict[str, Script]:
    """Each script by name, with `numbers` as Lua locals."""
    head = prelude() + "".join(f"local {name} = {number}\n" for name, number in numbers.items())
    texts = {name: source(name, head) for name in SCRIPTS}
    return {name: Script(name, text, hashlib.sha1(text.encode()).hexdigest()) for name, text in texts.items()}


def source(name: str, head: str) -> str:
    """A script's text. All but `enqueue` run when the server's memory is full, so that the queue drains."""
    here = Path(__file__).parent
    shebang = "#!lua\n" if name == "enqueue" else "#!lua flags=allow-oom\n"
    library, step = ((here / f"{one}.lua").read_text() for one in ("library", name))
    return f"{shebang}{head}{library}local function step(ARGV)\n{step}end\n{EACH}"
