"""The doctor's tests share hosts and corpus: `doctor_fixtures`, found beside this file."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
