"""The tests: enumerated oracles, conformance of every plug-in, one file a module."""
