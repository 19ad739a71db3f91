"""openssl: digests, ciphers, signatures, messages, and TLS sessions with its own server."""

import random
import socket

from .harness import Program
from .processes import free_port
from .side import Failure

# An Ed25519 private key (PKCS 8) is this prefix and 32 bytes: signatures by it are the same on every run.
ED25519 = bytes.fromhex("302e020100300506032b657004220420") + bytes(range(32))


def connect(port):
    """True when a server listens on the port."""
    socket.create_connection(("127.0.0.1", port), 1).close()
    return True


def tls(side):
    """TLS sessions with `openssl s_server`; returns what it served."""
    port = free_port()
    files = ["-key", "server.key", "-cert", "server.pem"]
    side.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
        + ["-keyout", "server.key", "-out", "server.pem"]
    )
    with side.start(["openssl", "s_server", "-quiet", "-accept", f"127.0.0.1:{port}", *files, "-WWW"]) as server:
        server.until(lambda: connect(port), "listening")
        client = ["openssl", "s_client", "-quiet", "-connect", f"127.0.0.1:{port}", "-CAfile", "server.pem"]
        served = {
            side.run([*client, "-verify_return_error", version], input=b"GET /page.txt HTTP/1.0\r\n\r\n")
            for version in ("-tls1_2", "-tls1_3")
            for _ in range(side.amount(6, 40))
        }
        server.check_mapped()
        server.check_output()
    if len(served) != 1:
        raise Failure(f"openssl s_server answered one request in {len(served)} ways")
    return served.pop()


def work(side):
    """digests, ciphers, Ed25519 and RSA signatures, CMS, speed by two processes, TLS sessions with its own server"""
    side.serves("openssl", "version")
    data = random.Random("openssl").randbytes(side.amount(8, 64) << 20)
    (side.work / "data").write_bytes(data)
    (side.work / "page.txt").write_bytes(data[:200_000].hex().encode())
    (side.work / "ed25519.der").write_bytes(ED25519)

    def openssl(*arguments):
        return side.run(["openssl", *arguments])

    results = {name: openssl("dgst", f"-{name}", "data") for name in ("sha256", "sha3-512", "blake2b512")}
    for cipher in ("aes-256-cbc", "chacha20"):
        secret = ["-pbkdf2", "-iter", "20000", "-S", "0011223344556677", "-pass", "pass:secret", f"-{cipher}"]
        openssl("enc", *secret, "-in", "data", "-out", "sealed")
        openssl("enc", "-d", *secret, "-in", "sealed", "-out", "opened")
        results[cipher] = openssl("dgst", "-r", "sealed", "opened")
    signing = ["-inkey", "ed25519.der", "-keyform", "DER"]
    openssl("pkeyutl", "-sign", "-rawin", *signing, "-in", "page.txt", "-out", "signature")
    results["ed25519"] = (side.work / "signature").read_bytes()
    results["verified"] = openssl("pkeyutl", "-verify", "-rawin", *signing, "-in", "page.txt", "-sigfile", "signature")
    # Each line begins with what was measured; the figures differ from run to run.
    speed = openssl("speed", "-seconds", "1", "-bytes", "4096", "-multi", "2", "sha256", "aes-128-cbc")
    results["speed"] = sorted({word for word in speed.split() if word in (b"sha256", b"aes-128-cbc")})
    results["tls"] = tls(side)
    openssl(
        "cms", "-encrypt", "-binary", "-aes256", "-in", "page.txt", "-outform", "DER", "-out", "letter", "server.pem"
    )
    results["cms"] = openssl(
        "cms", "-decrypt", "-inform", "DER", "-in", "letter", "-inkey", "server.key", "-recip", "server.pem"
    )
    return results


PROGRAM = Program("openssl", work, needs=["openssl"], starts=["openssl"])
