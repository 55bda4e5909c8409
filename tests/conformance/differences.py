"""Where the servers differ: what each answers, and why. docs/conformance.md shows this table.

A test names what it asks; what is not in the table, all servers answer alike.
"""

from dataclasses import dataclass

# ruff: noqa: E501 - one row a line, as on the page

COLUMNS = ("atalaya", "triton", "mlserver")


@dataclass(frozen=True)
class Difference:
    """What is asked, and what each server answers."""

    asked: str
    atalaya: str
    triton: str
    mlserver: str
    why: str


_RT = "MLServer leaves names, datatypes and shapes to the model's runtime."
_TRIJ = (
    "A request that is not the standard's JSON is the caller's fault; Triton answers 500, MLServer in FastAPI's form."
)
_PYD = "MLServer answers in FastAPI's form."
_TRIRT = "The caller's fault; Triton answers 500, and MLServer leaves it to the model's runtime."
TABLE: tuple[Difference, ...] = (
    Difference(
        "the messages of a stream",
        "`ModelStreamInferResponse`",
        "`ModelStreamInferResponse`",
        "`ModelInferResponse`",
        "MLServer has the call with an answer of its own; tritonclient cannot read it.",
    ),
    Difference("BF16 over gRPC", "the same", "the same", "INTERNAL", "MLServer does not know BF16."),
    Difference("BF16 as bytes over HTTP", "the same", "the same", "422", "As above."),
    Difference(
        "tensors as bytes over HTTP (`binary_data`)",
        "the same",
        "the same",
        "422",
        "MLServer has no binary extension over HTTP.",
    ),
    Difference(
        "FP16 as JSON both ways", "the same", "400", "the same", "Triton has no FP16 in JSON; ours writes the numbers."
    ),
    Difference(
        "FP16 as JSON in", "the same", "400", "the same", "Triton has no FP16 in JSON; ours writes the numbers."
    ),
    Difference(
        "FP16 as JSON out",
        "the same",
        "400",
        "422",
        "Triton has no FP16 in JSON; ours writes the numbers. MLServer takes no bytes over HTTP.",
    ),
    Difference(
        "JSON without a `Content-Type` (`tritonclient.http.aio`)",
        "the same",
        "the same",
        "422",
        "MLServer reads JSON only where its type is named.",
    ),
    Difference("bodies in deflate", "the same", "the same", "422", "MLServer unpacks gzip only."),
    Difference(
        "infinity, to be answered in JSON",
        "500",
        "200, no JSON",
        "200, null",
        "JSON has no infinity: ours says to ask for bytes, Triton writes what parsers refuse, MLServer loses the value.",
    ),
    Difference("`versions` of a model's metadata", "3", "3", "none", "MLServer tells versions in its index only."),
    Difference(
        "whether an unknown model is ready, over gRPC",
        "the same",
        "the same",
        "UNKNOWN",
        "MLServer lets its own error escape; the standard's answer is `ready: false`.",
    ),
    Difference("whether an unknown version is ready, over gRPC", "the same", "the same", "UNKNOWN", "As above."),
    Difference(
        "`ModelConfig`, over gRPC",
        "the same",
        "the same",
        "UNIMPLEMENTED",
        "Triton's extension, which ours has and MLServer has not.",
    ),
    Difference("`ModelStatistics`, over gRPC", "the same", "the same", "UNIMPLEMENTED", "As above."),
    Difference(
        "`ModelConfig`, over HTTP",
        "the same",
        "the same",
        "404",
        "Triton's extension, which ours has and MLServer has not.",
    ),
    Difference("`ModelStatistics`, over HTTP", "the same", "the same", "404", "As above."),
    Difference(
        "`inference_count` of a batch of five",
        "5",
        "1",
        "–",
        "Ours counts rows. Triton does so only where `max_batch_size` is set.",
    ),
    Difference(
        "`RepositoryIndex`, over gRPC",
        "the same",
        "the same",
        "other values",
        "MLServer writes the states as `State.READY`.",
    ),
    Difference(
        "`RepositoryIndex`, over HTTP", "the same", "the same", "422", "MLServer wants a body; tritonclient sends none."
    ),
    Difference(
        "a call of a model that was unloaded, gRPC",
        "UNAVAILABLE",
        "NOT_FOUND",
        "NOT_FOUND",
        "Ours still knows it: clients send UNAVAILABLE again, to a replica that has it.",
    ),
    Difference(
        "a load of an unknown model, over gRPC",
        "NOT_FOUND",
        "INTERNAL",
        "NOT_FOUND",
        "Triton answers every failed load so.",
    ),
    Difference("a load of an unknown model, over HTTP", "404", "500", "404", "As above."),
    Difference(
        "an unload of an unknown model, over gRPC",
        "NOT_FOUND",
        "the same",
        "NOT_FOUND",
        "Triton is content when it is not there.",
    ),
    Difference("an unload of an unknown model, over HTTP", "404", "the same", "404", "As above."),
    Difference(
        "shared memory, traces, log settings, over gRPC",
        "UNIMPLEMENTED",
        "the same",
        "UNIMPLEMENTED",
        "Triton's extensions: ours refuses each with what to do instead.",
    ),
    Difference("shared memory, traces, log settings, over HTTP", "501", "the same", "404", "As above."),
    Difference(
        "a version that is no number, gRPC",
        "NOT_FOUND",
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "A version is a text in the standard; to Triton a number.",
    ),
    Difference(
        "an input in shared memory that nobody registered, gRPC",
        "UNIMPLEMENTED",
        "NOT_FOUND",
        "INTERNAL",
        "Only Triton has shared memory.",
    ),
    Difference(
        "a message that is no protobuf, gRPC",
        "INVALID_ARGUMENT",
        "INTERNAL",
        "UNKNOWN",
        "grpc's own answer; ours reads messages itself.",
    ),
    Difference("no input, gRPC", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "INTERNAL", _RT),
    Difference("an input of another name, gRPC", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "INTERNAL", _RT),
    Difference("an unknown datatype, gRPC", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "INTERNAL", _RT),
    Difference("a size below zero, gRPC", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "INTERNAL", _RT),
    Difference("too few bytes, gRPC", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "INTERNAL", _RT),
    Difference("too many bytes, gRPC", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "INTERNAL", _RT),
    Difference("strings for numbers, gRPC", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "INTERNAL", _RT),
    Difference("BYTES that end early, gRPC", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "INTERNAL", _RT),
    Difference("too few typed values, gRPC", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "INTERNAL", _RT),
    Difference("an input too many, gRPC", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "the same", _RT),
    Difference("an input twice, gRPC", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "the same", _RT),
    Difference("another datatype, gRPC", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "the same", _RT),
    Difference("another shape, gRPC", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "the same", _RT),
    Difference("another rank, gRPC", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "the same", _RT),
    Difference("too few BYTES elements, gRPC", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "the same", _RT),
    Difference("raw and typed contents at once, gRPC", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "the same", _RT),
    Difference("typed values of another type, gRPC", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "the same", _RT),
    Difference("an unknown output, gRPC", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "the same", _RT),
    Difference("no `inputs`, HTTP", "400", "500", "422 without `error`", _TRIJ),
    Difference("no JSON, HTTP", "400", "500", "422 without `error`", _TRIJ),
    Difference("JSON that is no object, HTTP", "400", "500", "422 without `error`", _TRIJ),
    Difference("an input without a name, HTTP", "400", "500", "422 without `error`", _TRIJ),
    Difference("an input without a datatype, HTTP", "400", "500", "422 without `error`", _TRIJ),
    Difference("an input without a shape, HTTP", "400", "500", "422 without `error`", _TRIJ),
    Difference(
        "an empty body, HTTP",
        "400",
        "200",
        "422 without `error`",
        "Triton takes it for a request without JSON, and its inputs for empty.",
    ),
    Difference("an input without data, HTTP", "400", "400", "422 without `error`", _PYD),
    Difference("an unknown datatype, HTTP", "400", "400", "422 without `error`", _PYD),
    Difference("no input, HTTP", "400", "400", "500 without `error`", _RT),
    Difference("an input of another name, HTTP", "400", "400", "500 without `error`", _RT),
    Difference("too few values, HTTP", "400", "500", "500 without `error`", _TRIRT),
    Difference("too many values, HTTP", "400", "500", "500 without `error`", _TRIRT),
    Difference("strings for numbers, HTTP", "400", "500", "500 without `error`", _TRIRT),
    Difference(
        "numbers as strings, HTTP", "400", "500", "200", "Triton as above; MLServer's runtime lets numpy convert them."
    ),
    Difference(
        "ragged lists, HTTP",
        "400",
        "200",
        "500 without `error`",
        "Triton counts values at any depth; MLServer's runtime fails on them.",
    ),
    Difference("another datatype, HTTP", "400", "400", "200", _RT),
    Difference("another shape, HTTP", "400", "400", "200", _RT),
    Difference("another rank, HTTP", "400", "400", "200", _RT),
    Difference("an unknown output, HTTP", "400", "400", "200", _RT),
    Difference(
        "values on which the model itself fails, HTTP",
        "500",
        "500",
        "500 without `error`",
        "What MLServer's own errors are not is answered without a reason.",
    ),
    Difference("answers to typed contents", "raw", "raw", "typed", "Both are the standard's; clients read both."),
    Difference(
        "the request parameter `timeout`, passed",
        "DEADLINE_EXCEEDED",
        "the same",
        "the same",
        "Ours holds to it always, Triton only where a model has a queue policy.",
    ),
    Difference("`GET …/ready` of an unknown model", "404", "400", "404", "The standard leaves the status open."),
    Difference("an unknown path", "404", "404", "404 without `error`", "FastAPI's form."),
    Difference("GET where POST is due", "405", "405", "405 without `error`", "FastAPI's form."),
)

_BY_NAME = {one.asked: one for one in TABLE}


def expected(kind: str, asked: str, usual: str) -> str:
    """What the server of column `kind` answers; `usual` where the table has no such row."""
    row = _BY_NAME.get(asked)
    return usual if row is None else str(getattr(row, kind))


def markdown() -> str:
    """The table as the page shows it."""
    lines = ["| asked | Atalaya | Triton | MLServer | why |", "|---|---|---|---|---|"]
    lines += [f"| {one.asked} | {one.atalaya} | {one.triton} | {one.mlserver} | {one.why} |" for one in TABLE]
    return "\n".join(lines)
