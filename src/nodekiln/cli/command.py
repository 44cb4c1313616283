"""What every command shares: the decorator, texts of options, and the place where errors become exit codes.

Each command resolves its options once, into the frozen request of a pipeline. Only cli reads os.environ.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from nodekiln.core.errors import INTERRUPTED, KilnError, SourceError, UsageError, interrupts_kept

if TYPE_CHECKING:  # imported where it is used, so that --help and completion do not wait for it
    from nodekiln.core.recipe import Recipe
    from nodekiln.core.reporting import Reporter
    from nodekiln.core.settings import Settings
    from nodekiln.toolchain.model import ToolOptions

CHECKOUT = Path(__file__).resolve().parents[3]
"""The folder with ./inv, unless nodekiln is installed."""
_INSTALLED_NAMES = ("nodekiln", "invoke")
_BUG = 1

TAG = "release, as v22.20.0; 22, 22.20, lts and latest mean the newest of these"
REPOSITORY = "git repository, URL or path (default: NODEKILN_REPOSITORY, invoke.yaml, Node's own)"
BACKPRESSURE = "no write returns false because a buffer is full, so nothing waits for 'drain'"
PROBES = "leave out the USDT/DTrace probes"
CONFIGURE_ARGS = "more arguments for configure, as one text: --configure-args='--without-npm --debug-node'"
CONFIGURE_FILE = "file with more arguments for configure, one per line, # for comments"
LAUNCHER = "ccache, sccache, distcc, icecc or none (default: ccache, else sccache, if installed)"
LINKER = "mold, lld, bfd or default (default: the tree's own; in a new tree lld if installed)"
MOVED = "continue although the tag points to another commit now"
FORMAT = "text or json"


def command(
    *,
    resumes: bool = False,
    positional: Sequence[str] = (),
    variadic: str = "",
    only_in_checkout: bool = False,
    **options: Any,
) -> Callable[[Callable[..., int | None]], Any]:
    """Return a decorator that makes an invoke task of a function and ends it with one of our exit codes.

    `resumes`: after an interrupt, the same command continues where it stopped. `positional` names the options
    that words without dashes fill, in order; `variadic` takes all further words, joined with commas.
    """

    def decorate(function: Callable[..., int | None]) -> Any:
        @functools.wraps(function)
        def run(context: Context, *args: Any, **kwargs: Any) -> None:
            called = functools.partial(function, context, *args, **kwargs)
            if code := run_command(called, resumes=resumes, reporter=lambda: make_reporter(context)):
                raise Exit(code=code)

        made: Any = task(run, auto_shortflags=False, **options)
        made.positional_words = tuple(positional)
        made.variadic_word = variadic
        made.option_texts = dict(options.get("help", {}))  # invoke takes them out of task.help
        made.only_in_checkout = only_in_checkout
        return made

    return decorate


def called_as() -> str:
    """Return the name that the program was started by, for commands in messages."""
    name = Path(sys.argv[0]).name
    return name if name in _INSTALLED_NAMES else os.environ.get("NODEKILN_PROGRAM") or "./inv"


def is_checkout() -> bool:
    """Return whether this runs from a checkout: its files are there, and it was not started as `nodekiln`."""
    return Path(sys.argv[0]).name != "nodekiln" and (CHECKOUT / "inv").is_file()


def project_folder() -> Path:
    """Return the folder of invoke.yaml and build/: the checkout, or the current folder for `nodekiln`."""
    return CHECKOUT if is_checkout() else Path.cwd()


def is_usable() -> bool:
    """Return whether this user can use the program and the current folder, and write the build folder.

    Also if the build folder itself is root's, as earlier versions left it under sudo: `Workspace.prepare`
    says what to do then.
    """
    build = Path.cwd() / (os.environ.get("NODEKILN_BUILD") or project_folder() / "build")
    above = next(folder for folder in build.parents if os.path.exists(folder))  # noqa: PTH110 (False without rights)
    readable = (Path(__file__).parent, Path(sys.executable), Path.cwd())
    return all(os.access(place, os.R_OK | os.X_OK) for place in readable) and any(
        os.access(place, os.W_OK | os.X_OK) for place in (build, above)
    )


def make_reporter(context: Context) -> Reporter:
    """Return a Reporter as verbose as --quiet and --verbose say."""
    from nodekiln.core.reporting import Reporter, Verbosity

    return Reporter(verbosity=Verbosity(context.config.get("verbosity", 1)), program=called_as())


def run_command(
    command: Callable[[], int | None],
    *,
    resumes: bool = False,
    reporter: Callable[[], Reporter] | None = None,
) -> int:
    """Run a command and return its exit code; None from the command is 0.

    The caller's GIT_* variables are dropped first, as a GIT_DIR must not decide which repository is used.
    SIGTERM and SIGHUP interrupt like Ctrl-C, unless they are ignored.
    """
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        del os.environ[name]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP on purpose
            signal.signal(number, _interrupt)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # in the C locale a path may have other letters
    code = 0
    try:
        with interrupts_kept():
            code = command() or 0
        sys.stdout.flush()
    except KilnError as error:
        _fail(str(error), reporter)
        return error.exit_code
    except KeyboardInterrupt:
        _fail(
            "interrupted; the same command continues where this one stopped." if resumes else "interrupted.",
            reporter,
        )
        return INTERRUPTED
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _has_no_reader():
            quiet(sys.stdout)
            return code
        error = _error_of_stdout() or error
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}.", reporter)
        return SourceError.exit_code
    except MemoryError:
        raise  # reported by the entry point, which needs no memory for it
    except Exception:
        traceback.print_exc()
        _fail("this is a bug in nodekiln; please report the lines above.", reporter)
        return _BUG
    return code


def _error_of_stdout() -> OSError | None:
    """Return the error that writing to stdout raises, with its name; None if it can be written."""
    try:
        sys.stdout.flush()
    except OSError as error:
        quiet(sys.stdout)
        return OSError(error.errno, error.strerror, "stdout")
    return None


def _has_no_reader() -> bool:
    """Return whether the broken pipe is stdout, not a pipe to one of our children."""
    try:
        asked = select.poll()
        asked.register(sys.stdout.fileno(), 0)
    except (AttributeError, OSError, ValueError):  # some systems have no poll, some streams no number
        return True
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in asked.poll(0))


def _fail(text: str, reporter: Callable[[], Reporter] | None) -> None:
    from nodekiln.core.reporting import Reporter  # rich takes 20 ms, which most commands do not need

    try:
        (reporter or Reporter)().fail(text)
        sys.stderr.flush()
    except OSError:  # stderr can't be written: only the exit code is left
        quiet(sys.stderr)


def show(text: str) -> None:
    """Write a result to stdout before the command ends with an exit code of its own.

    A reader that closes stdout early must not turn that code into 0.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        quiet(sys.stdout)


