"""Logs of configure, compilers and make, and the cause that is found in each."""

from __future__ import annotations

import pytest

from nodekiln.toolchain.diagnosis import diagnose, known_failures

EXCERPTS = [
    (
        "compiler-missing-traceback",
        """  File "configure.py", line 1466, in check_compiler
    ok, is_clang, clang_version, gcc_version = try_check_compiler(CXX, 'c++')
    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
ValueError: too many values to unpack (expected 4)""",
    ),
    (
        "compiler-missing",
        """Node.js configure: Found Python 3.13.5...
WARNING: failed to autodetect C++ compiler version (CXX=/nonexistent/g++)
WARNING: warnings were emitted in the configure phase""",
    ),
    (
        "compiler-missing",
        """ERROR: No acceptable C compiler found!

       Please make sure you have a C compiler installed on your system and/or""",
    ),
    (
        "python-not-accepted",
        """Please use python3.12 or python3.11 or python3.10 or python3.9.
Node.js configure: Found Python 3.13.5...""",
    ),
    (
        "distutils",
        """    from distutils.version import StrictVersion
ModuleNotFoundError: No module named 'distutils'""",
    ),
    (
        "gyp-missing",
        """    from gyp.common import GetFlavor
ModuleNotFoundError: No module named 'gyp'""",
    ),
    (
        "assembler",
        """ERROR: Did not find a new enough assembler, install one or build with
       --openssl-no-asm.
       Please refer to BUILDING.md""",
    ),
    ("standard-unknown", "g++: error: unrecognized command line option '-std=gnu++20'"),
    (
        "standard-unknown",
        "g++: error: unrecognized command-line option ‘-std=gnu++20’; did you mean ‘-std=gnu++2a’?",  # noqa: RUF001
    ),
    ("standard-unknown", "error: invalid value 'gnu++20' in '-std=gnu++20'"),
    (
        "compiler-too-old",
        "WARNING: C++ compiler (CXX=g++, 9.4.0) too old, need g++ 12.2.0 or clang++ 8.0.0",
    ),
    (
        "out-of-memory",
        """g++: fatal error: Killed signal terminated program cc1plus
compilation terminated.
ninja: build stopped: subcommand failed.""",
    ),
    ("out-of-memory", "g++: internal compiler error: Killed (program cc1plus)"),
    ("out-of-memory", "collect2: fatal error: ld terminated with signal 9 [Killed]"),
    ("out-of-memory", "virtual memory exhausted: Cannot allocate memory"),
    ("out-of-memory", "g++: schwerwiegender Fehler: Signal Getötet hat Programm cc1plus beendet"),
    ("out-of-memory", "g++: erreur fatale: signal Processus arrêté a terminé le programme cc1plus"),
    ("out-of-memory", "make[1]: *** [deps/v8/x.o] Killed: 9"),
    ("out-of-memory", "LLVM ERROR: out of memory"),
    ("out-of-memory", "std::bad_alloc"),
    (
        "out-of-memory",
        "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc",
    ),
    ("out-of-memory", "/bin/sh: 1: fork: Cannot allocate memory"),
    (
        "runtime-library-too-old",
        "out/Release/mksnapshot: /lib/x86_64-linux-gnu/libstdc++.so.6: version `GLIBCXX_3.4.32' not found"
        " (required by out/Release/mksnapshot)",
    ),
    (
        "standard-header-missing",
        "../deps/v8/src/base/logging.h:154:26: error: 'uint64_t' has not been declared\n"
        "note: 'uint64_t' is defined in header '<cstdint>'; did you forget it?",
    ),
    (
        "libcxx-char-traits",
        "error: implicit instantiation of undefined template 'std::char_traits<unsigned short>'",
    ),
    ("libatomic", "ld.lld: error: unable to find library -latomic"),
    ("libatomic", "/usr/bin/ld: cannot find -latomic: No such file or directory"),
    ("icu-too-old", "ERROR: icu4c v72.x is too old, v73.x or later is required."),
    ("too-many-open-files", "ninja: fatal: pipe: Too many open files"),
    ("too-many-processes", "/bin/sh: 0: fork: Resource temporarily unavailable"),
    ("read-only", "mkdir: cannot create directory 'out': Read-only file system"),
    ("not-executable", "/bin/sh: 1: /srv/node/out/Release/mksnapshot: Permission denied"),
    (
        "lto-version",
        "lto1: fatal error: bytecode stream in file 'obj/a.o' generated with LTO version 11.3 instead of the"
        " expected 13.0",
    ),
    (
        "shared-library-missing",
        "out/Release/torque: error while loading shared libraries: libstdc++.so.6: cannot open shared object"
        " file: No such file or directory",
    ),
    (
        "distutils",
        "\x1b[1;35mModuleNotFoundError\x1b[0m: \x1b[35mNo module named 'distutils'\x1b[0m",
    ),
    (
        "temporary-disk-full",
        """a.cc:3:56: fatal error: error writing to /tmp/small/ccq366JF.s: No space left on device
    3 | int main(){std::vector<std::string> v; return v.size();}
compilation terminated.""",
    ),
    ("disk-full", "/usr/bin/ar: libv8_base.a: No space left on device"),
    ("space-in-path", "AssertionError: Spaces in action output filenames not supported (a b/x)"),
    (
        "space-in-path",
        """make: Circular /tmp/a <- /tmp/a dependency dropped.
make: *** No rule to make target 'b/out/Release/obj.target/x.o', needed by '/tmp/a'.  Stop.""",
    ),
    (
        "probe-headers",
        """../src/node_dtrace.cc:34:10: fatal error: node_provider.h: No such file or directory
   34 | #include "node_provider.h" """,
    ),
    ("probe-headers", "../src/node_dtrace.cc:34:10: fatal error: 'node_provider.h' file not found"),
    ("probe-headers", "/bin/sh: 1: dtrace: not found"),
    ("pathspec", "error: pathspec 'v22.20.0' did not match any file(s) known to git"),
    (
        "carriage-returns",
        "env: ‘python3\\r’: No such file or directory",  # noqa: RUF001
    ),
    (
        "carriage-returns",
        """: not found: 2:
Node.js configure: Found Python 3.8.10...
 not found (cwd: /mnt/e/node) while trying to load
Error running GYP""",
    ),
    (
        "make-3.81",
        """ninja: option requires an argument -- j
usage: ninja [options] [targets...]""",
    ),
    ("temporal", "WARNING: cargo not found! Temporal support will be disabled."),
    (
        "clock-skew",
        """make: Warning: File 'Makefile' has modification time 2275 s in the future
make: warning:  Clock skew detected.  Your build may be incomplete.""",
    ),
    (
        "conda-flags",
        "FAILED: obj/x.o\nx86_64-conda-linux-gnu-c++ -isystem /opt/miniconda3/include -c x.cc",
    ),
    ("conda-flags", "g++ -Wall -L/home/me/miniforge3/lib -o node"),
    ("xcrun-platform-path", "xcrun: error: unable to lookup item 'PlatformPath' from command line tools"),
]


