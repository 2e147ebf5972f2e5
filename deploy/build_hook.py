"""Hatchling's build hook: compiles record mode's loops for the machine that the wheel is built on.

Without a compiler or Python's headers, or with KVEIL_BUILD_PURE=1, the wheel is the same for all machines, and the
loops run as Python: the same bytes, in three times the time.
"""

import os
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODULE = "kveil.protocol.envelope._record_loops"
FOLDER = Path("protocol", "envelope")
SOURCE = FOLDER / "_record_loops.pyx"


class CompileLoops(BuildHookInterface):
    """Adds the compiled module to a wheel; where the sources are used as they lie, puts it beside them."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a wheel is put together."""
        if os.environ.get("KVEIL_BUILD_PURE"):
            return
        self._scratch = mkdtemp(prefix="kveil-build-")
        built = self._compile(Path(self._scratch))
        if built is None:
            return
        if version == "editable":
            shutil.copy2(built, Path(self.root, FOLDER))
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"][str(built)] = f"kveil/{FOLDER.as_posix()}/{built.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Called afterwards."""
        shutil.rmtree(getattr(self, "_scratch", ""), ignore_errors=True)

    def _compile(self, scratch: Path) -> Path | None:
        """Return the compiled module, None if it can't be made here."""
        from Cython.Build import cythonize
        from setuptools import Distribution, Extension

        source = str(Path(self.root, SOURCE))
        extension = Extension(MODULE, [source], extra_compile_args=["-O2", "-g0"])
        extensions = cythonize([extension], build_dir=str(scratch), quiet=True)
        extensions[0].optional = True  # what cythonize is given of that gets lost
        command = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
        command.build_lib = command.build_temp = str(scratch)
        command.ensure_finalized()
        command.run()
        built = Path(command.get_ext_fullpath(MODULE))
        if not built.exists():
            self.app.display_warning("record mode's loops aren't compiled, and stay Python: see the message above")
            return None
        return built
