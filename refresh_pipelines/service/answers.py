"""How the API answers: JSON with an ETag, and errors in the parts of the messages of `refresh`, never a traceback."""

from __future__ import annotations

import hashlib
import logging
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from refresh_pipelines.errors import RefreshError
from refresh_pipelines.service.models import Fault, Refusal

_LOG = logging.getLogger(__name__)
# A cache may keep an answer and has to ask whether it is still so; nobody guesses what it is.
HEADERS = {"Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class Refused(RefreshError):
    """A request that is not answered with what it asks for.

    Args:
        status: of HTTP.
    """

    def __init__(self, status: int, problem: str, *, expected: str = "", came: str = "", todo: str = "") -> None:
        super().__init__(problem, expected=expected, came=came, todo=todo)
        self.status = status


def answer(request: Request, body: BaseModel, status: int = 200) -> Response:
    """Return a body as JSON, or 304 without one to who has it already."""
    return tagged(request, body.model_dump_json().encode(), "application/json", status)


def tagged(request: Request, content: bytes, media_type: str, status: int = 200) -> Response:
    """Return bytes with an ETag, or 304 to who has them already."""
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**HEADERS, "ETag": etag}
    if status == 200 and _has(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    return Response(content, status, headers, media_type)


def _has(said: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in said.split(",")]
    return etag in tags or tags == ["*"]


def refusal(status: int, problem: str, **parts: str) -> Response:
    """Return an error; every answer from 400 on is made here."""
    body = Refusal(error=Fault(problem=problem, **parts))
    return Response(body.model_dump_json(), status, HEADERS, "application/json")


def install_errors(app: FastAPI) -> None:
    """Have every error of the app be answered as a refusal."""
    app.add_exception_handler(RefreshError, _of_ours)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(RequestValidationError, _of_input)
    app.add_exception_handler(Exception, _of_bug)


def _of_ours(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefreshError)  # noqa: S101 - registered for it
    status = error.status if isinstance(error, Refused) else 503
    return refusal(status, error.problem, expected=error.expected, came=error.came, todo=error.todo)


def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    status = HTTPStatus(error.status_code)
    problem = {404: "there is no such address", 405: "this address does not take that method"}.get(
        status, status.phrase
    )
    answered = refusal(status, problem, came=f"{request.method} {request.url.path[:200]}", todo="See /openapi.json.")
    answered.headers.update(error.headers or {})
    return answered


def _of_input(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
    found = error.errors()[0]
    where = ".".join(str(part) for part in found.get("loc", ()))
    came = repr(found.get("input"))[:100]
    expected = str(found.get("msg", ""))
    return refusal(422, f"{where} is not as declared", expected=expected, came=came, todo="See /openapi.json.")


def _of_bug(request: Request, error: Exception) -> Response:
    _LOG.error("%s %s failed", request.method, request.url.path[:200], exc_info=error)
    return refusal(500, "the request met a defect", todo="The log of the API says more; please report it.")
