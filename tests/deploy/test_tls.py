"""TLS with real certificates, on the one server of the lanes that has it: Redis 7.0."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from servers import missing, server_binary

from reliq import AsyncQueue, Queue, Unavailable
from reliq.doctor import examine
from reliq.embedded import Server


class Authority:
    """Signs certificates, in a folder of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        if not shutil.which("openssl"):
            missing("openssl is not installed: apt-get install openssl")
        folder.mkdir()
        self._folder = folder
        self.certificate, self._key = folder / "ca.crt", folder / "ca.key"
        words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
        _openssl(*words, "-keyout", str(self._key), "-out", str(self.certificate))

    def sign(self, name: str, alternatives: str) -> tuple[Path, Path]:
        """A certificate for these addresses, and its key."""
        certificate, key, request = (self._folder / f"{name}.{kind}" for kind in ("crt", "key", "csr"))
        extensions = self._folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={alternatives}\n")
        words = ["req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"]
        _openssl(*words, "-keyout", str(key), "-out", str(request))
        words = ["x509", "-req", "-days", "2", "-CAcreateserial", "-extfile", str(extensions), "-in", str(request)]
        _openssl(*words, "-CA", str(self.certificate), "-CAkey", str(self._key), "-out", str(certificate))
        return certificate, key


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


@dataclass(frozen=True)
class Secured:
    """A server with TLS, and what a client needs for it."""

    server: Server
    port: int
    authority: Authority
    client: tuple[Path, Path]

    def url(self, host: str = "127.0.0.1", **options: str | Path) -> str:
        """rediss:// with options."""
        return f"rediss://{host}:{self.port}/0?{urlencode({key: str(value) for key, value in options.items()})}"


@pytest.fixture(scope="module", params=["no", "yes"], ids=["server certificate", "client certificates"])
def secured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Without and with the duty of clients to show a certificate."""
    authority = Authority(tmp_path_factory.mktemp("tls") / "ours", "reliq tests")
    certificate, key = authority.sign("server", "IP:127.0.0.1")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = {
        "tls-port": str(port),
        "tls-cert-file": str(certificate),
        "tls-key-file": str(key),
        "tls-ca-cert-file": str(authority.certificate),
        "tls-auth-clients": request.param,
    }
    with Server(binary=server_binary("redis7"), config=config, append_only=True) as server:
        yield Secured(server, port, authority, authority.sign("client", "DNS:client"))


def trusted(secured: Secured) -> dict[str, Any]:
    """The options of a client that trusts our authority and shows its certificate."""
    certificate, key = secured.client
    return {"ssl_ca_certs": secured.authority.certificate, "ssl_certfile": certificate, "ssl_keyfile": key}


def test_a_queue_works_over_tls(secured: Secured) -> None:
    """With the authority's certificate, and one of its own where the server asks for that."""
    with Queue("emails", secured.url(**trusted(secured))) as queue:
        assert queue.enqueue(1).created
        queue.finish(queue.claim(1, wait=1.0))


def test_an_asyncio_queue_works_over_tls(secured: Secured) -> None:
    """With the same URL."""

    async def use() -> bool:
        async with AsyncQueue("emails", secured.url(**trusted(secured))) as queue:
            created = (await queue.enqueue(1)).created
            await queue.finish(await queue.claim(1))
            return created

    assert asyncio.run(use())


@pytest.mark.parametrize("style", ["sync", "async"])
def test_a_certificate_of_somebody_else_is_refused(style: str, secured: Secured, tmp_path: Path) -> None:
    """Nothing is sent, and the message says that it is the certificate."""
    stranger = Authority(tmp_path / "theirs", "a stranger")
    url = secured.url(**trusted(secured) | {"ssl_ca_certs": stranger.certificate})
    with pytest.raises(Unavailable, match=r"(?i)certificate verify failed") as refused:
        _enqueue(style, url)
    assert not refused.value.may_have_been_applied


def test_a_certificate_for_another_name_is_refused(secured: Secured) -> None:
    """By the name localhost it is the same server, and not what its certificate is for."""
    with pytest.raises(Unavailable, match=r"(?i)certificate verify failed"):
        _enqueue("sync", secured.url("localhost", **trusted(secured)))


def test_without_verification_any_certificate_is_taken(secured: Secured) -> None:
    """For tests of one's own: it has to be asked for."""
    certificate, key = secured.client
    options: dict[str, Any] = {"ssl_certfile": certificate, "ssl_keyfile": key, "ssl_cert_reqs": "none"}
    with Queue("emails", secured.url(ssl_check_hostname="false", **options)) as queue:
        assert queue.enqueue(1).created


def test_a_client_without_a_certificate(secured: Secured) -> None:
    """Is refused where the server wants one."""
    url = secured.url(ssl_ca_certs=secured.authority.certificate)
    wanted = secured.server._config["tls-auth-clients"] == "yes"
    if wanted:
        with pytest.raises(Unavailable):
            _enqueue("sync", url)
    else:
        _enqueue("sync", url)


def test_a_plain_url_is_refused_by_a_port_with_tls(secured: Secured) -> None:
    """It does not hang: the call ends in its time, and says where."""
    with pytest.raises(Unavailable, match=str(secured.port)):
        _enqueue("sync", f"redis://127.0.0.1:{secured.port}/0")


def test_the_doctor_looks_over_tls(secured: Secured) -> None:
    """With the same URL."""
    found = examine(secured.url(**trusted(secured)))
    assert "it is the master" in [finding.what for finding in found]


def _enqueue(style: str, url: str) -> None:
    if style == "sync":
        with Queue("emails", url, timeout=0.5) as queue:
            queue.enqueue(1)
        return

    async def use() -> None:
        async with AsyncQueue("emails", url, timeout=0.5) as queue:
            await queue.enqueue(1)

    asyncio.run(use())


@pytest.mark.slow
def test_a_sentinel_with_tls(secured: Secured, tmp_path: Path) -> None:
    """rediss+sentinel:// speaks TLS to the Sentinel and to the master, with the same certificates."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own_certificate, own_key = secured.authority.sign("sentinel", "IP:127.0.0.1")
    configuration = tmp_path / "sentinel.conf"
    lines = {
        "port": "0",
        "tls-port": str(port),
        "tls-replication": "yes",
        "tls-cert-file": own_certificate,
        "tls-key-file": own_key,
        "tls-ca-cert-file": secured.authority.certificate,
        "tls-auth-clients": "no",
        "dir": tmp_path,
        "sentinel monitor": f"mymaster 127.0.0.1 {secured.port} 1",
    }
    configuration.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
    sentinel = subprocess.Popen(
        [server_binary("redis7"), configuration, "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        options = urlencode({k: str(v) for k, v in trusted(secured).items()})
        with Queue("emails", f"rediss+sentinel://127.0.0.1:{port}/mymaster/0?{options}", timeout=20.0) as queue:
            assert queue.enqueue(1).created
    finally:
        sentinel.kill()
        sentinel.wait()
