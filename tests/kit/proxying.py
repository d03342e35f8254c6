"""PROXY headers as proxies write them, and as they must not (haproxy's proxy-protocol.txt)."""

from __future__ import annotations

import ipaddress

__all__ = [
    "CLIENT",
    "SERVER",
    "SIGNATURE",
    "binary",
    "line",
    "local",
    "tls_value",
    "tlv",
    "with_checksum",
]

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
CLIENT = ("192.0.2.7", 56324)
SERVER = ("198.51.100.9", 443)


def line(
    client: tuple[str, int] = CLIENT, server: tuple[str, int] = SERVER, family: str = "TCP4"
) -> bytes:
    """Write a header of version 1."""
    return f"PROXY {family} {client[0]} {server[0]} {client[1]} {server[1]}\r\n".encode()


def binary(
    client: tuple[str, int] | None = CLIENT,
    server: tuple[str, int] = SERVER,
    tail: bytes = b"",
    *,
    block: bytes | None = None,
    command: int = 0x21,
    kind: int | None = None,
    length: int | None = None,
) -> bytes:
    """Write a header of version 2; ``tail`` is what tlv() makes. What is given wins."""
    if block is None:
        block = b"" if client is None else _block(client, server)
    if kind is None:
        kind = {0: 0x00, 12: 0x11, 36: 0x21, 216: 0x31}[len(block)]
    rest = block + tail
    size = (len(rest) if length is None else length).to_bytes(2, "big")
    return SIGNATURE + bytes((command, kind)) + size + rest


def local(tail: bytes = b"") -> bytes:
    """Write a header of version 2 as it comes with a health check."""
    return binary(None, tail=tail, command=0x20)


def _block(client: tuple[str, int], server: tuple[str, int]) -> bytes:
    hosts = [ipaddress.ip_address(host).packed for host, _ in (client, server)]
    ports = [port.to_bytes(2, "big") for _, port in (client, server)]
    return b"".join(hosts + ports)


def tlv(kind: int, value: bytes = b"") -> bytes:
    """Write one value: type, length, value."""
    return bytes((kind,)) + len(value).to_bytes(2, "big") + value


def tls_value(*values: bytes, flags: int = 1, verify: int = 0) -> bytes:
    """Write the value of PP2_TYPE_SSL; ``values`` are what tlv() makes."""
    return tlv(0x20, bytes((flags,)) + verify.to_bytes(4, "big") + b"".join(values))


def with_checksum(tail: bytes = b"", behind: bytes = b"") -> bytes:
    """Write a header with a checksum that is right, between two tails."""
    empty = binary(tail=tail + tlv(0x03, bytes(4)) + behind)
    return binary(tail=tail + tlv(0x03, _crc32c(empty)) + behind)


def _crc32c(data: bytes) -> bytes:
    """Compute it bit by bit, unlike the code under test."""
    crc = 0xFFFFFFFF
    for byte in data:
        for bit in range(8):
            carry = (crc ^ (byte >> bit)) & 1
            crc = (crc >> 1) ^ (0x82F63B78 * carry)
    return (crc ^ 0xFFFFFFFF).to_bytes(4, "big")
