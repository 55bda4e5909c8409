"""What a refusal of the upstream becomes: a client sees the code that the upstream meant."""

import grpc
import pytest

from atalaya_serving.bridge.errors import REFUSALS, refusal
from atalaya_serving.errors import RequestTooLarge, code_of

CODES = grpc.StatusCode
CHANGED = {
    CODES.CANCELLED: CODES.UNAVAILABLE, CODES.UNKNOWN: CODES.INTERNAL, CODES.DATA_LOSS: CODES.INTERNAL,
    CODES.ABORTED: CODES.UNAVAILABLE, CODES.OUT_OF_RANGE: CODES.INVALID_ARGUMENT,
    CODES.ALREADY_EXISTS: CODES.FAILED_PRECONDITION,
}  # fmt: skip
HTTP = {
    CODES.NOT_FOUND: 404, CODES.INVALID_ARGUMENT: 400, CODES.UNAVAILABLE: 503, CODES.DEADLINE_EXCEEDED: 504,
    CODES.RESOURCE_EXHAUSTED: 429, CODES.UNAUTHENTICATED: 401, CODES.PERMISSION_DENIED: 403, CODES.UNIMPLEMENTED: 501,
    CODES.INTERNAL: 500, CODES.FAILED_PRECONDITION: 400,
}  # fmt: skip


@pytest.mark.parametrize("code", [code for code in CODES if code != CODES.OK], ids=lambda code: code.name)
def test_every_code_comes_out_as_it_went_in_but_for_those_that_would_mislead(code: grpc.StatusCode) -> None:
    error = refusal(code, "the upstream's words")
    assert code in REFUSALS
    assert code_of(error).grpc == CHANGED.get(code, code)
    assert code_of(error).http == HTTP[CHANGED.get(code, code)]
    assert "the upstream's words" in str(error)


def test_a_cancellation_that_the_caller_wished_stays_one() -> None:
    assert code_of(refusal(CODES.CANCELLED, "", is_callers_wish=True)).grpc == CODES.CANCELLED


def test_a_message_beyond_the_upstreams_limit_is_too_large_and_not_a_full_queue() -> None:
    error = refusal(CODES.RESOURCE_EXHAUSTED, "SERVER: Received message larger than max (20 vs. 10)")
    assert isinstance(error, RequestTooLarge)


def test_a_refusal_without_words_names_its_code() -> None:
    assert "NOT_FOUND" in str(refusal(CODES.NOT_FOUND, ""))
