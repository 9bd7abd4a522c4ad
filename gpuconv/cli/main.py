"""The command group; a command's module is loaded when the command is called."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, Final

import click

from gpuconv import __version__
from gpuconv.cli import output

_COMMANDS: Final = {
    "demo": "Find the edges of a photograph, blur it, and check every number.",
    "filter": "Find edges in pictures, sharpen, blur or emboss them.",
    "problem": "Say what a convolution costs and which kernel runs it.",
    "explain-plan": "Say why a problem runs on the kernel it does, and what the others would take.",
    "tune": "Find the fastest kernel and parameters for each problem, and remember them.",
    "cache": "Show, exchange, thin out and remove what tuning found.",
    "bench": "Time convolutions beside PyTorch and SciPy; compare two runs.",
    "report": "Make one page of HTML of what was tuned and measured.",
    "validate": "Compare every kernel with float64, and with cuDNN or PyTorch.",
    "env": "Show versions, devices, variables and folders.",
}


class Commands(click.Group):
    """Loads commands late and turns errors into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order of the help."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The function of the command's name in the module of its name."""
        if cmd_name not in _COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f"gpuconv.cli.{name}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without loading them, so help works whatever is missing."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the program's own options."""
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            raise output.wrong_usage(error) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; this is inside click's own handling, which would call Ctrl-C a plain failure."""
        with output.one_line_errors():
            return super().invoke(ctx)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program; only what click itself writes can fail here, its help for instance."""
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            output.give_up_stdout()
            output.note(f"cannot write the output: {output.one_line(error)}")
            sys.exit(1)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 fine, 1 failure, 2 wrong usage, 3 no GPU, 4 a wrong result.",
)
@click.version_option(__version__, prog_name="gpuconv")
def cli() -> None:
    """2-D convolution for CuPy and NumPy."""
