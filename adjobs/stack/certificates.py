"""The certificate that closes SeaweedFS's inner ports.

SeaweedFS is one process whose parts talk to each other by gRPC and HTTP, on ports that would otherwise answer everybody: the
filer's gives away the keys of S3. With these settings each of them asks its client for the one certificate, which signs itself
and whose private key only this user can read.
"""

from __future__ import annotations

import datetime
import ipaddress
import secrets
import socket
import ssl
from pathlib import Path

from adjobs.stack.credentials import write_private

_DAYS = 3650  # S3 gets a new one whenever it is started


def make_certificate(path: Path, address: str) -> None:
    """Write a new certificate and its private key into one file of PEM text that only this user can read.

    Args:
        path: the file, which is replaced.
        address: IP address of the ports.

    Raises:
        StackError: the disk refuses.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "adjobs S3")])
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)  # for clocks that are set back
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_private(path, (private + certificate.public_bytes(pem)).decode())


def security_settings(certificate: Path) -> dict[str, str]:
    """Variables that make SeaweedFS ask for the certificate at each of its ports but that of S3.

    The keys with which its parts sign their requests are new at every start: nobody else needs them.
    """
    file = str(certificate)
    settings = {"WEED_GRPC_CA": file, "WEED_HTTPS_CLIENT_ENABLED": "true", "WEED_HTTPS_CLIENT_CA": file}
    for server in ("MASTER", "VOLUME", "FILER", "ADMIN"):
        settings[f"WEED_HTTPS_{server}_CA"] = file
    for server in ("GRPC_MASTER", "GRPC_VOLUME", "GRPC_FILER", "GRPC_S3", "GRPC_ADMIN", "GRPC_WORKER", "GRPC_CLIENT"):
        settings |= {f"WEED_{server}_CERT": file, f"WEED_{server}_KEY": file}
    for server in ("HTTPS_MASTER", "HTTPS_VOLUME", "HTTPS_FILER", "HTTPS_ADMIN", "HTTPS_CLIENT"):
        settings |= {f"WEED_{server}_CERT": file, f"WEED_{server}_KEY": file}
    for key in ("SIGNING_KEY", "SIGNING_READ_KEY", "FILER_SIGNING_KEY", "FILER_SIGNING_READ_KEY"):
        settings[f"WEED_JWT_{key}"] = secrets.token_hex(32)
    return settings


def requires_certificate(host: str, port: int) -> bool | None:
    """Whether a port asks its clients for a certificate; None if nothing listens there, or does not answer in time.

    If SeaweedFS cannot read its own, it warns in its log and answers everybody.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # Later versions ask for the client's certificate after the handshake.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        with socket.create_connection((host, port), timeout=5) as connection, context.wrap_socket(connection):
            return False
    except ssl.SSLError as error:
        reason = error.reason or ""
        # An alert is the server's refusal, except that of our version of TLS; plain text is WRONG_VERSION_NUMBER.
        return "ALERT" in reason and "PROTOCOL_VERSION" not in reason
    except (ConnectionRefusedError, TimeoutError):
        return None
    except OSError:
        return False
