"""Library modules and programs; importing the package alone pulls in nothing heavy."""
