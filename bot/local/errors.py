"""What can go wrong, sorted by who has to act.

ApiError         the caller's request is wrong: answered with OpenAI's error envelope
BrainError       the model failed: becomes the run's `last_error`
LocalApiError    the operator has to act: the server does not start
    DataFolderBusy   another process serves the same folder
    UnsafeBind       reachable from outside without a key
"""

from typing import Literal

from starlette.exceptions import HTTPException

RunErrorCode = Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]


class ApiError(HTTPException):
    """Answered as `{"error": {message, type, param, code}}` (openai-openapi, schema ErrorResponse).

    An HTTPException, because FastAPI turns any other exception raised while it reads a body into its own 400.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",  # noqa: A002  the protocol's own word
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(status, message)
        self.message = message
        self.type = type
        self.param = param
        self.code = code


def bad_request(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    return ApiError(400, message, param=param, code=code)


def not_found(kind: str, object_id: str) -> ApiError:
    """The hosted API's wording, which clients match (FlowiseAI/Flowise#2495)."""
    return ApiError(404, f"No {kind} found with id '{object_id}'.")


class BrainError(Exception):
    """Why the model could not answer: `code` and one clear sentence for the run's `last_error`."""

    def __init__(self, code: RunErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class LocalApiError(Exception):
    """The operator has to act; the text is the whole explanation."""


class DataFolderBusy(LocalApiError):
    """Another process serves the same data folder."""


class UnsafeBind(LocalApiError):
    """Asked to listen where others can reach it, without a key."""
