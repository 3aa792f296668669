"""Python runs this when it starts, as this folder is on PYTHONPATH: processes that tests start are as on Windows, too."""

import os

if os.environ.get("DLKIT_SIMULATE_WINDOWS"):
    import windows

    windows.simulate()
