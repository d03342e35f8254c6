"""The test kit: real masters, raw sockets, and fakes (not mocks).

Tests write ``from kit.master import Master``: ``tests/`` is on pytest's ``pythonpath``, the
repository is not, so that they run against the installed package and not the source folder.
"""

__all__: list[str] = []