def quiet(stream: TextIO) -> None:
    """Redirect a broken stream to /dev/null, so that Python does not fail to flush it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _interrupt(number: int, frame: object) -> NoReturn:  # noqa: ARG001 (the signature that signal.signal calls)
    raise KeyboardInterrupt


def read_settings(context: Context, changes: Sequence[str] | None = None) -> Settings:
    """Return the settings of this run, from the environment, invoke.yaml and the folders that --change names.

    Raises UsageError if such a folder is not a change.
    """
    from nodekiln.core.settings import Settings

    settings = Settings.read(
        environ=os.environ,
        config=context.config.get("nodekiln"),
        root=project_folder(),
        patches=patches_folder(),
        cwd=Path.cwd(),
        venv=Path(sys.prefix) if sys.prefix != sys.base_prefix else None,
    )
    settings.workspace.check_owner(os.environ.get("SUDO_UID", ""))
    folders = tuple(_change_folder(settings.cwd, word) for word in changes or () if is_change_path(word))
    return dataclasses.replace(settings, change_folders=folders)


def is_change_path(word: str) -> bool:
    """Return whether --change names a folder; a name has no slash."""
    return "/" in word or word in (".", "..")


def _change_folder(cwd: Path, word: str) -> Path:
    folder = Path(os.path.normpath(cwd / word))
    if not (folder / "change.toml").is_file():
        reason = "it has no change.toml" if folder.is_dir() else "no such folder"
        raise UsageError(
            f"--change {word} is not a change: {reason}.",
            remedy="./inv change new NAME makes one, and ./inv change list shows those that exist.",
        )
    return folder


def patches_folder() -> Path:
    """Return the folder of changes: the checkout's, or the copy that the wheel carries."""
    packaged = Path(__file__).resolve().parents[1] / "patches"
    return packaged if packaged.is_dir() else CHECKOUT / "patches"


