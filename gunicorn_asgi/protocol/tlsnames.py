"""Names of TLS versions and cipher suites, and the numbers that go over the wire for them.

A proxy tells names; the ASGI TLS extension 0.2 wants the numbers.
"""

from __future__ import annotations

from types import MappingProxyType

__all__ = ["CIPHER_SUITES", "TLS_NAMES", "TLS_VERSIONS"]

# RFC 8446 section 4.1.2 and before; names of OpenSSL's SSL_get_version(3).
TLS_VERSIONS = MappingProxyType(
    {
        "SSLv3": 0x0300,
        "TLSv1": 0x0301,
        "TLSv1.0": 0x0301,
        "TLSv1.1": 0x0302,
        "TLSv1.2": 0x0303,
        "TLSv1.3": 0x0304,
    }
)

# The other way, for the access log: the name that OpenSSL itself would use.
TLS_NAMES = MappingProxyType(
    {number: name for name, number in TLS_VERSIONS.items() if name != "TLSv1.0"}
)

# OpenSSL's names, and the numbers of IANA's registry "TLS Cipher Suites": what is in use.
CIPHER_SUITES = MappingProxyType(
    {
        # TLS 1.3: all of RFC 8446 appendix B.4
        "TLS_AES_128_GCM_SHA256": 0x1301,
        "TLS_AES_256_GCM_SHA384": 0x1302,
        "TLS_CHACHA20_POLY1305_SHA256": 0x1303,
        "TLS_AES_128_CCM_SHA256": 0x1304,
        "TLS_AES_128_CCM_8_SHA256": 0x1305,
        # TLS 1.2 with forward secrecy
        "ECDHE-ECDSA-AES128-GCM-SHA256": 0xC02B,
        "ECDHE-ECDSA-AES256-GCM-SHA384": 0xC02C,
        "ECDHE-ECDSA-CHACHA20-POLY1305": 0xCCA9,
        "ECDHE-ECDSA-AES128-CCM": 0xC0AC,
        "ECDHE-ECDSA-AES256-CCM": 0xC0AD,
        "ECDHE-ECDSA-AES128-SHA256": 0xC023,
        "ECDHE-ECDSA-AES256-SHA384": 0xC024,
        "ECDHE-ECDSA-AES128-SHA": 0xC009,
        "ECDHE-ECDSA-AES256-SHA": 0xC00A,
        "ECDHE-RSA-AES128-GCM-SHA256": 0xC02F,
        "ECDHE-RSA-AES256-GCM-SHA384": 0xC030,
        "ECDHE-RSA-CHACHA20-POLY1305": 0xCCA8,
        "ECDHE-RSA-AES128-SHA256": 0xC027,
        "ECDHE-RSA-AES256-SHA384": 0xC028,
        "ECDHE-RSA-AES128-SHA": 0xC013,
        "ECDHE-RSA-AES256-SHA": 0xC014,
        "DHE-RSA-AES128-GCM-SHA256": 0x009E,
        "DHE-RSA-AES256-GCM-SHA384": 0x009F,
        "DHE-RSA-CHACHA20-POLY1305": 0xCCAA,
        "DHE-RSA-AES128-SHA256": 0x0067,
        "DHE-RSA-AES256-SHA256": 0x006B,
        "DHE-RSA-AES128-SHA": 0x0033,
        "DHE-RSA-AES256-SHA": 0x0039,
        # TLS 1.2 without
        "AES128-GCM-SHA256": 0x009C,
        "AES256-GCM-SHA384": 0x009D,
        "AES128-SHA256": 0x003C,
        "AES256-SHA256": 0x003D,
        "AES128-SHA": 0x002F,
        "AES256-SHA": 0x0035,
    }
)
