"""The fault campaign (tests/campaign) in small: real workers and a real Redis, which are killed, and everything else that goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.bench.environment import ROOT

SEED = 20260  # what goes wrong; when it strikes depends on the machine


def test_after_everything_went_wrong_no_number_lies_and_undo_brings_everything_back():
    command = [sys.executable, "-m", "tests.campaign", "--items", "250", "--seed", str(SEED), "--seconds", "150"]
    ended = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "no number lied" in ended.stdout
