"""Builds a Node.js that differs from the release: backpressure switched off, probes switched on."""

__version__ = "0.1.0"
