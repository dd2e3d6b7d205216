"""Leaves a process behind that is in nobody's group and has no mark in its environment, and cannot be imported."""
import subprocess
import sys

LEAVE = "import subprocess; subprocess.Popen(['sleep', '600'], stdout=-3, stderr=-3, start_new_session=True)"
subprocess.run([sys.executable, "-c", LEAVE], start_new_session=True, check=True, env={})
raise RuntimeError("left in the import")
