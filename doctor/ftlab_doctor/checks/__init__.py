"""Checks, one module a part. Each is a pure function of the Host and declares what answers it already."""
