"""Library modules and programs; importing the package alone pulls in nothing heavy."""
import os

# onnxruntime's own builds report their use to Microsoft, and note an id in the user's home.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
