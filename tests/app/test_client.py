"""The clients against a small real server whose answers each test scripts."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from app import calls
from app.client import ApiError, AsyncClient, Client, JobFailed, NoAnswer
from app.tape import Event, Tape

Reply = tuple[int, dict[str, str], bytes] | None
"""Status, headers, body; None hangs up without an answer."""


class Script:
    """What the server answers, in order, and what it was asked."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.url = ""

    def says(self, *replies: Reply) -> None:
        self.replies += replies


def job(status: str, **more: Any) -> Reply:
    return 200, {}, json.dumps({"id": "A", "status": status, **more}).encode()


def problem(status: int, headers: dict[str, str] | None = None, **more: Any) -> Reply:
    return status, headers or {}, json.dumps({"detail": "it went wrong", "status": status, **more}).encode()


def events(*lines: str) -> Reply:
    return 200, {"Content-Type": "text/event-stream"}, "".join(lines).encode()


def event(name: str, number: int, **data: Any) -> str:
    return f"event: {name}\nid: {number}\nretry: 2000\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    monkeypatch.setattr(calls, "PAUSES_S", (0.0, 0.0, 0.0, 0.0))
    monkeypatch.setattr("app.tape.PAUSES_S", calls.PAUSES_S)
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            script.asked.append((self.command, self.path, headers, json.loads(body) if body else None))
            reply = script.replies.pop(0)
            if reply is None:
                self.close_connection = True
                return
            status, headers, body = reply
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = answer

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        script.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield script
        server.shutdown()
        thread.join()
    assert script.replies == [], "these were never asked for"


@pytest.fixture
def client(script: Script) -> Iterator[Client]:
    with Client(script.url) as client:
        yield client


def test_generate_submits_and_waits(script: Script, client: Client) -> None:
    image = {"index": 0, "seed": 7, "url": "x", "metrics": {"contrast": 0.2}, "new": 1}
    script.says(
        job("queued"),
        job("processing"),
        job(
            "succeeded",
            images=[image],
            nfe={"model": 50, "new": 2},
            progress={"step": 1, "fraction": 0.5},
            new=3,
        ),
    )
    done = client.generate("a cat", seeds=[7], guidance={"method": "apg", "scale": 10})
    assert (done.images[0].seed, done.images[0].metrics) == (7, {"contrast": 0.2})
    assert done.nfe is not None
    assert done.nfe.model == 50
    verb, path, _, body = script.asked[0]
    assert (verb, path[:9]) == ("PUT", "/v1/jobs/")
    assert body == {"prompt": "a cat", "seeds": [7], "guidance": {"method": "apg", "scale": 10}}
    assert [path for _, path, _, _ in script.asked[1:]] == ["/v1/jobs/A?wait=20"] * 2


def test_a_repeated_submit_names_the_same_job(script: Script, client: Client) -> None:
    script.says(None, problem(503, {"Retry-After": "0"}), job("queued"))
    client.submit("a cat")
    assert len({path for _, path, _, _ in script.asked}) == 1
    assert len(script.asked) == 3


def test_two_submits_are_two_jobs(script: Script, client: Client) -> None:
    script.says(job("queued"), job("queued"))
    client.submit("a cat")
    client.submit("a cat")
    assert len({path for _, path, _, _ in script.asked}) == 2


def test_what_the_server_forbids_to_repeat_is_not_repeated(script: Script, client: Client) -> None:
    script.says(problem(503, {"x-should-retry": "false"}))
    with pytest.raises(ApiError, match="it went wrong"):
        client.submit("a cat")


def test_a_refusal_carries_the_fields(script: Script, client: Client) -> None:
    wrong = {"pointer": "/steps", "detail": "too many", "allowed": {"maximum": 200}}
    script.says(problem(422, errors=[wrong], error={"code": "invalid_request"}))
    with pytest.raises(ApiError) as caught:
        client.submit("a cat", steps=1000)
    refusal = caught.value
    assert (refusal.status, refusal.code, refusal.errors) == (422, "invalid_request", [wrong])


