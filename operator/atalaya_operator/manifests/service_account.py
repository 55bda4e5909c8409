"""The pods' own account: it may do nothing and has no token; clouds bind their identities to its name."""

from atalaya_operator import names
from atalaya_operator.manifests.subject import Subject
from atalaya_operator.revision import Manifest


def service_account(subject: Subject) -> Manifest:
    """One for all revisions."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": subject.metadata(names.service_account_name(subject.model.name)),
        "automountServiceAccountToken": False,
    }
