"""A browser's sign-in: an API key for a cookie, since pictures and streams cannot send a header."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from app.api.deps import COOKIE, Lodestar, OpenLodestar
from app.api.errors import Problem
from app.jobs import Asked
from app.keys import SESSION_S, ApiKey, Scope

router = APIRouter(prefix="/v1/session", tags=["session"])


class Session(BaseModel):
    """Who is signed in. `name` is None where no key is asked for."""

    object: Literal["session"] = "session"
    name: str | None
    scopes: list[Scope]


class SignIn(Asked):
    """The key to sign in with."""

    key: str = Field(max_length=200, examples=["lds_..."])


@router.get("")
async def get_session(lodestar: Lodestar) -> Session:
    """Who is signed in, or 401."""
    return _session(lodestar.key)


@router.post("")
async def sign_in(asked: SignIn, lodestar: OpenLodestar, request: Request, response: Response) -> Session:
    """Exchange a key for a cookie that scripts cannot read and other sites cannot have sent.

    It stands for the key for 30 days, until it is ended or the key is revoked.
    """
    if not lodestar.settings.keys_required:
        return _session(None)
    key = await lodestar.keys.find(asked.key.strip())
    if key is None:
        detail = "this is no key of this service; `lodestar keys create` makes one"
        raise Problem(401, detail, code="invalid_api_key", errors=[{"pointer": "/key", "detail": detail}])
    response.set_cookie(
        COOKIE,
        await lodestar.keys.open_session(key),
        max_age=SESSION_S,
        path=lodestar.settings.root_path or "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return _session(key)


@router.delete("", status_code=204)
async def sign_out(lodestar: OpenLodestar, request: Request, response: Response) -> None:
    """End the session of this browser, if there is one."""
    if signed_in := request.cookies.get(COOKIE):
        await lodestar.keys.end_session(signed_in)
    response.delete_cookie(COOKIE, path=lodestar.settings.root_path or "/")


def _session(key: ApiKey | None) -> Session:
    return Session(name=key.name if key else None, scopes=key.scopes if key else [])
