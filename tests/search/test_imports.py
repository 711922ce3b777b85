"""Heavy packages are imported where they are used, not with q2."""

import subprocess
import sys


def test_importing_q2_imports_no_heavy_package() -> None:
    code = (
        "import sys, q2, q2.search, q2.search.predictor; "
        "print(sorted({'torch', 'torch_geometric', 'torchsort', 'matplotlib', 'scipy', 'joblib'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