def make_recipe(
    settings: Settings, tag: str, changes: tuple[str, ...], args: str, file: str, name: str
) -> Recipe:
    """Return the recipe that the options of build and patch describe."""
    from nodekiln.changes.registry import Registry
    from nodekiln.core.recipe import Recipe, Tag

    return Recipe(
        tag=Tag.parse(tag),
        changes=changes,
        default_args=settings.configure_args,
        extra_args=more_arguments(settings, args, file),
        label=Registry.of(settings).check_label(name) if name else None,
    )


def select_changes(
    settings: Settings, backpressure: bool, probes: bool, more: Sequence[str]
) -> tuple[str, ...]:
    """Return the changes that --no-backpressure, --no-probes and --change select, in the recipe's order.

    Raises UsageError for an unknown change.
    """
    from nodekiln.changes.hooks import NO_BACKPRESSURE, USDT

    chosen = [*(() if backpressure else (NO_BACKPRESSURE,)), *((USDT,) if probes else ())]
    return tuple(dict.fromkeys((*chosen, *known_changes(settings, more))))


def known_changes(settings: Settings, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names that --change was given, in order; raise UsageError for an unknown one.

    `settings` are those that read_settings returned for the same words.
    """
    from nodekiln.changes.registry import Registry

    registry = Registry.of(settings)
    given = (_change_folder(settings.cwd, name).name if is_change_path(name) else name for name in names)
    return tuple(registry.get(name).name for name in given)


def change_names() -> list[str]:
    """Return the names of all changes, without reading them."""
    folders = [patches_folder(), *([Path(more)] if (more := os.environ.get("NODEKILN_PATCHES")) else [])]
    return sorted(file.parent.name for folder in folders for file in folder.glob("*/change.toml"))


def change_help() -> str:
    """Return the --help text of --change, with the changes that exist."""
    known = ", ".join(change_names())
    return f"add a change from patches/ or NODEKILN_PATCHES, or its folder; repeatable (known: {known})"


def more_arguments(settings: Settings, args: str, file: str) -> tuple[str, ...]:
    """Return what --configure-file and --configure-args add for one run; raise UsageError if invalid."""
    from nodekiln.core.recipe import parse_arguments
    from nodekiln.core.settings import read_configure_file

    from_file = read_configure_file(settings.cwd / file, "--configure-file") if file else ()
    return from_file + parse_arguments(args)


def require(option: str, value: str, example: str) -> str:
    """Return `value`; raise UsageError if it is empty."""
    if not value:
        raise UsageError(f"{option} is required, as in {option} {example}.")
    return value


def number(option: str, value: str) -> int | None:
    """Return an option's number, None if it was not given; raise UsageError for anything else."""
    if value and not (value.isascii() and value.isdigit() and 0 < int(value) < 2**22):
        raise UsageError(f"{option} takes a number from 1 on, not {value!r}.")
    return int(value) if value else None


def is_json(value: str) -> bool:
    """Return whether --format is json; raise UsageError for anything but text and json."""
    if value not in ("text", "json"):
        raise UsageError(f"--format takes text or json, not {value!r}.")
    return value == "json"


def tools(launcher: str, linker: str, *, clean_env: bool) -> ToolOptions:
    """Return the options for the toolchain; raise UsageError for unknown launchers and linkers."""
    from nodekiln.toolchain import launchers, linkers
    from nodekiln.toolchain.model import ToolOptions

    return ToolOptions(
        launcher=launchers.check_choice(launcher) if launcher else None,
        linker=linkers.check_choice(linker) if linker else None,
        clean_env=clean_env,
    )
