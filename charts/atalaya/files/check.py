"""What `helm test` runs inside the cluster: every part of the release answers by its Service's name."""

import json
import os
import ssl
import sys
import urllib.request

# The certificate is the API server's to check; here it is asked whether somebody is at home.
UNCHECKED = ssl.create_default_context()
UNCHECKED.check_hostname = False
UNCHECKED.verify_mode = ssl.CERT_NONE

NO_MODEL = {"apiVersion": "serving.atalaya.dev/v1alpha1", "kind": "InferenceModel", "metadata": {"name": "m"}}
REVIEW = {"request": {"uid": "helm-test", "operation": "CREATE", "namespace": "default", "object": NO_MODEL}}


def ask(url, body=None):
    request = urllib.request.Request(url, data=json.dumps(body).encode() if body else None)
    with urllib.request.urlopen(request, timeout=10, context=UNCHECKED if url.startswith("https") else None) as answer:
        return answer.read().decode()


def metrics(url):
    assert "atalaya_operator_queue_length" in ask(url)


def webhook(url):
    response = json.loads(ask(url, REVIEW))["response"]
    assert response["uid"] == "helm-test"
    assert not response["allowed"]


def dashboard(url):
    assert ask(url) == "ok"


CHECKS = {"METRICS_URL": metrics, "WEBHOOK_URL": webhook, "DASHBOARD_URL": dashboard}

failed = 0
for variable, check in CHECKS.items():
    url = os.environ.get(variable)
    if not url:
        continue
    try:
        check(url)
        print(f"{check.__name__}: {url} answers")
    except (OSError, ValueError, KeyError, AssertionError) as error:
        failed = 1
        print(f"{check.__name__}: {url} does not answer as it should: {error!r}")
sys.exit(failed)
