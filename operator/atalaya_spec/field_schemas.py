"""How single values are written, as an API server's schema says it: the twin of the readers in `names` and `units`.

A message of a pattern shows the pattern, which helps nobody; so what a person gets wrong is a CEL rule with the
reader's own fact and next step. Every text has a longest length, for an API server refuses a rule whose cost it cannot
bound. A test sends the same values to the readers and to a real API server.
"""

from typing import Any

from atalaya_spec.names import MAX_IMAGE_LENGTH, MAX_QUERY_LENGTH, MAX_URI_LENGTH, REMOTE_SCHEMES
from atalaya_spec.server_versions import DEVICES, NVIDIA_MIG_PREFIX

Schema = dict[str, Any]


def rule(cel: str, message: str) -> Schema:
    """One CEL rule of `x-kubernetes-validations`; it holds when `cel` is true."""
    return {"rule": cel, "message": message}


def _text(longest: int, *rules: Schema) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": longest, "x-kubernetes-validations": list(rules)}


def _quantity(*rules: Schema) -> Schema:
    above_zero = rule("string(self).matches('[1-9]')", "it is nothing; write more than 0, or leave the field out")
    return {
        "x-kubernetes-int-or-string": True,
        "maxLength": 32,
        "x-kubernetes-validations": [*rules, above_zero],
    }


CPU_SCHEMA = _quantity(
    rule(
        r"string(self).matches('^([0-9]{1,18}([.][0-9]{1,3}0*)?|[0-9]{1,18}m|[0-9]{1,18}([.][0-9]{1,9})?[kMGTPE])$')",
        "it is not a number of cores; write cores or whole thousandths, such as 2 or 500m",
    )
)
MEMORY_SCHEMA = _quantity(
    rule(
        r"string(self).matches('^[0-9]{1,18}([.][0-9]{1,9})?([kMGTPE]|[KMGTPE]i)?$')",
        "it is not a size of memory; write bytes with a unit, such as 512Mi or 1Gi",
    )
)
DURATION_SCHEMA = _text(
    24,
    rule(
        r"self.matches('^[0-9]{1,9}([.][0-9]{1,6})?(us|µs|ms|s|m|h)$')",
        "it is not a duration; write a number and its unit, such as 2ms or 1s",
    ),
    rule("self.matches('[1-9]')", "it is no time at all; write more than 0, or leave the field out"),
)
PERCENTAGE_SCHEMA = _text(
    4,
    rule("self.matches('^([1-9]|[1-9][0-9]|100)%$')", "it is not a percentage; write 1% to 100% with its sign, as 70%"),
)
VERSION_SCHEMA = _text(
    14,
    rule(
        r"self.matches('^[0-9]{1,4}[.][0-9]{1,4}([.][0-9]{1,4})?$')",
        "it is not a version; write it as '2026.3' or '2.20.0'; for any other tag set image",
    ),
)
IMAGE_SCHEMA = _text(
    MAX_IMAGE_LENGTH,
    rule(
        r"self.matches('^[a-z0-9]([-._a-z0-9]*[a-z0-9])?(:[0-9]+)?(/[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*)*"
        r"(:[A-Za-z0-9_][-.A-Za-z0-9_]{0,127})?(@sha256:[a-f0-9]{64})?$')",
        "it is not a container image; write it as registry/name:tag, in lower case",
    ),
)
SECRET_NAME_SCHEMA = _text(
    253,
    rule(
        r"self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",
        "it is not the name of a Secret; write its lower-case name, without its namespace",
    ),
)
DEVICE_SCHEMA = _text(
    63,
    rule(
        f"self in [{', '.join(map(repr, DEVICES))}] || "
        r"self.matches('^nvidia[.]com/mig-[0-9]{1,2}g[.][0-9]{1,4}gb([.]me)?([.]shared)?$')",
        f"there is no such device; write one of {', '.join(DEVICES)}, or a slice such as {NVIDIA_MIG_PREFIX}1g.5gb",
    ),
)
URI_SCHEMA = _text(
    MAX_URI_LENGTH,
    rule(
        f"self.matches('^({'|'.join(REMOTE_SCHEMES)})://')",
        f"pods cannot read it; write one of {', '.join(f'{one}://' for one in REMOTE_SCHEMES)} (a folder of one "
        "machine, and file://, can be served by `atalaya up` only)",
    ),
    rule("!self.matches('^[a-z0-9]+://[^/]*@')",
         "the URI carries a user or password; put them into a Secret and name it in credentialsSecret"),
    rule("!self.matches('[?#]')", "the URI has a query or a fragment; leave out what follows '?' or '#'"),
    rule("!self.matches('/[.][.](/|$)')", "it climbs out of its folder; write the folder itself, without '..'"),
    rule("!self.matches('^[a-z0-9]+://([/:]|$)')",
         "it names no bucket, container, claim, registry or host; write scheme://place/folder"),
    rule("!self.startsWith('pvc://') || self.matches('^pvc://[a-z0-9]([-a-z0-9]*[a-z0-9])?"
         "([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*(/|$)')",
         "it is not the name of a claim; write pvc://claim/folder, in lower case"),
    rule("!self.matches('[[:cntrl:]]')", "it is not a location; write where the model's folder of versions lies"),
    rule("!self.matches('^(https|oci)://[^/]*/*$')", "it names no folder; write scheme://host/folder"),
)  # fmt: skip
QUERY_SCHEMA = _text(
    MAX_QUERY_LENGTH,
    rule(
        "self.trim().size() > 0", "it is no query; write PromQL whose answer is one number, such as sum(jobs_waiting)"
    ),
)
