"""Room 3, process: Gunicorn, fork, signals, settings.

Every public function here says in its docstring where it runs: "Runs in: master.",
"Runs in: worker." or "Runs in: signal handler.".
"""

__all__: list[str] = []
