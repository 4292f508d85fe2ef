"""Regular languages over tokens."""
