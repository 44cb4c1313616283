"""Errors and the signals that they may hide."""

from __future__ import annotations

import pytest

from nodekiln.core.errors import interrupts_kept


def test_interrupt_wrapped_by_python_comes_out_as_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt), interrupts_kept():
        raise RuntimeError("Error calling __set_name__") from KeyboardInterrupt()


def test_error_while_an_interrupt_is_handled_comes_out_as_an_interrupt() -> None:
    failure = OSError("cleaning up failed")
    failure.__context__ = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt), interrupts_kept():
        raise failure


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(RuntimeError, match="other"), interrupts_kept():
        raise RuntimeError("other")