@pytest.mark.parametrize(("name", "log"), EXCERPTS)
def test_diagnose_finds_the_cause_first(name: str, log: str) -> None:
    noise = "[12/3461] CXX obj/deps/v8/src/v8_base.api.o\n"
    assert diagnose(noise + log + "\n" + noise)[0].name == name


def test_every_known_failure_has_an_excerpt() -> None:
    assert {failure.name for failure in known_failures()} == {name for name, _ in EXCERPTS}


@pytest.mark.parametrize(
    "log",
    [
        "",
        "Node.js configure: Found Python 3.13.5...\nINFO: configure completed successfully\n",
        "[1/2] g++ -std=gnu++20 -I../deps/v8/include -c ../src/node_provider.cc\n",
        "../src/a.cc:1:2: error: 'x' was not declared in this scope\nninja: build stopped.\n",
    ],
)
def test_diagnose_of_a_log_without_known_symptoms_is_empty(log: str) -> None:
    assert diagnose(log) == ()


def test_diagnose_reports_full_temporary_disk_from_full_build_disk() -> None:
    full = "ar: libv8_base.a: No space left on device"
    temporary = "x.cc:1:2: fatal error: error writing to /tmp/ccx.s: No space left on device"
    assert [each.name for each in diagnose(temporary)] == ["temporary-disk-full"]
    assert [each.name for each in diagnose(f"{full}\n{temporary}")] == ["temporary-disk-full", "disk-full"]
