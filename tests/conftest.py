"""Set before MXNet is imported: its threads wait asleep, not spinning. The nets of these tests
take microseconds, and spinning threads make them fifty times slower on a machine that is busy."""
import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
