"""Writes the commit into what is built, so that an installed package knows it, too.

The file is hidden, for the digest of the package is of its code alone.
"""

import contextlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NAME = "proxquant_np/.revision"


class Revision(BuildHookInterface):
    """Called by hatchling for the wheel and for the source distribution, but not if editable."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the file, from git or, in a source distribution, as it was added to that."""
        self.made: list[Path] = []
        file = Path(self.root, NAME)
        if Path(self.root, ".git").exists() and version != "editable":
            command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
            self.made.append(Path(tempfile.mkdtemp()))
            file = self.made[0] / "revision"
            with contextlib.suppress(OSError):  # no git: the revision is unknown
                done = subprocess.run(command, cwd=self.root, capture_output=True, text=True)
                file.write_text(done.stdout)
        if file.exists():
            build_data["force_include"][str(file)] = NAME

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was made for this build."""
        for folder in self.made:
            shutil.rmtree(folder)
