"""The webhook's certificate and the authority that signs it: made in memory, written nowhere, gone with the process.

Nobody but the API server trusts this authority, and it is told anew after every start; so there is no Secret to guard.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = timedelta(days=90)
RENEWED_AFTER = timedelta(days=60)
_CLOCKS_DIFFER = timedelta(hours=1)
_CURVE = ec.SECP256R1


@dataclass(frozen=True)
class Certificate:
    """All in PEM. The API server is to trust `authority`; the server shows `chain` and proves it with `key`."""

    authority: bytes
    chain: bytes
    key: bytes
    made_at: datetime

    def is_due(self, now: datetime) -> bool:
        """Whether it is time for another; long before it ends, for the API server has to learn of it."""
        return now - self.made_at >= RENEWED_AFTER


def make_certificate(names: tuple[str, ...], now: datetime) -> Certificate:
    """A new authority, and a server's certificate by it for DNS names."""
    authority_key, key = ec.generate_private_key(_CURVE()), ec.generate_private_key(_CURVE())
    issuer = _named("atalaya-webhook-ca")
    authority = (
        _builder(issuer, issuer, authority_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, SHA256())
    )
    server = (
        _builder(_named(names[0][:64]), issuer, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, SHA256())
    )
    return Certificate(
        authority=authority.public_bytes(Encoding.PEM),
        chain=server.public_bytes(Encoding.PEM),
        key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        made_at=now,
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + LIFETIME)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
