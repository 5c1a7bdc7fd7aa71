"""Without the extra ``cli``."""

from __future__ import annotations

import subprocess
import sys


def test_the_command_says_what_to_install():
    """And does not exit with 1, which means a finding."""
    code = "import sys; sys.modules['click'] = None; from audit_logging.cli import main; main()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert (
        ended.stderr
        == "Error: The command line needs two more packages: pip install 'opensearch-audit-logging[cli]' (from a checkout: pip install '.[cli]')\n"
    )
