"""The papers' mitigation methods, one file each: frozen values with the published settings."""
