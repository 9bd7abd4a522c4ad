"""Headless Chromium: a page's picture, and its elements after the browser has laid them out."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
)


def find():
    """The browser's path, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def run(*options):
    """Start it once, in a profile of its own, and give what it prints."""
    with tempfile.TemporaryDirectory(prefix="gpuconv-chromium-", ignore_cleanup_errors=True) as profile:
        command = [find(), *_OPTIONS, f"--user-data-dir={profile}", *options]
        done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    return done.stdout.decode("utf-8")


def screenshot(page: Path, picture: Path, size, *options):
    """Draw a page at a width and height."""
    width, height = size
    run(*options, f"--window-size={width},{height}", f"--screenshot={picture}", page.as_uri())


def dom(page: Path, size):
    """The page's elements as text, after its scripts."""
    width, height = size
    return run(f"--window-size={width},{height}", "--virtual-time-budget=2000", "--dump-dom", page.as_uri())