def test_a_refusal_that_is_not_json_is_still_one(script: Script, client: Client) -> None:
    script.says((404, {}, b"<html>nginx</html>"))
    with pytest.raises(ApiError, match="404 Not Found"):
        client.get("A")


def test_a_failed_job_raises_with_its_reason(script: Script, client: Client) -> None:
    script.says(job("failed", error={"code": "not_finite", "message": "NaN"}))
    with pytest.raises(JobFailed, match="job A failed: NaN") as caught:
        client.generate("a cat")
    assert caught.value.job.error is not None


def test_wait_gives_up_in_time(script: Script, client: Client) -> None:
    script.says(job("processing"))
    with pytest.raises(TimeoutError, match="still processing"):
        client.wait("A", timeout_s=0)


def test_no_server_is_no_answer() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with Client(f"http://127.0.0.1:{free.getsockname()[1]}") as client, pytest.raises(NoAnswer):
            client.ping()


def test_a_stream_is_resumed_where_it_broke(script: Script, client: Client) -> None:
    first = event("start", 1) + ": quiet\n\n" + event("progress", 2, step=1, total=4) + "event: progr"
    script.says(events(first), None, events(event("progress", 3, step=2, total=4), event("completed", 4)))
    seen = [(one.type, one.id, one.data) for one in client.stream("A")]
    assert seen == [
        ("start", "1", {}),
        ("progress", "2", {"step": 1, "total": 4}),
        ("progress", "3", {"step": 2, "total": 4}),
        ("completed", "4", {}),
    ]
    assert [headers.get("last-event-id") for _, _, headers, _ in script.asked] == [None, "2", "2"]


def test_a_stream_that_never_goes_on_is_no_answer(script: Script, client: Client) -> None:
    script.says(events(event("start", 1)), *[events()] * 4)
    with pytest.raises(NoAnswer, match="closed by the server"):
        list(client.stream("A"))


def test_a_stream_of_no_job_is_refused(script: Script, client: Client) -> None:
    script.says(problem(404))
    with pytest.raises(ApiError):
        list(client.stream("A"))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_events_are_read_from_chunks_of_any_size(end: str, size: int) -> None:
    text = event("image", 1, prompt="a\u2028b é") + "data: {\ndata: }\n\n" + event("completed", 2)
    raw = text.replace("\n", end).encode()
    tape = Tape()
    seen = [one for i in range(0, len(raw), size) for one in tape.feed(raw[i : i + size])]
    assert [(one.type, one.data) for one in seen] == [
        ("image", {"prompt": "a\u2028b é"}),
        ("message", {}),
        ("completed", {}),
    ]
    assert tape.ended


async def test_the_async_client_does_the_same(script: Script) -> None:
    stream = event("start", 1), event("completed", 2)
    script.says(
        (200, {}, b"{}"), None, job("queued"), events(stream[0]), events(stream[1]), job("succeeded"),
        (200, {}, b"png"), job("canceled"),
    )  # fmt: skip
    async with AsyncClient(script.url, api_key="k") as client:
        await client.ping()
        job_ = await client.submit("a cat")
        assert [one.type async for one in client.stream(job_)] == ["start", "completed"]
        assert (await client.wait(job_)).status == "succeeded"
        assert await client.image(job_, 0) == b"png"
        assert (await client.cancel(job_)).ended
    assert {headers["authorization"] for _, _, headers, _ in script.asked} == {"Bearer k"}
    assert script.asked[1][1] == script.asked[2][1]


def test_five_tries_are_enough(script: Script, client: Client) -> None:
    script.says(None, None, None, None, None)
    with pytest.raises(NoAnswer):
        client.get("A")


def test_events_of_progress_and_those_with_the_whole_job_say_how_far_it_is() -> None:
    told = {"step": 1, "total": 4, "stage": "denoising", "fraction": 0.25}
    events = Event("progress", told), Event("start", {"id": "A", "progress": told})
    assert [event.progress.step for event in events if event.progress] == [1, 1]
    assert Event("image", {"index": 0}).progress is None
