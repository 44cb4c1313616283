"""Limits of what is read, in one place: far above anything that is real, and low enough to answer soon.

Any input of up to 10 MB is answered in under 5 seconds and 500 MB of memory. Whoever reads enforces the limit
and names it in the error.
"""

SOURCE_FILE = 2 * 2**20
"""Bytes of a file of Node's that a plan reads; the largest has 0.1 MB."""
UNTIMED_SCRIPT = 2**17
"""Bytes of JavaScript that is parsed without a time limit: tree-sitter needs 2.5 s for as many quotes."""
PARSE_SECONDS = 3
"""Of CPU time, for larger JavaScript; a whole writable.js takes 0.005 s, 3 MB of code 1 s."""
ELF_SECTIONS = 4096
"""A release has about 40."""
ELF_SECTION_NAME = 256
"""Bytes; the longest in a release has 22."""
ELF_NOTES = 2**20
"""Bytes of the notes in one section; a Node with every known probe has 2 kB."""
ELF_TABLE = 2**28
"""Bytes of one symbol or string table; the largest in a release has 14 MB."""
PROGRAM = 2**30
"""Bytes of a program that is read into memory; the largest release has 150 MB."""
RELEASE_HEADER = 2**24
"""Bytes of one header of a release; the largest has 0.2 MB."""
RECORD = 2**26
"""Bytes of a JSON file: timings of a whole Node have 0.4 MB, results with long runs 3 MB."""
TRIALS = 1000
"""Trials, and measured runs, of one binary."""
MILLISECONDS = 1e12
"""32 years."""
