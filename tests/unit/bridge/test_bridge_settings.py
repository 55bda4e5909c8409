"""The bridge's command line: what it takes, and one line that says what is wrong."""

import pytest

from atalaya_serving.bridge.settings import parse_settings
from atalaya_serving.errors import SettingsError

UPSTREAM = ["--upstream", "127.0.0.1:9001"]


def test_the_other_protocol_is_behind_and_the_servers_defaults_hold() -> None:
    told = parse_settings(["--from", "tfs", *UPSTREAM])
    assert (told.client, told.upstream, told.signature, told.models) == ("tfs", "127.0.0.1:9001", "serving_default", ())
    assert (told.listen.grpc_port, told.listen.rest_port, told.listen.grpc_address) == (9000, 8000, "127.0.0.1")
    assert parse_settings(["--from", "v2", "--to", "tfs", *UPSTREAM]).client == "v2"


def test_models_and_labels_may_be_given_again_and_again() -> None:
    models = ["--model_name", "a", "--model_name", "b"]
    labels = ["--version_label", "a:stable=3", "--version_label", "a:next=4", "--version_label", "b:stable=1"]
    told = parse_settings(["--from", "tfs", *UPSTREAM, *models, *labels])
    assert told.models == ("a", "b")
    assert told.labels == {"a": {"stable": 3, "next": 4}, "b": {"stable": 1}}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param([], "--from", id="nothing"),
        pytest.param(["--from", "tfs"], "--upstream", id="no upstream"),
        pytest.param(["--from", "tfs", "--to", "tfs", *UPSTREAM], "needs no bridge; give --to v2", id="same"),
        pytest.param(["--from", "rest", *UPSTREAM], "invalid choice", id="unknown protocol"),
        pytest.param(["--from", "v2", "--upstream", "http://x:1"], "is not HOST:PORT", id="a URL"),
        pytest.param(["--from", "v2", "--upstream", "localhost"], "is not HOST:PORT", id="no port"),
        pytest.param(["--from", "v2", *UPSTREAM, "--version_label", "m:a=1"], "is for --from tfs", id="labels to tfs"),
        pytest.param(["--from", "tfs", *UPSTREAM, "--signature_name", "s"], "is for --from v2", id="signature to v2"),
        pytest.param(["--from", "tfs", *UPSTREAM, "--version_label", "a=1"], "MODEL:LABEL=VERSION", id="odd label"),
        pytest.param(
            ["--from", "tfs", *UPSTREAM, "--port", "0", "--rest_port", "0"], "nothing to listen", id="no port"
        ),
        pytest.param(["--from", "tfs", *UPSTREAM, "--port", "7", "--rest_port", "7"], "both 7", id="one port twice"),
        pytest.param(["--from", "tfs", *UPSTREAM, "--ports", "7"], "unrecognized", id="unknown flag"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(arguments: list[str], told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(arguments)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
