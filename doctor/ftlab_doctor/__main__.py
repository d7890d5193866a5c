"""`python -m ftlab_doctor`: the same as `ftdoctor`, for images and environments without the script."""

import sys

from ftlab_doctor.cli import main

if __name__ == "__main__":
    sys.exit(main())
