"""``python -m gradx`` is ``gradx``."""

import sys

from gradx.cli import main

sys.exit(main())
