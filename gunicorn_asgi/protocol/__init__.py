"""Room 1, pure: told bytes and told the time, answers with bytes and verdicts.

Nothing here knows a socket, a loop, a process, a clock or a log.
"""

__all__: list[str] = []
