"""``python -m gpuconv`` and the ``gpuconv`` command, also from a bare checkout."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, or say in one line what it needs."""
    try:
        import click  # noqa: F401
        import rich  # noqa: F401

        from gpuconv.cli.main import cli
    except ImportError as error:
        if error.name is None or error.name.startswith("gpuconv"):
            raise
        sys.exit(f"gpuconv: the command line needs {error.name}: pip install 'gpuconv[cli]'")
    except KeyboardInterrupt:
        sys.exit(130)
    cli(prog_name="gpuconv")


if __name__ == "__main__":
    main()
