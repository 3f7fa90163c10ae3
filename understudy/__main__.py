"""`python -m understudy` is the command `understudy`."""

import sys

from understudy.cli.main import main

sys.exit(main())
