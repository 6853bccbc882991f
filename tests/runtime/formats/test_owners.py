import re
import subprocess
import sys

import pytest

from darts_gdas.reasons import installing
from darts_gdas.runtime.formats.owners import owner, reading


def test_a_missing_package_is_answered_with_the_command_that_installs_it():
    needed = re.escape(f"needs the package nosuch: {installing('datasets')} (No module")
    with pytest.raises(ValueError, match=needed):
        owner("nosuch")


def test_whatever_another_package_raises_is_one_line():
    with pytest.raises(ValueError, match=r"^it cannot be read \(EOFError: a b\)$"), reading("it"):
        raise EOFError("a\n b")
    with pytest.raises(MemoryError), reading("it"):
        raise MemoryError


def test_nothing_imports_them_before_they_are_needed():
    code = (
        "import sys, darts_gdas.extend\n"
        "print(*{name.split('.')[0] for name in sys.modules} & "
        "{'medmnist', 'datasets', 'pyarrow', 'pandas', 'webdataset'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
