"""The page, for `python app.py` and for a Hugging Face Space (which runs the same)."""

import os
import sys

from qmmfl import cli
from qmmfl.ui import gpu


def main() -> int:
    """Serve on this machine only; inside a Space, where the Space says. Returns the exit status."""
    gpu.is_lent()  # on a ZeroGPU Space its package must be there before torch is
    host = "0.0.0.0" if os.environ.get("SPACE_ID") else "127.0.0.1"
    return cli.main(["serve", "--host", host, "--port", os.environ.get("GRADIO_SERVER_PORT", "7860")])


if __name__ == "__main__":
    sys.exit(main())
